"""The paper's ablations in the text world (docs/study.md).

  zppo study --config=studies/ablations.py:teachers --to=runs/teachers \
    --cores=0,1

  teachers  same-style, terse and weak ones (Fig. 7), for ZPPO, on-policy
            distillation and supervised training
  students  two sizes
  updates   I in 1, 4, 8, 16 and the normalisers (Fig. 6)
  remedies  for saturated BCQs: our own, not the paper's
"""

import pathlib
import runpy

from ml_collections import ConfigDict

_WORLDS = runpy.run_path(str(pathlib.Path(__file__).with_name('worlds.py')))
_TEXT = _WORLDS['WORLDS']['text']
_ONE = (('algorithm.updates', 1),)
_TAUGHT = {'zppo': ('zppo', ()), 'bcq': ('grpo_replay_bcq', ()),
           'on_distill': ('on_distill', _ONE), 'sft': ('seqkd', ())}


def _study(title: str, arms: dict, models: dict, seeds) -> ConfigDict:
  c = ConfigDict()
  c.title, c.base, c.common = title, _TEXT.base, _TEXT.common
  c.arms = ConfigDict(arms)
  c.models = ConfigDict(_TEXT.models | models)
  c.rates, c.fixed_rates = (), ConfigDict(dict.fromkeys(arms, 2e-4))
  c.development_seeds, c.seeds = (), seeds
  c.splits, c.answers, c.endpoint = _TEXT.splits, _TEXT.answers, 'hard'
  c.spread_steps, c.contrasts, c.hours = 50, (), 6.0
  c.exploratory = ()
  return c


def _teachers() -> ConfigDict:
  weak = {f'weak_{round(100 * share)}': _WORLDS['weak_teacher'](share)
          for share in (0.14, 0.3)}
  styles = {
      '': (), '_terse': (('teacher.weights', 'micro/terse_teacher'),
                         ('compression.identity_below', 0)),
      **{f'_{name}': (('teacher.weights', '{models}/' + name + '.safetensors'),)
         for name in weak}}
  arms = {arm + style: (('method', method), *fields, *teacher)
          for style, teacher in styles.items()
          for arm, (method, fields) in _TAUGHT.items()}
  arms['grpo_replay'] = (('method', 'grpo_replay'),)
  c = _study('Teachers: same style, terse, weak', arms, weak,
             tuple(range(270, 276)))
  c.exploratory = tuple(
      (f'zppo{style}', second, endpoint)
      for style in styles
      for second in ('grpo_replay', f'on_distill{style}', f'sft{style}')
      for endpoint in ('mean_hard', 'hard_list', 'easy_list',
                       'deep_mastered'))
  return c


def _students() -> ConfigDict:
  wide = 'student_wide'
  models = {wide: ('student', (
      ('belief.deep_share', _WORLDS['DEEP_SHARE']), ('model.width', 96),
      ('model.num_layers', 4), ('model.mlp_width', 192)))}
  sizes = {'': (), '_wide': (_WORLDS['taught_by'](wide),
                             ('student.unroll', 4))}
  methods = ('zppo', 'grpo_replay_bcq', 'grpo_replay', 'grpo', 'on_distill')
  arms = {name + size: (('method', name), *fields,
                        *(_ONE if name == 'on_distill' else ()))
          for size, fields in sizes.items() for name in methods}
  c = _study('Two sizes of the student', arms, models, tuple(range(250, 258)))
  c.exploratory = tuple(
      (f'zppo{size}', f'{second}{size}', endpoint) for size in sizes
      for second in methods[1:] for endpoint in ('mean_hard', 'hard_list'))
  return c


def _updates() -> ConfigDict:
  arms = {f'zppo_i{count}': (('method', 'zppo'), ('algorithm.updates', count))
          for count in (1, 4, 8, 16)}
  arms |= {f'zppo_{name}': (('method', 'zppo'), ('algorithm.normaliser', name))
           for name in ('with_zero', 'group', 'none')}
  c = _study('Updates per step, and normalisers', arms, {},
             tuple(range(260, 268)))
  c.exploratory = tuple(('zppo_i4', arm, endpoint) for arm in arms
                        if arm != 'zppo_i4'
                        for endpoint in ('mean_hard', 'hard', 'easy_list'))
  return c


def _remedies() -> ConfigDict:
  """On development seeds: whether a remedy helps decides if it is reported."""
  dropped = ('algorithm.rest_saturated', 10)
  arms = {'bcq': (('method', 'grpo_replay_bcq'),),
          'bcq_again': (('method', 'bcq_again'),),
          'bcq_rests': (('method', 'grpo_replay_bcq'), dropped),
          'zppo': (('method', 'zppo'),),
          'zppo_rests': (('method', 'zppo'), dropped),
          'again_bcq': (('method', 'again_bcq'),)}
  c = _study('Remedies of our own for saturated BCQs', arms, {}, (0, 1, 2, 3))
  c.saturation_steps = 25
  c.exploratory = tuple(
      (*pair, endpoint) for pair in (
          ('bcq_again', 'bcq'), ('bcq_rests', 'bcq'), ('zppo_rests', 'zppo'),
          ('bcq', 'again_bcq'))
      for endpoint in ('mean_hard', 'hard', 'deep_mastered', 'easy_list'))
  return c


TABLES = {'teachers': _teachers, 'students': _students, 'updates': _updates,
          'remedies': _remedies}


def get_config(table: str) -> ConfigDict:
  if table not in TABLES:
    raise ValueError(f'unknown table {table!r}; known: {", ".join(TABLES)}')
  return TABLES[table]()
