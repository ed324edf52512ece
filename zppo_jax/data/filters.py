"""FILTERS: which questions are left out, by name, each counted.

A filter is a function (candidates, value) -> the ones that stay, in order;
`value` is what the config says. All look at a candidate, which is a row
without its text and pixels. What the paper sets (App. B.1):

  answer_characters=512  image_side=100  pass_rate=0.5  duplicates=True
  tiers=True             and prompts of at most 4,096 tokens: data.fit='drop'
"""

import dataclasses
import functools
import hashlib
import re
from collections.abc import Callable, Sequence

from zppo_jax import allowed
from zppo_jax.chat import images
from zppo_jax.data import media, tiers, values
from zppo_jax.records import Clip, Picture

_SPACE = re.compile(r'\s+')


@dataclasses.dataclass(frozen=True, eq=False)
class Candidate:
  """A question before it is made.

  Attributes:
    source: name of its source in the config.
    row: number in the source.
    id: of the question.
    subset: data set inside the source.
    characters: of the text.
    answer_characters: of the answer.
    pass_rate: of a reference model, None where unknown.
    text_hash: of the normalised text.
    show: reads its images and videos.
    words: digest of its words (data/digest.py).
    bare: whether it certainly shows nothing.
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


def text_hash(text: str) -> bytes:
  """Of a text in small letters with single spaces."""
  plain = _SPACE.sub(' ', text).strip().lower()
  return hashlib.blake2b(plain.encode(), digest_size=16).digest()


def _pictures(candidate: Candidate) -> list[Picture]:
  return [p for shown in candidate.show()
          for p in (shown.frames if isinstance(shown, Clip) else (shown,))]


def prompt_characters(found: Sequence[Candidate], most: int):
  """Texts of at most `most` characters."""
  return [c for c in found if c.characters <= most]


def answer_characters(found: Sequence[Candidate], most: int):
  """Gold answers of at most `most` characters."""
  return [c for c in found if c.answer_characters <= most]


def image_side(found: Sequence[Candidate], least: int):
  """Both sides of every image and frame are at least `least` pixels.

  Raises:
    FileNotFoundError, ValueError: for an image that cannot be read.
  """
  return [c for c in found
          if all(min(images.size(p)) >= least for p in _pictures(c))]


def pass_rate(found: Sequence[Candidate], most: float):
  """A reference model's pass rate is at most `most`, or unknown."""
  return [c for c in found
          if c.pass_rate is None or values.at_most(c.pass_rate, most)]


def duplicates(found: Sequence[Candidate], on: bool):
  """The first of questions with one text and the same images stays.

  Images are compared by their bytes, and read only where texts are equal. The
  order of sources in the config decides which is first.
  """
  if not on:
    return list(found)
  shown = functools.cache(lambda i: hashlib.blake2b(b''.join(
      hashlib.blake2b(media.content(p)).digest()
      for p in _pictures(found[i])), digest_size=16).digest())
  seen: dict[bytes, list[int]] = {}
  out = []
  for i, candidate in enumerate(found):
    alike = seen.setdefault(candidate.text_hash, [])
    if any(shown(i) == shown(j) for j in alike):
      continue
    alike.append(i)
    out.append(candidate)
  return out


def subset_duplicates(found: Sequence[Candidate], on: bool):
  """A subset that several sources hold stays with the first of them."""
  if not on:
    return list(found)
  owner: dict[str, str] = {}
  return [c for c in found if not c.subset or owner.setdefault(
      tiers.canonical(c.subset), c.source) == c.source]


def _drawn(found: Sequence[Candidate], most: Callable[[str], int]):
  """At most so many of a subset: those whose ids hash lowest."""
  by_subset: dict[str, list[Candidate]] = {}
  for c in found:
    by_subset.setdefault(tiers.canonical(c.subset), []).append(c)
  kept = set()
  for name, several in by_subset.items():
    order = sorted(several, key=lambda c: hashlib.blake2b(
        c.id.encode(), digest_size=16).digest())
    kept |= {c.id for c in order[:most(name)]}
  return [c for c in found if c.id in kept]


def subset_cap(found: Sequence[Candidate], most: int):
  """At most `most` questions of a subset, drawn by a hash of their ids."""
  return _drawn(found, lambda name: most)


def tier_caps(found: Sequence[Candidate], on: bool):
  """The paper's caps; subsets in no tier are left out (tiers.py)."""
  return _drawn(found, tiers.cap) if on else list(found)


FILTERS: dict[str, Callable[[Sequence[Candidate], object],
                            list[Candidate]]] = {
    'prompt_characters': prompt_characters,
    'answer_characters': answer_characters,
    'pass_rate': pass_rate,
    'image_side': image_side,
    'subset_duplicates': subset_duplicates,
    'duplicates': duplicates,
    'tiers': tier_caps,
    'subset_cap': subset_cap,
}


def check(names, where: str) -> None:
  """KeyError for a filter that is not in FILTERS."""
  for name in names:
    allowed.one_of(f'filter in {where}:', name, FILTERS)


def apply(found: Sequence[Candidate], wanted: dict,
          counts: dict[str, dict[str, int]]) -> list[Candidate]:
  """Filters in the order of FILTERS; `counts` gains filter -> source ->
  questions left out."""
  found = list(found)
  for name, function in FILTERS.items():
    if name not in wanted:
      continue
    kept = function(found, wanted[name])
    gone = {c.id for c in found} - {c.id for c in kept}
    of = counts.setdefault(name, {})
    for c in found:
      of[c.source] = of.get(c.source, 0) + (c.id in gone)
    found = kept
  return found
