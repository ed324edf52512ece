"""`zppo import` and `zppo export`: hub checkpoints to our files and back."""

import pathlib
import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from zppo_jax.chat import segments
from zppo_jax.models import lora
from zppo_jax.weights import hub_checkpoint, peft, pretrained, safetensors_file
from zppo_jax.weights.peft import reading


def to_ours(source: str, to: str, base: str | None = None) -> None:
  """A hub folder or GGUF file to one safetensors file of ours (float32).

  Args:
    source: the folder or file; or a folder of peft's, whose adapters are
      merged into their base.
    to: the file to write.
    base: weights below the adapters; None: those that the folder names.

  Raises:
    ValueError, FileNotFoundError: see pretrained.load and peft.reading.load;
      also for a name without .safetensors, and for a base of whole weights.
  """
  if not to.endswith('.safetensors'):
    raise ValueError(f'--to is {to!r}; it must end in .safetensors')
  if reading.is_folder(source):
    loaded = _merged(source, base)
    safetensors_file.save(to, loaded.params, loaded.description)
    print(f'{loaded.model.family} with the adapters of {source} merged, '
          f'written to {to}')
    return
  if base is not None:
    raise ValueError(f'--base is {base!r}; --from is {source!r}, which holds '
                     'no adapters')
  if not hub_checkpoint.is_hub(source):
    raise FileNotFoundError(f'--from is {source!r}; it must be a checkpoint '
                            'folder of the hub or a .gguf file'
                            f'{pretrained.hint(source)}')
  loaded = pretrained.load(source)
  safetensors_file.save(to, loaded.params, loaded.description)
  for note in loaded.notes:
    print(note)
  print(f'{loaded.model.family} written to {to}; its tokenizer stays in '
        f'{loaded.tokenizer or "no place: there is none"}')


def _merged(source: str, base: str | None) -> pretrained.Pretrained:
  """The base of a folder of peft's with its adapters merged."""
  named = reading.config_of(pathlib.Path(source)).get(
      'base_model_name_or_path')
  loaded = pretrained.load(base or str(named or ''))
  section, adapters = reading.load(source, loaded.model)
  whole = lora.merge_stacked(lora.join(
      loaded.params, adapters, section.scale))
  return loaded._replace(params=jax.tree.map(np.asarray, whole))


def _of_ours(base: str) -> bool:
  """Whether a base is a finished run, or a file of weights of ours."""
  path = pathlib.Path(base)
  return (path / safetensors_file.FINAL).is_file() or (
      path.suffix == '.safetensors' and path.is_file())


def to_peft(checkpoint: str, to: str, dtype: str) -> None:
  """The adapters of a run to a folder that peft loads; see peft.save."""
  files = peft.save(to, checkpoint, dtype)
  print(f'adapters written to {to}: {", ".join(files)}')
  base = str(reading.config_of(pathlib.Path(to))['base_model_name_or_path'])
  described = pathlib.Path(base, 'config.json')
  # A run's own config.json names no type of model.
  if not described.is_file() or '"model_type"' not in described.read_text():
    file = pathlib.Path(to, reading.CONFIG)
    print(f'their base is {base!r}, which is no checkpoint folder of the hub '
          'here: ' + (
              f'`zppo export --checkpoint={base} --to=BASE` writes one, whose '
              f'whole path belongs into {file}'
              if _of_ours(base) else
              'give peft the model itself, or write the whole path of its '
              f'folder into {file}'))


def to_hub(checkpoint: str, to: str, tokenizer: str | None,
           dtype: str) -> None:
  """Weights of ours, or of a run, to a folder that transformers loads.

  Args:
    checkpoint: anything that pretrained.load takes.
    to: a new folder.
    tokenizer: folder or GGUF file of the tokenizer; None takes the one that
      the weights came with, if any.
    dtype: 'float32' or 'bfloat16'.
  """
  loaded = pretrained.load(checkpoint)
  loaded = loaded._replace(tokenizer=tokenizer or loaded.tokenizer)
  # The folder declares every token at which our sampler stops, so that
  # others stop there too.
  try:
    chat = pretrained.chat(loaded)
    ends = segments.end_ids(chat.codec) if chat else ()
  except ValueError as e:  # it cannot sample, but it is a checkpoint
    print(f'no end token is added to those of the tokenizer: {e}')
    ends = ()
  files = hub_checkpoint.save(
      to, loaded.params, loaded.model, dtype=dtype,
      tokenizer=loaded.tokenizer or None, chat_template=loaded.chat_template,
      end_ids=ends)
  print(f'{loaded.model.family} written to {to}: {", ".join(files)}')


_REPOSITORY = re.compile(r'[\w-][\w.-]*/[\w-][\w.-]*')


class PushError(RuntimeError):
  """A folder could not be uploaded; the folder itself stays."""


class Push:
  """Uploads an export to a repository of models, as its user asked.

  `--push` is the only thing here that sends anything to a hub. The token is the
  one that `hf auth login` or HF_TOKEN gave to huggingface_hub.

  Args:
    name: OWNER/NAME.
    private: whether a new repository is private.
    api: () -> an object like huggingface_hub.HfApi; None for that.

  Raises:
    ValueError: for another name.
    PushError: without a token, or for a repository that is there and public
      although a private one was asked for. Nothing is uploaded before.
  """

  def __init__(self, name: str, private: bool,
               api: Callable[[], Any] | None = None):
    if not _REPOSITORY.fullmatch(name):
      raise ValueError(f'--push is {name!r}; it must be OWNER/NAME, e.g. '
                       '--push=me/my-model')
    import huggingface_hub
    self._name, self._private = name, private
    self._token = huggingface_hub.get_token() or ''
    if not self._token:
      raise PushError('no token: `hf auth login` keeps one, or HF_TOKEN holds '
                      'it')
    self._api = (api or huggingface_hub.HfApi)()
    if self._try('ask for', lambda: self._api.repo_exists(name)) and private:
      info = self._try('ask for', lambda: self._api.repo_info(name))
      if not info.private:
        raise PushError(f'{name} is there and public; --private would not hide '
                        'it. Make it private on its page, or name another')

  def _try(self, what: str, call: Callable[[], Any]) -> Any:
    """What a call of the hub returns; PushError without the token's text."""
    try:
      return call()
    except Exception as e:  # of any HTTP client, and of the hub's own
      text = ' '.join(str(e).split()).replace(self._token, '***')
    raise PushError(f'cannot {what} {self._name}: {text}')

  def folder(self, path: str) -> str:
    """Uploads a folder as one commit and returns its address.

    Raises:
      PushError: naming the repository and the cause.
    """
    self._try('make', lambda: self._api.create_repo(
        self._name, private=self._private, exist_ok=True))
    done = self._try('upload to', lambda: self._api.upload_folder(
        repo_id=self._name, folder_path=path,
        commit_message='zppo export'))
    return str(done.commit_url)
