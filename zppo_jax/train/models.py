"""The models of a run: loaded, placed and checked against each other."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from zppo_jax import allowed, models, randomness, tasks
from zppo_jax.chat import prompts
from zppo_jax.chat.rendering import Day
from zppo_jax.chat.wording import Chat
from zppo_jax.devices import sharding
from zppo_jax.models import attention, lora
from zppo_jax.models.lora import Lora, LoraConfig
from zppo_jax.randomness import Purpose
from zppo_jax.rollout import weight_sync
from zppo_jax.weights import pretrained
from zppo_jax.weights.peft import reading

# student.thinking -> the switch of the chat template; None: the template's own
# default.
THINKING = {'default': None, 'on': True, 'off': False}


class Loaded(NamedTuple):
  """A config's model.

  Attributes:
    model: the network.
    params: its parameters, numpy or jax arrays.
    chat: the chat of its own tokenizer; None if it has no tokenizer, and then
      the task's chat is used.
    description: the description that is saved with its weights.
  """
  model: models.Model
  params: Any
  chat: Chat | None
  description: dict


def load_model(spec, place=None, thinking: str = 'default',
               day: Day | None = None, who: str = 'student',
               weights: bool = True) -> Loaded:
  """A model from a weights file, a hub folder or a GGUF.

  Args:
    spec: config with `weights` (anything that pretrained.load takes), `dtype`,
      `remat`, `unroll`, `attention`; and with `end_tokens` and `chat_template`,
      if it has them (pretrained.with_words).
    place: shapes -> types and shardings; see pretrained.load.
    thinking: a key of THINKING; it decides how the chat template is rendered.
    day: the date in prompts, if the template shows a date; None: today.
    who: 'student' or 'teacher', for errors.
    weights: as pretrained.load.

  Raises:
    KeyError: for another value of `thinking`.
    FileNotFoundError, ValueError: see pretrained.load, with_words and chat.
      Also for a thinking switch or a named date, if there is no tokenizer whose
      template reads it.
  """
  switch = allowed.known('student.thinking', thinking, THINKING)
  loaded = pretrained.load(spec.weights, dtype=spec.dtype, remat=spec.remat,
                          attention=spec.attention, place=place,
                          unroll=spec.unroll, weights=weights)
  loaded = pretrained.with_words(
      loaded, end_tokens=spec.get('end_tokens', ()),
      chat_template=spec.get('chat_template', ''), who=f'{who}.')
  chat = pretrained.chat(loaded, thinking=switch, day=day)
  for note in (*loaded.notes, *(chat.notes if chat else ())):
    print(f'{spec.weights}: {note}', flush=True)
  if chat is None and switch is not None:
    raise ValueError(f'student.thinking is {thinking!r}; {spec.weights} came '
                     'without a tokenizer, allowed: default')
  if chat is None and day is not None and day.given:
    raise ValueError(f"student.date is '{day.date}'; {spec.weights} came "
                     "without a tokenizer, allowed: ''")
  return Loaded(loaded.model, loaded.params, chat, loaded.description)


def placed(like, mesh, rules):
  """Shapes and types with the shardings of a rule table."""
  return jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), like,
      sharding.param_shardings(like, mesh, rules))


def place_trained(c, mesh) -> Callable:
  """Shapes -> types and shardings with which student.weights are read. Frozen
  ones have the compute type, because the network rounds to it anyway."""
  cast = _cast(c) if LoraConfig(**c.lora).on else lambda like: like
  return lambda like: placed(jax.eval_shape(cast, like), mesh,
                             sharding.TRAIN_RULES)


def _cast(c) -> Callable:
  return functools.partial(weight_sync.cast, dtype=np.dtype(c.student.dtype))


def with_adapters(c, loaded: Loaded, mesh) -> tuple[Loaded, Lora | None]:
  """The model with its weights frozen on the mesh if section `lora` has a rank;
  else the model as it is, and None.

  Raises:
    ValueError, KeyError: see LoraConfig and lora.chosen.
  """
  section = LoraConfig(**c.lora)
  if not section.on:
    return loaded, None
  lora.chosen(section, loaded.params)
  if isinstance(jax.tree.leaves(loaded.params)[0], jax.ShapeDtypeStruct):
    base = place_trained(c, mesh)(loaded.params)
  else:
    base = _cast(c)(loaded.params)
    base = jax.device_put(base, sharding.param_shardings(
        base, mesh, sharding.TRAIN_RULES))
  return loaded._replace(params=base), Lora(section, base)


def check_start(c) -> None:
  """Refuses a lora.start that is not there or does not fit, before anything is
  written.

  Raises:
    FileNotFoundError, ValueError: see peft.reading.check.
  """
  section = LoraConfig(**c.lora)
  if section.on and section.start:
    reading.check(section)


def first_params(c, loaded: Loaded, adapted: Lora | None) -> Any:
  """What is trained, before the first step: the weights, or adapters.

  Raises:
    FileNotFoundError, ValueError: see peft.reading.start.
  """
  if adapted is None:
    return loaded.params
  if adapted.config.start:
    return reading.start(adapted.config, loaded.model, loaded.params)
  return jax.tree.map(np.asarray, adapted.init(
      randomness.step_key(c.seed, 0, Purpose.INIT)))


def chat_of(who: str, loaded: Loaded, name: str, task: tasks.Task) -> Chat:
  """The model's own chat, else the task's.

  Raises:
    ValueError: if neither exists; it names the tasks that have one.
  """
  chat = loaded.chat or task.chat
  packaged = [task for task, row in tasks.TASKS.items() if row.chat]
  if chat is None:
    raise ValueError(f'{who}.weights came without a tokenizer and the task '
                     f'{name!r} has no chat of its own; one of them is needed: '
                     'a checkpoint folder of the hub brings its tokenizer '
                     '(`zppo init DIR --files` writes a small one that reads '
                     'any text), and the packaged models of micro/ read the '
                     f'tasks {", ".join(packaged)} alone')
  return chat


def worded(c, task: tasks.Task | None, loaded: Loaded) -> Chat:
  """The student's chat with the words of the config, and of the task where the
  config has none; it raises as chat_of, prompts.own and prompts.worded."""
  chat = (loaded.chat if task is None
          else chat_of('student', loaded, c.data.task, task))
  texts = prompts.own(c.get('prompts', {}), task.prompts if task else None)
  return prompts.worded(dataclasses.replace(
      chat, weights=str(c.student.weights)), texts)


def check_attention(who: str, loaded: Loaded, mesh) -> None:
  config = loaded.model.config
  try:
    attention.check(config.attention, mesh, config)
  except ValueError as e:
    raise ValueError(f'{who}.{e}') from e


def check_vocabulary(who: str, loaded: Loaded, chat: Chat) -> None:
  rows = loaded.model.config.vocab_size
  if chat.codec.vocab_size != rows:
    raise ValueError(f'{who}.weights have {rows} embedding rows; the task\'s '
                     f'own chat has {chat.codec.vocab_size}, and the weights '
                     'came without a tokenizer')


def check_same_words(student: Chat, teacher: Chat) -> None:
  """ValueError unless the student's token ids mean the same to the teacher."""
  ours, theirs = student.codec, teacher.codec
  if ours.ids != theirs.ids:
    differ = len(ours.ids.items() ^ theirs.ids.items())
    raise ValueError(
        f'teacher.weights have another vocabulary than student.weights: '
        f'{len(theirs.ids)} words and end token {theirs.end_id}, not '
        f'{len(ours.ids)} and {ours.end_id}; {differ} entries differ. '
        'A position and an id must mean the same to both, because nothing here '
        'aligns texts of two tokenizers')
