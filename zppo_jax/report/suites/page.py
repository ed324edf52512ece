"""An evaluation of benchmarks as one HTML page that opens offline."""

import html
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from zppo_jax.report import frame
from zppo_jax.report.suites import table
from zppo_jax.report.suites.table import Line, estimate_of, percent

HERE = pathlib.Path(__file__).parents[1]
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def _esc(value: Any) -> str:
  return html.escape(str(value))


def _table(head: Sequence[str], body: Sequence[Sequence[str]],
           kind: str = '') -> str:
  """An HTML table of cells that are already HTML."""
  row = lambda cells, tag: ''.join(f'<{tag}>{c}</{tag}>' for c in cells)
  return (f'<div class="scroll"><table class="{kind}"><thead><tr>'
          f'{row(head, "th")}</tr></thead><tbody>'
          + ''.join(f'<tr>{row(cells, "td")}</tr>' for cells in body)
          + '</tbody></table></div>')


def _row(line: Line) -> list[str]:
  if line.estimate is None:
    return [f'<b>{_esc(line.title)}</b>', '', '', '', '']
  e = line.estimate
  title = (f'<a href="#{_esc(line.name)}">{_esc(line.title)}</a>' if line.name
           else f'<b>{_esc(line.title)}</b>')
  interval = f'[{100 * e.low:.1f}, {100 * e.high:.1f}]'
  return [title, f'<b>{percent(e, False)}</b>',
          f'<span class="soft">{interval}</span>',
          frame.between(0, 1, [(e.mean, 'full up')], (e.low, e.high)),
          _esc(line.questions)]


def _parts(summary: Mapping[str, Any]) -> str:
  score = summary['score']
  body = [[_esc(title), percent(estimate_of(of)), str(of['over'])]
          for title, of in (*score['extra'].items(), *score['parts'].items())]
  return _table(['', 'score [95 %]', 'over'], body) if body else ''


def _samples(rows: Sequence[Mapping[str, Any]]) -> str:
  """The first answers, each under its question."""
  return ''.join(
      f'<details><summary>{_esc(row["id"])}: {_esc(row["verdict"])}, '
      f'{row["points"]:.2f}</summary><p class="unit">question</p>'
      f'<pre>{_esc(row["question"])}</pre><p class="unit">gold</p>'
      f'<pre>{_esc(row["gold"])}</pre><p class="unit">answer</p>'
      f'<pre>{_esc(row["text"])}</pre></details>' for row in rows)


def _suite(summary: Mapping[str, Any], notes: Sequence[str],
           samples: Sequence[Mapping[str, Any]]) -> str:
  of = table.row_of(summary)
  said = [f'{of.hub}, {of.split}', f'scoring in the paper: {of.scoring}',
          *(words for words in (of.note, of.unknown) if words), *notes,
          *summary['reasons']]
  verdicts = ', '.join(f'{name} {share:.1%}' for name, share
                       in summary['verdicts'].items() if share)
  return (f'<section id="{_esc(summary["name"])}"><h2>{_esc(of.title)}</h2>'
          '<ul class="notes">'
          + ''.join(f'<li>{_esc(words)}</li>' for words in said)
          + f'<li>verdicts: {_esc(verdicts)}</li></ul>'
          + _parts(summary) + _samples(samples) + '</section>')


def render(title: str, about: Mapping[str, Any],
           summaries: Sequence[Mapping[str, Any]],
           samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
  """The page of an evaluation, as HTML.

  Args:
    title: of the page.
    about: what was evaluated and how, name -> value.
    summaries: the content of summary.json of each benchmark.
    samples: name of a benchmark -> lines of its samples to show.
  """
  found = table.lines(summaries)
  notes = {line.name: line.notes for line in found if line.name}
  by_name = {s['name']: s for s in summaries}
  settings = _table(['', ''], [[_esc(k), _esc(v)] for k, v in about.items()])
  return (
      '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
      '<meta name="viewport" content="width=device-width, initial-scale=1">'
      f'<meta http-equiv="Content-Security-Policy" content="{_esc(POLICY)}">'
      '<meta name="color-scheme" content="light dark">'
      f'<title>zppo eval: {_esc(title)}</title>'
      f'<style>{(HERE / "page.css").read_text()}</style></head><body>'
      f'<header><h1>{_esc(title)}</h1></header><main>'
      '<section id="table"><h2>Benchmarks</h2>'
      f'<p class="intro">{_esc(table.NOTE)}.</p>'
      + _table(['benchmark', 'score', '95 %', '0 to 100', 'questions'],
               [_row(line) for line in found], 'numbers')
      + '</section><section id="settings"><h2>Settings</h2>' + settings
      + '</section>'
      + ''.join(_suite(by_name[name], notes[name], samples.get(name, ()))
                for name in notes)
      + '</main><footer>Made by <code>zppo eval</code>; docs/evaluation.md '
      'says how to read it.</footer></body></html>\n')
