"""What a row of credit/rows.py says where a config says nothing, and what a
config may say instead."""

import re

import numpy as np
import pytest

from tests.builders import small_config
from zppo_jax.algorithms import distillation, methods
from zppo_jax.algorithms.credit import settings
from zppo_jax.runs import same_config
from zppo_jax.train.teaching.own import own_config


def config(method, changes):
  c = small_config(method=method)
  c.update_from_flattened_dict(changes)
  return c


def distil(method, **changes):
  row = methods.get(method)
  return distillation.settings(method, row.pinned, config(method, changes),
                               row.usual)


@pytest.mark.parametrize('method, factor', [
    ('ptd_po', 0.05), ('ptd_as_released', 0.05), ('kdrl', 0.002),
    ('grpo_distill', 1.0), ('sdpo', 1.0), ('opsd', 1.0)])
def test_the_factor_of_the_paper_where_the_config_says_none(method, factor):
  assert distil(method).coefficient(None) == factor
  for said in (0.0, 1.0, 0.5):
    assert distil(method, **{'distil.coefficient': said}).coefficient(
        None) == said
  falls = {'distil.coefficient_schedule': 'linear',
           'distil.coefficient_updates': 2}
  np.testing.assert_allclose(
      [distil(method, **falls).coefficient(np.int32(i)) for i in (0, 1, 2)],
      [factor, factor / 2, 0], rtol=1e-6)


@pytest.mark.parametrize('method, weights', [
    ('sdpo', 'ema'), ('sdft', 'ema'), ('srpo', 'ema'), ('ptd_po', 'frozen'),
    ('opsd', 'frozen'), ('opd', 'frozen'), ('grpo', 'frozen')])
def test_the_own_weights_of_the_paper(method, weights):
  of = own_config(config(method, {}))
  assert (of.weights, of.rate) == (weights, 0.05)
  live = own_config(config(method, {'teacher.own.weights': 'live'}))
  assert live.weights == 'live'


@pytest.mark.parametrize('method, changes', [
    ('ptd_po', {'distil.support': 'whole'}),
    ('ptd_po', {'distil.support': 'sampled'}),
    ('ptd_po', {'distil.divergence': 'reverse'}),
    ('ptd_po', {'distil.context': 'notes'}),
    ('sdpo', {'distil.context': 'feedback'}),
    ('sdpo', {'distil.context': 'sibling_and_feedback'}),
    ('sdpo', {'distil.context': 'calibrated'}),
    ('sdpo', {'distil.support': 'sampled', 'distil.divergence': 'reverse'}),
    ('sdft', {'distil.context': 'calibrated'}),
    ('sdft', {'distil.divergence': 'reverse', 'distil.support': 'student'}),
    ('srpo', {'distil.support': 'whole'}),
    ('opsd', {'distil.context': 'answer', 'distil.rest': 'renormalised'}),
    ('opcd', {'distil.context': 'notes'}),
    ('uni_opd', {'distil.reducer': 'taught_tokens'}),
    ('revisit_opd', {'distil.top': 50}), ('eopd', {'distil.top': 8}),
    ('veto', {'distil.target': 'geometric(linear:1:0)'}),
])
def test_an_ablation_of_a_paper_is_a_config_field(method, changes):
  row, of = distil(method), distil(method, **changes)
  for path, said in changes.items():
    field = path.removeprefix('distil.')
    read = lambda x: {'divergence': x.divergence.kind,
                      'target': x.target.name}.get(
                          field, getattr(x, field))  # noqa: B023
    assert read(of) == ('geometric' if field == 'target' else said)
    assert field == 'target' or read(row) != said
  assert of.target.name != 'geometric' or float(of.target.values[0](0)) == 1


@pytest.mark.parametrize('method, path, said', [
    ('ptd_as_released', 'distil.support', 'whole'),
    ('fast_opd', 'distil.divergence', 'forward'),
    ('npo', 'distil.context', 'hint'),
])
def test_what_a_row_is_made_of_stays(method, path, said):
  with pytest.raises(ValueError, match=f'{path} is {said!r}'):
    distil(method, **{path: said})


def test_rlsd_falls_to_the_verdict():
  """lambda 0.5 to 0 over the run; two steps of two updates here."""
  method = methods.get('rlsd')
  of = settings.of_section(small_config().credit, method.credit, 4,
                           terms=method.terms)
  assert [of.signal.at(done) for done in (0, 2, 4, 9)] == [
      (0.5, 0.2), (0.25, 0.2), (0.0, 0.2), (0.0, 0.2)]


def test_srpo_teaches_as_sdpo_does():
  one, other = distil('srpo'), distil('sdpo')
  assert one == other and (one.support, one.top, one.rest) == (
      'student', 100, 'bucket')


def test_reopold_may_switch_to_its_second_phase():
  """The first 3 updates teach tokens above the floor of lambda 0.17, later ones
  the share 0.2 of the highest entropies, among all."""
  c = config('reopold', {'credit.policy_weights':
      'trusted(step:2.134888:1e9:3) * entropy_top(step:1:0.2:3)'})
  of = settings.of_section(c.credit, methods.get('reopold').credit, 10,
                           terms=('policy',))
  floors, shares = of.policy.weights
  assert [floors.at(i)[0] for i in range(5)] == [
      *[pytest.approx(2.134888)] * 3, 1e9, 1e9]
  assert [shares.at(i)[0] for i in range(5)] == [1, 1, 1, *[
      pytest.approx(0.2)] * 2]


@pytest.mark.parametrize('text, ratios', [
    ('1.2', {'*': 1.2}), ('inf', {'*': float('inf')}),
    ('maths=1, code=1.2', {'maths': 1.0, 'code': 1.2}),
    ('code=1.2, *=1', {'code': 1.2, '*': 1.0})])
def test_a_balance_is_read(text, ratios):
  for said, at_random in ((text, False), (f'random({text})', True)):
    of = settings.balance_of(said)
    assert of.ratios == ratios and of.at_random == at_random


@pytest.mark.parametrize('text', ['', 'code=', '=1', 'code=1, code=2', '1, 2',
                                  'code 1.2', 'linear:1:2', 'random',
                                  'random()', 'random(none)', 'random(1',
                                  'random(1), 2', 'random(x=1, y)',
                                  'random(random(1))',
                                  'maths=random(1), code=1', 'rand(1)'])
def test_a_bad_balance_is_named(text):
  with pytest.raises(ValueError, match=(
      f'credit.balance is {re.escape(repr(text))}.*NAME=1.*random')):
    settings.balance_of(text)


@pytest.mark.parametrize('text, value', [
    ('random(-1)', '-1.0'), ('random(nan)', 'nan'),
    ('random(x=1, y=-2)', '-2.0')])
def test_a_ratio_out_of_its_range_is_named(text, value):
  with pytest.raises(ValueError, match=(
      f'credit.balance is {value}; it must be >= 0')):
    settings.balance_of(text)


def test_whose_verdicts_a_margin_reads():
  of = lambda terms=('policy',), **row: settings.of_section(
      small_config().credit, {'signal': 'log_ratio', **row}, 10, terms=terms)
  assert of().margin_verdicts == 'own'
  assert of(margin='spread(1)').margin_verdicts == 'own'
  assert of(margin='mask(1)', margin_verdicts='permuted').margin_verdicts == (
      'permuted')
  assert of(margin_verdicts='own').margin is None
  with pytest.raises(KeyError, match=(
      "credit.margin_verdicts 'shuffled'; known: own, permuted")):
    of(margin='spread(1)', margin_verdicts='shuffled')
  for row, words in (
      ({}, "credit.margin is 'none'"),
      ({'margin': 'lift(1)', 'signal': 'none'}, "credit.signal is 'none'"),
      ({'margin': 'lift(1)', 'terms': ('divergence',)}, 'no policy term')):
    with pytest.raises(ValueError, match=(
        f"credit.margin_verdicts is 'permuted'.*{words}.*Allowed: 'own'")):
      of(margin_verdicts='permuted', **row)


@pytest.mark.parametrize('field, value, neutral', [
    ('margin', 'spread(1)', 'none'), ('coefficient', '0.5', '1'),
    ('discount', '1', '0'), ('combine', 'add', 'replace')])
def test_what_is_said_of_a_signal_needs_one(field, value, neutral):
  """It was read, and then nothing was done with it."""
  section = small_config().credit
  section[field] = value
  of = lambda terms, **row: settings.of_section(section, row, 10, terms=terms)
  of(('policy',), signal='log_ratio')
  for terms, row, words in (
      (('policy',), {}, "credit.signal is 'none'"),
      (('divergence',), {'signal': 'log_ratio'}, 'this method has no policy')):
    with pytest.raises(ValueError, match=re.escape(
        f'credit.{field} is {value!r}, which is for the signal of a policy '
        f'term; here {words}')):
      of(terms, **row)
  section[field] = neutral
  of(('policy',))


def test_every_source_needs_a_ratio_and_every_ratio_a_source():
  by_name = settings.balance_of('maths=1, code=1.2')
  by_name.check({'maths', 'code'})
  assert (by_name.of('maths'), by_name.of('code')) == (1.0, 1.2)
  with_others = settings.balance_of('code=1.2, *=1')
  with_others.check({'code', 'maths', 'other'})
  assert with_others.of('other') == 1.0
  for balance, sources in ((by_name, {'maths', 'code', 'other'}),
                           (by_name, {'maths'}), (with_others, {'maths'})):
    with pytest.raises(ValueError, match='Each needs a ratio'):
      balance.check(sources)


def test_a_run_of_another_factor_or_teacher_is_not_resumed():
  """A run of a version in which the factor was 1 and the weights 'frozen'."""
  def resumed(method, **there):
    stored = same_config.config_values(config(method, there))
    same_config.check_same_config('run', {'config': stored}, config(method, {}))
  resumed('opd_k2', **{'distil.coefficient': 1.0})
  resumed('opsd', **{'teacher.own.weights': 'frozen'})
  resumed('ptd_po', **{'distil.coefficient': 0.05})
  resumed('sdpo', **{'teacher.own.weights': 'ema'})
  for method, path, value in (
      ('ptd_po', 'distil.coefficient', 1.0),
      ('sdpo', 'teacher.own.weights', 'frozen')):
    with pytest.raises(ValueError, match=f'{path} is {value!r} there'):
      resumed(method, **{path: value})
