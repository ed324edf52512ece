"""What is refused before anything is loaded."""

import pytest

from zppo_jax.records import Question
from zppo_jax.train import checks


def q(name, answer, kind='number'):
  return Question(name, 'How many?', answer, '', kind=kind)


def test_gold_answers_that_are_not_of_their_kind(capsys):
  """Told while they are few, refused beyond the share; the judge's are named
  and not looked at."""
  found = [q('good', '5'), q('bad', 'five'), q('asked', '?', 'judge')]
  assert checks.golds(found, 0.5) == 'asked'
  said = capsys.readouterr().out
  assert said.startswith("1 of 2 gold answers are not of their question's "
                         "kind, the first of 'bad': ")
  with pytest.raises(ValueError, match="1 of 2 gold .* of 'bad': .*; "
                     'guard.max_ungraded is 0.49'):
    checks.golds(found, 0.49)
  assert checks.golds(found[:1], 0.1) == '' == capsys.readouterr().out
