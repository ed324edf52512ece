"""kill -9 in every phase of a run, then resume: as if it had never happened.

Twenty kills: `python -m tests.kill_and_resume` (studies/results/resume).
"""

import pytest

from tests import kill_and_resume


@pytest.mark.slow
def test_five_kills_leave_no_trace(tmp_path):
  """One in rollouts, teacher, update, save and a metric line each: params,
  optimizer, buffer, totals, metrics (clocks aside), evaluations, samples and
  fates equal those of the run that was left alone, to the byte."""
  found = kill_and_resume.torture(tmp_path, kills=5, seed=0)
  assert {phase for phase, *_ in found['kills']} == set(kill_and_resume.PHASES)
  assert found['attempts'] == 6
  assert found['differences'] == []
