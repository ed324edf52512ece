"""ZPPO's recipe (configs/base.py) for Qwen3.5-0.8B on a TPU slice.

  zppo plan --config=configs/pod_0_8b.py:SLICE --topology=SLICE --fast
  zppo train --config=configs/pod_0_8b.py:SLICE --workdir=DIR
"""

from zppo_jax.configs import pod

Slice = pod.Slice
SLICES = {
    'v5e:4x4': Slice(16),
    'v6e:4x4': Slice(16, rows=2),
    'v5p:2x2x2': Slice(8, teacher_tensor=4, rows=4),
    'tpu7x:2x2x1': Slice(8, teacher_tensor=4, rows=4)}


def get_config(name: str = ''):
  return pod.chosen('Qwen3.5-0.8B', SLICES, name)
