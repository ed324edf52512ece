"""CharXiv: four descriptive questions and one reasoning question a chart.

A row holds the number of a template for each descriptive question; the texts
below say in our own words what each asks. A fourth of these questions cannot be
answered by design; the right answer to those is 'Not Applicable'.
"""

import json
import re

from zppo_jax.data import values
from zppo_jax.data.mappings.mapping import Mapped, Row
from zppo_jax.data.suites.benchmark import NO_GOLD, VARIANT, skipped
from zppo_jax.data.suites.choices import blank, why_not

VARIANTS = (*(f'descriptive_q{i}' for i in range(1, 5)), 'reasoning_q')
_DECIMALS = re.compile(r'[0-9]\.([0-9]+)')
_WHOLE = (18, 19)  # templates about the figure instead of a subplot
_ALWAYS = (17, *_WHOLE)  # templates that every figure answers
_NONE = 'If the plot has no such thing, answer Not Applicable.'
TEMPLATES = {
    1: 'what title does the plot carry? Leave out the letter of a subplot.',
    2: 'how is the x-axis labelled?',
    3: 'how is the y-axis labelled?',
    4: 'which labelled tick of the x-axis is the leftmost?',
    5: 'which labelled tick of the x-axis is the rightmost?',
    6: 'which labelled tick of the y-axis is the lowest in the picture?',
    7: 'which labelled tick of the y-axis is the highest in the picture?',
    8: 'by how much do consecutive numbers at the ticks of the x-axis differ?',
    9: 'by how much do consecutive numbers at the ticks of the y-axis differ?',
    10: 'how many lines are drawn?',
    11: 'do any of the lines cross? Answer Yes or No.',
    12: 'how many separate labels does the legend have?',
    13: 'what are the labels of the legend, from top to bottom and then from '
        'left to right, with commas between them?',
    14: 'by how much do the largest and the smallest number at the ticks of '
        'the continuous legend (the colour bar) differ?',
    15: 'what is the largest number at the ticks of the continuous legend (the '
        'colour bar)?',
    16: 'how do the data run from left to right, in a few words?',
    17: 'how many ticks with a label do all the axes have together?',
    18: 'In what grid are the subplots arranged? Answer as rows by columns, '
        'e.g. 2 by 3.',
    19: 'How many subplots are there?',
}
# By `reasoning_a_type`: where the answer stands and what it is.
INSTRUCTIONS = {
    1: 'Answer with words that stand in the chart.',
    2: 'Answer with words, which need not stand in the chart.',
    3: 'Answer with a number that stands in the chart.',
    4: 'Answer with a number, with {decimals}.',
}


def _number(value: object, what: str, most: int) -> int:
  said = values.number(value, what)
  if said not in range(1, most + 1):
    raise ValueError(f'{what} is {values.shown(value)}; CharXiv has 1 to '
                     f'{most}')
  return int(said)


def subplot(row: Row) -> str:
  """The place of the subplot that a descriptive question is about."""
  if not blank(row['subplot_loc']):
    return f'For {values.text(row["subplot_loc"], "subplot_loc").strip()}, '
  at = [values.text(row[c], c).removesuffix('.0')
        for c in ('subplot_row', 'subplot_col')]
  if '' in at or '0' in at:
    return 'For the plot, '
  return f'For the subplot in row {at[0]} and column {at[1]}, '


def _descriptive(row: Row, which: str) -> Mapped:
  answer = row[which.replace('_q', '_a')]
  if blank(row[which]) or blank(answer):
    return skipped(NO_GOLD)
  template = _number(row[which], which, len(TEMPLATES))
  text = TEMPLATES[template]
  if template not in _WHOLE:
    text = subplot(row) + text
  if template not in _ALWAYS:
    text = f'{text} {_NONE}'
  return Mapped(text, json.dumps(
      {'answer': values.text(answer, 'answer'), 'template': template}),
      'charxiv_descriptive', subset='descriptive')


def _decimals(answer: str) -> str:
  """How many decimals an answer has, in words."""
  decimals = _DECIMALS.search(answer)  # a sign of percent is none
  count = len(decimals[1]) if decimals else 0
  return ('no decimals' if not count else
          '1 decimal' if count == 1 else f'{count} decimals')


def read(row: Row) -> Mapped:
  """One of the five questions of a chart."""
  which = row[VARIANT]
  if which != 'reasoning_q':
    return _descriptive(row, which)
  if reason := why_not(row['reasoning_q'], row['reasoning_a']):
    return skipped(reason)
  answer = values.text(row['reasoning_a'], 'reasoning_a').strip()
  kind = _number(row['reasoning_a_type'], 'reasoning_a_type', 4)
  question = values.text(row['reasoning_q'], 'reasoning_q')
  how = INSTRUCTIONS[kind].format(decimals=_decimals(answer))
  return Mapped(f'{question}\n{how}', json.dumps(
      {'answer': answer, 'type': kind}), 'charxiv_reasoning',
      subset='reasoning')
