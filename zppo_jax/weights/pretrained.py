"""Models by name: packaged ones, files or runs, hub folders, GGUF files."""

import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from zppo_jax import assets, models, randomness
from zppo_jax.chat import (
  dates,
  hub_chat,
  images,
  micro_chat,
  prompts,
  rendering,
)
from zppo_jax.chat.rendering import Day
from zppo_jax.chat.wording import BARE, BOXED, Chat, Wording
from zppo_jax.devices import disk
from zppo_jax.weights import (
  families,
  gguf_file,
  hub_checkpoint,
  hub_folder,
  hub_rope,
  presets,
  safetensors_file,
)

FINAL = safetensors_file.FINAL
_PLAIN = ('chat template: none is there, so prompts have the plain form '
          '(docs/models.md)')
# A hub id, ORG/NAME, or the address of its page.
# Folders of models by habit, which are no publishers.
_FOLDERS = ('models', 'checkpoints', 'weights')
_HUB_ID = re.compile(r'(?:https?://[^/]+/)?([\w-][\w.-]*/[\w-][\w.-]*)/?')


class Pretrained(NamedTuple):
  """A model with weights.

  Attributes:
    model: the network.
    params: numpy arrays, or jax arrays if `load` has placed them.
    tokenizer: the folder or GGUF file of its tokenizer; '' if it has none.
    notes: the tensors that were left out, and the differences from a preset.
    end_tokens: tokens, as texts or ids, that end a response besides those that
      the checkpoint declares.
    chat_template: the text of a template that replaces the tokenizer's own; ''
      keeps that.
  """
  model: models.Model
  params: Any
  tokenizer: str
  notes: tuple[str, ...]
  end_tokens: tuple[str | int, ...] = ()
  chat_template: str = ''

  @property
  def description(self) -> dict:
    """The description with which `load` finds all of a saved model again."""
    words = {'end_tokens': list(self.end_tokens),
             'chat_template': self.chat_template}
    return {'model': models.describe(self.model), 'tokenizer': self.tokenizer,
            **{name: value for name, value in words.items() if value}}


def _has_tokenizer(path: pathlib.Path) -> bool:
  return path.suffix == '.gguf' or any(path.glob('tokenizer*'))


def outline(path: pathlib.Path, computed: dict) -> tuple:
  """(hub source, Pretrained without params); only headers are read."""
  source = hub_checkpoint.read(path)
  family = hub_checkpoint.family_of(source.config)
  config = families.FAMILIES[family].from_hub(source.config)
  config = dataclasses.replace(config, **computed)
  model = families.FAMILIES[family].build(config)._replace(family=family)
  path = pathlib.Path(source.path)
  notes = [*presets.differences(path.name, source.config),
           *hub_rope.ignored(source.config)]
  tokenizer = str(path.resolve()) if _has_tokenizer(path) else ''
  return source, Pretrained(model, None, tokenizer, tuple(notes))


def _from_hub(path: pathlib.Path, computed: dict, place) -> Pretrained:
  source, pretrained = outline(path, computed)
  like = jax.eval_shape(pretrained.model.init, randomness.like_key())
  params, skipped = hub_checkpoint.load(
      source, pretrained.model, like if place is None else place(like))
  notes = pretrained.notes
  if skipped:
    notes += (f'left out by name: {", ".join(skipped)}',)
  return pretrained._replace(params=params, notes=notes)


def hint(name: str) -> str:
  """A hint for a name that is no path but may be a hub id; '' for others."""
  match = _HUB_ID.fullmatch(name)
  if not match or name.endswith('.safetensors'):
    return ''
  root = pathlib.Path(os.environ.get('HF_HUB_CACHE') or pathlib.Path(
      os.environ.get('HF_HOME') or '~/.cache/huggingface', 'hub')).expanduser()
  download = root / f'models--{match[1].replace("/", "--")}'
  if download.is_dir():
    return ('. If it is a model id of the hub: its download lies in '
            f'{download}; name that folder')
  owner, model = match[1].split('/')
  if owner in _FOLDERS or pathlib.Path(owner).is_dir():
    return ('. If it is to be a folder with a model of the hub: nothing is '
            f'downloaded here; get it with `hf download OWNER/{model} '
            f'--local-dir {owner}/{model}`, OWNER being its publisher')
  return ('. If it is a model id of the hub: nothing is downloaded here; get '
          f'it with `hf download {match[1]} --local-dir FOLDER` and name '
          'FOLDER')


def _check_final(file: pathlib.Path) -> None:
  """ValueError if a run's final weights are not those that the run wrote.

  The summary beside them holds their size and digest; that of an earlier
  version does not, and says nothing.
  """
  summary = file.with_name('summary.json')
  if file.name != FINAL or not summary.is_file():
    return
  try:
    size, digest = json.loads(summary.read_text()).get(
        'files', {}).get(FINAL, (None, None))
  except (ValueError, TypeError, AttributeError, RecursionError) as e:
    raise ValueError(f'{summary} is not readable: {e}') from e
  if digest is not None and (size, digest) != disk.digest_of_start(file):
    raise ValueError(
        f'{file} is not what the run wrote: its digest differs from that in '
        f'{summary.name}. Without {summary.name} the command of the run writes '
        'both again; to load changed weights, copy them to another folder')


def load(name: str, *, dtype: str = 'float32', remat: str = 'none',
         attention: str = 'auto', unroll: int = 1,
         place: Callable | None = None, weights: bool = True) -> Pretrained:
  """Loads a model.

  Args:
    name: a packaged name, a .safetensors file of ours, the directory of a
      finished run, a checkpoint folder of the hub, or a .gguf file.
    dtype: the type of computation; params are float32.
    remat: the part that a backward pass recomputes.
    attention: 'auto' or a kernel (models/attention.py).
    unroll: the number of blocks per iteration of the loop over blocks.
    place: shapes of the params -> the `like` of hub_checkpoint.load, with the
      types and shardings with which a hub checkpoint is read onto the devices.
      Files of this package always become numpy arrays of float32.
    weights: False reads headers alone; the params are None then.

  Raises:
    FileNotFoundError: naming the packaged models; with a hint for a hub id,
      an adapter, a cache of the hub.
    ValueError: as hub_checkpoint.read, hub_checkpoint.load and
      safetensors_file.load; for final weights of a run that were changed; for
      an address such as gs://bucket/weights.
  """
  page = re.match(r'https?:', name)  # of the hub: the error has a hint
  path = (pathlib.Path(name) if page
          else disk.local('the path of weights', name))
  computed = {'dtype': dtype, 'remat': remat, 'attention': attention,
              'unroll': unroll}
  if name not in assets.names():
    if path.is_dir() and (path / FINAL).is_file():
      name = str(path / FINAL)
    elif name and hub_checkpoint.is_hub(path):  # Path('') is the current folder
      return (_from_hub(path, computed, place) if weights
              else outline(path, computed)[1])
  try:
    file = assets.find(name)
  except FileNotFoundError as e:
    raise FileNotFoundError(f'{e}{hint(name)}') from e
  _check_final(file)
  try:
    described = safetensors_file.description(file)
  except ValueError as e:
    if not (file.parent / 'config.json').is_file():
      raise
    raise ValueError(f'{e}. Beside it lies a config.json: to load a '
                     f'checkpoint folder of the hub, name the folder, '
                     f'{file.parent}') from e
  fields = {'family': 'decoder', **described['model'], **computed}
  model = models.build(**fields)
  like = jax.eval_shape(model.init, randomness.like_key())
  return Pretrained(
      model, safetensors_file.load(file, like) if weights else None,
      described.get('tokenizer', ''), (),
      tuple(described.get('end_tokens', ())),
      described.get('chat_template', ''))


def with_words(pretrained: Pretrained, *, end_tokens: Sequence[str | int] = (),
               chat_template: str = '', who: str = '') -> Pretrained:
  """The model with end tokens and a chat template of its user.

  Args:
    pretrained: the model.
    end_tokens: as Pretrained.end_tokens; () keeps those of the model.
    chat_template: a file with a Jinja template; '' keeps that of the model.
    who: the words before the name of the field in an error, e.g. 'student.'.

  Raises:
    FileNotFoundError: if the file does not exist.
    ValueError: for either of them without a tokenizer; for an end token that
      is neither text nor id.
  """
  for field, value in (('end_tokens', end_tokens),
                       ('chat_template', chat_template)):
    if value and not pretrained.tokenizer:
      raise ValueError(f'{who}{field} is {value!r}; the weights came without '
                       'a tokenizer, allowed: nothing')
  if isinstance(end_tokens, str):
    raise ValueError(f'{who}end_tokens is {end_tokens!r}; it must be a tuple '
                     f'of tokens, e.g. ({end_tokens!r},)')
  wrong = [t for t in end_tokens if type(t) not in (str, int)]
  if wrong:
    raise ValueError(f'{who}end_tokens holds {wrong[0]!r}; allowed: tokens as '
                     'text or ids')
  if chat_template:
    path = pathlib.Path(chat_template)
    if not path.is_file():
      raise FileNotFoundError(f'{who}chat_template is {chat_template!r}; no '
                              'such file is there')
    pretrained = pretrained._replace(
        chat_template=_template_of(path, f'{who}chat_template'))
  if end_tokens:
    pretrained = pretrained._replace(end_tokens=tuple(end_tokens))
  return pretrained


def _template_of(path: pathlib.Path, field: str) -> str:
  """The text of a template file; ValueError for an empty file, which would mean
  that there is no template."""
  try:
    text = path.read_text('utf-8')
  except UnicodeDecodeError as e:
    raise ValueError(f"{field} is '{path}', which is no UTF-8: {e}") from None
  if not text.strip():
    raise ValueError(f"{field} is '{path}', which is empty; allowed: a Jinja "
                     'template')
  return text


def _ids_of(end_tokens, tokenizer, path) -> tuple[int, ...]:
  """The ids of a user's end tokens; ValueError for a text that is no token."""
  words, out = tokenizer.get_vocab(), []
  for token in end_tokens:
    known = token in words if isinstance(token, str) else (
        token in words.values())
    if not known:
      raise ValueError(f'end_tokens holds {token!r}, which is no token of the '
                       f'tokenizer in {path}')
    out.append(words[token] if isinstance(token, str) else token)
  return tuple(out)


def _declared(of: Pretrained, in_files, path, tokenizer) -> dict:
  """The place of a declaration -> its end tokens, which the vocabulary has.

  Args:
    of: the model, whose user may declare end tokens.
    in_files: the end tokens by place in the files of the checkpoint.
    path: of the tokenizer.
    tokenizer: may declare an end token.
  """
  if tokenizer.eos_token_id is not None:
    file = path / 'tokenizer_config.json'
    written = file.is_file() and hub_folder.read_json(file).get('eos_token')
    place = file.name if written else 'tokenizer'
    in_files[f'{place} eos_token'] = (tokenizer.eos_token_id,)
  if of.end_tokens:
    in_files['end_tokens of the user'] = _ids_of(of.end_tokens, tokenizer, path)
  words = set(tokenizer.get_vocab().values())
  for place, ids in in_files.items():
    unknown = [i for i in ids if i not in words]
    if unknown:
      raise ValueError(f'{path}: {place} is {ids}; {unknown} are no tokens of '
                       f'its tokenizer, which has {len(words)}')
  return in_files


def _set_template(of: Pretrained, path, tokenizer, declared) -> str:
  """Gives the tokenizer the template that counts; returns a note about it."""
  if of.chat_template:
    tokenizer.chat_template = of.chat_template
    return 'chat template: of the user'
  if tokenizer.chat_template is not None:
    name = 'metadata' if path.suffix == '.gguf' else (
        hub_folder.template_file(path))
    return f'chat template: {name or "of the tokenizer"}'
  ids = [i for ends in declared.values() for i in ends]
  if not ids:
    raise ValueError(_no_end(path, 'there is no chat template'))
  end = tokenizer.eos_token_id if tokenizer.eos_token_id in ids else ids[0]
  tokenizer.chat_template = hub_chat.plain_template(tokenizer, end)
  return _PLAIN


def _no_end(path, why: str) -> str:
  places = ', '.join(f'{name} ({".".join((*keys, "eos_token_id"))})'
                     for name, keys in hub_folder.END_PLACES)
  return (f'{path}: no end token: {why}, and none is declared in {places} or '
          "as the tokenizer's eos_token. Set one: student.end_tokens in a "
          'config, --end-tokens of a command')


def _end_note(codec, declared, plain: bool) -> str:
  notes, own = [], hub_chat.own_end(codec.tokenizer, codec.reserved_ids)
  for i in codec.end_ids:
    places = [place for place, ids in declared.items() if i in ids]
    if i == own and not plain:
      places.insert(0, 'chat template')
    notes.append(f'{codec.tokenizer.convert_ids_to_tokens(i)} {i} '
                f'({", ".join(places)})')
  return f'end tokens: {", ".join(notes)}'


def chat(of: Pretrained, base: Wording = BOXED, thinking: bool | None = None,
         day: Day | None = None) -> Chat | None:
  """The chat of a model's own tokenizer, or None if it has none.

  It takes images and videos if the model has a tower. If the folder does not
  say how to prepare them, they are refused when they are asked for. The notes
  name the chat template, the end tokens, and the files that hold them.

  Args:
    of: the model.
    base: the words around a question inside the user's message.
    thinking: as hub_chat.wording.
    day: the date in its prompts, if the template tells one; None: today.

  Raises:
    FileNotFoundError: if the tokenizer is no longer at its path.
    ValueError: as hub_chat.HubCodec and hub_chat.wording; if no end token is
      known; for a chat template that does not work; for a named date that
      the template does not ask for.
  """
  if not of.tokenizer:
    return None
  path = pathlib.Path(of.tokenizer)
  if not path.exists():
    raise FileNotFoundError(f'no tokenizer at {path}, where the weights had '
                            'it from')
  files = gguf_file if path.suffix == '.gguf' else hub_folder
  declared = files.declared_ends(path)
  tokenizer = files.tokenizer(path)
  declared = _declared(of, declared, path, tokenizer)
  note = _set_template(of, path, tokenizer, declared)
  day = day or dates.today()
  if of.chat_template:
    _check_template(tokenizer, day)
  if not declared and hub_chat.own_end(
      tokenizer, tokenizer.added_tokens_decoder) is None:
    raise ValueError(_no_end(
        path, 'the chat template ends a message with no special token'))
  own_chat = hub_chat.chat(
      tokenizer, of.model.config.vocab_size,
      [i for ids in declared.values() for i in ids], base, thinking, day)
  if own_chat.day.given and not rendering.knows_date(tokenizer):
    raise ValueError(f'the date {own_chat.day.date} was given; this chat '
                     'template asks for none (strftime_now, date_string): '
                     'leave it out')
  own_chat = dataclasses.replace(own_chat, notes=(
      note, _end_note(own_chat.codec, declared, note == _PLAIN)))
  tower = getattr(of.model.config, 'vision', None)
  if tower is None:
    return own_chat
  return dataclasses.replace(own_chat, vision=(
      images.from_folder(path, tower) if images.describes(path)
      else images.undescribed(tower)))


def _check_template(tokenizer, day: Day) -> None:
  """ValueError for a template that cannot be rendered; it names the line."""
  try:
    hub_chat.render(tokenizer, [{'role': 'user', 'content': 'a'}], None, day,
                    add_generation_prompt=True)
  except ValueError as e:
    cause = e.__cause__ or e
    line = rendering.line_of(cause)
    raise ValueError(f'chat_template{f", line {line}" if line else ""}: '
                     f'{rendering.why(cause)}') from e


def bare_chat(pretrained: Pretrained, thinking: bool | None = None,
              day: Day | None = None) -> Chat:
  """A model's own chat without words of a task, else the embedded world's.

  Raises:
    ValueError: as `chat`; for a date without a template.
  """
  own_chat = chat(pretrained, BARE, thinking, day)
  if own_chat is None and day is not None and day.given:
    raise ValueError(f'--date is {day.date}; the model came without a '
                     'tokenizer, so no prompt tells a date: leave it out')
  return own_chat or micro_chat.CHAT


def asking_chat(pretrained: Pretrained, texts: Mapping[str, str],
                thinking: bool | None = None, day: Day | None = None,
                of_task: Callable[[], Chat | None] | None = None) -> Chat:
  """A model's chat with the words around a question, a user's own among them.

  Args:
    pretrained: the model.
    texts: as chat.prompts.own gives them.
    thinking, day: as `chat`.
    of_task: finds the chat of a task, for a model without a tokenizer; None, or
      no such chat: that of the embedded world.

  Raises:
    ValueError: as `chat` and prompts.worded.
    Exception: whatever `of_task` raises.
  """
  own_chat = chat(pretrained, BOXED, thinking, day)
  if own_chat is None and of_task is not None:
    own_chat = of_task()
  return prompts.worded(own_chat or micro_chat.CHAT, texts)


def listed(end_tokens: str | None) -> tuple[str | int, ...]:
  """The tokens of --end-tokens, which are texts or ids with commas between."""
  return tuple(int(t) if t.isdecimal() else t
               for t in (end_tokens or '').split(',') if t)
