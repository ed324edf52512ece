"""FILTERS: which questions are left out, by name, each counted.

A filter is a function (candidates, value) -> the candidates that stay, in their
order; `value` comes from the config. A candidate is a row without its text and
pixels. The paper sets these values (App. B.1):

  answer_characters=512  image_side=100  pass_rate=0.5  duplicates=True
  tiers=True             and prompts of at most 4,096 tokens: data.fit='drop'
"""

import dataclasses
import functools
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from zppo_jax import allowed
from zppo_jax.chat import pictures
from zppo_jax.data import media, tiers, values
from zppo_jax.records import Clip, Picture

_SPACE = re.compile(r'\s+')


@dataclasses.dataclass(frozen=True, eq=False)
class Candidate:
  """A row that may become a question.

  Attributes:
    source: the name of its source in the config.
    row: its number in the source.
    id: of the question.
    subset: the data set inside the source.
    characters: the number of characters of the text.
    answer_characters: the number of characters of the answer.
    pass_rate: of a reference model; None if it is unknown.
    difficulty: on the data set's own scale; None if it is unknown.
    text_hash: of the normalised text.
    show: reads the images and videos.
    words: the digest of its words (data/digest.py).
    bare: whether it certainly has no image or video.
  """
  source: str
  row: int
  id: str
  subset: str
  characters: int
  answer_characters: int
  pass_rate: float | None
  text_hash: bytes
  show: Callable[[], tuple[Picture | Clip, ...]]
  words: bytes = b''
  bare: bool = False
  difficulty: float | None = None


def text_hash(text: str) -> bytes:
  """A hash of the text in small letters with single spaces."""
  plain = _SPACE.sub(' ', text).strip().lower()
  return hashlib.blake2b(plain.encode(), digest_size=16).digest()


def _pictures(candidate: Candidate) -> list[Picture]:
  return [p for shown in candidate.show()
          for p in (shown.frames if isinstance(shown, Clip) else (shown,))]


def prompt_characters(candidates: Sequence[Candidate],
                      most: int) -> list[Candidate]:
  """Keeps texts of at most `most` characters."""
  return [c for c in candidates if c.characters <= most]


def answer_characters(candidates: Sequence[Candidate],
                      most: int) -> list[Candidate]:
  """Keeps gold answers of at most `most` characters."""
  return [c for c in candidates if c.answer_characters <= most]


def image_side(candidates: Sequence[Candidate], least: int) -> list[Candidate]:
  """Keeps rows with images and frames of at least `least` pixels per side.

  Raises:
    FileNotFoundError, ValueError: for an image that cannot be read.
  """
  return [c for c in candidates
          if all(min(pictures.size(p)) >= least for p in _pictures(c))]


def pass_rate(candidates: Sequence[Candidate], most: float) -> list[Candidate]:
  """Keeps rows whose pass rate is at most `most` or unknown."""
  return [c for c in candidates
          if c.pass_rate is None or values.at_most(c.pass_rate, most)]


def difficulty(candidates: Sequence[Candidate],
               least: float) -> list[Candidate]:
  """Keeps rows whose difficulty is at least `least` or unknown."""
  return [c for c in candidates
          if c.difficulty is None or c.difficulty >= least]


def duplicates(candidates: Sequence[Candidate], on: bool) -> list[Candidate]:
  """Keeps the first of questions with one text and the same images.

  Images are compared by their bytes. They are read only where texts are equal.
  The order of sources in the config decides which question is first.
  """
  if not on:
    return list(candidates)
  shown = functools.cache(lambda i: hashlib.blake2b(b''.join(
      hashlib.blake2b(media.content(p)).digest()
      for p in _pictures(candidates[i])), digest_size=16).digest())
  seen: dict[bytes, list[int]] = {}
  out = []
  for i, candidate in enumerate(candidates):
    alike = seen.setdefault(candidate.text_hash, [])
    if any(shown(i) == shown(j) for j in alike):
      continue
    alike.append(i)
    out.append(candidate)
  return out


def subset_duplicates(candidates: Sequence[Candidate],
                      on: bool) -> list[Candidate]:
  """Keeps a subset that several sources hold in the first of them alone."""
  if not on:
    return list(candidates)
  owner: dict[str, str] = {}
  return [c for c in candidates if not c.subset or owner.setdefault(
      tiers.canonical(c.subset), c.source) == c.source]


def _drawn(candidates: Sequence[Candidate],
           most: Callable[[str], int]) -> list[Candidate]:
  """Keeps most(subset) rows of each subset, those whose ids hash lowest."""
  by_subset: dict[str, list[Candidate]] = {}
  for c in candidates:
    by_subset.setdefault(tiers.canonical(c.subset), []).append(c)
  drawn = set()
  for name, several in by_subset.items():
    order = sorted(several, key=lambda c: hashlib.blake2b(
        c.id.encode(), digest_size=16).digest())
    drawn |= {c.id for c in order[:most(name)]}
  return [c for c in candidates if c.id in drawn]


def subset_cap(candidates: Sequence[Candidate], most: int) -> list[Candidate]:
  """Keeps at most `most` questions per subset, drawn by a hash of their ids."""
  return _drawn(candidates, lambda name: most)


def tier_caps(candidates: Sequence[Candidate], on: bool) -> list[Candidate]:
  """Applies the paper's caps; leaves out subsets in no tier (tiers.py)."""
  return _drawn(candidates, tiers.cap) if on else list(candidates)


FILTERS: dict[str, Callable[[Sequence[Candidate], Any],
                            list[Candidate]]] = {
    'prompt_characters': prompt_characters,
    'answer_characters': answer_characters,
    'pass_rate': pass_rate,
    'difficulty': difficulty,
    'image_side': image_side,
    'subset_duplicates': subset_duplicates,
    'duplicates': duplicates,
    'tiers': tier_caps,
    'subset_cap': subset_cap,
}


def check(names: Iterable[str], where: str) -> None:
  """KeyError for a filter that is not in FILTERS."""
  for name in names:
    allowed.one_of(f'filter in {where}:', name, FILTERS)


def apply(candidates: Sequence[Candidate], values_of: Mapping[str, Any],
          counts: dict[str, dict[str, int]]) -> list[Candidate]:
  """Applies filters in the order of FILTERS.

  Args:
    candidates: the candidates.
    values_of: filter -> value.
    counts: filter -> source -> number of questions that it left out; this
      function adds the filters that it applied.
  """
  left = list(candidates)
  for name, function in FILTERS.items():
    if name not in values_of:
      continue
    stay = function(left, values_of[name])
    gone = {c.id for c in left} - {c.id for c in stay}
    by_source = counts.setdefault(name, {})
    for c in left:
      by_source[c.source] = by_source.get(c.source, 0) + (c.id in gone)
    left = stay
  return left
