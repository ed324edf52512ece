"""Whatever the trainer reads of an answer, it reads in linear time.

One answer may not hold up a step: each reader gets every piece over and over,
a megabyte of the worst ones, and a second of processor time for a megabyte.
"""

import time

import pytest

from tests.builders import rendered
from zppo_jax.chat.micro_chat import CHAT
from zppo_jax.chat.segments import cut_delimiters
from zppo_jax.chat.wording import BOXED, MICRO
from zppo_jax.data.mappings import mapping
from zppo_jax.records import Grader, PromptKind, Question, StopReason
from zppo_jax.report import reading
from zppo_jax.runs import samples
from zppo_jax.tasks import TASKS, digits, micro
from zppo_jax.verdicts import control, judge, verifier
from zppo_jax.verdicts.kinds import (
  boxed,
  forms,
  maths,
  numerals,
  plain,
  prefilter,
  spelling,
)
from zppo_jax.verdicts.sandbox import GradingResult

SIZE = 50_000
MEGABYTE = 10**6
PIECES = (
    '\\boxed', '\\boxed{', '\\boxed ', '\\boxed{}', '\\boxed{1}', '\\boxed 1',
    '\\boxed\\a', '\\boxed\\', '\\boxed{\\boxed', '\\boxed{ ', '\\boxed{$',
    '\\boxed{{', '\\boxed}', '{\\boxed', '\\fbox', '\\fbox{', ' \\boxed\n',
    '\\boxed{\\text{', '\\boxed{\\boxed{1}', '{', '}', '{}', '{ ', '\\', '\\\\',
    '\\{', '\\}', '\\a', '<think>', '</think>', '<', '>', '</', '< ', '<<',
    '<candidate>', '</candidate>', '<candidate ', '</candidate ',
    '</candidate', '<candidate "', '<candidate=', '</candidate\u200b',
    '</c', '<\u200b/', '\uff1c\uff0f', '\u2039', '&', '&lt;', '&amp;',
    '&lt;candidate ', '&lt;/candidate &', '%3C', '\\u003c', '<hint\n',
    '<|im_end|>', '<|', '<|x_pad|>', '<|x_pad|', '<s', '[INST]', '[', ']~',
    '$', '(', ')', ' ', '\n', '\t\n', '\u3000', '1', '1,', '1,000', '1.', '.1',
    '-', '- 1', '\u22121', '5%', 'A', ' A', 'A ', ' A 1', 'A 1 ', 'A\n',
    '**', '*', '_', '`', 'a', 'a ', 'Z', '\u0301', 'e\u0301', '\u200b',
    '\u00ad', '\x00', '\ud800', '\U0001f642', '"', "'", '=', '|', '[1, ',
    '{"verdict": ', '\\langle ,', '<1,', '[1],', '\\underline{', '\\rm ',
    '\\sin 1', 'A, ', '0.(1)', '1 234', 'x=1,')
WORST = ('\\boxed', '\\boxed\\a', '\\fbox', '{', '<', '&', '</candidate ', '1,',
         '\u3000')
# What is no repetition: brackets that cuts bring together.
NESTED = ('<' * (SIZE // 11) + 'candidate>' * (SIZE // 11),
          '</' * (SIZE // 14) + '&lt;hint>\n' * (SIZE // 14),
          '\\boxed{' * (SIZE // 8) + '}' * (SIZE // 8))
QUESTION = Question('q', 'q', '5', '', kind='number')


class Sandbox:
  """Says that nothing is right, at once; other tests have real ones."""

  def grade(self, jobs):
    return [GradingResult('score', 0.0) for _ in jobs]


def ncq(text):
  return rendered(CHAT, PromptKind.NCQ, 'C h 4', [text], [text])


def unboxed(text):
  try:
    return mapping.unboxed(text)
  except ValueError:  # half a surrogate pair in a row is refused
    assert '\ud800' in text


def graded(grader: Grader):
  from zppo_jax.verdicts import grading
  return lambda text: grading.grade(text, StopReason.LENGTH, QUESTION, grader)


READERS = {
    'boxed.last': boxed.last, 'last_or_number': boxed.last_or_number,
    'balanced': boxed.balanced, 'micro': micro.parse_answer,
    'digits': digits.parse_answer, 'spelt': samples.spelt,
    'shorten': reading.shorten,
    'delimiters': lambda t: cut_delimiters(t, BOXED.delimiters),
    'delimiters of micro': lambda t: cut_delimiters(t, MICRO.delimiters),
    'response': CHAT.response, 'compression': CHAT.compression, 'ncq': ncq,
    'plain': CHAT.plain, 'too_long': prefilter.too_long,
    'judge asked': lambda t: judge.messages('q', '5', t), 'judge': judge.read,
    'control': control.broken, 'unboxed': unboxed,
    'without_places': mapping.without_places, 'undress': spelling.undress,
    'renamed': forms.renamed, 'in order': lambda t: forms.in_order(t, '(1,2)'),
    'options': maths._options, 'plain_text': plain.plain_text,
    'numeral': numerals.numeral, 'program': forms.from_program,
    'grade': lambda t: verifier.Verifier(Sandbox()).grade([(t, QUESTION)]),
    **{f'task {name}': graded(TASKS[name].grader)
       for name in ('micro', 'digits', 'reasoning_gym_numbers')},
    **{f'gold of {kind}': lambda t, kind=kind: verifier.check_golds(
        [Question('q', 'q', t, '', kind=kind)]) for kind in (
            'number', 'choice', 'text', 'set', 'unit')}}


def seconds(read, text, most: float) -> float:
  """Processor time; the best of up to four where the first is over `most`,
  because other processes disturb caches."""
  spent = []
  for _ in range(4):
    since = time.process_time()
    read(text)
    spent.append(time.process_time() - since)
    if spent[-1] < most:
      break
  return min(spent)


def times(piece: str, size: int) -> str:
  return (piece * (size // len(piece) + 1))[:size]


@pytest.mark.parametrize('name', READERS)
def test_no_piece_is_slow_to_read(name):
  """fault B6: every piece, to every function that reads an answer, takes its
  share of a second for a megabyte, with room for a busy machine."""
  for text in (*(times(p, SIZE) for p in PIECES), *NESTED):
    most = 2 * len(text) / MEGABYTE
    spent = seconds(READERS[name], text, most)
    assert spent < most, (name, text[:40], spent)


@pytest.mark.parametrize('name', READERS)
def test_a_megabyte_takes_less_than_a_second(name):
  """fault B6: of what took minutes, or would where a pattern tries again."""
  for piece in WORST:
    spent = seconds(READERS[name], times(piece, MEGABYTE), 1)
    assert spent < 1, (name, piece, spent)
