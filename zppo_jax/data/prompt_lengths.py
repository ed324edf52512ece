"""Overlong prompts: questions whose prompts no bucket holds (`data.fit`).

Prompts are measured before anything compiles. Lengths come from the words and
from the headers of images, so no image is decoded. Several processes share the
questions.
"""

from collections.abc import Sequence

from zppo_jax import allowed
from zppo_jax.chat.wording import Chat
from zppo_jax.data.pool import Pool
from zppo_jax.devices import hosts
from zppo_jax.records import Question

# The values of `data.fit`: an error for an overlong prompt, or without it.
ON_OVERLONG = ('refuse', 'drop')
DROPPED = 'prompt_tokens'  # the name in a pool's counts


_LARGEST = 'the largest of shapes.prompt_buckets'


def why_overlong(question: Question, chat: Chat, max_prompt: int,
                 patch_buckets: Sequence[int], bound: str = _LARGEST) -> str:
  """The reason why no bucket holds a question's plain prompt; '' if one does.

  Args:
    question: is asked as it is.
    chat: of the student.
    max_prompt: the largest bucket of prompts, in tokens.
    patch_buckets: the buckets of prompts with images, in patches.
    bound: what has the value of `max_prompt`, for the reason.
  """
  tokens, patches = chat.outline(question.text, question.media,
                                 question.turns)
  what = f'question {question.id!r} has a prompt of'
  if patches and not patch_buckets:
    return (f'the prompt of {question.id!r} has images or videos; '
            'shapes.patch_buckets is empty')
  if patches > max(patch_buckets, default=0):
    return (f'{what} {patches} patches; the largest of shapes.patch_buckets '
            f'is {max(patch_buckets)}')
  if tokens > max_prompt:
    return f'{what} {tokens} tokens; {bound} is {max_prompt}'
  return ''


def check(questions: Sequence[Question], chat: Chat, max_prompt: int,
          patch_buckets: Sequence[int], bound: str = _LARGEST) -> None:
  """ValueError for the first prompt that no bucket holds."""
  def fit(indices: Sequence[int]) -> list[None]:
    for i in indices:
      why = why_overlong(questions[i], chat, max_prompt, patch_buckets, bound)
      if why:
        raise ValueError(why)
    return [None] * len(indices)

  hosts.shared(fit, range(len(questions)), 'the lengths of prompts')


def without_overlong(pool: Sequence[Question], on_overlong: str, chat: Chat,
                     max_prompt: int, patch_buckets: Sequence[int],
                     most: int = 0) -> Sequence[Question]:
  """The pool without overlong prompts, or an error for the first one.

  Args:
    pool: the questions, which are read one after the other.
    on_overlong: 'refuse' raises for the first overlong prompt; 'drop' leaves
      them out, and a `Pool` counts them as DROPPED.
    chat, max_prompt, patch_buckets: as of `why_overlong`.
    most: data.prompt_tokens, the most tokens of a prompt; 0: `max_prompt`.

  Raises:
    KeyError: for an `on_overlong` that is not in ON_OVERLONG.
    ValueError: for an overlong prompt, or a `most` below 0.
  """
  allowed.one_of('data.fit', on_overlong, ON_OVERLONG)
  allowed.number('data.prompt_tokens', most, '>= 0', whole=True)
  room = ((most, patch_buckets, 'data.prompt_tokens')
          if 0 < most < max_prompt else (max_prompt, patch_buckets))
  if on_overlong == 'refuse':
    check(pool, chat, *room)
    return pool
  fits = lambda indices: [not why_overlong(pool[i], chat, *room)
                          for i in indices]
  indices = [i for i, fit in enumerate(hosts.shared(
      fits, range(len(pool)), 'the lengths of prompts')) if fit]
  gone = len(pool) - len(indices)
  if gone:
    print(f'data.fit: {gone} of {len(pool)} questions left out, whose prompts '
          'fit no bucket', flush=True)
  if isinstance(pool, Pool):
    left = pool.keep(DROPPED, indices)
    if gone and left.tiered:
      print(left.account(), flush=True)
    return left
  return tuple(pool[i] for i in indices)
