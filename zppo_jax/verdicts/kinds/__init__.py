"""KINDS: how an answer is compared, by `Question.kind`; `get` finds a row.

A row holds a function (answer, reference) -> score in [0, 1] and what the
function needs. An answer is right if its score is at least the threshold of its
task (`records.Grader.threshold`). The kinds of FAMILIES have an argument in
their name, `relative(0.05)`, and `choice+judge` has a judge look at what
`choice` does not call right.

  boxed      the last \\boxed{} of a response
  prefilter  refuses answers that are too long, deep or steep to be parsed
  plain      kinds that need no library: numbers, choices, texts, sets, units
  tolerance  numbers within a tolerance
  published  what benchmarks and training sets call right
  ocrbench   the metrics of OCRBench v2
  maths      formulas, compared by math-verify
  gym        the scorers of reasoning-gym
  edits      edit distances of texts and trees
  spelling   one spelling of what looks the same; numerals, units, forms
"""

import functools
import re
from collections.abc import Callable
from typing import NamedTuple

from zppo_jax import allowed, import_paths
from zppo_jax.verdicts.kinds import (
  gym,
  maths,
  ocrbench,
  plain,
  published,
  tolerance,
)

Mark = Callable[[str, str], float]


def _nothing() -> None:
  """The plain kinds load no package."""


class Kind(NamedTuple):
  """A row.

  Attributes:
    mark: (answer, reference) -> score; raises plain.Unreadable if the reference
      is not of this kind.
    load: imports the packages of `mark` before a deadline runs.
    package: the package whose version is a part of a verdict's key, or ''.
    cheap: whether all gold answers may be checked before a run.
    source: the file whose content is a part of a verdict's key, or ''.
    graded: whether an evaluation counts parts of a point.
  """
  mark: Mark
  load: Callable[[], None] = _nothing
  package: str = ''
  cheap: bool = True
  source: str = ''
  graded: bool = False


class Family(NamedTuple):
  """Kinds with an argument in parentheses.

  Attributes:
    mark: argument -> the function of a row; KeyError or ValueError for an
      argument that is none.
    graded: as of Kind.
  """
  mark: Callable[[str], Mark]
  graded: bool = False


KINDS = {
    'math': Kind(maths.maths, maths.load, 'math-verify', False),
    'number': Kind(plain.numbers),
    'relaxed_number': Kind(plain.relaxed_numbers),
    'choice': Kind(plain.choices),
    'text': Kind(plain.texts),
    'set': Kind(plain.sets),
    'unit': Kind(plain.quantities),
    'reasoning_gym': Kind(gym.score, gym.load, 'reasoning-gym', False),
    'any_text': Kind(published.any_text),
    'number_list': Kind(published.number_list),
    'option': Kind(published.option),
    'nearest': Kind(published.nearest),
    'within': Kind(published.within),
    'values': Kind(published.values),
    'mmmu': Kind(published.mmmu),
    'anls': Kind(published.anls, graded=True),
}
FAMILIES = {
    'relative': Family(tolerance.relative),
    'absolute': Family(tolerance.absolute),
    'rounded': Family(tolerance.rounded),
    'rounded_unit': Family(tolerance.rounded_unit),
    'ocrbench': Family(ocrbench.kind, graded=True),
}
JUDGE = 'judge'  # a model compares the answers (judge.py)
RESPONSE = 'judge_response'  # it looks for the answer in a response
# The judges of benchmarks (official.py) read the response behind its thoughts.
OFFICIAL = ('charxiv_reasoning', 'charxiv_descriptive', 'mmvet', 'hle',
            'multichallenge', 'mmvu')
WHOLE = ('rubric', 'verbal', RESPONSE, *OFFICIAL)  # of whole responses
JUDGED = (JUDGE, *WHOLE)
GRADED = ('mmvet',)  # of JUDGED
NAMES = (*KINDS, *(f'{name}(...)' for name in FAMILIES), *JUDGED)
_AND_JUDGE = '+judge'
_ARGUMENT = re.compile(r'(\w+)\((.*)\)')


def known(name: str) -> bool:
  """Whether a name is a kind of these tables, which a data file may name."""
  base = first(name)
  if ':' in base or asks_judge(name) and base in JUDGED:
    return False
  try:
    return base in JUDGED or bool(get(base))
  except (KeyError, ValueError):
    return False


def get(name: str) -> Kind:
  """The row of a kind.

  Args:
    name: in KINDS, of a family of FAMILIES, or 'module:function' of a user; a
      judge behind it is left out.

  Raises:
    KeyError: for an unknown name, with the known ones, or if there is no such
      module or function.
    ValueError: for an argument that its family does not take; for a function
      that cannot be called with an answer and a gold answer.
  """
  name = first(name)
  if match := _ARGUMENT.fullmatch(name):
    return _with_argument(*match.groups())
  if ':' in name:
    return _own(name)
  return allowed.known('kind', name, KINDS, note=(
      f', {", ".join(f"{n}(...)" for n in FAMILIES)}, {", ".join(JUDGED)}, '
      'or module:function'))


def first(name: str) -> str:
  """The kind that compares before a judge is asked."""
  return name.removesuffix(_AND_JUDGE)


def asks_judge(name: str) -> bool:
  """Whether a judge looks at what the first kind does not call right."""
  return name.endswith(_AND_JUDGE)


def with_judge(name: str) -> str:
  """The kind with a judge behind it; a judge's own kind stays as it is."""
  if not name or asks_judge(name) or name in JUDGED:
    return name
  return f'{name}{_AND_JUDGE}'


def judged(name: str) -> bool:
  """Whether a judge may be asked."""
  return name in JUDGED or asks_judge(name)


def graded(name: str) -> bool:
  """Whether an evaluation counts parts of a point."""
  if not name or name in JUDGED:
    return name in GRADED
  return get(name).graded


@functools.lru_cache(maxsize=4096)
def _with_argument(family: str, argument: str) -> Kind:
  row = allowed.known('kind', family, FAMILIES, note=', with an argument')
  try:
    return Kind(row.mark(argument), graded=row.graded)
  except KeyError as e:
    raise ValueError(f'{family}({argument}): {e.args[0]}') from None


@functools.cache
def _own(name: str) -> Kind:
  try:
    module, mark = import_paths.load(name, 'kind of a question')
  except (ImportError, ValueError) as e:
    raise KeyError(str(e)) from e
  if not callable(mark):
    path, _, attribute = name.partition(':')
    raise KeyError(f'kind {name!r} of a question: module {path} has no '
                   f'function {attribute!r}')
  import_paths.check_call(f'kind {name!r} of a question', mark, 'answer',
                          'gold')
  return Kind(mark, cheap=False, source=module.__file__ or '')
