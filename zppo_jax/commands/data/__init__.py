"""zppo data: what files hold, and which mapping or suite fits them."""

import dataclasses
import json
import pathlib
import runpy
from collections.abc import Sequence

from zppo_jax.data import contents, pool, readers, sources
from zppo_jax.data.contents import text


def _chat(model: str):
  """The chat of a model; this alone imports jax."""
  from zppo_jax.weights import hub_checkpoint, pretrained
  path = pathlib.Path(model)
  if not hub_checkpoint.is_hub(path):
    raise FileNotFoundError(f'--model is {model!r}, which is neither a '
                            'checkpoint folder of the hub nor a .gguf file'
                            f'{pretrained.hint(model)}')
  chat = pretrained.chat(pretrained.outline(path, {})[1])
  if chat is None:
    raise ValueError(f'--model is {model!r}, which has no tokenizer')
  return chat


def of_config(path: str) -> str:
  """What the pool of a config holds, by source, filter and tier.

  No model is read, so that prompts of any length count (data.fit leaves out
  the long ones at the start of a run).

  Raises:
    ValueError: for a file that makes no config of data.pool.
  """
  try:
    config = runpy.run_path(path)['get_config']()
    section = config.data.pool.to_dict()
  except (KeyError, AttributeError, TypeError) as e:
    raise ValueError(f'{path} is no config of data.pool: {e}') from e
  if not section.get('sources'):
    raise ValueError(f'{path}: data.pool.sources names no files')
  return pool.open_pool(
      section['sources'], section.get('filters', {}),
      bounds=sources.Bounds(
          sources.roots(section.get('media_roots', ()), 'data.pool'),
          section.get('max_bytes', readers.MOST_BYTES))).account()


def main(paths: Sequence[str], *, model: str | None = None,
         to: str | None = None, as_json: bool = False, **options) -> str:
  """What each path holds, in words or as JSON.

  Args:
    paths: files and folders; of TFDS also `FOLDER:SPLIT`; a config (.py), whose
      pool is counted.
    model: a checkpoint folder whose chat counts the tokens of prompts.
    to: a folder for the pictures of the questions that are shown; with several
      paths, of a folder for each, by their number.
    as_json: whether to return JSON.
    **options: other fields of contents.Options.

  Raises:
    FileNotFoundError, KeyError, ValueError: naming what does not fit.
  """
  wanted = contents.Options(chat=_chat(model) if model else None, **options)
  configs = [path for path in paths if path.endswith('.py')]
  if configs:
    if as_json or len(configs) < len(paths):
      raise ValueError(f'{configs[0]} is a config; configs are counted alone '
                       'and in words')
    return '\n\n'.join(map(of_config, configs))
  home = pathlib.Path(to).expanduser() if to else None
  folders = [home / str(i) if home and len(paths) > 1 else home
             for i in range(len(paths))]
  found = [contents.describe(path, dataclasses.replace(wanted, to=folder))
           for path, folder in zip(paths, folders, strict=True)]
  if as_json:
    return json.dumps([contents.plain(of) for of in found], indent=1)
  return '\n\n'.join(map(text.text, found))
