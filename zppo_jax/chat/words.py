"""A codec of whole words, for worlds with a small closed vocabulary."""

import re
from collections.abc import Sequence


class WordCodec:
  """One token per space-separated word.

  Args:
    special: the words that only templates may hold, '<pad>' and '<end>' among
      them. They may touch other words and hold spaces.
    words: the words of content.
    vocab_size: the rows of the embedding; ids beyond the words are never used.

  Raises:
    ValueError: if a word occurs twice or the vocabulary is too small.
  """

  def __init__(self, special: Sequence[str], words: Sequence[str],
               vocab_size: int):
    self._words = [*special, *words]
    self.ids = {word: i for i, word in enumerate(self._words)}
    self._word_of = dict(enumerate(self._words))
    if len(self.ids) != len(self._words):
      raise ValueError('words: one of them occurs twice')
    if len(self._words) > vocab_size:
      raise ValueError(f'vocab_size is {vocab_size}; there are '
                       f'{len(self._words)} words')
    longest_first = sorted(special, key=len, reverse=True)
    self._special = re.compile(
        '(' + '|'.join(map(re.escape, longest_first)) + ')')
    self.vocab_size = vocab_size
    self.pad_id = self.ids['<pad>']
    self.end_id = self.ids['<end>']
    self.reserved_ids = frozenset(range(len(special)))
    self.sampled_ids = frozenset(
        i for i in range(len(self._words)) if i != self.pad_id)

  def encode_template(self, text: str) -> list[int]:
    """The ids of our own words; KeyError names an unknown word."""
    special = self._special.split(text)  # every second piece
    return [self.ids[word] for i, piece in enumerate(special)
            for word in ([piece] if i % 2 else piece.split())]

  def encode_content(self, text: str) -> tuple[list[int], int]:
    """(ids of somebody's known words, number of unknown words)."""
    words = text.split()
    ids = [self.ids[w] for w in words if w in self.ids]
    return ids, len(words) - len(ids)

  def decode(self, ids: Sequence[int]) -> str:
    word = self._word_of.get
    return ' '.join([word(i, '<unused>') for i in ids])
