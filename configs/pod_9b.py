"""ZPPO's recipe (configs/base.py) for Qwen3.5-9B on a TPU slice.

  zppo plan --config=configs/pod_9b.py:SLICE --topology=SLICE --fast
  zppo train --config=configs/pod_9b.py:SLICE --workdir=DIR
"""

from zppo_jax.configs import pod

Slice = pod.Slice
SLICES = {
    'v5p:4x4x4': Slice(64, teacher_tensor=4),
    'v5e:8x16': Slice(128, tensor=4),
    'v6e:8x8': Slice(64, tensor=4),
    'tpu7x:2x4x4': Slice(64, teacher_tensor=4)}


def get_config(name: str = ''):
  return pod.chosen('Qwen3.5-9B', SLICES, name)
