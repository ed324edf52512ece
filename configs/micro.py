"""ZPPO on the embedded world: the main job, under 3 minutes on 2 cores.

  zppo train --config=configs/micro.py --workdir=DIR
"""

from zppo_jax.configs import base


def get_config():
  c = base.get_config()
  c.student.weights, c.student.dtype, c.student.remat = (
      'micro/student', 'float32', 'none')
  c.student.unroll = 3  # all layers
  c.teacher.weights, c.teacher.dtype = 'micro/teacher', 'float32'

  c.data.task = 'micro'
  c.data.pool.update(
      size=800, hard_share=0.5, num_steps=3,
      hints=False,   # True: each question carries its first step as a hint
      worked=False)  # True: each question carries its solution as a response
  c.data.repeat = True

  a = c.algorithm
  a.num_new = 32
  a.max_tokens = a.teacher_max_tokens = 16
  a.buffer_capacity = 192

  # Traces have at most 16 tokens, so they are shown whole (studies of
  # values-only candidates set identity_below to 0).
  c.compression.update(cap=32, identity_below=32)

  c.optimizer.update(learning_rate=2e-4, state_dtype='float32')

  s = c.shapes
  s.prompt_buckets = (8, 40, 160, 184)  # question, BCQ, most NCQ, any NCQ
  s.row_buckets = (24, 64, 120, 200)
  # One size, and one cache of 8 and one of 184, because here a program takes
  # longer to compile than it saves in all steps of a run.
  s.group_buckets = (8,)
  s.cache_buckets = (8,)
  # Four of the longest prompts, because a step draws no more NCQs than that.
  s.prefill_tokens = 4 * 184
  s.share_from = 32
  s.slots = None             # a slot's cache is small, so all rollouts decode
  # Small, because a mini-batch has few groups per bucket: larger micro-batches
  # would stay partly empty.
  s.micro_tokens = 400
  s.logprob_chunk = 256

  c.checkpoint.every = 25
  c.probe.update(every=5, questions=4)

  c.eval.update(every=25, size=192, splits=(
      'hard', 'hard_list', 'hard_composed', 'easy', 'easy_list'))
  return c
