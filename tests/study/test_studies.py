"""The committed studies: what they name exists, and their controls are in."""

import itertools
import json
import pathlib
import runpy

import pytest

from studies import depth, plan, worlds
from zppo_jax.algorithms import methods
from zppo_jax.runs import same_config
from zppo_jax.study import analysis, launch

ROOT = pathlib.Path(__file__).parents[2]
STUDIES = [
    *(f'paper:{world}' for world in ('text', 'shipped', 'shipped_again',
                                     'none', 'handwriting')),
    *(f'ablations:{table}' for table in ('teachers', 'students', 'updates',
                                         'remedies')),
    *(f'claims:{table}' for table in ('ptd', 'kept', 'uni_opd', 'context',
                                      'routes', 'compose')),
    'depth', 'smoke', 'smoke:controls', 'headline', 'terse', 'no_separation',
    'distillation', 'neighbours', 'taught_pictures']


def config_of(file, argument=''):
  return runpy.run_path(str(ROOT / file))['get_config'](
      *[argument] if argument else [])


@pytest.fixture(scope='module')
def studies():
  return {name: config_of(f'studies/{name.partition(":")[0]}.py',
                          name.partition(':')[2]) for name in STUDIES}


@pytest.fixture(scope='module')
def fields():
  """File and argument of a config -> its dotted fields, read once."""
  known = {}

  def of(file, argument=''):
    if (file, argument) not in known:
      known[file, argument] = same_config.flat(
          same_config.config_values(config_of(file, argument)))
    return known[file, argument]
  return of


def test_every_study_is_listed_here():
  files = {path.stem for path in (ROOT / 'studies').glob('*.py')}
  assert files - {name.partition(':')[0] for name in STUDIES} == {
      'worlds', 'plan', 'neighbours_material'}


@pytest.mark.parametrize('name', STUDIES)
def test_what_a_study_names_exists(studies, fields, name):
  """Fields of its base, methods, models, and arms of its contrasts."""
  study = studies[name]
  launch.check(study)
  base = fields(study.base)
  models = dict(study.get('models', {}))
  for arm, overrides in study.arms.items():
    for field, value in (*study.common, *overrides):
      assert field in base, (arm, field)
      if field == 'method':
        methods.get(value)
      if isinstance(value, str) and '{models}' in value:
        assert pathlib.Path(value).stem in models, (arm, value)
  for model, (role, overrides) in models.items():
    known = fields('configs/micro_pretrain.py', role)
    assert {field for field, _ in overrides} <= {*known}, model
  assert not set(study.development_seeds) & set(study.seeds)


def test_seeds_of_the_reported_tables_are_new_and_apart(studies):
  """No reported seed was used in another table or in development."""
  tables = [studies[name] for name in STUDIES if name.startswith(
      ('paper', 'ablations', 'claims')) and name != 'ablations:remedies']
  seeds = [set(study.seeds) for study in tables]
  assert all(not a & b for a, b in itertools.combinations(seeds, 2))
  assert min(map(min, seeds)) >= 200  # the headline has 100 to 107


def test_the_headline_has_its_controls_and_enough_seeds(studies):
  """n paired seeds have no p below 2 / 2^n, and under Holm all claims of the
  family can hold together. Eight seeds would not allow that."""
  study = studies['paper:text']
  pairs = {(first, second) for first, second, _ in study.confirmatory}
  assert {('zppo', of) for of in ('grpo_replay', 'again', 'random',
                                  'on_distill', 'off_distill', 'sft')} <= pairs
  count, least = len(study.confirmatory), 2 / 2 ** len(study.seeds)
  assert max(analysis.holm([least] * count)) <= 0.05
  assert len(study.seeds) >= 8


def test_all_claims_of_a_table_can_hold_together(studies):
  """As those of the headline can."""
  for name in (*plan.CLAIMS, 'paper:shipped_again'):
    study = studies[name]
    count, least = len(study.confirmatory), 2 / 2 ** len(study.seeds)
    assert not count or max(analysis.holm([least] * count)) <= 0.05, name


@pytest.mark.parametrize('world', ['shipped', 'none', 'handwriting'])
def test_every_world_has_the_contrasts_of_the_headline(studies, world):
  """Those of the family whose arms the world has, once each."""
  study = studies[f'paper:{world}']
  for second in ('grpo_replay', 'again', 'on_distill',
                 *(('random',) if 'random' in study.arms else ())):
    for endpoint in ('mean_hard', 'hard', 'hard_list'):
      assert [*study.exploratory].count(('zppo', second, endpoint)) == 1
  assert len({*study.exploratory}) == len(study.exploratory)


def test_the_computed_tables_of_the_plan_are_made_again():
  """And no table takes more than it may."""
  text = (ROOT / 'docs' / 'study.md').read_text()
  for table in (plan.family_table(), plan.claims_table(), plan.power_table(),
                plan.budget_table()):
    assert table in text
  for name in plan.TABLES:
    _, taken, allowed = plan.hours(name)
    assert 0 < taken <= allowed == 6, name


def test_the_share_is_chosen_from_the_dial_by_hand(studies):
  """Of ZPPO's runs alone: 0.5 is at the ceiling, and 0.6 has headroom."""
  finals = {'zppo_50': [1.0, 0.96], 'zppo_60': [0.8, 0.85],
            'zppo_70': [0.7, 0.7], 'grpo_replay_50': [0.7, 0.7]}
  assert set(finals) <= set(studies['depth'].arms)
  results = {'reported': [
      {'arm': arm, 'seed': seed,
       'endpoints': {'hard': value, 'mean_hard': value / 2}}
      for arm, values in finals.items() for seed, value in enumerate(values)]}
  assert depth.chosen_share(results) == 0.6
  for missing in ('zppo_60', 'zppo_70'):
    results['reported'] = [
        r for r in results['reported'] if r['arm'] != missing]
  assert depth.chosen_share(results) is None


def test_the_dial_by_hand():
  """Means, ZPPO's deviation, and the differences of both endpoints."""
  results = {'reported': [
      {'arm': arm, 'seed': seed,
       'endpoints': {'hard': value, 'mean_hard': value / 2}}
      for arm, values in {'zppo_60': [0.8, 0.6], 'grpo_replay_60': [0.2, 0.4]
                          }.items() for seed, value in enumerate(values)]}
  assert depth.dial_table(results).splitlines()[2:] == [
      '| 0.6 | 0.700 (0.141) | 0.300 | +0.400 | 0.350 | 0.150 | +0.200 |']


def test_the_worlds_have_the_share_that_the_dial_chose():
  """And the page of the study has its table."""
  results = json.loads(
      (ROOT / 'studies/results/depth/results.json').read_text())
  assert worlds.DEEP_SHARE == depth.chosen_share(results)
  assert depth.dial_table(results) in (ROOT / 'docs' / 'study.md').read_text()
