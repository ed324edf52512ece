"""`zppo sample`: responses of a model to one prompt."""

import dataclasses
from collections.abc import Sequence

import jax

from zppo_jax import pretrained, rollouts, sharding
from zppo_jax.chat import micro_chat
from zppo_jax.chat.wording import BOXED
from zppo_jax.records import (
  Decoding,
  Grader,
  Prompt,
  PromptKind,
  Purpose,
  Question,
)

_BUCKET = 64  # prompts are padded to a multiple, in tokens
_SWITCH = {'on': True, 'off': False, None: None}
_UNGRADED = Grader(lambda text: '', lambda answer, question: False)
# The user's words alone inside the chat template.
BARE = dataclasses.replace(BOXED, closing='')


def respond(found: pretrained.Pretrained, texts: Sequence[str],
            decoding: Decoding, *, num: int, seed: int,
            thinking: bool | None) -> list[list[str]]:
  """`num` responses to each of several prompts.

  Raises:
    ValueError: if prompt and response exceed the model's positions, or the
      model has neither a tokenizer nor the embedded world's vocabulary.
  """
  if num < 1:
    raise ValueError(f'--num is {num}; it must be >= 1')
  chat = pretrained.chat(found, BARE, thinking) or micro_chat.CHAT
  rows = found.model.config.vocab_size
  if chat.codec.vocab_size != rows:
    raise ValueError(f'the model has {rows} rows and no tokenizer; only the '
                     f'embedded world ({chat.codec.vocab_size} rows) has its '
                     'own')
  prompts = [Prompt(Question(f'prompt {i}', text, '', ''), PromptKind.PLAIN,
                    chat.plain(text).tokens) for i, text in enumerate(texts)]
  longest = max(len(p.tokens) for p in prompts)
  room = found.model.config.max_positions - decoding.max_tokens
  bucket = max(longest, min(-(-longest // _BUCKET) * _BUCKET, room))
  mesh = sharding.make_mesh(sharding.MeshConfig())
  sampler = rollouts.make_sampler(
      model=found.model, mesh=mesh, chat=chat, grader=_UNGRADED,
      decoding=decoding, num_rollouts=num, prompt_buckets=(bucket,),
      group_buckets=(len(prompts),))
  params = jax.device_put(
      rollouts.rollout_copy(found.params, found.model.config.dtype),
      sharding.param_shardings(found.params, mesh, sharding.ROLLOUT_RULES))
  groups = rollouts.collect(sampler, params, prompts, seed=seed, step=0,
                            purpose=Purpose.EVALUATION)
  return [[rollout.text for rollout in group.rollouts] for group in groups]


def main(*, model: str, prompt: str, image: str | None, temperature: float,
         max_tokens: int, num: int, seed: int, thinking: str | None) -> None:
  """Prints the responses, a rule between two of them.

  Raises:
    ValueError: for an image where the family takes none; as `respond`.
  """
  if thinking not in _SWITCH:
    raise ValueError(f'--thinking is {thinking!r}; allowed: on, off')
  found = pretrained.load(model)
  if image is not None:
    raise ValueError(f'--image is {image!r}; the {found.model.family} family '
                     'takes no images')
  for note in found.notes:
    print(note)
  (texts,) = respond(found, [prompt], Decoding(max_tokens, temperature),
                     num=num, seed=seed, thinking=_SWITCH[thinking])
  print('\n---\n'.join(texts))
