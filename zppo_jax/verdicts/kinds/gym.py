"""The kind 'reasoning_gym': the data set of a question scores its answers.

A question's source names the data set and its config as JSON, the end of its
id the entry, so that a worker can make it again:

  source  reasoning_gym/NAME?{"seed": 1, "size": 100, ...}
  id      ANYTHING#INDEX

Some of the package's scorers
run the model's text as Python (read in its source, version 0.1.25; REFUSED).
They are never called: where equality with the entry's own answer is a fair
verdict they are replaced by it, the others are refused by name. So are data
sets whose entries carry no answer, and replaced are scorers that pay in full
for a wrong one.
"""

import functools
import json
from typing import Any

from zppo_jax.verdicts.kinds.plain import Unreadable, numbers, plain_text

PREFIX = 'reasoning_gym/'
# name -> what its scorer does with the model's text
EXECUTING = {
    'string_insertion': 'eval', 'spiral_matrix': 'eval',
    'binary_matrix': 'eval', 'n_queens': 'eval',
    'puzzle24': 'sympy.parse_expr', 'countdown': 'sympy.parse_expr',
    'polynomial_multiplication': 'sympy.parse_expr',
    'simple_integration': 'sympy.parse_expr',
    'intermediate_integration': 'sympy.parse_expr',
}
REFUSED = tuple(n for n in EXECUTING if n not in (
    'string_insertion', 'spiral_matrix', 'binary_matrix'))
# Scorers that do not tell right from wrong, and entries without an answer,
# which cannot be shown as a question's gold.
_NONE = 'has many right answers and its entries carry none'
UNSOUND = {
    'game_of_life_halting': 'compares no words: any text is "True"',
    **dict.fromkeys(('boxnet', 'graph_color', 'propositional_logic',
                     'rubiks_cube', 'rush_hour'), _NONE)}


def _as_text(text: str) -> str:
  for mark in '[]",\'':
    text = text.replace(mark, ' ')
  return ' '.join(plain_text(text).split())


def _same_text(answer: str, gold: str) -> float:
  return float(_as_text(answer) == _as_text(gold))


# name -> (answer, gold) -> score, of data sets with one right answer each.
REPLACED = {
    'string_insertion': _same_text, 'spiral_matrix': _same_text,
    'binary_matrix': _same_text,
    # The scorer of this data set takes the first number without its sign.
    'gsm_symbolic': numbers,
    # The scorer of this data set ignores the text behind the last word.
    'letter_jumble': _same_text,
}


def check_name(name: str) -> None:
  """ValueError for a data set whose scorer may not be used, with the reason."""
  if name in REFUSED:
    raise ValueError(
        f'reasoning_gym/{name} scores by {EXECUTING[name]} of the model\'s '
        'text, which is executed; it is refused. Refused: '
        f'{", ".join((*REFUSED, *UNSOUND))}')
  if name in UNSOUND:
    raise ValueError(f'reasoning_gym/{name} is refused: it {UNSOUND[name]}')


def source(name: str, config: dict) -> str:
  """The `Question.source` of the entries of a data set.

  Args:
    name: of the data set.
    config: its fields, seed and size among them; JSON values.

  Raises:
    ValueError: as `check_name`.
  """
  check_name(name)
  return f'{PREFIX}{name}?{json.dumps(config, sort_keys=True)}'


def reference(source: str, question_id: str) -> str:
  """The entry of a question, whose id ends with `#INDEX`."""
  return f'{source}#{question_id.rpartition("#")[2]}'


def load() -> None:
  """Imports the package; ModuleNotFoundError names the extra."""
  try:
    import reasoning_gym
  except ModuleNotFoundError as e:
    raise ModuleNotFoundError(
        "kind 'reasoning_gym' needs the package (pip install "
        f"'zppo_jax[reasoning_gym]'): {e}") from e
  del reasoning_gym


@functools.lru_cache(maxsize=64)
def _dataset(name: str, config: str) -> Any:
  import reasoning_gym
  return reasoning_gym.create_dataset(name, **json.loads(config))


def score(answer: str, reference: str) -> float:
  """The data set's own score, in [0, 1].

  Raises:
    Unreadable: for a reference that names no entry, or a refused data set.
  """
  try:
    name, rest = reference.removeprefix(PREFIX).split('?', 1)
    config, index = rest.rsplit('#', 1)
    check_name(name)
    entry = _dataset(name, config)[int(index)]
  except Exception as e:
    raise Unreadable(f'{reference[:80]!r}: {e}') from e
  if name in REPLACED:
    return REPLACED[name](answer, entry['answer'])
  dataset = _dataset(name, config)
  try:
    return float(dataset.score_answer(answer, entry))
  except Exception:
    # Some scorers raise for words that they cannot read. A scorer that cannot
    # read its own answer either is broken, and this call raises.
    dataset.score_answer(entry['answer'], entry)
    return 0.0
