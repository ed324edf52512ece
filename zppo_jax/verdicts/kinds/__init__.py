"""KINDS: how an answer is compared, by `Question.kind`; `get` finds a row.

A row holds a function (answer, reference) -> score in [0, 1] and what the
function needs. An answer is right if its score is at least the threshold of its
task (`records.Grader.threshold`).

  boxed      the last \\boxed{} of a response
  prefilter  refuses answers that are too long, deep or steep to be parsed
  plain      kinds that need no library: numbers, choices, texts, sets, units
  maths      formulas, compared by math-verify
  gym        the scorers of reasoning-gym
  spelling   one spelling of what looks the same; numerals, units, forms
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

from zppo_jax import allowed, import_paths
from zppo_jax.verdicts.kinds import gym, maths, plain


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
  """
  mark: Callable[[str, str], float]
  load: Callable[[], None] = _nothing
  package: str = ''
  cheap: bool = True
  source: str = ''


KINDS = {
    'math': Kind(maths.maths, maths.load, 'math-verify', False),
    'number': Kind(plain.numbers),
    'relaxed_number': Kind(plain.relaxed_numbers),
    'choice': Kind(plain.choices),
    'text': Kind(plain.texts),
    'set': Kind(plain.sets),
    'unit': Kind(plain.quantities),
    'reasoning_gym': Kind(gym.score, gym.load, 'reasoning-gym', False),
}
JUDGE = 'judge'  # a model compares the answers (judge.py)
WHOLE = ('rubric', 'verbal')  # it judges whole responses (rubric.py)
JUDGED = (JUDGE, *WHOLE)
NAMES = (*KINDS, *JUDGED)


def get(name: str) -> Kind:
  """The row of a kind.

  Args:
    name: in KINDS, or 'module:function' of a user.

  Raises:
    KeyError: for an unknown name, with the known ones, or if there is no such
      module or function.
  """
  if ':' in name:
    return _own(name)
  return allowed.known('kind', name, KINDS,
                       note=f', {", ".join(JUDGED)}, or module:function')


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
  return Kind(mark, cheap=False, source=module.__file__ or '')
