"""PTD-PO (configs/ptd_po.py) for Qwen3-VL-8B-Thinking: coefficient 0.05.

  zppo hints --config=configs/ptd_po_8b.py --to=data/hints.jsonl \\
      --config.method=hint --config.teacher.kind=in_process \\
      --config.teacher.weights=models/Qwen3-VL-8B-Instruct
  zppo plan --config=configs/ptd_po_8b.py:SLICE --topology=SLICE --fast \\
      --config.distil.material=
  zppo train --config=configs/ptd_po_8b.py:SLICE --workdir=DIR
"""

from zppo_jax.configs import ptd_po

Slice = ptd_po.Slice
SLICES = {
    'v5p:2x4x4': Slice(32, rows=2),
    'v5e:8x8': Slice(64, tensor=8)}


def get_config(name: str = ''):
  return ptd_po.chosen('Qwen3-VL-8B-Thinking', 0.05, SLICES, name)
