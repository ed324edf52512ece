"""The page of runs: what was trained, what came out, and how it went."""

from collections.abc import Sequence

from zppo_jax.report import (
  alarms,
  charts,
  figures,
  frame,
  origins,
  panels,
  stages,
)
from zppo_jax.report.curves import RunGroup, group_runs
from zppo_jax.report.frame import Section, embed, esc, grid, missing, table
from zppo_jax.report.reading import (
  LARGEST_SAMPLES,
  RecordedRun,
  differing,
  pick_evenly,
)
from zppo_jax.statistics import over_seeds

FOOTER = ('Made by <code>zppo report</code>. Names and units: docs/metrics.md; '
          'how to read this page: docs/report.md. Charts: uPlot (MIT).')


def _state(run: RecordedRun) -> str:
  if run.complete:
    return '<span class="chip good">complete</span>'
  return '<span class="chip warn">unfinished</span>'


def _header(runs: Sequence[RecordedRun]) -> str:
  rows = [['run', 'method', 'seed', 'steps', 'state', 'wall time',
           'student rollouts', 'code']]
  for r in runs:
    asked, done = r.config['steps'], len(r.metrics)
    rows.append([
        esc(r.name), esc(r.method), esc(r.seed), f'{done} of {asked}',
        _state(r), _duration(r),
        charts.number(sum(row['student_rollouts'] for row in r.metrics
                          if 'student_rollouts' in row)),
        f'<code>{esc(r.revision[:10])}'
        f'{"+" if r.revision.endswith("+") else ""}</code>'])
  notes = [f'<li><b>{esc(r.name)}</b>: {esc(n)}</li>'
           for r in runs for n in (*r.notes, *alarms.of_run(r))]
  out = table(rows)
  if notes:
    out += f'<ul class="notes">{"".join(notes)}</ul>'
  differ = {k: v for k, v in differing(runs).items()
            if k not in ('method', 'seed')}
  if differ:
    rows = [['config field', *(esc(r.name) for r in runs)]]
    rows += [[f'<code>{esc(k)}</code>', *map(esc, v)]
             for k, v in differ.items()]
    out += ('<p>The configs differ in more than method and seed:</p>'
            + table(rows))
  revisions = dict.fromkeys(r.revision for r in runs)
  if len(revisions) > 1:
    out += ('<p class="notes">The runs were made by different code: '
            f'{esc(", ".join(revisions))}.</p>')
  return out


def _duration(run: RecordedRun) -> str:
  if run.summary is None:
    return '-'
  seconds = run.summary['wall_s']
  if seconds < 120:
    return f'{seconds:.0f} s'
  if seconds < 7200:
    return f'{seconds / 60:.0f} min'
  return f'{seconds / 3600:.1f} h'


def _splits(runs: Sequence[RecordedRun]) -> list[str]:
  return list(dict.fromkeys(s for r in runs for s in r.splits))


def _ends(group: RunGroup, split: str):
  """(first, last) values of a split, for the runs that have the split."""
  values = [[row[split] for row in r.evals if split in row]
           for r in group.runs]
  values = [f for f in values if f]
  return [f[0] for f in values], [f[-1] for f in values]


def _track(before: float, after: float) -> str:
  """A line from 0 to 1 with a hollow mark before and a full mark after."""
  good = 'up' if after >= before else 'down'
  return frame.between(0, 1, [(before, 'hollow'), (after, f'full {good}')],
                       (before, after))


def _before_after(runs: Sequence[RecordedRun],
                  groups: Sequence[RunGroup]) -> str:
  many = len(groups) > 1
  seeds = any(len(g.runs) > 1 for g in groups)
  rows = [['split', *(['runs'] if many else []), *(['n'] if seeds else []),
           'before', 'after', 'change', '0 to 1']]
  for split in _splits(runs):
    for g in groups:
      first, last = _ends(g, split)
      if not first:
        continue
      change = [b - a for a, b in zip(first, last, strict=True)]
      gain = sum(change) / len(change)
      good = -gain if figures.is_loss(split) else gain
      rows.append([
          esc(split), *([esc(g.label)] if many else []),
          *([str(len(first))] if seeds else []),
          over_seeds(first, frame.SOFT), over_seeds(last, frame.SOFT),
          f'<b class="{"up" if good > 0 else "down" if good < 0 else ""}">'
          f'{gain:+.3f}</b>',
          '' if figures.is_loss(split) else
          _track(sum(first) / len(first), sum(last) / len(last))])
  if len(rows) == 1:
    return '<p class="missing">No evaluation is recorded yet.</p>'
  return table(rows, 'numbers')


def _shares(groups: Sequence[RunGroup], prefix: str, unit: str) -> str:
  """A table of totals with bars and one block of columns per group."""
  totals = [figures.totals(g, prefix) for g in groups]
  names = list(dict.fromkeys(n for f in totals for n in f))
  if not names:
    return ''
  rows = [['', *(esc(g.label) + (f', mean of {len(g.runs)} runs'
                                 if len(g.runs) > 1 else '')
                 for g in groups)]]
  for n in names:
    cells = []
    for f in totals:
      if n not in f:
        cells.append('-')
        continue
      share = f[n] / sum(f.values())
      cells.append(frame.bar(
          share, f'<span class="amount">{charts.number(f[n])} {unit}</span> '
          f'<span class="soft">{share:.1%}</span>'))
    rows.append([esc(n.replace('_', ' ')), *cells])
  rows.append(['all', *(f'<b>{charts.number(sum(f.values()))} {unit}</b>'
                        for f in totals)])
  return table(rows, 'shares')


def _samples(runs: Sequence[RecordedRun]) -> tuple[str, list[dict]]:
  rows = [{**row, 'run': i} for i, r in enumerate(runs) for row in r.samples]
  total = sum(r.samples_total for r in runs)
  if not total:
    return '<p class="missing">These runs recorded no questions.</p>', []
  while len(rows) > 1 and (size := len(embed(rows))) > 1.1 * LARGEST_SAMPLES:
    most = int(len(rows) * LARGEST_SAMPLES / size)
    rows = [rows[i] for i in pick_evenly([r['step'] for r in rows],
                                         max(most, 1))]
  left = total - len(rows)
  text = (f'All {total} recorded questions are here.' if not left else
          f'{len(rows)} of {total} recorded questions are here, spread evenly '
          f'over the steps; {left} were left out to keep this page small '
          '(--samples sets how many; samples.jsonl has all).')
  return (f'<p id="left-out">{text}</p>'
          + (frame.HERE / 'browser.html').read_text(), rows)


def _curves(runs: Sequence[RecordedRun], groups: Sequence[RunGroup],
            splits: Sequence[str], plots: list, bands: str) -> list[Section]:
  """The sections of charts."""
  supervised = all(r.supervised for r in runs)
  drawn = lambda figs, absent=(): grid(figs, plots) + missing(absent)
  both = lambda first, of: drawn([*first, *of[0]], of[1])
  tables_of = ((panels.SUPERVISED, panels.HEALTH) if supervised else (
      panels.LEARNING, panels.HEALTH, panels.BUFFER, panels.TEACHER))
  learning = figures.draw_all(tables_of[0], groups)
  out = [
      Section('curves', 'Evaluation',
              f'The same during training, against what was spent.{bands}',
              drawn(figures.evaluation(groups, splits) + figures.beside(groups)
                    + stages.forgetting(runs) + stages.teaching(runs))),
      Section('learning', 'What the student learns from', (
          'Measured on the conversations of training steps.' if supervised else
          'Measured on the rollouts of training steps.') + bands,
              drawn(*learning), 'Learning')]
  if not supervised:
    out += [
        Section('buffer', 'Replay buffer', 'Hard questions wait here and are '
                'asked again until the student solves most of its rollouts.',
                both(figures.graduation(groups) + figures.departures(groups),
                     figures.draw_all(panels.BUFFER, groups)), 'Buffer'),
        Section('teacher', 'Teacher and candidates',
                'What the teacher makes of hard questions.',
                drawn(*figures.draw_all(panels.TEACHER, groups)), 'Teacher')]
  out.append(Section(
      'health', 'Health of the optimisation',
      'Signs of collapse, instability or a mismatch of sampler and trainer.',
      drawn(*figures.draw_all(panels.HEALTH, groups)), 'Health'))
  if others := figures.others(groups, tables_of):
    out.append(Section('others', 'Other metrics', 'Recorded numbers that no '
                       'panel above shows.', drawn(others), 'Other'))
  speed = [] if supervised else figures.speed(groups)
  out.append(Section(
      'time', 'Time and tokens', 'Where the time of the steps went, and which '
      'role read or wrote how many tokens.',
      drawn(speed + figures.time_by_step(groups))
      + '<div class="pair"><div><h3>Time by phase, all steps</h3>'
      + (_shares(groups, 'time/', 's') or missing(['time/*']))
      + '</div><div><h3>Tokens by role</h3>'
      + (_shares(groups, 'tokens/', '') or missing(['tokens/*']))
      + '</div></div>', 'Time'))
  return out


def render(runs: Sequence[RecordedRun]) -> str:
  """The page of runs, as HTML."""
  groups = group_runs(runs)
  splits = _splits(runs)
  supervised = all(r.supervised for r in runs)
  plots: list = []
  bands = ('' if all(len(g.runs) == 1 for g in groups) else
           ' Strong lines are means over seeds, bands 95 % t intervals '
           '(Student), faint lines single runs.')
  sections = [
      Section('runs', 'What was trained', '',
              _header(runs) + origins.facts(runs)
              + origins.config_table(groups), 'Runs'),
      Section('result', 'Before and after', (
          'Loss (nats per token) and token accuracy on validation '
          'conversations' if supervised else
          'Accuracy on held-out questions, asked plain')
              + ', at the first and at the last evaluation.',
              _before_after(runs, groups), 'Result'),
      *_curves(runs, groups, splits, plots, bands)]
  rows: list[dict] = []
  if not supervised:
    browser, rows = _samples(runs)
    sections.append(Section(
        'samples', 'Questions and answers', 'What the student, and the '
        'teacher, really wrote. Open a question to see all of it.', browser,
        'Questions'))
  return frame.document(
      ', '.join(g.label for g in groups), sections, plots, FOOTER,
      samples=rows, runs=[r.name for r in runs])
