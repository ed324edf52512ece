"""Folders that `datasets` wrote with save_to_disk: format `hf`.

  FOLDER          a Dataset: state.json names its .arrow files, in order
  FOLDER:SPLIT    a split of a DatasetDict: dataset_dict.json names them all

Files of the same folder that state.json does not name are caches of `datasets`
(cache-*.arrow, indices) and no rows.
"""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from zppo_jax import allowed
from zppo_jax.data.readers.arrow_rows import Arrow

_STATE, _SPLITS = 'state.json', 'dataset_dict.json'


def _json(file: pathlib.Path, *fields: str) -> dict[str, Any]:
  """A JSON object that must have some fields; ValueError names the file."""
  try:
    content = json.loads(file.read_text())
    for field in fields:
      content[field]
  except (ValueError, KeyError, TypeError, RecursionError) as e:
    raise ValueError(f'{file} is not readable: {type(e).__name__}: {e}'
                     ) from None
  return content


def _named(file: pathlib.Path) -> list[str]:
  """The splits that a DatasetDict lists; ValueError names the file."""
  splits = _json(file, 'splits')['splits']
  if not (isinstance(splits, list) and all(
      isinstance(split, str) for split in splits)):
    raise ValueError(f"{file} is not readable: 'splits' is {splits!r}; it must "
                     'be a list of names')
  return splits


def folder_of(place: str) -> pathlib.Path:
  """The folder of a Dataset that a place names.

  Args:
    place: FOLDER or FOLDER:SPLIT.

  Raises:
    FileNotFoundError: if save_to_disk wrote nothing there.
    ValueError: for splits of which none is named.
    KeyError: for a split that is not there.
  """
  path, split = pathlib.Path(place).expanduser(), ''
  if not path.is_dir():
    before, _, split = str(path).rpartition(':')
    path = pathlib.Path(before)
  if split and (path / _STATE).is_file():
    raise ValueError(f'{path} holds no splits; {split!r} names one')
  if (path / _SPLITS).is_file():
    splits = _named(path / _SPLITS)
    if not split:
      raise ValueError(f'{path} holds the splits {", ".join(splits)}; name '
                       f'one: {path}:{splits[0] if splits else "SPLIT"}')
    allowed.one_of(f'split of {path}:', split, splits)
    path = path / split
  if not (path / _STATE).is_file():
    raise FileNotFoundError(
        f'no data set at {place!r}{allowed.looked_from(place)}; format hf '
        'reads what datasets.save_to_disk wrote: FOLDER, or FOLDER:SPLIT')
  return path


def splits_of(folder: pathlib.Path) -> tuple[str, ...] | None:
  """The splits of a folder that save_to_disk wrote; () for a single Dataset,
  None for another folder.

  Raises:
    ValueError: for a list of splits that cannot be read.
  """
  if (folder / _SPLITS).is_file():
    return tuple(_named(folder / _SPLITS))
  return () if (folder / _STATE).is_file() else None


def shards(folder: pathlib.Path) -> list[pathlib.Path]:
  """The files of a Dataset's rows, in its order.

  Args:
    folder: see `folder_of`.

  Raises:
    FileNotFoundError: for a file that is gone.
    ValueError: for a state.json that cannot be read or names no such files.
  """
  state = _json(folder / _STATE, '_data_files')
  if state.get('_indices_data_files'):
    raise ValueError(f'{folder / _STATE} names _indices_data_files, an order '
                     'of rows in other files; flatten_indices() and save '
                     'the data set again')
  files = []
  for of in state['_data_files']:
    name = of.get('filename') if isinstance(of, dict) else None
    if not isinstance(name, str) or pathlib.Path(name).name != name:
      raise ValueError(f'{folder / _STATE} names the file {name!r}; it must '
                       'be a file of that folder')
    if not (folder / name).is_file():
      raise FileNotFoundError(f'{folder / name} is gone, which {_STATE} '
                              'names')
    files.append(folder / name)
  if not files:
    raise ValueError(f'{folder / _STATE} names no files')
  return files


class Saved(Arrow):
  """The rows of a folder that save_to_disk wrote, in its order.

  Args:
    path: see `folder_of`.
    leave_out, most: as of Arrow.

  Raises:
    FileNotFoundError, ValueError, KeyError: see `folder_of` and Arrow; for
      files that state.json names and that are gone or lie elsewhere.
  """

  def __init__(self, path: Any, leave_out: Sequence[str] = (),
               most: int = 2**30):
    folder = folder_of(str(path))
    super().__init__(shards(folder), leave_out, most)
    self.folder = folder
