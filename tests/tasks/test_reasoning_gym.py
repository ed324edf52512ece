"""Entries of reasoning-gym as questions that their own scorer grades."""

import pytest

from zppo_jax.tasks import reasoning_gym
from zppo_jax.verdicts import kinds, verifier
from zppo_jax.verdicts.kinds import gym

pytest.importorskip('reasoning_gym')


def test_a_pool_is_the_data_sets_entries():
  pool = reasoning_gym.pool('chain_sum', 5, seed=1)
  assert pool[0].text.endswith('4 - 1 - 7 =') and pool[0].answer == '-4'
  assert pool == reasoning_gym.pool('chain_sum', 5, seed=1)
  assert len({q.id for q in pool}) == 5
  assert pool[0].kind == 'reasoning_gym' and pool[0].split == 'chain_sum'


@pytest.mark.parametrize('name', ['chain_sum', 'spell_backward',
                                  'number_sorting', 'binary_matrix'])
def test_the_scorer_finds_the_entry_behind_a_question(name):
  for q in reasoning_gym.evaluation(name, 3):
    mark = kinds.get(q.kind).mark
    assert mark(q.answer, verifier.reference(q)) == 1
    assert mark('no such thing', verifier.reference(q)) < 0.5


def test_fields_of_the_config_reach_the_data_set():
  fields = dict(min_terms=2, max_terms=2, min_digits=1, max_digits=1)
  for q in reasoning_gym.pool('chain_sum', 8, config=fields):
    assert len(q.text.split(': ')[1].split()) == 4  # a + b =
  split = 'chain_sum?{"min_terms": 6}'
  (q,) = reasoning_gym.evaluation(split, 1)
  assert q.split == split and len(q.text.split(': ')[1].split()) == 12


def test_no_pool_reaches_the_splits():
  last = reasoning_gym.EVAL_SEED
  with pytest.raises(ValueError, match=r'seed \+ data.pool.size is 1000004'):
    reasoning_gym.pool('chain_sum', 4, seed=last - 3)
  with pytest.raises(ValueError, match='seed is -1'):
    reasoning_gym.pool('chain_sum', 4, seed=-1)
  reasoning_gym.pool('chain_sum', 1, seed=last - 1)


@pytest.mark.parametrize('name', [*gym.REFUSED, *gym.UNSOUND])
def test_executing_scorers_are_refused_by_name(name):
  with pytest.raises(ValueError, match=f'reasoning_gym/{name}'):
    reasoning_gym.pool(name, 2)


def test_wrong_requests_are_named():
  with pytest.raises(KeyError, match="reasoning-gym 'chain'; known: .*ab"):
    reasoning_gym.pool('chain', 2)
  with pytest.raises(KeyError, match="'composite'"):
    reasoning_gym.pool('composite', 2)
  with pytest.raises(ValueError, match='chain_sum with .*terms'):
    reasoning_gym.pool('chain_sum', 2, config={'terms': 3})
  with pytest.raises(ValueError, match='no JSON'):
    reasoning_gym.evaluation('chain_sum?{', 2)
