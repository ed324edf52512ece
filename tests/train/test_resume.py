"""kill -9 in every phase of a run, then resume: as if it had never happened.

Ten kills, and ten SIGTERMs: `python -m tests.kill_and_resume`
(studies/results/resume).
"""

import pytest

from tests import kill_and_resume
from tests.long import LONG


@pytest.fixture(autouse=True)
def quick_to_compile(monkeypatch):
  """Of all processes of a run."""
  monkeypatch.setenv('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')


def test_a_kill_in_half_a_record_leaves_no_trace(tmp_path):
  """A record of the journal is torn: after the next attempt all files equal
  those of a run that was left alone, to the byte."""
  found = kill_and_resume.torture(tmp_path, kills=1, seed=1, phases=('torn',))
  assert [phase for phase, *_ in found['kills']] == ['torn']
  assert found['attempts'] == 2
  assert found['differences'] == []
  assert found['drawn_twice'] == 0


@LONG
def test_a_kill_in_each_phase_leaves_no_trace(tmp_path):
  """One in rollouts, behind a record of the journal, in teacher, update, half a
  record, save and a metric line each: params, optimizer, buffer, totals,
  metrics (clocks aside), evaluations, samples and fates equal those of the run
  that was left alone, to the byte. What the journal held is not drawn again."""
  kills = len(kill_and_resume.PHASES)
  found = kill_and_resume.torture(tmp_path, kills=kills, seed=1)
  assert {phase for phase, *_ in found['kills']} == set(kill_and_resume.PHASES)
  assert found['attempts'] == kills + 1
  assert found['differences'] == []
  assert found['drawn_twice'] == 0
  # A step's rollouts are lost only where they had not ended.
  assert found['rollouts'] <= found['drawn'] < 1.2 * found['rollouts']
