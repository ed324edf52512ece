"""Which questions have prompts that the buckets hold, before compiling.

Lengths are taken from the words and the images' headers: no image is decoded.
"""

from collections.abc import Iterable, Sequence

from zppo_jax.chat.wording import Chat
from zppo_jax.data.pool import Pool
from zppo_jax.records import Question

FITS = ('refuse', 'drop')
DROPPED = 'prompt_tokens'  # of a pool's counts


def trouble(question: Question, chat: Chat, max_prompt: int,
            patch_buckets: Sequence[int]) -> str:
  """Why a question's plain prompt fits no bucket; '' if it does."""
  tokens, patches = chat.outline(question.text, question.media)
  what = f'question {question.id!r} has a prompt of'
  if patches and not patch_buckets:
    return (f'the prompt of {question.id!r} has images or videos; '
            'shapes.patch_buckets is empty')
  if patches > max(patch_buckets, default=0):
    return (f'{what} {patches} patches; the largest of shapes.patch_buckets '
            f'is {max(patch_buckets)}')
  if tokens > max_prompt:
    return (f'{what} {tokens} tokens; the largest of shapes.prompt_buckets is '
            f'{max_prompt}')
  return ''


def check(questions: Iterable[Question], chat: Chat, max_prompt: int,
          patch_buckets: Sequence[int]) -> None:
  """ValueError for the first prompt that no bucket holds."""
  for question in questions:
    found = trouble(question, chat, max_prompt, patch_buckets)
    if found:
      raise ValueError(found)


def fitting(pool: Sequence[Question], how: str, chat: Chat, max_prompt: int,
            patch_buckets: Sequence[int]) -> Sequence[Question]:
  """The pool without prompts that no bucket holds, or an error for them.

  Args:
    pool: questions, read one after the other.
    how: in FITS; 'refuse' raises for the first one, 'drop' leaves them out,
      which a `Pool` counts as DROPPED.
    chat: of the student.
    max_prompt: tokens.
    patch_buckets: of prompts with images.

  Raises:
    ValueError: for a prompt that does not fit.
  """
  if how == 'refuse':
    check(pool, chat, max_prompt, patch_buckets)
    return pool
  kept = [i for i, question in enumerate(pool)
          if not trouble(question, chat, max_prompt, patch_buckets)]
  gone = len(pool) - len(kept)
  if gone:
    print(f'data.fit: {gone} of {len(pool)} questions left out, whose prompts '
          'fit no bucket', flush=True)
  if isinstance(pool, Pool):
    return pool.keep(DROPPED, kept)
  return tuple(pool[i] for i in kept)
