"""`zppo sample`: responses of a model to one prompt, with media where it sees.
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence

from zppo_jax import allowed, models
from zppo_jax.chat import dates
from zppo_jax.chat.rendering import Day
from zppo_jax.chat.wording import Chat
from zppo_jax.commands.prompting import asked
from zppo_jax.devices import sharding
from zppo_jax.randomness import Purpose
from zppo_jax.records import (
  Clip,
  Decoding,
  Grader,
  Picture,
  Prompt,
  PromptKind,
  Question,
)
from zppo_jax.rollout import collect, weight_sync
from zppo_jax.weights import pretrained

_BUCKET = 64  # prompts are padded to a multiple, in tokens
_LONGEST = 256  # tokens of a response, without a number
_SWITCH = {'on': True, 'off': False, None: None}
_UNGRADED = Grader(lambda text: '', lambda answer, question: False)


def clip(folder: str, fps: float) -> Clip:
  """A video from a folder of frames, in the order of their names.

  Raises:
    FileNotFoundError: if it holds no file.
  """
  frames = sorted(p for p in pathlib.Path(folder).glob('*') if p.is_file())
  if not frames:
    raise FileNotFoundError(f'no frames in {folder!r}')
  return Clip(tuple(Picture(path=str(p)) for p in frames), fps)


def respond(loaded: pretrained.Pretrained, texts: Sequence[str],
            decoding: Decoding, *, num: int, seed: int, thinking: bool | None,
            media: tuple[Picture | Clip, ...] = (),
            day: Day | None = None,
            words: Mapping[str, str] | None = None,
            of_task: Callable[[], Chat | None] | None = None
            ) -> list[list[str]]:
  """`num` responses to each of several prompts, all with the same media.

  `day` is the date in the prompts, where the template tells one; None: today.
  `words` are a user's own around each text, {} those of the package; None: the
  texts stand alone in the chat template. `of_task` is as that of asking_chat.

  Raises:
    ValueError: if prompt and response exceed the model's positions, or the
      model has neither a tokenizer nor the embedded world's vocabulary; for
      media where the model takes none.
  """
  allowed.number('--num', num, '>= 1', whole=True)
  chat = (pretrained.bare_chat(loaded, thinking, day) if words is None else
          pretrained.asking_chat(loaded, words, thinking, day, of_task))
  for note in chat.notes:
    print(note)
  rows = loaded.model.config.vocab_size
  if chat.codec.vocab_size != rows:
    raise ValueError(f'the model has {rows} rows and no tokenizer; only the '
                     f'embedded world ({chat.codec.vocab_size} rows) has its '
                     'own')
  if media and chat.vision is None:
    raise ValueError(f'the {loaded.model.family} family takes no images or '
                     'videos')
  encoded = [chat.plain(text, media) for text in texts]
  prompts = [Prompt(Question(f'prompt {i}', text, '', '', media),
                    PromptKind.PLAIN, e.tokens, e.media)
             for i, (text, e) in enumerate(zip(texts, encoded, strict=True))]
  patches = {len(p.media.patches_IC) for p in prompts if p.media}
  longest = max(len(p.tokens) for p in prompts)
  room = loaded.model.config.max_positions - decoding.max_tokens
  bucket = max(longest, min(-(-longest // _BUCKET) * _BUCKET, room))
  mesh = sharding.make_mesh(sharding.MeshConfig())
  sampler = collect.make_sampler(
      model=models.on_mesh(loaded.model, mesh), mesh=mesh, chat=chat,
      grader=_UNGRADED, decoding=decoding, num_rollouts=num,
      prompt_buckets=(bucket,), patch_buckets=tuple(patches),
      group_buckets=(len(prompts),))
  params = weight_sync.place_copy(loaded.params, loaded.model, mesh)
  groups = collect.collect(sampler, params, prompts, seed=seed, step=0,
                            purpose=Purpose.EVALUATION)
  return [[rollout.text for rollout in group.rollouts] for group in groups]


def main(*, model: str, prompt: str, image: str | None, video: str | None,
         fps: float, temperature: float, max_tokens: int, num: int, seed: int,
         thinking: str | None, date: str | None = None,
         end_tokens: str | None = None, chat_template: str | None = None,
         config: str | None = None, bare: bool = False) -> None:
  """Prints the responses, with a rule between each two of them.

  Raises:
    FileNotFoundError: for an image or frames that are not there.
    ValueError: see `respond`, `records.Clip` and images.decode.
  """
  if thinking not in _SWITCH:
    raise ValueError(f'--thinking is {thinking!r}; allowed: on, off')
  allowed.text('--prompt', prompt)
  whose = asked.of(model, config, bare)
  day = dates.named(date, '--date') or whose.day
  switch = whose.thinking if thinking is None else _SWITCH[thinking]
  media = [Picture(path=p) for p in (image.split(',') if image else ())]
  if video is not None:
    media.append(clip(video, fps))
  loaded = pretrained.with_words(
      pretrained.load(model), end_tokens=pretrained.listed(end_tokens),
      chat_template=chat_template or '', who='--')
  # Without a number, that of the run; a tiny model has room for less.
  room = loaded.model.config.max_positions // 2
  longest = max_tokens or whose.max_tokens or min(_LONGEST, room)
  for note in filter(None, (*loaded.notes, whose.note)):
    print(note)
  (texts,) = respond(loaded, [prompt], Decoding(longest, temperature),
                     num=num, seed=seed, thinking=switch,
                     media=tuple(media), day=day, words=whose.texts,
                     of_task=whose.chat)
  print('\n---\n'.join(texts))
