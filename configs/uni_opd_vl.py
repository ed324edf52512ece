"""Uni-OPD (configs/uni_opd.py) for a student that sees: Qwen3-VL-4B.

  uni_opd_vl.py            a model of text teaches it DeepMath (cross-modal)
  uni_opd_vl.py:pictures   a model that sees teaches it, with the pictures

The paper distils between models of text and models that see in both settings;
its sizes there are not known here, so that the models are our choice. Both
teachers share the student's vocabulary, as distillation by token needs. The
columns of your copy of the questions with pictures may have other names.

  zppo plan --config=configs/uni_opd_vl.py:pictures --topology=v5p:2x2x2 --fast
  zppo train --config=configs/uni_opd_vl.py:pictures --workdir=DIR
"""

from zppo_jax.configs import uni_opd


def get_config(name: str = ''):
  return uni_opd.seeing('Qwen3-VL-4B-Instruct', 'Qwen3-4B-maths',
                        'Qwen3-VL-4B-expert', name, devices=8)
