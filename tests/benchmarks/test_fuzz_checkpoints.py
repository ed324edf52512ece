"""Seeded damage of a run's files; the command does two hundred."""

import gc

import pytest

from benchmarks import fuzz_checkpoints
from tests.long import LONG

pytestmark = [
    pytest.mark.usefixtures('quick_compile'),
    # tensorstore reads on after the first damaged array, and nobody waits for
    # the errors of the others.
    pytest.mark.filterwarnings(
        'ignore:(?s)Exception ignored in:'
        'pytest.PytestUnraisableExceptionWarning')]


@LONG
def test_no_damage_loads_as_another_state(tmp_path):
  """fault D5: an error that is clear, the very same state, or a warning."""
  counts, faults = fuzz_checkpoints.examine(24, 3, tmp_path)
  assert faults == []
  assert sum(counts.values()) == 24 and set(counts) == set(
      fuzz_checkpoints.OUTCOMES)
  assert counts['error'] > 0 and counts['same'] > 0


def test_it_sees_a_state_that_is_silently_another(tmp_path, monkeypatch):
  """fault D5: with the digest out of order, changed digits are called by their
  name: the judge of the fuzzing is not blind."""
  monkeypatch.setattr(fuzz_checkpoints.checkpoints, '_wrong_content',
                      lambda step, content: None)
  of = fuzz_checkpoints.prepare(tmp_path)
  file = of.killed / 'checkpoints/2/host/metadata'
  text = file.read_text()
  assert fuzz_checkpoints.outcome(of, of.killed)[0] == 'same'
  for before, after in (('"student_rollouts":', '"student_rollouts":1'),
                        ('"student_rollouts": ', '"student_rollouts": 1')):
    if before in text:
      file.write_text(text.replace(before, after, 1))
  assert file.read_text() != text
  assert fuzz_checkpoints.outcome(of, of.killed)[0] == 'silent'


@pytest.fixture(autouse=True)
def _no_garbage_for_others():
  """What the restores left is collected here, and not in the next test."""
  yield
  gc.collect()
