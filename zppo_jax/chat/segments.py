"""Template and content tokens apart, so that content cannot forge structure.

A prompt is a list of segments. Template segments are ours and may hold
special tokens and delimiters. Content segments (questions, candidates, answers,
hints) are somebody's words: delimiter strings are cut out of them until none is
left, they are encoded without parsing special tokens, and reserved ids are
dropped. `Encoded.removed` counts everything that was removed.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from zppo_jax.chat import tags
from zppo_jax.records import PromptMedia


class Codec(Protocol):
  """Text to ids and back; the only place that knows a vocabulary."""
  vocab_size: int  # rows of the embedding, padding rows included
  ids: dict[str, int]  # every word's id; equal where vocabularies are
  pad_id: int
  end_id: int  # the chat's own end of a turn; `end_ids` holds them all
  reserved_ids: frozenset[int]  # may stand in template segments only
  sampled_ids: frozenset[int]  # may be drawn by the sampler

  def encode_template(self, text: str) -> list[int]:
    """Ids of our own text; special tokens are parsed."""

  def encode_content(self, text: str) -> tuple[list[int], int]:
    """Ids of somebody's text, nothing parsed as special, and how many
    pieces the vocabulary could not express and were left out."""

  def decode(self, ids: Sequence[int]) -> str:
    """Text of ids, special tokens spelt out."""


def end_ids(codec: Codec) -> tuple[int, ...]:
  """Every token that ends a response, the chat's own end token first.

  A codec whose chat has one end token need not list it.
  """
  return tuple(getattr(codec, 'end_ids', ())) or (codec.end_id,)


def true_vocabulary(codec: Codec) -> int:
  """The number of ids up to the last one that means something.

  The rows of an embedding or a head from it on are padding, whose number may
  differ between models of one vocabulary.
  """
  return 1 + max(codec.ids.values())


@dataclasses.dataclass(frozen=True)
class Segment:
  """A piece of a prompt; `content` says whose words these are."""
  text: str
  content: bool


@dataclasses.dataclass(frozen=True)
class Encoded:
  """A prompt.

  Attributes:
    tokens: ids.
    removed: the number of pieces that were removed from content.
    media: what its placeholders stand for; None for text alone.
    forced: as in `records.Prompt`.
  """
  tokens: tuple[int, ...]
  removed: int
  media: PromptMedia | None = None
  forced: int = 0


class Slot(NamedTuple):
  """The place of something that a prompt shows, e.g. of its question."""
  name: str


def template(text: str) -> Segment:
  return Segment(text, False)


def content(text: str) -> Segment:
  return Segment(text, True)


# How many characters a search for delimiters that cuts bring together may read:
# (at least, per character of the text).
_PATIENCE = 100_000, 2
_ROUNDS = 4  # the most rounds of decoding; a codec that normalises needs two


def cut_delimiters(text: str, delimiters: re.Pattern) -> tuple[str, int]:
  """Cuts every match, also those that earlier cuts bring together.

  If a text nests so many delimiters that repeated searches would take more than
  linear time, everything that can open a tag is cut, and each cut is counted.

  Returns:
    (text without a match, number of matches cut).
  """
  total, left = 0, _PATIENCE[0] + _PATIENCE[1] * len(text)
  while left > 0:
    left -= len(text)
    text, cut = delimiters.subn(' ', text)
    total += cut
    if not cut:
      return text, total
  text, cut = tags.brackets().subn(' ', text)
  total += cut
  if delimiters.search(text):  # delimiters of somebody's own, without brackets
    return ' ', total + 1
  return text, total


def _encode_content(text: str, codec: Codec, delimiters: re.Pattern):
  """(ids, number of pieces removed).

  The text of the ids is checked again, because a codec that normalises text may
  turn a look-alike into a delimiter.
  """
  removed = 0
  for _ in range(_ROUNDS):
    text, cut = cut_delimiters(text, delimiters)
    ids, lost = codec.encode_content(text)
    unreserved = [i for i in ids if i not in codec.reserved_ids]
    removed += cut + lost + len(ids) - len(unreserved)
    text = codec.decode(unreserved)
    if not delimiters.search(text):
      return unreserved, removed
  # The codec makes a delimiter out of every text.
  return [], removed + len(unreserved)


def encode(segments: Sequence[Segment], codec: Codec,
           delimiters: re.Pattern) -> Encoded:
  """Ids of all segments, one after the other."""
  tokens, removed = [], 0
  for segment in segments:
    if not segment.content:
      tokens.extend(codec.encode_template(segment.text))
      continue
    ids, cut = _encode_content(segment.text, codec, delimiters)
    tokens.extend(ids)
    removed += cut
  return Encoded(tokens=tuple(tokens), removed=removed)
