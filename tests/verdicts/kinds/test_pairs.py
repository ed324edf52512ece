"""At least 300 pairs a kind, both ways round."""

import pytest

from tests.verdicts.kinds import verdict_pairs
from zppo_jax.verdicts import kinds
from zppo_jax.verdicts.kinds.plain import Unreadable


def _said(mark, answer: str, gold: str) -> bool:
  """What a kind says; a gold answer that is none of its kind equals nothing."""
  try:
    return mark(answer, gold) >= 1
  except Unreadable:
    return False


def _disagreements(kind: str) -> tuple[int, list[tuple], list[tuple]]:
  """How many pairs, which ones a kind says otherwise to, and which of those
  have a reason in the table."""
  row = kinds.get(kind)
  row.load()
  found, count = [], 0
  for pair in verdict_pairs.PAIRS[kind]():
    count += 1
    back = pair.right if pair.back is None else pair.back
    for answer, gold, want in ((pair.answer, pair.gold, pair.right),
                               (pair.gold, pair.answer, back)):
      if _said(row.mark, answer, gold) != want:
        found.append((gold, answer, want, pair.known))
  return count, [f for f in found if not f[3]], [f for f in found if f[3]]


# How many verdicts the table says of that they are wrong, by kind.
KNOWN = {'math': 8, 'number': 0, 'relaxed_number': 0, 'choice': 0, 'text': 0,
         'set': 0, 'unit': 0}


@pytest.mark.parametrize('kind', verdict_pairs.PAIRS)
def test_each_pair_has_its_verdict_both_ways_round(kind):
  """fault B1, fault B2, fault B3, fault B4, fault B5, fault B8 and fault B8b:
  every verdict is as the pair was made, or its reason is in the table."""
  if kind == 'math':
    pytest.importorskip('math_verify')
  count, unexplained, explained = _disagreements(kind)
  assert count >= 300
  assert not unexplained, unexplained[:20]
  assert len(explained) == KNOWN[kind], explained


def test_every_kind_that_computes_has_a_table():
  """A new kind brings its own; a data set's own scorer is its package's, and
  those of published.py have theirs in test_published.py."""
  published = {name for name, row in kinds.KINDS.items()
               if row.mark.__module__.endswith('.published')}
  assert set(verdict_pairs.PAIRS) == (
      set(kinds.KINDS) - published - {'reasoning_gym'})
  assert set(KNOWN) == set(verdict_pairs.PAIRS)
