"""The page: one HTML file that needs no other file, online or offline.

Everything that a run wrote is escaped: text by html.escape, samples as JSON in
a script element without '<' (page.js inserts them by textContent). A content
security policy forbids every request.
"""

import html
import json
import pathlib
from collections.abc import Sequence

from zppo_jax.report import charts, panels, stages
from zppo_jax.report.curves import RunGroup, group_runs
from zppo_jax.report.reading import RecordedRun
from zppo_jax.statistics import t_interval
from zppo_jax.study import tables

HERE = pathlib.Path(__file__).parent
POLICY = ("default-src 'none'; style-src 'unsafe-inline'; "
          "script-src 'unsafe-inline'; img-src data:")


def esc(value) -> str:
  return html.escape(str(value))


def embed(value) -> str:
  """JSON that can stand in a script element. It has no '<', '>' or '&', and no
  line separators that old parsers take for line ends."""
  text = json.dumps(value, separators=(',', ':'))
  for c in '<>&\u2028\u2029':
    text = text.replace(c, f'\\u{ord(c):04x}')
  return text


def table(rows: Sequence[Sequence[str]], kind: str = '') -> str:
  """An HTML table of cells that are already HTML; the first row is the head."""
  head, *body = rows
  return (f'<div class="scroll"><table class="{kind}"><thead><tr>'
          + ''.join(f'<th scope="col">{c}</th>' for c in head)
          + '</tr></thead><tbody>'
          + ''.join('<tr>' + ''.join(f'<td>{c}</td>' for c in row) + '</tr>'
                    for row in body) + '</tbody></table></div>')


def _figure(figure: panels.Figure, hovers: list) -> str:
  hovers.append(figure.chart.hover)
  legend = ''.join(f'<li>{swatch}<span>{esc(label)}</span></li>'
                   for label, swatch in figure.chart.legend)
  labels = [label for label, _ in figure.chart.legend]
  if len(labels) == 1 and labels == list(figure.names):
    legend = ''  # the name is shown below the figure
  return (
      f'<figure class="chart" data-hover="{len(hovers) - 1}">'
      f'<figcaption><h3>{esc(figure.title)}</h3>'
      f'<p class="unit">{esc(figure.unit)}</p></figcaption>'
      f'<ul class="legend">{legend}</ul>'
      f'<div class="plot">{figure.chart.svg}'
      '<div class="tip" hidden></div></div>'
      f'<p class="what">{esc(figure.what)} '
      f'<code>{esc(", ".join(figure.names))}</code></p></figure>')


def _grid(figures: Sequence[panels.Figure], hovers: list) -> str:
  return ('<div class="grid">'
          + ''.join(_figure(f, hovers) for f in figures) + '</div>')


def _missing(names: Sequence[str]) -> str:
  if not names:
    return ''
  listed = ', '.join(f'<code>{esc(n)}</code>' for n in names)
  return f'<p class="missing">Not recorded in these runs: {listed}.</p>'


def _section(anchor: str, title: str, intro: str, body: str) -> str:
  return (f'<section id="{anchor}"><h2>{esc(title)}</h2>'
          f'<p class="intro">{esc(intro)}</p>{body}</section>')


def _state(run: RecordedRun) -> str:
  if run.complete:
    return '<span class="chip good">complete</span>'
  return '<span class="chip warn">unfinished</span>'


def _header(runs: Sequence[RecordedRun], groups: Sequence[RunGroup]) -> str:
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
           for r in runs for n in r.notes]
  out = table(rows)
  if notes:
    out += f'<ul class="notes">{"".join(notes)}</ul>'
  differ = {k: v for k, v in tables.differing([r.config for r in runs]).items()
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


def _mean(values: Sequence[float]) -> str:
  if len(values) == 1:
    return f'{values[0]:.3f}'
  mean, low, high = t_interval(values)
  return f'{mean:.3f} <span class="soft">[{low:.3f}, {high:.3f}]</span>'


def _track(before: float, after: float) -> str:
  """A line from 0 to 1 with a hollow mark before and a full mark after."""
  x = lambda v: 6 + 108 * v
  color = 'var(--good)' if after >= before else 'var(--bad)'
  return (
      '<svg class="track" viewBox="0 0 120 14" role="img" aria-label="from '
      f'{before:.3f} to {after:.3f}"><line x1="6" x2="114" y1="7" y2="7" '
      f'class="grid"/><line x1="{x(before):.1f}" x2="{x(after):.1f}" y1="7" '
      f'y2="7" stroke="{color}" stroke-width="4"/><circle class="hollow" '
      f'cx="{x(before):.1f}" cy="7" r="4"/><circle fill="{color}" '
      f'cx="{x(after):.1f}" cy="7" r="4.5"/></svg>')


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
      good = -gain if panels.is_loss(split) else gain
      rows.append([
          esc(split), *([esc(g.label)] if many else []),
          *([str(len(first))] if seeds else []), _mean(first), _mean(last),
          f'<b class="{"up" if good > 0 else "down" if good < 0 else ""}">'
          f'{gain:+.3f}</b>',
          '' if panels.is_loss(split) else
          _track(sum(first) / len(first), sum(last) / len(last))])
  if len(rows) == 1:
    return '<p class="missing">No evaluation is recorded yet.</p>'
  return table(rows, 'numbers')


def _shares(groups: Sequence[RunGroup], prefix: str, unit: str) -> str:
  """A table of totals with bars and one block of columns per group."""
  totals = [panels.totals(g, prefix) for g in groups]
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
      cells.append(
          f'<span class="amount">{charts.number(f[n])} {unit}</span> '
          f'<span class="soft">{share:.1%}</span><span class="bar" '
          f'style="--w:{share:.4f}"></span>')
    rows.append([esc(n.replace('_', ' ')), *cells])
  rows.append(['all', *(f'<b>{charts.number(sum(f.values()))} {unit}</b>'
                        for f in totals)])
  return table(rows, 'shares')


def _samples(runs: Sequence[RecordedRun]) -> tuple[str, list[dict]]:
  rows = [{**row, 'run': i} for i, r in enumerate(runs) for row in r.samples]
  total = sum(r.samples_total for r in runs)
  if not total:
    return '<p class="missing">These runs recorded no questions.</p>', []
  left = total - len(rows)
  text = (f'All {total} recorded questions are here.' if not left else
          f'{len(rows)} of {total} recorded questions are here, spread evenly '
          f'over the steps; {left} were left out to keep this page small '
          '(--samples sets how many; samples.jsonl has all).')
  return (f'<p id="left-out">{text}</p>' + (HERE / 'browser.html').read_text(),
          rows)


def render(runs: Sequence[RecordedRun]) -> str:
  """The page of runs, as HTML."""
  groups = group_runs(runs)
  splits = _splits(runs)
  hovers: list[dict] = []
  supervised = all(r.supervised for r in runs)
  learning, no_learning = panels.draw_all(
      panels.SUPERVISED if supervised else panels.LEARNING, groups)
  health, no_health = panels.draw_all(panels.HEALTH, groups)
  buffer, no_buffer = panels.draw_all(panels.BUFFER, groups)
  teacher, no_teacher = panels.draw_all(panels.TEACHER, groups)
  graduated = panels.graduation(groups) + panels.departures(groups)
  browser, rows = _samples(runs)
  bands = ('' if all(len(g.runs) == 1 for g in groups) else
           ' Strong lines are means over seeds, bands 95 % t intervals, faint '
           'lines single runs.')
  title = ', '.join(g.label for g in groups)
  sections = [
      ('result', 'Before and after', (
          'Loss (nats per token) and token accuracy on validation '
          'conversations' if supervised else
          'Accuracy on held-out questions, asked plain')
       + ', at the first and at the last evaluation.',
       _before_after(runs, groups)),
      ('curves', 'Evaluation',
       f'The same during training, against what was spent.{bands}',
       _grid(panels.evaluation(groups, splits) + panels.drift(groups)
             + stages.forgetting(runs) + stages.teaching(runs), hovers)),
      ('learning', 'What the student learns from',
       ('Measured on the conversations of training steps.' if supervised else
        'Measured on the rollouts of training steps.') + bands,
       _grid(learning, hovers) + _missing(no_learning)),
      ('buffer', 'Replay buffer', 'Hard questions wait here and are asked '
       'again until the student solves most of its rollouts.',
       _grid(graduated + buffer, hovers) + _missing(no_buffer)),
      ('teacher', 'Teacher and candidates',
       'What the teacher makes of hard questions.',
       _grid(teacher, hovers) + _missing(no_teacher)),
      ('health', 'Health of the optimisation',
       'Signs of collapse, instability or a mismatch of sampler and trainer.',
       _grid(health, hovers) + _missing(no_health)),
      ('time', 'Time and tokens', 'Where the time of the steps went, and which '
       'role read or wrote how many tokens.',
       _grid(panels.time_by_step(groups), hovers)
       + '<div class="pair"><div><h3>Time by phase, all steps</h3>'
       + (_shares(groups, 'time/', 's') or _missing(['time/*']))
       + '</div><div><h3>Tokens by role</h3>'
       + (_shares(groups, 'tokens/', '') or _missing(['tokens/*']))
       + '</div></div>'),
      ('samples', 'Questions and answers', 'What the student, and the teacher, '
       'really wrote. Open a question to see all of it.', browser)]
  if supervised:
    sections = [s for s in sections
                if s[0] not in ('buffer', 'teacher', 'samples')]
  data = {'hovers': hovers, 'samples': rows, 'runs': [r.name for r in runs]}
  links = ''.join(f'<a href="#{a}">{esc(t)}</a>' for a, t, _, _ in sections)
  return (
      '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
      '<meta name="viewport" content="width=device-width, initial-scale=1">'
      f'<meta http-equiv="Content-Security-Policy" content="{esc(POLICY)}">'
      '<meta name="color-scheme" content="light dark">'
      f'<title>zppo report: {esc(title)}</title>'
      f'<style>{(HERE / "page.css").read_text()}</style></head><body>'
      f'<header><h1>{esc(title)}</h1><nav>{links}</nav></header><main>'
      f'<section id="runs">{_header(runs, groups)}</section>'
      + ''.join(_section(*s) for s in sections)
      + '</main><footer>Made by <code>zppo report</code>. Names and units: '
      'docs/metrics.md; how to read this page: docs/report.md.</footer>'
      f'<script type="application/json" id="data">{embed(data)}</script>'
      f'<script>{(HERE / "page.js").read_text()}</script></body></html>\n')
