"""The embedded world's vocabulary and chat, in text and with pictures."""

from zppo_jax.chat.wording import MICRO, Chat, Vision
from zppo_jax.chat.words import WordCodec

SPECIAL = ('<pad>', '<end>', '<candidate>', '</candidate>', 'BCQ', 'NCQ', ',',
           '<response>', '<summary>', ':')
WORDS = (*'0123456789', *'abcdefghijkl', *'CVL', 'A')
VOCAB_SIZE = 40  # 36 words, padded so that a tensor axis of 2, 4, 8 divides it

CHAT = Chat(codec=WordCodec(SPECIAL, WORDS, VOCAB_SIZE), wording=MICRO)

# A clip shows one digit per second (tasks/micro_pictures.py).
SECONDS = tuple(f'<{i}.2 seconds>' for i in range(3))
SHOWN = ('<|vision_start|>', '<|vision_end|>', '<|image_pad|>',
         '<|video_pad|>', *SECONDS)
SEEING_VOCAB_SIZE = 48


def seeing(vision: Vision) -> Chat:
  """The same chat for a model with eyes."""
  return Chat(
      codec=WordCodec((*SPECIAL, *SHOWN), WORDS, SEEING_VOCAB_SIZE),
      wording=MICRO, vision=vision)
