"""A model by name: packaged, a file or run of ours, a hub folder, a GGUF."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from zppo_jax import (
  assets,
  dates,
  gguf_file,
  hub,
  hub_folder,
  images,
  models,
  weights,
)
from zppo_jax.chat import hub_chat, rendering
from zppo_jax.chat.rendering import Day
from zppo_jax.chat.wording import BOXED, Chat, Wording
from zppo_jax.models import presets

FINAL = 'final.safetensors'  # in a run's directory


class Pretrained(NamedTuple):
  """A model with weights.

  Attributes:
    model: the network.
    params: numpy arrays, or jax arrays where `load` was told to place them.
    tokenizer: folder or GGUF file of its tokenizer; '' where it has none.
    notes: what was left out of a checkpoint or differs from a preset.
  """
  model: models.Model
  params: Any
  tokenizer: str
  notes: tuple[str, ...]

  @property
  def description(self) -> dict:
    """What weights.save needs so that `load` finds all of it again."""
    return {'model': models.describe(self.model), 'tokenizer': self.tokenizer}


def _has_tokenizer(path: pathlib.Path) -> bool:
  return path.suffix == '.gguf' or any(path.glob('tokenizer*'))


def _from_hub(path: pathlib.Path, computed: dict, place) -> Pretrained:
  source = hub.read(path)
  family = hub.family_of(source.config)
  config = models.FAMILIES[family].from_hub(source.config)
  config = dataclasses.replace(config, **computed)
  model = models.FAMILIES[family].build(config)._replace(family=family)
  like = jax.eval_shape(model.init, jax.random.key(0))
  params, skipped = hub.load(
      source, model, like if place is None else place(like))
  notes = presets.differences(path.name, source.config)
  if skipped:
    notes.append(f'left out by name: {", ".join(skipped)}')
  tokenizer = str(path.resolve()) if _has_tokenizer(path) else ''
  return Pretrained(model, params, tokenizer, tuple(notes))


def load(name: str, *, dtype: str = 'float32', remat: str = 'none',
         attention: str = 'auto', unroll: int = 1,
         place: Callable | None = None) -> Pretrained:
  """Loads a model.

  Args:
    name: a packaged name, a .safetensors file of ours, the directory of a
      finished run, a checkpoint folder of the hub, or a .gguf file.
    dtype: compute type; params are float32.
    remat: what a backward pass recomputes.
    attention: 'auto' or a kernel (models/attention.py).
    unroll: blocks of an iteration of the loop over them.
    place: shapes of the params -> the `like` of hub.load: types and shardings
      of a hub checkpoint, which is read straight onto the devices. Files of
      ours come as numpy arrays of float32 all the same.

  Raises:
    FileNotFoundError: naming the packaged models.
    ValueError: as hub.read, hub.load and weights.load.
  """
  path = pathlib.Path(name)
  computed = {'dtype': dtype, 'remat': remat, 'attention': attention,
              'unroll': unroll}
  if name not in assets.names():
    if path.is_dir() and (path / FINAL).is_file():
      name = str(path / FINAL)
    elif name and hub.is_hub(path):  # Path('') is the current folder
      return _from_hub(path, computed, place)
  file = assets.find(name)
  described = weights.description(file)
  fields = {'family': 'decoder', **described['model'], **computed}
  model = models.build(**fields)
  like = jax.eval_shape(model.init, jax.random.key(0))
  return Pretrained(model, weights.load(file, like),
                    {'tokenizer': '', **described}['tokenizer'], ())


def chat(of: Pretrained, base: Wording = BOXED, thinking: bool | None = None,
         day: Day | None = None) -> Chat | None:
  """The chat of a model's own tokenizer, or None where it has none.

  It takes images and videos if the model has a tower; those that its folder
  does not say how to prepare are refused when they come.

  Args:
    of: the model.
    base: the words around a question inside the user's message.
    thinking: as hub_chat.wording.
    day: the date in its prompts, where the template tells one; None: today.

  Raises:
    FileNotFoundError: if the tokenizer is no longer where it was.
    ValueError: as hub_chat.HubCodec and hub_chat.wording; for a named date
      that the template does not ask for.
  """
  if not of.tokenizer:
    return None
  path = pathlib.Path(of.tokenizer)
  if not path.exists():
    raise FileNotFoundError(f'no tokenizer at {path}, where the weights had '
                            'it from')
  if path.suffix == '.gguf':
    tokenizer = gguf_file.tokenizer(path)
    end_ids = (tokenizer.eos_token_id,)
  else:
    tokenizer = hub_folder.tokenizer(path)
    end_ids = hub_folder.end_ids(path)
  made = hub_chat.chat(
      tokenizer, of.model.config.vocab_size, end_ids, base, thinking,
      day or dates.today())
  if made.day.given and not rendering.knows_date(tokenizer):
    raise ValueError(f'the date {made.day.date} was given; this chat template '
                     'asks for none (strftime_now, date_string): leave it out')
  tower = getattr(of.model.config, 'vision', None)
  if tower is None:
    return made
  return dataclasses.replace(made, vision=(
      images.from_folder(path, tower) if images.describes(path)
      else images.undescribed(tower)))
