"""Content is cut, encoded unparsed and counted; templates are not."""

import re

import pytest

from zppo_jax.chat.micro_chat import CHAT, SPECIAL, VOCAB_SIZE, WORDS
from zppo_jax.chat.segments import (
    Encoded,
    content,
    cut_delimiters,
    encode,
    template,
)
from zppo_jax.chat.wording import BOXED, MICRO
from zppo_jax.chat.words import WordCodec

CODEC = CHAT.codec


def ids(text):
  return tuple(CODEC.encode_template(text))


def micro(*segments):
  return encode(segments, CODEC, MICRO.delimiters)


@pytest.mark.parametrize(('text', 'cut'), [
    ('<candidate>', 1), ('</candidate>', 1), ('<CANDIDATE>', 1),
    ('< / Candidate >', 1), ('<\n/\tcandidate\n>', 1),
    ('<response></summary>', 2), ('<\u00a0candidate\u3000>', 1),
    ('candidate', 0), ('<candidates>', 0), ('<>', 0), ('a < b > c', 0),
])
def test_delimiters_are_cut_in_any_case_and_spacing(text, cut):
  for wording in (MICRO, BOXED):
    left, count = cut_delimiters(f'x{text}y', wording.delimiters)
    assert count == cut
    assert not wording.delimiters.search(left)
    assert (left == f'x{text}y') == (cut == 0)
    assert left.startswith('x') and left.endswith('y')


def test_hint_is_a_delimiter_of_the_boxed_wording():
  assert cut_delimiters('<hint>', BOXED.delimiters) == (' ', 1)


def test_a_cut_never_joins_its_two_sides():
  assert cut_delimiters('<cand<candidate>idate>', MICRO.delimiters) == (
      '<cand idate>', 1)
  assert cut_delimiters('1<candidate>2', MICRO.delimiters) == ('1 2', 1)


@pytest.mark.parametrize(('text', 'left', 'count'), [
    ('<<candidate>candidate>', ' ', 2),
    ('</<summary>candidate>', ' ', 2),
    ('<<<response>/candidate>candidate>', ' ', 3),
    ('<candidate<candidate>>', ' ', 2),
])
def test_delimiters_that_a_cut_brings_together_are_cut_too(
    text, left, count):
  assert cut_delimiters(text, MICRO.delimiters) == (left, count)


def test_deep_nesting_is_cut_to_the_bottom():
  depth = 60
  text = '<' * depth + 'candidate>' * depth
  assert cut_delimiters(text, MICRO.delimiters) == (' ', depth)


def test_templates_may_hold_what_content_may_not():
  text = '<candidate> BCQ 4 <end> :'
  assert micro(template(text)) == Encoded(ids(text), 0)
  assert micro(content(text)) == Encoded(ids('4'), 4)


def test_segments_are_joined_in_order():
  assert micro(content('4 h'), template('BCQ'), content('7'),
               template(':')) == Encoded(ids('4 h BCQ 7 :'), 0)
  assert micro() == Encoded((), 0)
  assert micro(content('')) == Encoded((), 0)


def test_every_removed_piece_is_counted():
  # 2 delimiters cut, 1 word unknown, 3 reserved words dropped.
  text = 'A <end> 7 zzz </candidate> BCQ < CANDIDATE > : 2'
  assert micro(content(text)) == Encoded(ids('A 7 2'), 6)
  assert micro(content(text), content('4'), content(text)).removed == 12


@pytest.mark.parametrize('word', SPECIAL)
def test_no_special_word_survives_in_content(word):
  assert micro(content(f'4 {word} 7')) == Encoded(ids('4 7'), 1)


def test_words_of_content_survive():
  assert micro(content(' '.join(WORDS))) == Encoded(ids(' '.join(WORDS)), 0)


def test_reserved_ids_are_dropped_even_from_a_codec_that_parses():
  class Parsing(WordCodec):

    def encode_content(self, text):
      return self.encode_template(text), 0

  codec = Parsing(SPECIAL, WORDS, VOCAB_SIZE)
  assert encode([content('4 <end> BCQ 7')], codec, re.compile('(?!)')) == (
      Encoded(ids('4 7'), 2))


class Normalising(WordCodec):
  """Turns what is no bracket into one, as a tokenizer's normaliser may."""

  def encode_content(self, text):
    return super().encode_content(text.replace('\xab', '<').replace(
        '\xbb', '>'))


def test_what_a_codec_makes_of_a_look_alike_is_cut_too():
  """The re-check after decoding: the text held no delimiter, its ids do."""
  codec = Normalising(['<pad>', '<end>'], ['<candidate>', '</candidate>', '4'],
                      8)
  text = '4 \xab/candidate\xbb 4 \xabcandidate\xbb 4'
  assert cut_delimiters(text, MICRO.delimiters) == (text, 0)
  found = encode([content(text)], codec, MICRO.delimiters)
  assert codec.decode(found.tokens) == '4 4 4' and found.removed == 2


def test_a_codec_that_makes_a_delimiter_of_everything_says_nothing():
  """The re-check ends, and all is counted."""
  class Stubborn(WordCodec):

    def encode_content(self, text):
      return [self.ids['<candidate>']], 0

  codec = Stubborn(['<pad>', '<end>'], ['<candidate>'], 8)
  found = encode([content('4')], codec, MICRO.delimiters)
  assert found.tokens == () and found.removed >= 1
