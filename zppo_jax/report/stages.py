"""Charts of what runs came to: stages of a sequence, and gains by teacher."""

from collections.abc import Sequence

import numpy as np

from zppo_jax.report import charts, figures, reading
from zppo_jax.report.charts import Bars
from zppo_jax.report.figures import Figure
from zppo_jax.report.reading import RecordedRun
from zppo_jax.runs import diagnostics

# Metrics that tell how often a teacher is right; the first that a run has.
TEACHERS = ('teacher/accuracy', 'context/accuracy')


def forgetting(runs: Sequence[RecordedRun]) -> list[Figure]:
  """The accuracy of each split after each stage of a sequence of runs, and how
  much of it the last stage has lost. A run is the next stage of the one that it
  was forked from; there is nothing to draw without such a pair."""
  out = []
  for stages in reading.sequences(runs):
    splits = [s for s in stages[0].splits if not figures.is_loss(s) and all(
        s in run.splits for run in stages)]
    if not splits:
      continue
    accuracy = np.array([[[row[s] for row in run.evals if s in row][-1]
                          for s in splits] for run in stages])
    what = ' > '.join(run.name for run in stages)
    bars = [Bars(run.name, tuple(map(float, of)))
            for run, of in zip(stages, accuracy, strict=True)]
    out += [
        Figure(f'Accuracy after each stage: {what}', 'fraction right',
               tuple(splits), 'At the last evaluation of each run; each run '
               'was forked from the one before.', (charts.bar_chart(
                   splits, bars, x_label='split'),)),
        Figure(f'Forgotten by the last stage: {what}', 'difference',
               tuple(splits), 'The best accuracy of any earlier stage minus '
               'the last; 0 where the last is at least as good.',
               (charts.bar_chart(splits, [Bars('forgotten', tuple(
                   max(0.0, float(x)) for x in diagnostics.forgetting(
                       accuracy)))], x_label='split'),))]
  return out


def _of_teacher(run: RecordedRun) -> float:
  """The mean accuracy of a run's teacher; 0 where no metric tells it."""
  for name in TEACHERS:
    values = [row[name] for row in run.metrics if name in row]
    if values:
      return float(np.mean(values))
  return 0.0


def teaching(runs: Sequence[RecordedRun]) -> list[Figure]:
  """What each run gained per accuracy of its teacher, by split."""
  taught = [run for run in runs if len(run.evals) > 1 and _of_teacher(run)]
  splits = [s for s in dict.fromkeys(s for run in taught for s in run.splits)
            if not figures.is_loss(s) and all(
                s in row for run in taught for row in (
                    run.evals[0], run.evals[-1]))]
  if not splits:
    return []
  title = 'Gain per accuracy of the teacher'
  return [Figure(
      title, 'accuracy per accuracy', (*splits, *TEACHERS),
      'Last minus first evaluation, over the mean accuracy of the teacher: a '
      'good solver need not be a good teacher. A loss is drawn as 0.',
      (charts.bar_chart(splits, [Bars(run.name, tuple(
          max(0.0, diagnostics.teaching_gain(
              run.evals[0][s], run.evals[-1][s], _of_teacher(run)))
          for s in splits)) for run in taught], x_label='split'),))]
