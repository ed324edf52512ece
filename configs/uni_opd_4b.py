"""Uni-OPD (configs/uni_opd.py) for Qwen3-4B and teachers of its own size.

The paper's teachers are the student after GRPO on one domain (8 rollouts, 1e-6,
500 steps of mathematics and 300 of code); they are not released, so the names
below stand for yours.

  zppo plan --config=configs/uni_opd_4b.py --topology=v5p:2x2x4 --fast
  zppo train --config=configs/uni_opd_4b.py:multi --workdir=DIR
"""

from zppo_jax.configs import uni_opd


def get_config(name: str = ''):
  return uni_opd.recipe('Qwen3-4B', 'Qwen3-4B-maths', 'Qwen3-4B-code', name,
                        devices=16)
