"""Turns rows of runs into curves: groups of seeds, means, bands, smoothing."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from zppo_jax.report.charts import Line
from zppo_jax.report.reading import RecordedRun, differing
from zppo_jax.statistics import t_interval
from zppo_jax.study import tables

MOST_POINTS = 300  # per curve; longer ones are averaged over equal spans
MOST_FAINT = 10  # the most runs that are drawn behind the mean of their group


@dataclasses.dataclass(frozen=True)
class RunGroup:
  """Runs that differ only in their seed (or a single run)."""
  label: str
  runs: tuple[RecordedRun, ...]


def group_runs(runs: Sequence[RecordedRun]) -> tuple[RunGroup, ...]:
  """Groups runs by method and by any difference between runs of one method.

  Configs hold no fields of the machinery that cannot change a number (workdir,
  logging). So every difference except the seed separates two groups.
  """
  out: dict[tuple, list[RecordedRun]] = {}
  for run in runs:
    same = [r for r in runs if r.method == run.method]
    fields = [f for f in differing(same) if f != 'seed']
    flat = tables.flatten(run.config)
    words = tuple(f'{f.split(".")[-1]}={flat.get(f, tables.ABSENT)}'
                  for f in fields)
    out.setdefault((run.method, *words), []).append(run)
  return tuple(RunGroup(' '.join(key), tuple(members))
               for key, members in out.items())


def thin_out(xs: Sequence[float], ys: Sequence[float]):
  """At most MOST_POINTS points (xs, ys): means over spans of equal count."""
  if len(xs) <= MOST_POINTS:
    return tuple(xs), tuple(ys)
  cuts = np.linspace(0, len(xs), MOST_POINTS + 1).astype(int)
  mean = lambda v: tuple(float(np.mean(v[a:b]))
                         for a, b in zip(cuts[:-1], cuts[1:], strict=True))
  return mean(xs), mean(ys)


def window(count: int) -> int:
  """How many points a smoothed curve averages (odd); 1 for a short curve."""
  return 1 if count < 40 else 2 * (count // 50) + 3


def smooth(ys: Sequence[float], size: int) -> tuple[float, ...]:
  """The centred moving mean, over fewer points at the ends."""
  half = size // 2
  return tuple(float(np.mean(ys[max(0, i - half):i + half + 1]))
               for i in range(len(ys)))


def values_of(rows: Iterable[dict], name: str, x: str = 'step'):
  """(xs, ys) of the rows that have a finite value of that name."""
  points = [(row[x], row[name]) for row in rows
           if name in row and row[name] is not None
           and math.isfinite(row[name])]
  return ([x for x, _ in points], [float(y) for _, y in points])


def curve(label: str, group: RunGroup, name: str, *, x: str = 'step',
          rows: Callable[[RecordedRun], Sequence[dict]] = (
              lambda run: run.metrics),
          smoothed: bool = True, style: int = 0) -> Line | None:
  """A group's curve of a name; None if no run has the name.

  For one run it shows the values, with a moving mean in front if there are
  many. For several runs it shows the mean and the 95 % t interval at the steps
  that at least two runs have, with the runs behind. If x is rollouts or tokens,
  it is the mean over the runs at that step.
  """
  pairs = [(dict(zip(*values_of(rows(r), name), strict=True)),
            dict(zip(*values_of(rows(r), x), strict=True)))
           for r in group.runs]
  pairs = [pair for pair in pairs if pair[0]]
  if not pairs:
    return None
  if len(pairs) == 1:
    values, where = pairs[0]
    xs, ys = thin_out([where[s] for s in values], list(values.values()))
    size = window(len(ys)) if smoothed else 1
    if size == 1:
      return Line(label, xs, ys, style=style)
    return Line(label, xs, smooth(ys, size), faint=((xs, ys),), style=style)
  steps = sorted({s for values, _ in pairs for s in values})
  steps = [s for s in steps if sum(s in v for v, _ in pairs) > 1]
  faint = tuple(
      thin_out([where[s] for s in values], list(values.values()))
      for values, where in pairs) if len(pairs) <= MOST_FAINT else ()
  if not steps:
    return Line(label, *faint[0], faint=faint[1:], style=style)
  bands = [t_interval([v[s] for v, _ in pairs if s in v]) for s in steps]
  at = [float(np.mean([w[s] for v, w in pairs if s in v])) for s in steps]
  xs, mean = thin_out(at, [b[0] for b in bands])
  _, low = thin_out(at, [b[1] for b in bands])
  _, high = thin_out(at, [b[2] for b in bands])
  return Line(label, xs, mean, low, high, faint, bold=True, style=style)
