"""The frame of a page: one HTML file that needs no other file and no network.

Everything that a run wrote is escaped: text by html.escape, values as JSON in a
script element without '<' (charts.js and page.js insert them by textContent). A
content security policy forbids every request. The charts are drawn by uPlot
(vendor/README.md), which is inlined.
"""

import html
import json
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from zppo_jax.report import charts
from zppo_jax.report.figures import Figure

HERE = pathlib.Path(__file__).parent
POLICY = ("default-src 'none'; style-src 'unsafe-inline'; "
          "script-src 'unsafe-inline'; img-src data:")
MOST_CHARTS = 600_000  # characters of the values of all charts
# What stands around an interval (statistics.with_interval).
SOFT = ('<span class="soft">', '</span>')
THINNER = (150, 80, 40, 20)  # points per curve, where all of them are too many


class Section(NamedTuple):
  """A part of a page.

  Attributes:
    anchor: its id; '' for one that the navigation leaves out.
    title: plain text.
    intro: plain text under the title.
    body: HTML.
    short: its name in the navigation; '' is the title.
  """
  anchor: str
  title: str
  intro: str
  body: str
  short: str = ''


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
  """An HTML table of cells that are already HTML; the first row is the head.
  Where it is wider than the page it scrolls, and page.js says so."""
  head, *body = rows
  return ('<div class="scroll" tabindex="0" role="group">'
          f'<table class="{kind}"><thead><tr>'
          + ''.join(f'<th scope="col">{c}</th>' for c in head)
          + '</tr></thead><tbody>'
          + ''.join('<tr>' + ''.join(f'<td>{c}</td>' for c in row) + '</tr>'
                    for row in body) + '</tbody></table></div>')


def missing(names: Sequence[str]) -> str:
  """What the runs did not record, folded away."""
  if not names:
    return ''
  listed = ', '.join(f'<code>{esc(n)}</code>' for n in names)
  return ('<details class="missing"><summary>Not recorded in these runs '
          f'({len(names)})</summary><p>{listed}</p></details>')


def figure(of: Figure, plots: list) -> str:
  """HTML of a figure; its values go to `plots`."""
  plots.append(of.views)
  return (
      f'<figure class="chart" data-plot="{len(plots) - 1}">'
      f'<figcaption><h3>{esc(of.title)}</h3>'
      f'<p class="unit">{esc(of.unit)}</p></figcaption>'
      f'<div class="plot" role="img" aria-label="{esc(of.title)}: '
      f'{esc(", ".join(of.names))}"></div>'
      f'<p class="what">{esc(of.what)} '
      f'<code>{esc(", ".join(of.names))}</code></p></figure>')


def grid(figures: Sequence[Figure], plots: list) -> str:
  """Figures beside each other."""
  if not figures:
    return ''
  return ('<div class="grid">'
          + ''.join(figure(f, plots) for f in figures) + '</div>')


def _fitting(plots: Sequence[Sequence[charts.View]]) -> list[list[dict]]:
  """The charts as JSON values of at most MOST_CHARTS characters, if fewer
  points and no faint curves can reach that."""
  thin = lambda most: [
      [(charts.thinned(v, most) if most else v).json() for v in views]
      for views in plots]
  for most in (0, *THINNER):
    values = thin(most)
    if len(embed(values)) <= MOST_CHARTS:
      break
  return values


def _section(of: Section) -> str:
  intro = f'<p class="intro">{esc(of.intro)}</p>' if of.intro else ''
  return (f'<section id="{of.anchor}"><h2>{esc(of.title)}</h2>'
          f'{intro}{of.body}</section>')


def document(title: str, sections: Sequence[Section], plots: Sequence,
             footer: str, **data) -> str:
  """The page.

  Args:
    title: plain text.
    sections: in order.
    plots: the views of each figure, as `figure` left them.
    footer: HTML.
    **data: further JSON values for page.js.
  """
  links = ''.join(f'<a href="#{s.anchor}">{esc(s.short or s.title)}</a>'
                  for s in sections)
  values = {'plots': _fitting(plots), **data}
  read = lambda name: (HERE / name).read_text(encoding='utf-8')
  return (
      '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
      '<meta name="viewport" content="width=device-width, initial-scale=1">'
      f'<meta http-equiv="Content-Security-Policy" content="{esc(POLICY)}">'
      '<meta name="color-scheme" content="light dark">'
      f'<title>zppo report: {esc(title)}</title>'
      f'<style>{read("vendor/uPlot.min.css")}\n{read("page.css")}</style>'
      f'</head><body><header><h1>{esc(title)}</h1></header>'
      f'<nav aria-label="Sections">{links}</nav><main>'
      '<noscript><p class="notes">The charts and the questions need '
      'JavaScript; the tables do not.</p></noscript>'
      + ''.join(_section(s) for s in sections)
      + f'</main><footer>{footer}</footer>'
      f'<script type="application/json" id="data">{embed(values)}</script>'
      f'<script>{read("vendor/uPlot.iife.min.js")}</script>'
      f'<script>{read("charts.js")}</script>'
      f'<script>{read("page.js")}</script></body></html>\n')


def bar(share: float, text: str) -> str:
  """A cell with a bar of a share of 1 under its text, which is HTML."""
  return (f'{text}<span class="bar" style="--w:{share:.4f}"></span>')


def between(low: float, high: float, marks: Sequence[tuple[float, str]],
            span: tuple[float, float] | None = None) -> str:
  """A line from `low` to `high` with marks on it, as a cell.

  Args:
    low, high: the ends of the whole line.
    marks: (value, class of page.css) of each mark.
    span: the ends of a stronger part.
  """
  at = lambda v: 100 * min(max((v - low) / (high - low), 0.0), 1.0)
  parts = []
  if span is not None:
    a, b = sorted(map(at, span))
    parts.append(f'<i class="span" style="left:{a:.1f}%;'
                 f'width:{b - a:.1f}%"></i>')
  parts += [f'<i class="{kind}" style="left:{at(v):.1f}%"></i>'
            for v, kind in marks]
  return f'<span class="track" aria-hidden="true">{"".join(parts)}</span>'
