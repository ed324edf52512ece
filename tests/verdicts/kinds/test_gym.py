"""reasoning-gym: which scorers may speak."""

import pytest

from zppo_jax.verdicts.kinds import gym


@pytest.mark.parametrize('name', gym.REFUSED + tuple(gym.UNSOUND))
def test_scorers_that_execute_text_are_refused_by_name(name):
  """Before a question is asked."""
  with pytest.raises(ValueError, match=name):
    gym.source(name, {'seed': 1})


@pytest.mark.parametrize('name', ['chain_sum', 'spiral_matrix'])
def test_an_entry_is_made_again_and_scored(name):
  """Its own answer is right, another is not; replaced scorers too."""
  package = pytest.importorskip('reasoning_gym')
  config = {'seed': 3, 'size': 5}
  entry = package.create_dataset(name, **config)[2]
  reference = gym.reference(gym.source(name, config), 'any#2')
  assert gym.score(entry['answer'], reference) == 1
  assert gym.score('no idea', reference) < 1


def test_model_text_is_not_run(tmp_path):
  """A replaced scorer does not eval what it is given."""
  pytest.importorskip('reasoning_gym')
  file = tmp_path / 'made'
  reference = gym.reference(gym.source('spiral_matrix', {'seed': 1, 'size': 1}),
                            'any#0')
  assert gym.score(f'[open({str(file)!r}, "w")]', reference) == 0
  assert not file.exists()


# Data sets whose answers are single and whose scorers give 1 to them alone.
TABLED = ('chain_sum', 'basic_arithmetic', 'gcd', 'lcm', 'leg_counting',
          'prime_factorization', 'fraction_simplification', 'base_conversion',
          'bitwise_arithmetic', 'letter_counting', 'word_sorting',
          'spell_backward', 'number_sorting', 'caesar_cipher',
          'calendar_arithmetic',
          'products', 'simple_equations', 'syllogism', 'family_relationships',
          'number_sequence', 'count_bits', 'binary_matrix',
          'isomorphic_strings', 'largest_island', 'count_primes')


@pytest.mark.parametrize('name', TABLED)
def test_an_entrys_answer_is_right_and_anothers_is_not(name):
  """Twelve pairs a data set, both ways round: 300 entries and as many of
  their neighbours' answers."""
  package = pytest.importorskip('reasoning_gym')
  config = {'seed': 1, 'size': 12}
  answers = [e['answer'] for e in package.create_dataset(name, **config)]
  for i, answer in enumerate(answers):
    reference = gym.reference(gym.source(name, config), f'any#{i}')
    assert gym.score(answer, reference) == 1
    for other in answers:
      if other != answer:
        assert gym.score(other, reference) < 1, (answer, other)
