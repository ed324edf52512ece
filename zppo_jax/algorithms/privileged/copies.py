"""When a text is a rollout's own.

A response may think first, between <think> and </think>; the template may have
written the opening tag, so that the response holds the closing one alone. Texts
are compared without spaces at their ends and with one between words, and
thoughts without words are none.
"""

from collections.abc import Iterable
from typing import NamedTuple

OPENED, CLOSED = '<think>', '</think>'


class Parts(NamedTuple):
  """A response, to compare: what it thinks, and what it says behind that."""
  thoughts: str
  said: str


def _spelt(text: str) -> str:
  """A text to compare: equal texts differ in nothing but spaces."""
  return ' '.join(text.split())


def parts(text: str) -> Parts:
  """What a response thinks and what it says; nothing is said behind thoughts
  that do not end."""
  thoughts, _, said = text.rpartition(CLOSED)
  if OPENED in said:
    thoughts, said = text, ''
  return Parts(_spelt(thoughts.strip().removeprefix(OPENED)), _spelt(said))


def without_thoughts(text: str) -> str:
  """What a response says behind its thoughts, as it stands; '' if they do not
  end."""
  said = text.rpartition(CLOSED)[2]
  return '' if OPENED in said else said.strip()


def repeated(text: str, texts: Iterable[str]) -> bool:
  """Whether a response is one of the texts, word for word. Thoughts of its own
  make it another one; a text without words is never repeated."""
  return parts(text) in (parts(t) for t in texts if t.strip())


def same_response(one: str, other: str) -> bool:
  """Whether two responses are one: both parts are equal, or one of them has no
  thoughts and both say the same. Two that think differ if their thoughts do,
  because many responses end in the same few words."""
  a, b = parts(one), parts(other)
  if not (a.thoughts and b.thoughts):
    return a.said == b.said != ''
  return a == b
