"""SFT on the embedded world: a teacher's answers to the training questions.

  zppo sft --config=configs/micro_sft.py:FILE.jsonl --workdir=DIR

A line of FILE has a question (`text`) and its answers (`responses`); see
docs/sft.md.
"""

from zppo_jax.configs import sft


def get_config(path: str = ''):
  c = sft.get_config()
  c.student.update(weights='micro/student', dtype='float32', remat='none',
                   unroll=3)
  c.data.task = 'micro'
  c.data.sources.teacher = dict(
      format='jsonl', path=path,
      columns=dict(id='id', text='text', responses='responses'))
  c.optimizer.update(learning_rate=1e-3, state_dtype='float32')
  c.shapes.update(row_buckets=(64,), micro_tokens=1024, logprob_chunk=256)
  c.eval.update(every=50, holdout=80)
  c.checkpoint.every = 50
  return c
