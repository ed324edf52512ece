"""ZPPO on a folder of your own parquet files, with images (docs/data.md).

  zppo train --config=configs/files.py --workdir=DIR --dry-run
  zppo train --config=configs/files.py --workdir=DIR
"""

from zppo_jax.configs import base


def get_config():
  c = base.get_config()
  c.student.weights = 'models/Qwen3.5-0.8B'   # a checkpoint folder
  c.teacher.weights = 'models/Qwen3.5-9B'     # same tokenizer

  c.data.task = 'files'
  c.data.fit = 'drop'     # prompts beyond the largest bucket are left out
  c.data.pool.sources = dict(mine=dict(
      format='parquet', path='data/mine/train', kind='math',
      columns=dict(text='problem', answer='answer'), images='images'))
  c.data.pool.filters = dict(answer_characters=512, image_side=100,
                             duplicates=True)
  c.data.pool.store = 'data/mine/images'  # for images that come as bytes
  c.data.pool.media_roots = ()    # folders besides data/mine for image paths
  c.data.pool.max_bytes = 2**30   # the most that a row group may unpack to

  c.shapes.patch_buckets = (4096,)
  c.eval.sources.mine_test = dict(c.data.pool.sources.mine,
                                  path='data/mine/test')
  c.eval.update(every=20, size=256, splits=('mine_test',))
  return c
