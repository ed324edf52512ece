"""The word-level codec."""

import pytest

from zppo_jax.chat.words import WordCodec

CODEC = WordCodec(('<pad>', '<end>', '#'), ('a', 'b'), 8)


def test_words_to_ids_and_back():
  assert CODEC.encode_template('# a b') == [2, 3, 4]
  assert CODEC.encode_content('a  b\na') == ([3, 4, 3], 0)
  assert CODEC.decode([2, 3, 1]) == '# a <end>'


def test_unknown_content_is_counted_and_unknown_template_is_an_error():
  assert CODEC.encode_content('a x y b') == ([3, 4], 2)
  with pytest.raises(KeyError, match='x'):
    CODEC.encode_template('a x')


def test_special_words_are_reserved_and_padding_is_never_sampled():
  """Rows beyond the words are neither sampled nor named."""
  assert CODEC.reserved_ids == {0, 1, 2}
  assert CODEC.sampled_ids == {1, 2, 3, 4}
  assert CODEC.decode([7]) == '<unused>'


@pytest.mark.parametrize('special, words, size, text', [
    (('<pad>', '<end>'), ('a', 'a'), 8, 'twice'),
    (('<pad>', '<end>'), ('a', 'b'), 3, 'vocab_size is 3; there are 4')])
def test_impossible_vocabularies_are_refused(special, words, size, text):
  with pytest.raises(ValueError, match=text):
    WordCodec(special, words, size)
