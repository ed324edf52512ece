"""KINDS: how an answer is compared, by `Question.kind`; `get` finds a row.

A row is a function (answer, reference) -> score in [0, 1], what has to be
imported for it, and what of a question the answer is held against. From which
score on an answer is right is the task's word (`records.Grader.threshold`).
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

from zppo_jax import import_paths
from zppo_jax.verdicts import gym, maths, plain


def _nothing() -> None:
  """What the plain kinds load."""


class Kind(NamedTuple):
  """A row.

  Attributes:
    mark: (answer, reference) -> score; raises plain.Unreadable where the
      reference makes no sense.
    load: imports what `mark` needs, before any deadline runs.
    package: whose version is a part of a verdict's key, or ''.
    cheap: whether all gold answers may be checked before a run.
    source: file whose content is a part of a verdict's key, or ''.
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
JUDGE = 'judge'  # asked of a model, not computed: judge.py


def get(name: str) -> Kind:
  """A row of KINDS, or 'module:function' of somebody's own.

  Raises:
    KeyError: for an unknown name, with the known ones, or where there is no
      such module or function.
  """
  if ':' in name:
    return _own(name)
  if name not in KINDS:
    raise KeyError(f'unknown kind {name!r} of a question; known: '
                   f'{", ".join((*KINDS, JUDGE))}, or module:function')
  return KINDS[name]


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
