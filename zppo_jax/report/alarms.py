"""Signs that a run worked in vain (train/watching/signs.py), from its files."""

from collections.abc import Sequence

from zppo_jax.report.reading import RecordedRun
from zppo_jax.study import tables
from zppo_jax.train.watching import signs


def of_run(run: RecordedRun) -> Sequence[str]:
  """The sentences of all rules that a run sets off."""
  return list(signs.of_rows(run.metrics, tables.flatten(run.config)).values())
