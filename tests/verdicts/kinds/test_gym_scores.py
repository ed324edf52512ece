"""reasoning-gym's scores: what is paid in part or for a wrong answer."""

import pytest

from zppo_jax.records import Grader, Question, Verdict
from zppo_jax.tasks import reasoning_gym
from zppo_jax.verdicts import verifier
from zppo_jax.verdicts.kinds import gym

package = pytest.importorskip('reasoning_gym')


def scored(name: str, answer: str, question: Question) -> Verdict:
  """What a task of this package makes of an answer."""
  reply = gym.score(answer, verifier.reference(question))
  grader: Grader = verifier.BOXED
  return (Verdict.CORRECT if reply >= grader.threshold else Verdict.WRONG)


@pytest.mark.parametrize('name', ['boxnet', 'graph_color',
                                  'propositional_logic', 'rubiks_cube',
                                  'rush_hour'])
def test_entries_without_an_answer_are_refused(name):
  """fault C8: their questions had the gold text 'None'."""
  assert package.create_dataset(name, size=1, seed=1)[0]['answer'] is None
  with pytest.raises(ValueError, match=f'reasoning_gym/{name} .*carry none'):
    reasoning_gym.pool(name, 1, seed=1)
  with pytest.raises(ValueError, match=f'reasoning_gym/{name} '):
    reasoning_gym.evaluation(name, 1)


def test_an_entry_that_lacks_its_answer_is_named(monkeypatch):
  """Whatever data set comes next: no gold is made of a missing one."""
  from reasoning_gym import factory

  class Silent(list):
    """A data set whose second entry has no answer."""

  rows = Silent([{'question': 'q', 'answer': '1', 'metadata': {}},
                 {'question': 'q', 'answer': None, 'metadata': {}}])
  monkeypatch.setattr(factory, 'create_dataset', lambda name, **_: rows)
  with pytest.raises(ValueError, match='chain_sum: entry 1 has the answer No'):
    reasoning_gym.pool('chain_sum', 2)


@pytest.mark.parametrize(('name', 'wrong'), [
    ('chain_sum', '{gold}0'), ('chain_sum', '{gold} or so'),
    ('lcm', '{gold} and 1'), ('gsm_symbolic', '-{gold}'),
    ('gsm_symbolic', '{gold} or 999'), ('gsm_symbolic', '999 or {gold}'),
    ('letter_jumble', '{gold} or something else'),
    ('letter_jumble', '{gold} {gold}')])
def test_part_of_a_point_and_the_first_number_are_wrong(name, wrong):
  """fault C8: -40 for -4 had 0.67, a gold with any text behind it 0.99..., and
  gsm_symbolic counts the first number without its sign."""
  for question in reasoning_gym.evaluation(name, 3):
    answer = wrong.format(gold=question.answer)
    assert scored(name, question.answer, question) is Verdict.CORRECT
    assert scored(name, answer, question) is Verdict.WRONG, answer


def test_replaced_scorers_agree_with_the_package_on_right_answers():
  for name in gym.REPLACED:
    for question in reasoning_gym.evaluation(name, 3):
      assert scored(name, question.answer, question) is Verdict.CORRECT
      assert scored(name, 'no such thing', question) is Verdict.WRONG
