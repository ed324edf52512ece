"""ZPPO on the embedded world in handwriting, with a tiny Qwen3.5.

  zppo train --config=configs/micro_pictures.py --workdir=DIR

Needs scikit-learn (the extra "digits"), whose scans the questions show.
"""

from zppo_jax.configs import micro


def get_config():
  c = micro.get_config()
  c.student.weights = 'micro/seeing_student'
  c.teacher.weights = 'micro/seeing_teacher'
  c.data.task = 'micro_pictures'

  s = c.shapes
  s.prompt_buckets = (16, 56, 200)  # three pictures take nine tokens
  s.row_buckets = (32, 72, 136, 216)
  s.patch_buckets = (12,)
  s.group_buckets = (8,)
  s.prefill_tokens = None

  c.eval.update(every=25, size=96, splits=(
      'hard', 'easy', 'hard_list', 'hard_clip', 'easy_clip'))
  return c
