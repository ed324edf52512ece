"""Supervised fine-tuning on files of conversations (docs/sft.md).

  zppo sft --config=configs/sft.py --workdir=DIR --dry-run
  zppo sft --config=configs/sft.py --workdir=DIR

A config of your own starts from this one. It runs once `student.weights` and
`data.sources` name a model and files that you have.
"""

from ml_collections import ConfigDict

from zppo_jax import configs
from zppo_jax.configs import base


def get_config() -> configs.Config:
  c = ConfigDict()
  c.method = 'sft'
  c.seed = 0
  c.steps = 200              # optimizer steps

  # As in configs/base.py.
  c.student = ConfigDict(dict(
      weights='', dtype='bfloat16', remat='full', unroll=1, attention='auto',
      thinking='default', date='', end_tokens=(), chat_template=''))

  c.data = ConfigDict(dict(
      # name -> fields of a source (zppo_jax/data/conversations.py), e.g.
      #   mine=dict(format='jsonl', path='data/mine.jsonl',
      #             columns=dict(messages='messages'))
      sources=ConfigDict(),
      batch=32,              # conversations per step
      # The most passes over the data; 0: as many as the steps need. Every pass
      # has a shuffle of its own and holds every conversation once.
      epochs=0.0,
      # Conversations that no row holds: 'refuse' them, or 'drop' and count.
      on_overlong='refuse',
      store='',              # a folder for images that come as bytes
      media_roots=(),        # folders besides the data's for image paths
      max_bytes=2**30,       # the most that a row group may unpack to
      task=''))              # whose chat weights without a tokenizer read

  # As in configs/base.py: the words around a question, for sources of questions
  # and responses. Conversations have words of their own.
  c.prompts = base.get_config().prompts

  # As in configs/base.py: adapters in the place of all weights (docs/lora.md).
  c.lora = ConfigDict(dict(rank=0, alpha=32.0, matrices=(), start=''))

  # As in configs/base.py; a schedule counts steps.
  c.optimizer = ConfigDict(dict(
      learning_rate=1e-5, b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.1,
      clip_norm=1.0, state_dtype='bfloat16', state_rounding='nearest',
      second_moment_dtype='', schedule='cosine', warmup_steps=0,
      schedule_steps=0, decay_steps=0, end_share=0.0, total_updates=0,
      frozen=()))

  c.mesh = ConfigDict(dict(data=1, fsdp=1, tensor=1, slices=1))

  c.shapes = ConfigDict(dict(
      # True: rows and micro-batches are proposed from the lengths of the
      # conversations and the memory (docs/sft.md); fields set by hand stay.
      auto=False,
      row_buckets=(2048, 8192),  # tokens of a row
      patch_buckets=(),          # patches of a row's images and videos
      micro_tokens=16384,  # positions of a micro-batch on each batch shard
      # 'packed': short conversations share rows, and none sees another;
      # 'padded': each has a row of its own.
      layout='packed',
      logprob_chunk=1024))       # positions whose logits exist at a time

  # Validation: loss and token accuracy every `every` steps, and at both ends.
  c.eval = ConfigDict(dict(
      every=50,
      size=256,              # the most conversations per split; 0: all
      cadence=ConfigDict(),  # split -> steps of its own, instead of `every`
      holdout=0,             # rows of the training data held out as `held_out`
      sources=ConfigDict())) # name -> fields of a source, a split each

  c.checkpoint = ConfigDict(dict(every=50, keep=2, keep_every=0))
  # max_idle: steps in a row without a gradient; alarms: as in configs/base.py.
  c.guard = ConfigDict(dict(max_idle=20, alarms=()))
  # As in configs/base.py; numbers are 'SPLIT/loss' and 'SPLIT/accuracy', and a
  # loss needs mode='min'.
  c.run = ConfigDict(dict(callbacks=()))
  c.best = ConfigDict(dict(metric='', mode='max', patience=0, least=0.0))
  c.log = ConfigDict(dict(tensorboard=True, wandb=''))
  return configs.closed(c)
