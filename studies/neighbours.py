"""Every row with terms, and parts of ZPPO, for 50 steps of the embedded world.

Rows whose teacher reads a context have a teacher of the student's own weights,
live, frozen or followed as in their papers; the world's own hints and solutions
are what it reads. The others have the world's teacher. One seed and one rate:
the table says what a row costs and that it trains, not which row is better.
Documents and slices come from neighbours_material.jsonl (distil.material), for
a pool of 160 questions. Adapters have ten times the rate. The wish for a
concise answer is the word of a summary. Run it from the root of the repository,
where the arms find that file.

  zppo study --config=studies/neighbours.py --to=runs/neighbours --cores=0,1
"""

from ml_collections import ConfigDict

# GRPO, and ZPPO in parts that no other committed study has.
_UNTAUGHT = ('grpo', 'grpo_both', 'grpo_replay_bcq', 'grpo_replay_ncq')
_PLAIN = ('opd', 'exopd', 'reopold', 'rg_opd', 'uni_opd', 'trrd', 'eopd',
          'scope', 'fast_opd', 'revisit_opd', 'veto')
_OWN = (('teacher.kind', 'own'), ('data.pool.hints', True),
        ('data.pool.worked', True))
_READING = ('ptd_po', 'ptd_as_released', 'rlsd', 'srpo', 'sdpo', 'sdft', 'opsd')
# Rows that draw rollouts under a context: the packaged student reads attempts
# (as in a BCQ) and no bare answers, and copies a reference word for word.
_DRAWING = {
    'hdpo': (('distil.context', 'reflection'), ('distil.context_level', 2),
             ('distil.asked_of', 'wrong')),
    'star': (('distil.context', 'reflection'), ('distil.context_level', 2),
             ('distil.asked_of', 'wrong')),
    'gates': (('distil.context', 'hint'),),
    'pi_distill': (('distil.context', 'reflection'),
                   ('distil.context_level', 2)),
    'hinted': (('distil.context', 'reflection'), ('distil.context_level', 2))}
_LIVE = (*_OWN, ('teacher.own.weights', 'live'))
_UNSOLVED = {
    'sage': (('hint.source', 'stored'), ('data.pool.hints', True)),
    'nurl': (('hint.source', 'stored'), ('data.pool.hints', True)),
    'pope': (('algorithm.prefix_share', 0.8), ('data.pool.worked', True))}
# Where a row keeps the likeliest ids, 8 of this world's 36 are kept.
_TOP = {'ptd_po': 8, 'ptd_as_released': 8, 'sdpo': 8, 'srpo': 8,
        'hdpo': 8, 'pi_distill': 8}
# Rows that read a file of texts, and the wish for a short response.
_TEXTS = (*_OWN, ('data.pool.size', 160),
          ('distil.material', 'studies/neighbours_material.jsonl'))
_TOLD = {'opcd': (*_TEXTS, ('distil.top', 8)), 'opsdl': _TEXTS, 'opsdc': _OWN}
# Adapters of rank 8 are trained; the teacher is the student without them.
_LORA = (('lora.rank', 8), ('lora.alpha', 16.0))
_ADAPTED = {
    'grpo_lora': (('method', 'grpo'), *_LORA),
    'opsd_lora': (('method', 'opsd'), *_LORA, *_OWN,
                  ('teacher.own.weights', 'adapters_off'))}
_ADAPTERS_RATE = 2e-3
# Each question of this world has one stored answer.
_STORED = (('data.pool.worked', True), ('algorithm.teacher_rollouts', 1))
# Rows of a likelihood, an anchor or the teacher's own answers.
_ANCHORED = {
    'essd': (('algorithm.temperature', 1.5), ('algorithm.top_p', 0.9)),
    'iterative_sft': (),
    'idft': _STORED, 'forget_sftrl': _STORED,
    'stable_opd': (('data.pool.worked', True),),
    'tropd': (('distil.top', 8),),
    'fire_opd': (), 'tip': (), 'iw_opd': (), 'paced': (), 'kdrl': (),
    'npo': (('teacher.kind', 'own'), ('teacher.own.weights', 'folder'),
            ('teacher.own.folder', 'micro/shallow_student')),
}


def get_config() -> ConfigDict:
  c = ConfigDict()
  c.title = 'Rows with terms, 50 steps'
  c.base = 'configs/micro.py'
  top = lambda name: (
      (('distil.top', _TOP[name]),) if name in _TOP else ())
  arms = {name: (('method', name), *top(name))
          for name in (*_UNTAUGHT, *_PLAIN)}
  arms |= {name: (('method', name), *top(name), *_OWN) for name in _READING}
  arms |= {name: (('method', name), *top(name), *_LIVE, *fields)
           for name, fields in _DRAWING.items()}
  arms |= {name: (('method', name), *fields)
           for name, fields in _UNSOLVED.items()}
  arms |= {name: (('method', name), *changes)
           for name, changes in (_ANCHORED | _TOLD).items()}
  arms |= _ADAPTED
  c.arms = ConfigDict(arms)
  c.common = (('steps', 50),)
  c.rates = ()
  c.fixed_rates = ConfigDict(dict.fromkeys(c.arms, 2e-4)
                             | dict.fromkeys(_ADAPTED, _ADAPTERS_RATE))
  c.development_seeds = ()
  c.seeds = (0,)
  c.endpoint = 'hard'
  c.splits = ('hard', 'hard_list', 'easy', 'easy_list')
  c.contrasts = ()
  c.spread_steps = 10
  return c
