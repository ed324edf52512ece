"""PTD-PO and OPSD on questions in handwriting and in clips, 50 steps.

The teacher is the student's own initial weights. It sees the pictures or the
clip of the question, and reads besides what the first one shows (`ptd_po`: the
hint) or the whole solution (`opsd`). One seed and one rate: a table without
claims.

  zppo study --config=studies/taught_pictures.py --to=runs/taught --cores=0,1
"""

from ml_collections import ConfigDict

_OWN = (('teacher.kind', 'own'), ('data.pool.hints', True),
        ('data.pool.worked', True),
        # Contexts are longer than questions and shorter than NCQs.
        ('shapes.prompt_buckets', '(16,56)'), ('shapes.row_buckets', '(32,72)'))
_ARMS = {'grpo': (('method', 'grpo'),),
         # 8 of this world's 44 ids are kept.
         'ptd_po': (('method', 'ptd_po'), ('distil.top', 8),
                    ('distil.coefficient', 1.0), *_OWN),
         'opsd': (('method', 'opsd'), *_OWN)}


def get_config() -> ConfigDict:
  c = ConfigDict()
  c.title = 'PTD-PO and OPSD on pictures and clips, 50 steps'
  c.base = 'configs/micro_pictures.py'
  c.arms = ConfigDict({
      name + shown: (*fields, ('data.task', task))
      for shown, task in (('', 'micro_pictures'), ('_clips', 'micro_clips'))
      for name, fields in _ARMS.items()})
  c.common = (('steps', 50),)
  c.rates = ()
  c.fixed_rates = ConfigDict(dict.fromkeys(c.arms, 2e-4))
  c.development_seeds = ()
  c.seeds = (0,)
  c.endpoint = 'hard'
  c.splits = ('hard', 'hard_list', 'hard_clip', 'easy', 'easy_clip')
  c.contrasts = ()
  c.spread_steps = 10
  return c
