"""A template's text as token ids: a control token counts where all of it is the
template's own, and what looks like one in a message stays letters."""

from typing import NamedTuple

import numpy as np

from zppo_jax.chat.hub_chat import HubCodec
from zppo_jax.chat.segments import Encoded


class Rendered(NamedTuple):
  """A template's text.

  Attributes:
    text: the text, with a mark for every picture and clip.
    own: for each character, whether the template wrote it (bool).
  """
  text: str
  own: np.ndarray


def _tokens(codec: HubCodec, text: str) -> list[tuple[int, int, int]]:
  """(id, start, end) of the tokens of a text; control tokens are parsed."""
  encoding = codec.tokenizer(text, add_special_tokens=False,
                             return_offsets_mapping=True)
  return [(i, *span) for i, span in zip(
      encoding['input_ids'], encoding['offset_mapping'], strict=True)]


def reserved(codec: HubCodec, text: str) -> list[tuple[int, int, int]]:
  """(id, start, end) of the control tokens of a text."""
  return [t for t in _tokens(codec, text) if t[0] in codec.reserved_ids]


def is_own(text: str, own: np.ndarray, start: int, end: int) -> bool:
  """Whether the template wrote a token.

  Space at the ends of the token does not count, because a token may take it
  along.
  """
  word = text[start:end]
  if word.strip():
    start += len(word) - len(word.lstrip())
    end -= len(word) - len(word.rstrip())
  return bool(own[start:end].all())


def _runs(own: np.ndarray) -> list[tuple[int, int]]:
  """(start, end) of each piece that the template wrote."""
  edges = np.flatnonzero(np.diff(np.concatenate([[False], own, [False]]).astype(
      np.int8)))
  return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def ids_of(rendered: Rendered, codec: HubCodec) -> Encoded:
  """The ids of a text.

  They are the tokenizer's ids of the whole text, unless a message looks like
  control tokens. Then the messages are encoded without control tokens, between
  those of the template.
  """
  text, own = rendered
  whole = _tokens(codec, text)
  if all(is_own(text, own, *span) for i, *span in whole
         if i in codec.reserved_ids):
    return Encoded(tokens=tuple(i for i, *_ in whole), removed=0)
  ids: list[int] = []
  removed = at = 0

  def letters(words: str) -> int:
    encoded, lost = codec.encode_content(words)
    unreserved = [i for i in encoded if i not in codec.reserved_ids]
    ids.extend(unreserved)
    return lost + len(encoded) - len(unreserved)

  for first, last in _runs(own):
    for token, start, end in reserved(codec, text[first:last]):
      removed += letters(text[at:first + start])
      ids.append(token)
      at = first + end
  removed += letters(text[at:])
  return Encoded(tokens=tuple(ids), removed=removed)
