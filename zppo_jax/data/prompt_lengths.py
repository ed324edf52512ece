"""Overlong prompts: questions whose prompts no bucket holds (`data.fit`).

Prompts are measured before anything compiles. Lengths come from the words and
from the headers of images, so no image is decoded. Several processes share the
questions. Words that the model has no token for are named here, too.
"""

from collections.abc import Iterable, Sequence

from zppo_jax import allowed
from zppo_jax.chat.segments import cut_delimiters
from zppo_jax.chat.wording import Chat
from zppo_jax.chat.words import WordCodec
from zppo_jax.data.pool import Pool
from zppo_jax.devices import hosts
from zppo_jax.records import Question

# The values of `data.fit`: an error for an overlong prompt, or without it.
ON_OVERLONG = ('refuse', 'drop')
DROPPED = 'prompt_tokens'  # the name in a pool's counts
_LARGEST = 'the largest of shapes.prompt_buckets'
_BOUND = 'data.prompt_tokens'
_NAMED = 8  # the most removed pieces that a message names


def rounded(size: int) -> int:
  """The next size of which a program is usually compiled: a multiple of 8, of
  64 above 128, of 256 above 2,048."""
  step = 8 if size <= 128 else 64 if size <= 2048 else 256
  return -(-size // step) * step


def measure(questions: Sequence[Question],
            chat: Chat) -> list[tuple[int, int]]:
  """(tokens, patches) of the plain prompt of each question."""
  def one(question: Question) -> tuple[int, int]:
    chat.check_sees(question)
    return chat.outline(question.text, question.media, question.turns)

  def some(indices: Sequence[int]) -> list[tuple[int, int]]:
    return [one(questions[i]) for i in indices]

  return hosts.shared(some, range(len(questions)), 'the lengths of prompts')


def removed_pieces(question: Question, chat: Chat) -> list[str]:
  """What a prompt leaves out of a question and its earlier turns: look-alikes
  of the tags in prompts and, in a closed vocabulary, words without a token.

  Args:
    question: is asked as it is.
    chat: of the student.
  """
  pieces: list[str] = []
  for text in (*(turn.content for turn in question.turns), question.text):
    delimiters = chat.wording.delimiters
    pieces += [match[0] for match in delimiters.finditer(text)]
    if isinstance(chat.codec, WordCodec):
      pieces += [word for word in cut_delimiters(text, delimiters)[0].split()
                 if chat.codec.encode_content(word)[1]]
  return pieces


def check_words(questions: Iterable[Question], chat: Chat) -> None:
  """Prints a warning that names what is removed from questions.

  Args:
    questions: are asked as they are.
    chat: of the student.

  Raises:
    ValueError: for a question of whose text no token is left, and for one of
      media that the model does not see.
  """
  pieces: dict[str, None] = {}
  example, count, total = '', 0, 0
  for question in questions:
    total += 1
    chat.check_sees(question)
    removed = removed_pieces(question, chat)
    if not removed:
      continue
    text, _ = cut_delimiters(question.text, chat.wording.delimiters)
    left = chat.codec.encode_content(text)[0]
    if not left:
      raise ValueError(
          f'question {question.id!r} has no token that this model reads: '
          f'{_named(removed)} of {question.text[:80]!r} are removed. '
          'The model has a vocabulary of its own (docs/micro_world.md); other '
          'words need a model of the hub with its tokenizer')
    example = example or (f'question {question.id!r}, {question.text[:80]!r}, '
                          f'is read as {chat.codec.decode(left)[:80]!r}')
    pieces.update(dict.fromkeys(removed))
    count += 1
  if count:
    print(f'warning: {_named(list(pieces))} are removed from {count} of '
          f'{total} questions, because the model has no token for them or '
          f'they look like tags of prompts: {example} '
          '(docs/micro_world.md)', flush=True)


def _named(pieces: Sequence[str]) -> str:
  more = len(pieces) - _NAMED
  return ', '.join(map(repr, pieces[:_NAMED])) + (
      f' and {more} more pieces' if more > 0 else '')


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
  return _why(question.id, chat.outline(
      question.text, question.media, question.turns), max_prompt, patch_buckets,
      bound)


def _why(name: str, size: tuple[int, int], max_prompt: int,
         patch_buckets: Sequence[int], bound: str = _LARGEST) -> str:
  tokens, patches = size
  what = f'question {name!r} has a prompt of'
  if patches and not patch_buckets:
    return (f'the prompt of {name!r} has images or videos; '
            'shapes.patch_buckets is empty')
  if patches > max(patch_buckets, default=0):
    return (f'{what} {patches} patches; the largest of shapes.patch_buckets '
            f'is {max(patch_buckets)}')
  if tokens > max_prompt:
    return f'{what} {tokens} tokens; {bound} is {max_prompt}'
  return ''


def check(questions: Sequence[Question], chat: Chat, max_prompt: int,
          patch_buckets: Sequence[int], droppable: bool = False,
          bound: str = _LARGEST) -> None:
  """ValueError for the first prompt that no bucket holds, with sizes that would
  hold all of them.

  Args:
    questions, chat, max_prompt, patch_buckets, bound: as of `why_overlong`.
    droppable: whether data.fit = 'drop' would leave these questions out.
  """
  sizes = measure(questions, chat)
  overlong = [i for i, size in enumerate(sizes)
              if _why('', size, max_prompt, patch_buckets, bound)]
  if not overlong:
    return
  tokens = max(tokens for tokens, _ in sizes)
  patches = max(patches for _, patches in sizes)
  wanted = []
  if tokens > max_prompt and bound == _BOUND:
    wanted.append(f'{_BOUND} up to {tokens}')
  elif tokens > max_prompt:
    wanted.append(f'shapes.prompt_buckets up to {rounded(tokens)} '
                  '(shapes.row_buckets then end at algorithm.max_tokens more)')
  if patches > max(patch_buckets, default=0):
    wanted.append(f'shapes.patch_buckets up to {rounded(patches)}')
  first, room = overlong[0], (max_prompt, patch_buckets)
  raise ValueError(
      f'{_why(questions[first].id, sizes[first], *room, bound)}. '
      f'{len(overlong)} of {len(sizes)} questions are too long; '
      f'{" and ".join(wanted)} hold all'
      + (', and shapes.auto = True proposes sizes' if bound == _LARGEST else '')
      + ("; data.fit = 'drop' leaves these questions out" if droppable else ''))


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
  bounded = 0 < most < max_prompt
  bound = _BOUND if bounded else _LARGEST
  room = (most if bounded else max_prompt, patch_buckets)
  if on_overlong == 'refuse':
    check(pool, chat, *room, droppable=True, bound=bound)
    return pool
  indices = [i for i, size in enumerate(measure(pool, chat))
             if not _why('', size, *room, bound)]
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
