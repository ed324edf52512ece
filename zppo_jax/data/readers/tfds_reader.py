"""The rows of a prepared TFDS builder, without TensorFlow.

tensorflow-datasets holds every float in 32 bits, whatever its feature says, and
returns a sequence of dicts as a dict of lists. This reader returns the rows of
the same data in JSON lines: texts, `values.Single`, lists of dicts.
"""

import json
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from zppo_jax import allowed
from zppo_jax.data import values
from zppo_jax.data.readers import tfds_features

_INFO = 'dataset_info.json'
_NAME = re.compile(r'\s*([^\[+\s]+)')  # of a split, before its slice


class Tfds:
  """The rows of a split of a prepared TFDS builder; images stay encoded.

  Args:
    path: `FOLDER/NAME/CONFIG/VERSION:SPLIT`; splits may be sliced and added
      (`train[:50%]`, `train[10:20]+test`).
    leave_out: is ignored, because a record is read whole.
    most: the most bytes of a record.

  Raises:
    FileNotFoundError: if the folder holds no prepared builder.
    KeyError: for an unknown split, with the known ones.
    ValueError: if the path names no split, if the split cannot be sliced like
      that, or if the class of a feature is not TFDS's own.
  """

  def __init__(self, path: str | os.PathLike, leave_out: Sequence[str] = (),
               most: int = 2**30):
    del leave_out
    import tensorflow_datasets as tfds
    self.folder, self.split = _parted(str(path))
    self._most = most
    if not (self.folder / 'dataset_info.json').is_file():
      raise FileNotFoundError(
          f'no dataset_info.json in {self.folder}'
          f'{allowed.looked_from(self.folder)}: no prepared TFDS builder')
    tfds_features.check(self.folder)
    try:
      builder = tfds.builder_from_directory(self.folder)
    # A broken description raises any error of its parser.
    except Exception as e:
      raise ValueError(f'{self.folder}: no TFDS builder that can be read: {e}'
                       ) from None
    splits = list(builder.info.splits)
    for part in self.split.split('+'):
      name = _NAME.match(part)
      allowed.one_of(f'split of {self.folder}:', name[1] if name else part,
                     (*splits, 'all'))
    self.columns = tuple(builder.info.features)
    self._features = builder.info.features
    try:
      self._rows = builder.as_data_source(
          self.split, decoders=_encoded(builder.info.features, tfds) or None)
    # TFDS raises ValueError and AssertionError with several texts.
    except Exception as e:
      raise ValueError(f'{self.folder}: the split {self.split!r} cannot be '
                       f'read: {e}') from None

  def __len__(self) -> int:
    return len(self._rows)

  def file(self, index: int) -> str:
    del index  # TFDS does not tell the shard of a row
    return f'{self.folder}:{self.split}'

  def where(self, index: int) -> str:
    return f'{self.file(index)}, row {index}'

  def __getitem__(self, index: int) -> dict[str, Any]:
    try:
      record = self._rows[index]
    # A broken record raises any error of protobuf, zstd or PIL.
    except Exception as e:
      raise ValueError(f'{self.where(index)}: cannot be read: '
                       f'{type(e).__name__}: {e}') from None
    row = {name: plain(value, self._features[name])
           for name, value in record.items()}
    held = _bytes_in(row)
    if held > self._most:
      raise ValueError(f'{self.where(index)}: {held} bytes unpacked; '
                       f'data.pool.max_bytes allows {self._most}')
    return row


def splits_of(folder: pathlib.Path) -> list[str]:
  """The splits of a prepared builder.

  Args:
    folder: `FOLDER/NAME/CONFIG/VERSION`, where its dataset_info.json is.

  Raises:
    ValueError: if that file cannot be read; it names the file.
  """
  file = folder / _INFO
  try:
    return [str(split['name']) for split in
            json.loads(file.read_text())['splits']]
  except (ValueError, KeyError, TypeError, RecursionError) as e:
    raise ValueError(f'{file} lists no splits: {type(e).__name__}: {e}'
                     ) from None


def _parted(path: str) -> tuple[pathlib.Path, str]:
  """(folder, split); the split begins at the first colon of the last name,
  because slices hold colons too."""
  head, slash, last = path.rpartition('/')
  name, colon, split = last.partition(':')
  if not colon or not split:
    folder = pathlib.Path(path).expanduser()
    there = (f'; it holds the splits {", ".join(splits_of(folder))}'
             if (folder / _INFO).is_file() else '')
    raise ValueError(f'path is {path!r}; of a TFDS builder it is FOLDER:SPLIT'
                     f'{there}')
  return pathlib.Path(f'{head}{slash}{name}').expanduser(), split


def _encoded(features: Any, tfds: Any) -> dict[str, Any]:
  """Decoders that leave images as bytes, in sequences too.

  Without them, TFDS would open an image in any of PIL's formats.
  """
  class Encoded(tfds.decode.SkipDecoding):
    """SkipDecoding for sequences as well, for which TFDS has none."""

    def decode_batch_example_np(self, serialized_example: Any) -> Any:
      return serialized_example

    decode_ragged_example_np = decode_batch_example_np

  out: dict[str, Any] = {}
  for name, feature in features.items():
    inner = feature
    while isinstance(inner, tfds.features.Sequence):
      inner = inner.feature
    if isinstance(inner, tfds.features.Image):
      out[name] = Encoded()
    elif isinstance(inner, tfds.features.FeaturesDict):
      nested = _encoded(inner, tfds)
      if nested:
        out[name] = nested
  return out


def plain(value: Any, feature: Any = None) -> Any:
  """The value that JSON lines would hold; bytes that are no text stay.

  Args:
    value: the value that TFDS returned.
    feature: its feature, which tells a sequence of dicts from a dict.
  """
  if isinstance(value, bytes):
    if type(feature).__name__ == 'Image':
      return value  # some are UTF-8 by chance
    try:
      return value.decode()
    except UnicodeDecodeError:
      return value
  inner = getattr(feature, 'feature', None)  # of a Sequence
  if isinstance(value, np.ndarray) and value.ndim and (
      value.dtype == object or value.dtype.kind in 'SU'
      or value.ndim == 1):
    return [plain(x, inner) for x in value.tolist()]
  if isinstance(value, np.ndarray) and not value.ndim:
    return plain(value.item())
  if isinstance(value, np.generic):
    return plain(value.item())
  if isinstance(value, float):
    return values.single(value) if value == float(np.float32(value)) else value
  if isinstance(value, dict):
    fields = inner if inner is not None else feature
    columns = {name: plain(x, _field(fields, name))
               for name, x in value.items()}
    lengths = {len(x) if isinstance(x, list) else None
               for x in columns.values()}
    if inner is not None and len(lengths) == 1 and None not in lengths:
      return [dict(zip(columns, row, strict=True))
              for row in zip(*columns.values(), strict=True)]
    return columns
  if isinstance(value, list | tuple):
    return [plain(x, inner) for x in value]
  return value


def _field(features: Any, name: str) -> Any:
  try:
    return features[name]
  except (KeyError, TypeError):
    return None


def _bytes_in(value: Any) -> int:
  """The size of all texts, bytes and arrays in a value."""
  if isinstance(value, dict):
    return sum(map(_bytes_in, value.values()))
  if isinstance(value, list):
    return sum(map(_bytes_in, value))
  if isinstance(value, np.ndarray):
    return value.nbytes
  return len(value) if isinstance(value, str | bytes) else 8
