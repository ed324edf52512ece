"""Uni-OPD (configs/uni_opd.py) for Qwen3-1.7B: strong to weak.

The paper's teacher is Qwen3-30B-A3B for both domains (23.8 to 25.0 in
mathematics, 49.1 to 52.7 in code). Its own script does not say whether that
teacher thinks; the server decides it here.

  zppo plan --config=configs/uni_opd_1_7b.py --topology=v5p:2x2x2 --fast
  zppo train --config=configs/uni_opd_1_7b.py --workdir=DIR
"""

from zppo_jax.configs import uni_opd


def get_config(name: str = ''):
  return uni_opd.recipe('Qwen3-1.7B', 'Qwen3-30B-A3B', 'Qwen3-30B-A3B', name,
                        devices=8)
