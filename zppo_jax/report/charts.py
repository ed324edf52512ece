"""Small SVG charts as text: lines with bands, bars, stacked bars.

Colours are the CSS variables --s0 to --s7 of page.css. Lines also differ in
their dashes, so that a chart can be read without colour. Each chart carries its
values, which page.js shows at the pointer.
"""

import dataclasses
import html
import math
from collections.abc import Sequence

WIDTH, HEIGHT = 420, 230
LEFT, RIGHT, TOP, BOTTOM = 46, 18, 10, 36
NUM_COLORS = 8
DASHES = ('', '7 3', '2 3', '9 3 2 3', '12 4', '4 2', '1 2', '6 2 1 2')


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
class Chart:
  """The SVG text, (label, swatch SVG) of the legend, values for the pointer."""
  svg: str
  legend: tuple[tuple[str, str], ...]
  hover: dict


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


def tick_labels(values: Sequence[float]) -> list[str]:
  """Labels of one axis, all in the same unit."""
  top = max(map(abs, values), default=0.0)
  for unit, name in ((1e12, 'T'), (1e9, 'G'), (1e6, 'M'), (1e4, 'k')):
    if top >= unit:
      scale = 1e3 if name == 'k' else unit
      return [f'{v / scale:g}{name}' if v else '0' for v in values]
  if 0 < top < 0.001:
    return [f'{v:.0e}'.replace('e-0', 'e-') if v else '0' for v in values]
  return [f'{v:g}' for v in values]


def ticks(low: float, high: float, count: int = 5) -> list[float]:
  """Round values that cover [low, high] in about `count` steps."""
  raw = (high - low) / count
  power = 10.0**math.floor(math.log10(raw))
  step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
  first = math.ceil(low / step - 1e-9)
  last = math.floor(high / step + 1e-9)
  return [round(i * step, 12) for i in range(first, last + 1)]


def domain(values: Sequence[float], fixed: tuple = (None, None)):
  """(low, high) of an axis; an end that is not fixed gets some margin."""
  low, high = min(values), max(values)
  low = low if fixed[0] is None else min(fixed[0], low)
  high = high if fixed[1] is None else max(fixed[1], high)
  if high - low < 1e-12 * max(1.0, abs(high)):
    room = abs(high) * 0.1 or 1.0
    return (low if fixed[0] == low else low - room), high + room
  room = 0.05 * (high - low)
  return (low if fixed[0] == low else low - room,
          high if fixed[1] == high else high + room)


def _f(x: float) -> str:
  return f'{x:.1f}'


def _frame(x_ticks, y_ticks, py, x_label: str) -> str:
  """Grid, axes and tick labels. x_ticks holds (position, label)."""
  out = []
  for y, label in zip(y_ticks, tick_labels(y_ticks), strict=True):
    out.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" '
               f'y1="{_f(py(y))}" y2="{_f(py(y))}"/>'
               f'<text class="tick" text-anchor="end" x="{LEFT - 6}" '
               f'y="{_f(py(y) + 4)}">{label}</text>')
  floor = HEIGHT - BOTTOM
  out.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" '
             f'y1="{floor}" y2="{floor}"/>')
  for x, label in x_ticks:
    out.append(f'<text class="tick" text-anchor="middle" x="{_f(x)}" '
               f'y="{floor + 15}">{html.escape(label)}</text>')
  out.append(f'<text class="name" text-anchor="middle" '
             f'x="{_f((LEFT + WIDTH - RIGHT) / 2)}" y="{HEIGHT - 4}">'
             f'{html.escape(x_label)}</text>')
  return ''.join(out)


def _svg(body: str, title: str) -> str:
  return (f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
          f'aria-label="{html.escape(title)}">{body}</svg>')


def _swatch(i: int, kind: str) -> str:
  color = f'var(--s{i % NUM_COLORS})'
  mark = (f'<line x1="1" x2="25" y1="6" y2="6" stroke="{color}" '
          f'stroke-width="3" stroke-dasharray="{DASHES[i % NUM_COLORS]}"/>'
          if kind == 'line' else
          f'<rect x="7" y="1" width="11" height="10" fill="{color}"/>')
  return ('<svg class="swatch" viewBox="0 0 26 12" aria-hidden="true">'
          f'{mark}</svg>')


def _scale(low: float, high: float, start: float, stop: float):
  return lambda v: start + (v - low) / (high - low) * (stop - start)


def _path(xs, ys, px, py) -> str:
  """Path data; a value that is not finite makes a gap."""
  out, pen = [], 'M'
  for x, y in zip(xs, ys, strict=True):
    if not math.isfinite(y):
      pen = 'M'
      continue
    out.append(f'{pen}{_f(px(x))} {_f(py(y))}')
    pen = 'L'
  return ''.join(out)


def _finite(values) -> list[float]:
  return [v for v in values if math.isfinite(v)]


def line_chart(lines: Sequence[Line], *, title: str, x_label: str,
               y: tuple = (None, None)) -> Chart:
  """Curves over a common axis.

  Args:
    lines: at least one, with at least one finite point.
    title: the text for a screen reader.
    x_label: the name of the x axis.
    y: (low, high) that the y axis must include; None leaves an end free.
  """
  ys = [v for line in lines for part in (line.ys, *(f[1] for f in line.faint))
        for v in _finite(part)]
  for line in lines:  # a band may exceed possible values and is cut there
    ys += [v for part in (line.low or (), line.high or ())
           for v in _finite(part)
           if (y[0] is None or v >= y[0]) and (y[1] is None or v <= y[1])]
  y_low, y_high = domain(ys, y)
  xs = [x for line in lines for x in line.xs]
  x_low, x_high = min(xs), max(xs)
  if x_low == x_high:
    x_low, x_high = x_low - 0.5, x_high + 0.5
  px = _scale(x_low, x_high, LEFT, WIDTH - RIGHT)
  py = _scale(y_low, y_high, HEIGHT - BOTTOM, TOP)
  clamp = lambda v: min(max(v, y_low), y_high)
  at = ticks(x_low, x_high)
  body = [_frame(list(zip(map(px, at), tick_labels(at), strict=True)),
                 ticks(y_low, y_high, 4), py, x_label)]
  for line in lines:
    color = f'var(--s{line.style % NUM_COLORS})'
    if line.low is not None and len(line.xs) > 1:
      up = [f'{_f(px(x))} {_f(py(clamp(v)))}'
            for x, v in zip(line.xs, line.high, strict=True)]
      down = [f'{_f(px(x))} {_f(py(clamp(v)))}'
              for x, v in zip(line.xs, line.low, strict=True)]
      body.append(f'<path class="band" fill="{color}" '
                  f'd="M{"L".join(up + down[::-1])}Z"/>')
    for fx, fy in line.faint:
      body.append(f'<path class="faint" stroke="{color}" '
                  f'd="{_path(fx, fy, px, py)}"/>')
  for line in lines:
    color = f'var(--s{line.style % NUM_COLORS})'
    weight = 'bold' if line.bold else 'thin'
    dash = DASHES[line.style % NUM_COLORS]
    body.append(f'<path class="{weight}" stroke="{color}" '
                f'stroke-dasharray="{dash}" '
                f'd="{_path(line.xs, line.ys, px, py)}"/>')
    if len(line.xs) <= 12:  # so few points get marks
      body += [f'<circle fill="{color}" r="2.5" cx="{_f(px(x))}" '
               f'cy="{_f(py(v))}"/>'
               for x, v in zip(line.xs, line.ys, strict=True)
               if math.isfinite(v)]
  body.append(f'<line class="cursor" y1="{TOP}" y2="{HEIGHT - BOTTOM}" '
              'x1="0" x2="0"/>')
  hover = {
      'kind': 'line', 'x': x_label, 'low': x_low, 'high': x_high,
      'series': [{
          'label': line.label, 'x': [_short(x) for x in line.xs],
          'y': [_short(v) for v in line.ys],
          **({} if line.low is None else {
              'low': [_short(v) for v in line.low],
              'high': [_short(v) for v in line.high]})} for line in lines]}
  legend = tuple((line.label, _swatch(line.style, 'line'))
                 for line in lines)
  return Chart(_svg(''.join(body), title), legend, hover)


def _short(v: float):
  """Four significant digits for the pointer; None if v is not finite."""
  return float(f'{v:.6g}') if math.isfinite(v) else None


def bar_chart(categories: Sequence[str], series: Sequence[Bars], *,
              title: str, x_label: str) -> Chart:
  """Bars side by side, one group of bars per category; heights start at 0."""
  y_low, y_high = domain([v for s in series for v in s.heights], (0, None))
  y_high *= 1.06  # leaves room for the numbers on the bars
  py = _scale(y_low, y_high, HEIGHT - BOTTOM, TOP)
  slot = (WIDTH - LEFT - RIGHT) / len(categories)
  width = min(40.0, slot * 0.8 / len(series))
  middle = lambda c: LEFT + (c + 0.5) * slot
  every = -(-len(categories) // 14)  # so that labels do not touch
  body = [_frame([(middle(c), name) for c, name in enumerate(categories)
                  if c % every == 0],
                 ticks(y_low, y_high, 4), py, x_label)]
  for i, s in enumerate(series):
    for c, v in enumerate(s.heights):
      x = middle(c) + (i - len(series) / 2) * width
      body.append(f'<rect fill="var(--s{i % NUM_COLORS})" x="{_f(x)}" '
                  f'y="{_f(py(v))}" width="{_f(width - 1)}" '
                  f'height="{_f(py(0) - py(v))}"/>')
      if width >= 15:
        body.append(f'<text class="tick" text-anchor="middle" '
                    f'x="{_f(x + width / 2)}" y="{_f(py(v) - 3)}">'
                    f'{number(v)}</text>')
  hover = {'kind': 'bar', 'x': x_label, 'categories': list(categories),
           'series': [{'label': s.label, 'y': [_short(v) for v in s.heights]}
                      for s in series]}
  return Chart(_svg(''.join(body), title),
               tuple((s.label, _swatch(i, 'bar'))
                     for i, s in enumerate(series)), hover)


def stacked_chart(xs: Sequence[float], series: Sequence[Bars], *, title: str,
                  x_label: str, top: float) -> Chart:
  """Bars stacked at every x; whatever exceeds `top` is cut.

  Args:
    xs: the position of each bar; positions are evenly spaced.
    series: the series, from the bottom up.
    title, x_label: see `line_chart`.
    top: the largest value of the y axis.
  """
  py = _scale(0, top, HEIGHT - BOTTOM, TOP)
  slot = (WIDTH - LEFT - RIGHT) / len(xs)
  every = -(-len(xs) // 6)
  body = [_frame([(LEFT + (c + 0.5) * slot, number(x))
                  for c, x in enumerate(xs) if c % every == 0],
                 ticks(0, top, 4), py, x_label)]
  base = [0.0] * len(xs)
  for i, s in enumerate(series):
    for c, v in enumerate(s.heights):
      low, high = min(base[c], top), min(base[c] + v, top)
      base[c] += v
      if high > low:
        body.append(f'<rect fill="var(--s{i % NUM_COLORS})" '
                    f'x="{_f(LEFT + c * slot)}" y="{_f(py(high))}" '
                    f'width="{max(slot * 0.92, 0.5):.2f}" '
                    f'height="{_f(py(low) - py(high))}"/>')
  hover = {'kind': 'bar', 'x': x_label, 'categories': [number(x) for x in xs],
           'series': [{'label': s.label, 'y': [_short(v) for v in s.heights]}
                      for s in series]}
  return Chart(_svg(''.join(body), title),
               tuple((s.label, _swatch(i, 'bar'))
                     for i, s in enumerate(series)), hover)
