"""1,000 gold answers: each is itself, none is 0 or its neighbour."""

import pytest

from tests.long import long
from tests.verdicts.kinds import verdict_golds
from zppo_jax.verdicts import kinds
from zppo_jax.verdicts.worker import grade

pytest.importorskip('math_verify')
GOLDS = verdict_golds.golds()
PARTS = 10


def _graded(kind: str, answer: str, gold: str) -> dict:
  """What a worker says; no deadline, which would end the test's process."""
  return grade({'kind': kind, 'answer': answer, 'reference': gold, 'cpu_s': 0,
                'wall_s': 0})


def test_there_are_a_thousand_of_three_sorts():
  """The same ones at every run."""
  assert len(GOLDS) == 1000 and GOLDS == verdict_golds.golds()
  assert len({gold.text for gold in GOLDS}) > 800


@pytest.mark.parametrize('part', [
    0, *map(long, range(1, PARTS))])
def test_each_gold_is_itself_and_nothing_else(part):
  """fault B1, fault B2 and fault B3: itself, also in other spaces; not 0, not
  its negation, not its neighbour, in any kind that reads it."""
  kinds.get('math').load()
  wrong = []
  for gold in GOLDS[part::PARTS]:
    for kind in gold.kinds:
      for itself in (gold.text, f' ${gold.text}$ ', f'{gold.text}.'):
        if _graded(kind, itself, gold.text) != {'score': 1.0}:
          wrong.append((kind, gold.text, itself, 1))
      for other in gold.others:
        if _graded(kind, other, gold.text) != {'score': 0.0}:
          wrong.append((kind, gold.text, other, 0))
  assert not wrong, wrong[:20]
