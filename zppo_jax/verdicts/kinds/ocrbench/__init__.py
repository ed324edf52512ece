"""OCRBench v2's metric of each type of question, as a kind `ocrbench(TYPE)`.

The gold answer is a JSON object of the row's own columns: `answers`, and where
a type reads them `eval`, `question`, `bbox`, `bbox_list` and `content`. A score
lies in [0, 1]. The rules are those of the benchmark's own code as it stands in
lmms-eval (tasks/ocrbench_v2); the code is ours.

  words  containment and edit distance of words, counts, formulas
  boxes  overlap of boxes, text spotting
  pairs  F1 of key-value pairs
  pages  trees of documents
  tables TEDS of charts and of tables in Markdown

`unscored` names the types whose metric is not built here, and why.
"""

import json
from collections.abc import Callable
from typing import Any

from zppo_jax import allowed
from zppo_jax.verdicts.kinds.numerals import Unreadable
from zppo_jax.verdicts.kinds.ocrbench import boxes, pages, pairs, tables, words

FIELDS = ('answers', 'eval', 'question', 'bbox', 'bbox_list', 'content')
Metric = Callable[[str, dict[str, Any]], float]
_HTML = ('its metric, TEDS, compares trees of HTML that lxml repairs, which is '
         'no dependency here')
_PAGES = ('its metric takes METEOR, which reads WordNet, and splits Chinese '
          'words by jieba; neither is a dependency here')
UNSCORED = {
    'table parsing cn': _HTML, 'full-page OCR en': _PAGES,
    'full-page OCR cn': _PAGES, 'fine-grained text recognition en': _PAGES,
    'text translation cn': _PAGES,
}
# Types whose metric reads other columns than `answers`.
NO_ANSWERS = ('text spotting en',)
_SHORT_ANSWER = '简答'  # of handwritten answers that are whole sentences
METRICS: dict[str, Metric] = {
    **dict.fromkeys((
        'APP agent en', 'ASCII art classification en', 'math QA en',
        'reasoning VQA en', 'science QA en', 'text recognition en',
        'document classification en', 'cognition VQA en', 'diagram QA en',
    ), words.english),
    'cognition VQA cn': words.chinese, 'reasoning VQA cn': words.chinese,
    'handwritten answer extraction cn': words.handwritten,
    'formula recognition en': words.formula,
    'formula recognition cn': words.chinese_formula,
    'text counting en': words.count,
    'key information extraction en': pairs.f1,
    'key information mapping en': pairs.f1,
    'key information extraction cn': pairs.f1,
    'VQA with position en': boxes.answer_and_box,
    'text grounding en': boxes.grounding,
    'text spotting en': boxes.spotting,
    'document parsing en': pages.document,
    'document parsing cn': pages.document,
    'chart parsing en': tables.chart,
    'table parsing en': tables.markdown,
}
# The ability of each type: the mean of an ability is over its rows, the score
# of a language over its abilities.
ABILITIES = {
    'text recognition en': 'text recognition en',
    'fine-grained text recognition en': 'text recognition en',
    'full-page OCR en': 'text recognition en',
    'text grounding en': 'text detection en',
    'VQA with position en': 'text detection en',
    'text spotting en': 'text spotting en',
    'key information extraction en': 'relationship extraction en',
    'key information mapping en': 'relationship extraction en',
    **dict.fromkeys(('document parsing en', 'chart parsing en',
                     'table parsing en', 'formula recognition en'),
                    'element parsing en'),
    'math QA en': 'mathematical calculation en',
    'text counting en': 'mathematical calculation en',
    'document classification en': 'visual text understanding en',
    'cognition VQA en': 'visual text understanding en',
    'diagram QA en': 'visual text understanding en',
    **dict.fromkeys(('reasoning VQA en', 'science QA en', 'APP agent en',
                     'ASCII art classification en'), 'knowledge reasoning en'),
    'full-page OCR cn': 'text recognition cn',
    'key information extraction cn': 'relationship extraction cn',
    'handwritten answer extraction cn': 'relationship extraction cn',
    **dict.fromkeys(('document parsing cn', 'table parsing cn',
                     'formula recognition cn'), 'element parsing cn'),
    'cognition VQA cn': 'visual text understanding cn',
    'reasoning VQA cn': 'knowledge reasoning cn',
    'text translation cn': 'knowledge reasoning cn',
}


def unscored(of: str, question: str = '') -> str:
  """The reason why answers to a row have no metric here, '' if they have one.

  Args:
    of: the row's `type`.
    question: the row's `question`.

  Raises:
    KeyError: for a type that the benchmark does not have.
  """
  allowed.one_of('type of OCRBench v2:', of, (*METRICS, *UNSCORED))
  if of == 'handwritten answer extraction cn' and _SHORT_ANSWER in question:
    return f'{of} of whole sentences: {_PAGES}'
  if of == 'table parsing en' and tables.asks_html(question):
    return f'{of} in HTML: {_HTML}'
  return f'{of}: {UNSCORED[of]}' if of in UNSCORED else ''


def told(answers: Any) -> list[Any]:
  """The answers of a row that hold something: a blank is in every text."""
  several = answers if isinstance(answers, list | tuple) else [answers]
  return [one for one in several
          if one is not None and not (isinstance(one, str) and not one.strip())]


def _row(of: str, gold: str) -> dict[str, Any]:
  """The row of a gold answer, whose answers are a list without blanks.

  Raises:
    Unreadable: for a text that is no such object, and for a row of no answers,
      if its type `of` needs some.
  """
  try:
    row = json.loads(gold)
  except (ValueError, RecursionError) as e:
    raise Unreadable(f'{gold[:80]!r} is no JSON ({e})') from None
  if not isinstance(row, dict) or not row.keys() <= set(FIELDS):
    raise Unreadable(f'{gold[:80]!r} must be a JSON object of '
                     f'{", ".join(FIELDS)}')
  answers = told(row.get('answers'))
  if not answers and of not in NO_ANSWERS:
    raise Unreadable(f'{gold[:80]!r} has no answers')
  return {**row, 'answers': answers}


def kind(of: str) -> Callable[[str, str], float]:
  """The comparison of a type.

  Raises:
    KeyError: for an unknown type.
    ValueError: for a type that has no metric here.
  """
  if reason := unscored(of):
    raise ValueError(f'ocrbench({of}) is not scored: {reason}')

  def mark(answer: str, gold: str) -> float:
    return METRICS[of](answer, _row(of, gold))

  return mark
