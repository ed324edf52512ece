"""One question as a model would be asked it, and its pictures as files."""

import dataclasses
import pathlib

from zppo_jax.chat import pictures
from zppo_jax.chat.wording import BOXED, Chat
from zppo_jax.data import media
from zppo_jax.records import Clip, Picture, Question

_NAMES = {'PNG': '.png', 'JPEG': '.jpg', 'WEBP': '.webp', 'GIF': '.gif',
          'BMP': '.bmp'}


@dataclasses.dataclass(frozen=True)
class Example:
  """A question of the files.

  Attributes:
    id, kind, gold, subset: of the question.
    where: its file and row.
    prompt: the words of the user's message, with <image> and <video> where
      media are shown, behind earlier turns.
    characters: of the prompt.
    tokens: of the whole prompt in a model's chat; None without a model.
    patches: of its pictures there; None without a model.
    sizes: (width, height) of each picture, (frames, width, height) of a clip.
    saved: the files into which its pictures were written.
  """
  id: str
  kind: str
  gold: str
  subset: str
  where: str
  prompt: str
  characters: int
  tokens: int | None
  patches: int | None
  sizes: tuple[tuple[int, ...], ...]
  saved: tuple[str, ...]


def _size(shown: Picture | Clip) -> tuple[int, ...]:
  if isinstance(shown, Clip):
    return (len(shown.frames), *pictures.size(shown.frames[0]))
  return pictures.size(shown)


def _suffix(data: bytes) -> str:
  from zppo_jax.data.contents.columns import image_form
  return _NAMES.get(image_form(data).split(' ')[1] if image_form(data) else '',
                    '.img')


def save(question: Question, folder: pathlib.Path,
         number: int) -> tuple[str, ...]:
  """Writes the pictures of a question, and the frames of its clips.

  Args:
    question: the question.
    folder: is made if it is not there.
    number: of the question, which begins the names of its files.

  Returns:
    The paths.
  """
  frames = []
  for i, shown in enumerate(question.media):
    several = shown.frames if isinstance(shown, Clip) else (shown,)
    frames += [(f'{number:03d}-{i}' + (f'-{j:04d}' if len(several) > 1 else ''),
                frame) for j, frame in enumerate(several)]
  saved = []
  for name, frame in frames:
    data = media.content(frame)
    path = folder / f'{name}{_suffix(data)}'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    saved.append(str(path))
  return tuple(saved)


def example(question: Question, where: str, chat: Chat | None,
            saved: tuple[str, ...] = ()) -> Example:
  """A question as a model would be asked it.

  Args:
    question: with its media.
    where: its file and row.
    chat: of a model; None takes the default words, and counts no tokens.
    saved: the files of its pictures.

  Raises:
    ValueError: for media in a chat of text alone.
  """
  wording = chat.wording if chat else BOXED
  places = ''.join('<video>' if isinstance(shown, Clip) else '<image>'
                   for shown in question.media)
  earlier = ''.join(f'{turn.role}: {turn.content}\n\n'
                    for turn in question.turns)
  prompt = (f'{earlier}{wording.opening}{places}{question.text}'
            f'{wording.closing}')
  tokens, patches = (chat.outline(
      question.text, question.media, question.turns) if chat
      else (None, None))
  return Example(
      id=question.id, kind=question.kind, gold=question.answer,
      subset=question.subset, where=where, prompt=prompt,
      characters=len(prompt), tokens=tokens, patches=patches,
      sizes=tuple(map(_size, question.media)), saved=saved)
