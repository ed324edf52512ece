"""Panels drawn: the figures of a page, from the rows of its runs."""

import dataclasses
import fnmatch
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from zppo_jax.report import charts
from zppo_jax.report.charts import Bars, View
from zppo_jax.report.curves import RunGroup, curve, window
from zppo_jax.report.panels import BESIDE, FRACTION, FREE, FROM_ZERO, Panel
from zppo_jax.report.reading import RecordedRun

MOST_BARS = 60  # per stacked chart


@dataclasses.dataclass(frozen=True)
class Figure:
  """A drawn panel.

  Attributes:
    title, unit, what: see Panel.
    names: the names that it shows.
    views: the chart, against each of its x axes; the first is shown.
  """
  title: str
  unit: str
  names: tuple[str, ...]
  what: str
  views: tuple[View, ...]


def _names(group: Sequence[RunGroup], patterns: Sequence[str],
           rows: Callable[[RecordedRun], Sequence[dict]]) -> list[str]:
  known = dict.fromkeys(
      k for g in group for r in g.runs for row in rows(r) for k in row)
  return list(dict.fromkeys(
      n for p in patterns for n in sorted(fnmatch.filter(known, p))))


def _ending(names: Sequence[str]) -> dict[str, str]:
  """Names without the part with which all of them begin."""
  if len(names) < 2:
    return {n: n for n in names}
  parts = [n.split('/') for n in names]
  same = 0
  while all(len(p) > same + 1 and p[same] == parts[0][same] for p in parts):
    same += 1
  return {n: '/'.join(p[same:]) for n, p in zip(names, parts, strict=True)}


def _smoothing(lines) -> str:
  sizes = {window(len(line.xs)) for line in lines
           if line.faint and not line.bold}
  sizes -= {1}
  if not sizes:
    return ''
  return f' Strong: moving mean over {max(sizes)} points.'


def _metrics(run: RecordedRun) -> Sequence[dict]:
  return run.metrics


def draw(panel: Panel, groups: Sequence[RunGroup],
         rows: Callable[[RecordedRun], Sequence[dict]] = _metrics
         ) -> list[Figure]:
  """Draws one chart with all names for a single group, or one chart per name
  for several groups. The list is empty if no run has any of the names.

  Args:
    panel: what is drawn.
    groups: of runs.
    rows: where the names of a run stand.
  """
  names = _names(groups, panel.names, rows)
  short = _ending(names)
  if len(groups) == 1:
    sets = [(panel.title, names, [(groups[0], n, short[n], i)
                                  for i, n in enumerate(names)])]
  else:
    sets = [(panel.title if len(names) == 1 else f'{panel.title}: {short[n]}',
             [n], [(g, n, g.label, i) for i, g in enumerate(groups)])
            for n in names]
  out = []
  for title, used, wanted in sets:
    lines = [line for g, n, label, i in wanted
             if (line := curve(label, g, n, style=i, rows=rows)) is not None]
    if lines:
      out.append(Figure(
          title, panel.unit, tuple(used), panel.what + _smoothing(lines),
          (charts.line_chart(lines, x_label='step', y=panel.y),)))
  return out


def draw_all(table: Sequence[Panel], groups: Sequence[RunGroup]):
  """(figures, names of panels that no run has)."""
  figures, missing = [], []
  for panel in table:
    drawn = draw(panel, groups)
    figures += drawn
    if not drawn:
      missing += panel.names
  return figures, missing


SPENT = {
    'step': 'step', 'student_rollouts': 'student rollouts',
    'tokens': 'tokens (teacher and prompts included)'}


def is_loss(name: str) -> bool:
  """Whether a number of an evaluation is a loss, which should fall."""
  return name.endswith('/loss')


def evaluation(groups: Sequence[RunGroup],
               splits: Sequence[str]) -> list[Figure]:
  """Accuracy and loss by split against steps, rollouts and tokens."""
  return [figure for loss in (False, True) for figure in _evaluation(
      groups, [s for s in splits if is_loss(s) == loss], loss)]


def _evaluation(groups: Sequence[RunGroup], splits: Sequence[str],
                loss: bool) -> list[Figure]:
  of_evals = lambda run: run.evals
  what = 'Evaluation loss' if loss else 'Evaluation accuracy'
  if len(groups) == 1:
    sets = [(what, [(groups[0], s, s, i) for i, s in enumerate(splits)])]
  else:
    sets = [(f'{what}: {s}',
             [(g, s, g.label, i) for i, g in enumerate(groups)])
            for s in splits]
  supervised = all(r.supervised for g in groups for r in g.runs)
  asked = ('Validation conversations' if supervised
           else 'Held-out questions, asked plain')
  out = []
  for title, wanted in sets:
    views = []
    for x, label in SPENT.items():
      if supervised and x == 'student_rollouts':
        continue
      lines = [line for g, s, name, i in wanted if (line := curve(
          name, g, s, x=x, rows=of_evals, smoothed=False,
          style=i)) is not None]
      if lines:
        views.append(charts.line_chart(
            lines, x_label=label, y=FROM_ZERO if loss else FRACTION))
    if views:
      out.append(Figure(
          title, 'nats per token' if loss else 'fraction right',
          tuple(dict.fromkeys(s for _, s, _, _ in wanted)),
          f'{asked}; "against" chooses what was spent.', tuple(views)))
  return out


def beside(groups: Sequence[RunGroup]) -> list[Figure]:
  """What evaluations tell beside results."""
  return [figure for panel in BESIDE
          for figure in draw(panel, groups, lambda run: run.evals)]


def graduation(groups: Sequence[RunGroup]) -> list[Figure]:
  """Admitted and graduated questions by accuracy at admission."""
  out = []
  for g in groups:
    counts: dict[str, Counter] = {}
    done = [r for r in g.runs if r.complete]
    for run in done:
      for entry, n in run.summary['graduation_by_entry_accuracy'].items():
        counts.setdefault(entry, Counter()).update(n)
    if not counts:
      continue
    names = sorted(counts, key=float)
    title = 'Graduation by accuracy at admission'
    if len(groups) > 1:
      title += f': {g.label}'
    chart = charts.bar_chart(
        names, [Bars(k, tuple(float(counts[n][k]) for n in names))
                for k in ('admitted', 'graduated')],
        x_label='plain accuracy when admitted')
    over = '' if len(done) == 1 else f' Sum over {len(done)} runs.'
    out.append(Figure(
        title, 'questions', ('graduation_by_entry_accuracy',),
        'Questions that entered the buffer, and those of them that the '
        'student came to solve. The bars at 0 are the questions that plain '
        'sampling gives no signal for.' + over, (chart,)))
  return out


def departures(groups: Sequence[RunGroup]) -> list[Figure]:
  """Visits of the entries that left the buffer, by fate."""
  out = []
  for g in groups:
    rows = [row for r in g.runs for row in r.departures]
    if not rows:
      continue
    most = min(max(row['visits'] for row in rows), 12)
    names = [*map(str, range(most)), f'{most}' if most < 12 else '12+']
    fates = [f for f in ('graduated', 'evicted')
             if any(row['fate'] == f for row in rows)]
    counts = Counter((row['fate'], min(row['visits'], most)) for row in rows)
    title = 'Visits until a question left the buffer'
    if len(groups) > 1:
      title += f': {g.label}'
    out.append(Figure(
        title, 'questions', ('buffer.jsonl',),
        'How often it was replayed, by how it left.',
        (charts.bar_chart(names, [Bars(f, tuple(
            float(counts[f, v]) for v in range(most + 1))) for f in fates],
            x_label='replays of the question'),)))
  return out


def phases(groups: Sequence[RunGroup]) -> list[str]:
  """The groups' names 'time/*', the largest total first."""
  total: Counter = Counter()
  for g in groups:
    for r in g.runs:
      for row in r.metrics:
        total.update({k: v for k, v in row.items() if k.startswith('time/')})
  return [k for k, _ in total.most_common()]


def time_by_step(groups: Sequence[RunGroup]) -> list[Figure]:
  """Seconds per step by phase, stacked; mean over the runs of a group."""
  names, out = phases(groups), []
  for g in groups:
    by_step: dict[int, list[list[float]]] = {}
    for r in g.runs:
      for row in r.metrics:
        by_step.setdefault(row['step'], []).append(
            [row[n] if n in row else 0.0 for n in names])
    if not names or not by_step:
      continue
    steps = sorted(by_step)
    mean = {s: np.mean(rows, 0) for s, rows in by_step.items()}
    spans = [steps[s] for s in charts.spans(len(steps), MOST_BARS)]
    heights = np.array([np.mean([mean[s] for s in span], 0) for span in spans])
    totals = heights.sum(1)
    top = float(min(totals.max(), 1.6 * np.percentile(totals, 90))) * 1.02
    cut = [f'{s[0]} ({charts.number(t)} s)' for s, t in
           zip(spans, totals, strict=True) if t > top]
    title = 'Time of a step' + (f': {g.label}' if len(groups) > 1 else '')
    what = 'Wall seconds by phase, mean of the steps in a bar.'
    if cut:
      what += (f' Cut off at the top: step {", ".join(cut[:4])}'
               f'{" and more" if len(cut) > 4 else ""}; a step that meets a '
               'new shape compiles.')
    if top <= 0:
      continue
    out.append(Figure(
        title, 'seconds', tuple(names), what, (charts.stacked_chart(
            [str(s[0]) for s in spans],
            [Bars(n.removeprefix('time/'), tuple(map(float, h)))
             for n, h in zip(names, heights.T, strict=True)],
            x_label='step', top=top),)))
  return out


def totals(group: RunGroup, prefix: str) -> dict[str, float]:
  """The sum of each name with a prefix over all steps, mean over runs."""
  total: Counter = Counter()
  for r in group.runs:
    for row in r.metrics:
      total.update({k.removeprefix(prefix): v for k, v in row.items()
                    if k.startswith(prefix)})
  return {k: v / len(group.runs) for k, v in total.most_common() if v}


# Phases between two steps, which say nothing about the speed of one.
BETWEEN = ('time/evaluate', 'time/checkpoint')
SPEED = Panel(
    'Tokens per second', 'tokens per second', ('tokens_per_second',),
    'Tokens of all roles that a step read and wrote (tokens/*), over the '
    'seconds of its phases; evaluations and checkpoints are left out. The '
    'first steps compile.', FROM_ZERO)


def speed_rows(run: RecordedRun) -> Sequence[dict]:
  """Rows {'step', 'tokens_per_second'} of the steps that tell both."""
  out = []
  for row in run.metrics:
    total = lambda prefix, row=row: sum(
        v for k, v in row.items()
        if k.startswith(prefix) and k not in BETWEEN and v is not None)
    tokens, seconds = total('tokens/'), total('time/')
    if tokens and seconds > 0:
      out.append({'step': row['step'], 'tokens_per_second': tokens / seconds})
  return out


def speed(groups: Sequence[RunGroup]) -> list[Figure]:
  """How fast the steps were."""
  return draw(SPEED, groups, speed_rows)


# What stands in another form on the page.
ELSEWHERE = ('step', 'student_rollouts', 'time/*', 'tokens/*')


def others(groups: Sequence[RunGroup],
           tables: Iterable[Sequence[Panel]]) -> list[Figure]:
  """A figure for each beginning of a name (up to '/') of the metrics that no
  panel names, so that a new metric is seen before it has a panel.

  Args:
    groups: of runs.
    tables: the panels of the other sections.
  """
  patterns = [*ELSEWHERE, *(n for table in tables for p in table
                            for n in p.names)]
  by_start: dict[str, list[str]] = {}
  for name in _names(groups, ('*',), _metrics):
    if not any(fnmatch.fnmatchcase(name, p) for p in patterns):
      by_start.setdefault(name.split('/')[0], []).append(name)
  out = []
  for start, names in sorted(by_start.items()):
    out += draw(Panel(start.replace('_', ' '), 'as in docs/metrics.md',
                      tuple(names), 'No panel describes it.', FREE), groups)
  return out
