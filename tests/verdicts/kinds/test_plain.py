"""Kinds without a library: values by hand."""

import pytest

from zppo_jax.verdicts.kinds import plain


@pytest.mark.parametrize('mark, answer, gold, score', [
    (plain.numbers, '0.5', r'\frac{1}{2}', 1), (plain.numbers, '1/2', '.5', 1),
    (plain.numbers, '1,000', '1000', 1), (plain.numbers, r'1\,000', '1000', 1),
    (plain.numbers, '50%', '50', 1), (plain.numbers, r'90^\circ', '90', 1),
    (plain.numbers, '1000001', '1000000', 0),
    (plain.numbers, '1000002', '1000000', 0),
    (plain.numbers, r'2 \times 10^{3}', '2e3', 1),
    (plain.numbers, '-5', '5', 0), (plain.numbers, '1e9999999', '5', 0),
    (plain.numbers, '٥', '5', 0), (plain.numbers, '5 or 6', '5', 0),
    (plain.relaxed_numbers, '104', '100', 1),
    (plain.relaxed_numbers, '106', '100', 0),
    (plain.relaxed_numbers, 'Paris', 'paris', 1),
    (plain.choices, '(b)', 'B', 1), (plain.choices, r'\text{B}', 'B', 1),
    (plain.choices, 'B. 12', 'B', 1), (plain.choices, 'Option B', 'B', 1),
    (plain.choices, 'A dog', 'A', 0), (plain.choices, 'A or B', 'A', 0),
    (plain.texts, ' New  York.', 'new york', 1),
    (plain.texts, 'York', 'New York', 0),
    (plain.sets, '{2, 1}', '1,2', 1), (plain.sets, r'\{1,2\}', '2 and 1', 1),
    (plain.sets, '1,2,3', '1,2', 0), (plain.sets, '1,000', '1000', 1),
    (plain.quantities, '5 km', '5000 m', 1), (plain.quantities, '5', '5 km', 1),
    (plain.quantities, '5 kg', '5 km', 0),
    (plain.quantities, r'9.8\ \text{m/s}^2', '9.8 m/s^2', 1),
])
def test_scores_by_hand(mark, answer, gold, score):
  """Equal values in other forms are equal, others are not."""
  assert mark(answer, gold) == score


@pytest.mark.parametrize('mark, gold', [
    (plain.numbers, 'seven'), (plain.choices, 'A dog'), (plain.texts, '$ $'),
    (plain.sets, '{}'), (plain.quantities, 'metres')])
def test_a_gold_of_another_kind_is_unreadable(mark, gold):
  """It is the data's fault and not the answer's."""
  with pytest.raises(plain.Unreadable):
    mark('5', gold)
