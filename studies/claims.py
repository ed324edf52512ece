"""Claims of the neighbours in miniature (docs/study.md).

  zppo study --config=studies/claims.py:ptd --to=runs/ptd --cores=0,1

  ptd      PTD-PO's gate, hint and anchor (H3, H4)
  kept     kept ids and their rest against the whole vocabulary (H5)
  uni_opd  margin and balance under a teacher that is sure and wrong (H6, H7)
  context  self-distillation by what the teacher reads (H12, H13)
  routes   one term per rollout against both (H16)
  compose  ZPPO and a divergence (H19)

H numbers are those of the hypotheses in docs/study.md. In `ptd`, `context` and
`routes` the teacher is a copy of the student. The packaged student has never
read a context, so that its copy would have nothing to teach: these tables have
a student that learned to read contexts and no hard truth
(tasks/micro_corpus.py).
"""

import pathlib
import runpy

from ml_collections import ConfigDict

_WORLDS = runpy.run_path(str(pathlib.Path(__file__).with_name('worlds.py')))
_TEXT = _WORLDS['WORLDS']['text']
_READER = 'context_reader'
_READING = {_READER: ('student', (
    ('belief.deep_share', _WORLDS['DEEP_SHARE']), ('rows.context', 64)))}
_STEPS = ('steps', 200)
# What a frozen copy of the student reads, and of which it keeps ids: 8 of 36.
_OWN = (_WORLDS['taught_by'](_READER), ('teacher.kind', 'own'),
        ('data.pool.hints', True), ('data.pool.worked', True),
        ('distil.top', 8))
_FROZEN = (('teacher.own.weights', 'frozen'),)
_ANCHOR = (('algorithm.reference.kind', 'k3'),
           ('algorithm.reference.coefficient', 0.01))
_LIFT = (('watch.lift.every', 20), ('watch.lift.questions', 32))


def _study(title: str, common: tuple, arms: dict, models: dict,
           seeds) -> ConfigDict:
  """A table at one rate, whose arms are compared by claims."""
  c = ConfigDict()
  c.title, c.base, c.common = title, _TEXT.base, (*common, _STEPS)
  c.arms, c.models = ConfigDict(arms), ConfigDict(models)
  c.rates, c.fixed_rates = (), ConfigDict(dict.fromkeys(arms, 2e-4))
  c.development_seeds, c.seeds = (), tuple(seeds)
  c.splits, c.answers, c.endpoint = _TEXT.splits, _TEXT.answers, 'hard'
  c.spread_steps, c.contrasts, c.hours = 50, (), 6.0
  c.watched, c.confirmatory, c.exploratory = (), (), ()
  return c


def _claims(pairs, endpoint: str = 'mean_hard') -> tuple:
  return tuple((*pair, endpoint) for pair in pairs)


def _ptd() -> ConfigDict:
  """The gate leaves the anchor to groups that are not taught; so the arms
  without an anchor and with the released loss say what its absence does."""
  ptd = (('method', 'ptd_po'), *_FROZEN, *_ANCHOR,
         ('algorithm.reference.route', 'not taught'))
  arms = {
      'grpo': (('method', 'grpo'),),
      'grpo_anchored': (('method', 'grpo'), *_ANCHOR),
      'ptd': ptd,
      'ptd_gate_02': (*ptd, ('credit.route', 'wrong_below(0.2)')),
      'ptd_all': (*ptd, ('credit.route', 'all')),
      'ptd_released': (('method', 'ptd_as_released'), *ptd[1:]),
      'ptd_same': (*ptd, ('distil.context', 'same')),
      'ptd_another': (*ptd, ('distil.context_of', 'another'))}
  c = _study('PTD-PO: gate, hint and anchor', _OWN, arms, _READING,
             range(300, 308))
  c.watched = ('distil/taught', 'context/lift')
  c.confirmatory = _claims(('ptd', of) for of in (
      'grpo', 'ptd_released', 'ptd_gate_02', 'ptd_all', 'ptd_same',
      'ptd_another'))
  c.exploratory = tuple(
      ('ptd', of, endpoint) for of in arms if of != 'ptd'
      for endpoint in ('hard', 'hard_list', 'easy_list', 'deep_mastered'))
  c.exploratory += _claims([('grpo', 'grpo_anchored')])
  return c


def _kept() -> ConfigDict:
  """The world's teacher, by KL in both directions."""
  arms = {}
  for direction, support in (('reverse', 'student'), ('forward', 'teacher')):
    of = (('method', f'opd_{direction}'), ('algorithm.updates', 1))
    arms[f'{direction}_whole'] = of
    for top in (4, 8):
      arms[f'{direction}_{top}_bucket'] = (
          *of, ('distil.support', support), ('distil.top', top),
          ('distil.rest', 'bucket'))
    arms[f'{direction}_8_dropped'] = (
        *of, ('distil.support', support), ('distil.top', 8),
        ('distil.rest', 'dropped'))
  c = _study('Kept ids and the rest', _TEXT.common[:1], arms, _TEXT.models,
             range(310, 318))
  c.exploratory = tuple(
      (f'{direction}_{form}', f'{direction}_whole', endpoint)
      for direction in ('reverse', 'forward')
      for form in ('8_bucket', '4_bucket', '8_dropped')
      for endpoint in ('mean_hard', 'hard', 'easy_list', 'spread'))
  return c


def _uni_opd() -> ConfigDict:
  """The teacher is sure of a misconception in a third of the hard facts."""
  misled = 'weak_30'
  teacher = (*_TEXT.common[:1],
             ('teacher.weights', '{models}/' + misled + '.safetensors'))
  bare = (('method', 'uni_opd'), ('credit.margin', 'none'),
          ('credit.balance', 'none'))
  balanced = lambda ratio: (*bare, ('credit.balance', ratio))
  arms = {
      'grpo': (('method', 'grpo'),),
      'bare': bare,
      'uni_opd': (('method', 'uni_opd'),),
      'margin': (*bare, ('credit.margin', 'spread(0.4)')),
      'margin_permuted': (*bare, ('credit.margin', 'spread(0.4)'),
                          ('credit.margin_verdicts', 'permuted')),
      'sum': (*bare, ('credit.combine', 'add')),
      'balance_0': balanced('0'), 'balance_05': balanced('0.5'),
      'balance_1': balanced('1'), 'balance_2': balanced('2'),
      'balance_inf': balanced('inf'), 'balance_random': balanced('random(1)')}
  c = _study('Uni-OPD: margin and balance', teacher, arms,
             _TEXT.models | {misled: _WORLDS['weak_teacher'](0.3)},
             range(320, 328))
  c.watched = ('distil/order_consistency', 'distil/taught')
  c.confirmatory = _claims((
      ('margin', 'bare'), ('margin', 'margin_permuted'), ('margin', 'sum'),
      ('balance_1', 'bare'), ('balance_1', 'balance_random'),
      ('uni_opd', 'grpo')))
  c.exploratory = _claims(
      [('margin', 'bare'), ('margin_permuted', 'bare')],
      'distil/order_consistency') + _claims(
          (('uni_opd', of) for of in arms if of not in ('uni_opd', 'grpo')),
          'hard')
  return c


def _context() -> ConfigDict:
  """OPSD's divergence by what a frozen copy reads; SDPO, whose copy follows,
  with its own attempt in sight and out of it."""
  opsd = lambda context: (('method', 'opsd'), *_FROZEN,
                          ('distil.context', context))
  arms = {
      'grpo': (('method', 'grpo'),),
      **{name: opsd(name) for name in (
          'same', 'answer', 'reference', 'hint', 'sibling', 'feedback')},
      'reference_another': (*opsd('reference'),
                            ('distil.context_of', 'another')),
      'sdpo': (('method', 'sdpo'),),
      'sdpo_or_self': (('method', 'sdpo'),
                       ('distil.context', 'sibling_or_self'))}
  arms = {name: of if name in ('grpo', 'same') else (*of, *_LIFT)
          for name, of in arms.items()}
  c = _study('Self-distillation by what the teacher reads', _OWN, arms,
             _READING, range(330, 338))
  c.watched = ('context/lift', 'distil/copied', 'update/entropy',
               'distil/taught')
  c.confirmatory = _claims((
      ('reference', 'grpo'), ('answer', 'grpo'), ('hint', 'grpo'),
      ('reference', 'reference_another'), ('reference', 'same'),
      ('sdpo', 'sdpo_or_self')))
  c.exploratory = tuple(
      (first, second, endpoint) for first, second in (
          ('reference', 'grpo'), ('answer', 'grpo'), ('hint', 'grpo'),
          ('sibling', 'grpo'), ('feedback', 'grpo'), ('sdpo', 'grpo'))
      for endpoint in ('hard', 'hard_list', 'easy_list'))
  c.exploratory += tuple(
      ('sdpo', 'sdpo_or_self', endpoint)
      for endpoint in ('update/entropy', 'distil/copied', 'hard'))
  return c


# The share of rollouts that are right, to whom SCOPE's divergence term goes, in
# a development run (seed 0, 60 steps; docs/study.md).
RIGHT = 0.58


def _routes() -> ConfigDict:
  """SRPO and SCOPE with their routes and with both terms on all rollouts, and
  SCOPE with a route that is drawn at the same rate. SRPO has no such control
  here: a question has one right response, so that wrong rollouts alone have a
  sibling of another text."""
  both = (('credit.route', 'all'), ('credit.policy_route', 'all'))
  # The copy of the student reads siblings in the one and the world's teacher
  # nothing in the other.
  rows = {'srpo': (('method', 'srpo'),),
          'scope': (('method', 'scope'), ('teacher.kind', 'in_process'))}
  arms = {'grpo': (('method', 'grpo'),)}
  for name, row in rows.items():
    arms |= {name: row, f'{name}_sum': (*row, *both)}
  arms['scope_drawn'] = (
      *rows['scope'], ('credit.route', f'random({RIGHT})'),
      ('credit.policy_route', f'not random({RIGHT})'))
  c = _study('Routes', _OWN, arms, _READING, range(340, 348))
  c.watched = ('context/taught', 'accuracy/plain', 'update/entropy')
  pairs = (('srpo', 'srpo_sum'), ('scope', 'scope_sum'),
           ('scope', 'scope_drawn'))
  c.confirmatory = _claims(pairs)
  c.exploratory = tuple(
      (*pair, endpoint) for pair in (
          *pairs, ('srpo', 'grpo'), ('scope', 'grpo'))
      for endpoint in ('hard', 'hard_list', 'easy_list'))
  return c


def _compose() -> ConfigDict:
  """ZPPO and a divergence on plain rollouts, each with and without the other;
  with PTD-PO's gate; and the divergence alone for as many tokens."""
  gate = (('credit.route', 'wrong_below(1) & plain'),
          ('distil.coefficient', 0.05))
  arms = {
      'grpo_replay': (('method', 'grpo_replay'),),
      'zppo': (('method', 'zppo'),),
      'distill': (('method', 'grpo_replay_distill'),),
      'both': (('method', 'zppo_distill'),),
      'distill_gated': (('method', 'grpo_replay_distill'), *gate),
      'both_gated': (('method', 'zppo_distill'), *gate)}
  c = _study('ZPPO and a divergence', _TEXT.common[:1], arms, _TEXT.models,
             range(350, 358))
  c.rates, c.development_seeds = (2e-4,), (0, 1)
  c.fixed_rates = ConfigDict()
  c.matched = ConfigDict({'distill_tokens': ('distill', 'both', 'tokens')})
  c.confirmatory = _claims((
      ('both', 'zppo'), ('both', 'distill'), ('both', 'distill_tokens'),
      ('both_gated', 'zppo'), ('both_gated', 'distill_gated'),
      ('zppo', 'grpo_replay')))
  c.exploratory = tuple(
      (first, second, endpoint) for first, second in (
          ('both', 'zppo'), ('both', 'distill'), ('both_gated', 'zppo'),
          ('distill', 'grpo_replay'))
      for endpoint in ('hard', 'hard_list', 'easy_list', 'deep_mastered'))
  return c


TABLES = {'ptd': _ptd, 'kept': _kept, 'uni_opd': _uni_opd,
          'context': _context, 'routes': _routes, 'compose': _compose}


def get_config(table: str) -> ConfigDict:
  if table not in TABLES:
    raise ValueError(f'unknown table {table!r}; known: {", ".join(TABLES)}')
  return TABLES[table]()
