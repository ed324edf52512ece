"""What a chart shows, as the JSON that charts.js gives to uPlot.

Python decides values, names, order and limits; charts.js draws. The `style` of
a line is its place in the palette (--s0 to --s7 of page.css) and among the
dashes, so that a chart can be read without colour.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Line:
  """A curve of a line chart.

  Attributes:
    label: its name in the legend.
    xs, ys: the points.
    low, high: the band around ys, or None.
    faint: (xs, ys) of curves behind the line: the single runs, or the
      unsmoothed values.
    bold: draw it thicker, e.g. because it is a mean over runs.
    style: its place in the palette and among the dashes; the same thing has
      the same style in every chart.
  """
  label: str
  xs: tuple[float, ...]
  ys: tuple[float, ...]
  low: tuple[float, ...] | None = None
  high: tuple[float, ...] | None = None
  faint: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = ()
  bold: bool = False
  style: int = 0


@dataclasses.dataclass(frozen=True)
class Bars:
  """A series of a bar chart, with one height per category."""
  label: str
  heights: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class View:
  """A chart against one x axis.

  Attributes:
    kind: 'line', 'bar' or 'stack'.
    x: the name of the x axis.
    y: (low, high) that the y axis must include; None lets an end follow the
      data.
    series: JSON objects; see `line_chart` and `bar_chart`.
    categories: the names along the x axis of bars.
  """
  kind: str
  x: str
  y: tuple[float | None, float | None]
  series: tuple[dict, ...]
  categories: tuple[str, ...] = ()

  def json(self) -> dict:
    return dataclasses.asdict(self)


def number(x: float) -> str:
  """A number as a person writes it: 0.25, 1,200, 3.4M, 2e-05."""
  size = abs(x)
  if size >= 1e6:
    for unit, name in ((1e12, 'T'), (1e9, 'G'), (1e6, 'M')):
      if size >= unit:
        return f'{x / unit:.3g}{name}'
  if size >= 1000 or (size >= 100 and x == int(x)):
    return f'{x:,.0f}'
  if size and size < 0.001:
    return f'{x:.1e}'
  return f'{x:.3g}'


def _short(v: float) -> float | int | None:
  """Five significant digits; None, which is drawn as a gap, if v is not
  finite."""
  if not math.isfinite(v):
    return None
  v = float(f'{v:.5g}') if abs(v) < 1e5 else round(v)
  return int(v) if v == int(v) else v


def _points(xs: Sequence[float], ys: Sequence[float]) -> list[list]:
  return [list(map(_short, xs)), list(map(_short, ys))]


def line_chart(lines: Sequence[Line], *, x_label: str,
               y: tuple = (None, None)) -> View:
  """Curves over a common axis.

  Args:
    lines: at least one.
    x_label: the name of the x axis.
    y: see `View`. A band may exceed possible values and is cut at these ends.
  """
  inside = lambda v: v if not math.isfinite(v) else min(
      max(v, -math.inf if y[0] is None else y[0]),
      math.inf if y[1] is None else y[1])
  series = []
  for line in lines:
    xs, ys = _points(line.xs, line.ys)
    one = {'label': line.label, 'style': line.style, 'x': xs, 'y': ys}
    if line.bold:
      one['bold'] = True
    if line.low is not None:
      one['low'] = [_short(inside(v)) for v in line.low]
      one['high'] = [_short(inside(v)) for v in line.high]
    if line.faint:
      one['faint'] = [_points(*points) for points in line.faint]
    series.append(one)
  return View('line', x_label, y, tuple(series))


def bar_chart(categories: Sequence[str], series: Sequence[Bars], *,
              x_label: str) -> View:
  """Bars side by side, one group of bars per category; heights start at 0."""
  return View('bar', x_label, (0.0, None), _of_bars(series), tuple(categories))


def stacked_chart(categories: Sequence[str], series: Sequence[Bars], *,
                  x_label: str, top: float) -> View:
  """Bars stacked at every category, the first lowest; whatever exceeds `top` is
  cut."""
  return View('stack', x_label, (0.0, top), _of_bars(series),
              tuple(categories))


def _of_bars(series: Sequence[Bars]) -> tuple[dict, ...]:
  return tuple({'label': s.label, 'style': i,
                'y': list(map(_short, s.heights))}
               for i, s in enumerate(series))


def spans(count: int, most: int) -> list[slice]:
  """At most `most` slices of equal length that cover `count` values."""
  cuts = np.linspace(0, count, min(count, most) + 1).astype(int)
  return [slice(a, b) for a, b in zip(cuts[:-1], cuts[1:], strict=True)]


def thinned(view: View, most: int) -> View:
  """A line chart of at most `most` points per curve, which are means over equal
  spans, and without faint curves; other charts as they are."""
  if view.kind != 'line':
    return view

  def mean(values: Sequence) -> list:
    out = []
    for span in spans(len(values), most):
      known = [v for v in values[span] if v is not None]
      out.append(_short(float(np.mean(known))) if known else None)
    return out

  return dataclasses.replace(view, series=tuple(
      {k: mean(v) if k in ('x', 'y', 'low', 'high') else v
       for k, v in one.items() if k != 'faint'} for one in view.series))
