"""The paper's table: three families of benchmarks with averages, as text.

A line per benchmark in the order of data/suites.py, an average per family, and
the mean of the families' averages, which is the paper's overall number.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from zppo_jax.data import suites
from zppo_jax.report.suites.scores import Estimate, average

# family of data/suites.py -> its name in the paper's tables.
FAMILIES = {'image': 'VLM', 'text': 'LLM', 'video': 'Video'}
NOTE = ('scores in percent [95 % interval]: Wilson over questions; of averages '
        'by adding the squares of the parts\' distances (Newcombe)')


@dataclasses.dataclass(frozen=True)
class Line:
  """A line of the table.

  Attributes:
    name: of a benchmark; '' for an average.
    title: what the line shows.
    estimate: its number; None for the head of a family.
    questions: asked, of how many, if it is known; '' for averages.
    notes: what a reader of the number has to know.
  """
  name: str
  title: str
  estimate: Estimate | None
  questions: str = ''
  notes: tuple[str, ...] = ()


def estimate_of(value: Mapping[str, Any]) -> Estimate:
  return Estimate(**value)


def percent(of: Estimate, interval: bool = True) -> str:
  """'41.2 [39.0, 43.4]'."""
  words = f'{100 * of.mean:.1f}'
  return (f'{words} [{100 * of.low:.1f}, {100 * of.high:.1f}]' if interval
          else words)


def _notes(summary: Mapping[str, Any]) -> tuple[str, ...]:
  """What was left out of a benchmark, and what failed in its grading."""
  notes = list(summary['notes'])
  notes += [f'{n} skipped: {why}' for why, n in summary['skipped'].items()]
  notes += [f'{n} left out: {why}' for why, n in summary['left_out'].items()]
  notes += [f'{summary["verdicts"][fault]:.1%} {fault.replace("_", " ")}'
            for fault in ('judge_malformed', 'ungraded')
            if summary['verdicts'].get(fault)]
  if summary['score']['how'] != 'mean over questions':
    notes.append(summary['score']['how'])
  notes += [f'{title} {percent(estimate_of(value))}'
            for title, value in summary['score']['extra'].items()]
  return tuple(notes)


def row_of(summary: Mapping[str, Any]) -> suites.Benchmark:
  """The row of BENCHMARKS of a summary; the split may name a part of it."""
  return suites.get(summary['name'].partition(suites.PART)[0])


def _questions(summary: Mapping[str, Any]) -> str:
  asked, whole = summary['questions'], row_of(summary).count
  return f'{asked:,}' if asked == whole or not whole else (
      f'{asked:,} of {whole:,}')


def _title(summary: Mapping[str, Any]) -> str:
  part = summary['name'].partition(suites.PART)[2]
  return row_of(summary).title + (f', {part}' if part else '')


def lines(summaries: Sequence[Mapping[str, Any]]) -> list[Line]:
  """The lines of the table of some benchmarks.

  Args:
    summaries: the content of summary.json of each, in any order.
  """
  out: list[Line] = []
  families: list[Estimate] = []
  for family, title in FAMILIES.items():
    names = [n for n, of in suites.BENCHMARKS.items() if of.family == family]
    there = [s for n in names for s in summaries
             if s['name'].partition(suites.PART)[0] == n]
    if not there:
      continue
    out.append(Line('', title, None))
    estimates = [estimate_of(s['score']['score']) for s in there]
    out += [Line(s['name'], _title(s), estimate, _questions(s), _notes(s))
            for s, estimate in zip(there, estimates, strict=True)]
    families.append(average(estimates))
    out.append(Line('', f'average of {len(there)} of {len(names)}',
                    families[-1]))
  if len(families) > 1:
    out.append(Line('', f'mean of {len(families)} families',
                    average(families)))
  return out


def text(summaries: Sequence[Mapping[str, Any]]) -> str:
  """The table as aligned text, with notes under it."""
  found = lines(summaries)
  cells = [['benchmark', 'score', 'questions']]
  for line in found:
    if line.estimate is None:
      cells += [['', '', ''], [line.title, '', '']]
    else:
      cells.append([('  ' if line.name else '') + line.title,
                    percent(line.estimate), line.questions])
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  out = ['  '.join(c.ljust(w) for c, w in zip(row, widths, strict=True)
                   ).rstrip() for row in cells]
  notes = [f'{line.title}: {"; ".join(line.notes)}' for line in found
           if line.notes]
  return '\n'.join([*out, '', *notes, NOTE])
