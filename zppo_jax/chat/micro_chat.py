"""The embedded world's vocabulary and chat."""

from zppo_jax.chat.wording import MICRO, Chat
from zppo_jax.chat.words import WordCodec

SPECIAL = ('<pad>', '<end>', '<candidate>', '</candidate>', 'BCQ', 'NCQ', ',',
           '<response>', '<summary>', ':')
WORDS = (*'0123456789', *'abcdefghijkl', *'CVL', 'A')
VOCAB_SIZE = 40  # 36 words, padded so that a tensor axis of 2, 4, 8 divides it

CHAT = Chat(WordCodec(SPECIAL, WORDS, VOCAB_SIZE), MICRO)
