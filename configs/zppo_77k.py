"""ZPPO-77K: the paper's training mixture from local copies of its two sets.

  zppo data configs/zppo_77k.py     # counts by source, filter and tier
  zppo train --config=configs/zppo_77k.py --workdir=DIR

Appendix B.1: Vero-600k first, MMFineReason beside it without rows whose pass
rate is above 0.5; a subset that both have is Vero's; answers of at most 512
characters, images of at least 100 pixels a side, prompts of at most 4,096
tokens; at most 2,800 questions of a subset in tier 1, 1,400 in tier 2. Which
questions of a capped subset the paper took is not known; here those whose names
hash lowest stay. Prompts are measured after the caps, with the student's own
tokenizer. The counts are printed beside the paper's.

Fetch zlab-princeton/Vero-600k into data/vero, one folder a config, and
OpenDataArena/MMFineReason-SFT-586K-Qwen3-VL-235B-Thinking into
data/mmfinereason.
"""

import pathlib
import runpy

_BASE = pathlib.Path(__file__).with_name('base.py')


def get_config():
  c = runpy.run_path(str(_BASE))['get_config']()
  c.student.weights = 'models/Qwen3.5-2B'     # a checkpoint folder
  c.teacher.weights = 'models/Qwen3.5-27B'

  c.data.task = 'files'
  c.data.fit = 'drop'     # questions with longer prompts than
  c.data.prompt_tokens = 4096
  # Vero-600k's validation files lie beside its training files.
  c.data.pool.sources = dict(
      vero=dict(format='parquet', path='data/vero/**/train-*.parquet',
                mapping='vero', folder='data/vero'),
      # A subset that both have is Vero's, because Vero has the lower rank.
      mmfinereason=dict(format='parquet', path='data/mmfinereason',
                        mapping='mmfinereason', rank=1,
                        filters=dict(pass_rate=0.5)))
  c.data.pool.filters = dict(answer_characters=512, image_side=100,
                             subset_duplicates=True, tiers=True)
  c.data.pool.store = 'data/images'   # where images that come as bytes go
  c.data.pool.media_roots = ()
  c.data.pool.max_bytes = 2**30
  c.shapes.patch_buckets = (4096,)
  # A question of Vero whose reward is llm_judge needs a judge: c.judge.url.
  return c
