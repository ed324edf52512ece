"""Checkpoints of the hub into parameter trees and back, by HubLeaf.

Import and export use the same description (weights/hub_leaf.py), so that they
cannot disagree. A checkpoint is read tensor by tensor, so that the host holds
one tensor of the hub and the shards of this process.
"""

import dataclasses
import json
import math
import os
import pathlib
import re
import shutil

import jax
import ml_dtypes
import numpy as np

from zppo_jax import models, randomness
from zppo_jax.models import rope
from zppo_jax.weights import families, gguf_file, hub_folder, safetensors_file
from zppo_jax.weights.hub_leaf import HubLeaf, HubSource

DTYPES = {'float32': np.float32, 'bfloat16': ml_dtypes.bfloat16}
_HEAD, _EMBED = 'lm_head.weight', 'embed_tokens.weight'
# Prefixes of the names of a text model and of its head.
_ROOTS = ('model.language_model.', 'language_model.model.', 'model.',
          'language_model.', '')
_HEAD_ROOTS = ('language_model.', 'model.', 'model.language_model.')
_TEXT_PARTS = ('embed_tokens.', 'layers.', 'norm.')
_BUFFER = re.compile(r'(?:^|\.)rotary_emb\.'
                     r'(inv_freq|original_inv_freq|cos_cached|sin_cached)$')
_GENERATION = 'generation_config.json'
_COPIED = (
    'tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json',
    'added_tokens.json', 'vocab.json', 'merges.txt', 'tokenizer.model',
    'chat_template.jinja', 'chat_template.json', _GENERATION,
    'preprocessor_config.json', 'video_preprocessor_config.json',
    'processor_config.json')
_IDS = ('bos_token_id', 'eos_token_id', 'pad_token_id')


def is_hub(path) -> bool:
  """Whether a path is a checkpoint folder or a GGUF file."""
  path = pathlib.Path(path)
  return path.suffix == '.gguf' or path.is_dir()


def read(path) -> HubSource:
  """Reads a folder or a .gguf file; raises as their `read` functions."""
  path = pathlib.Path(path)
  if path.suffix == '.gguf':
    return gguf_file.read(path)
  return hub_folder.read(hub_folder.locate(path))


def family_of(config: dict) -> str:
  """The family of a config.json.

  Raises:
    ValueError: for a model_type that no family supports, listing those.
  """
  if config.get('model_type') not in families.FAMILIES:
    raise ValueError(f'config.json: model_type is '
                     f'{config.get("model_type")!r}; supported: '
                     f'{", ".join(families.FAMILIES)}')
  return config['model_type']


def _check(source: HubSource, leaves, prefixes, config) -> list[str]:
  """The tensors that are left out; ValueError names all mismatches."""
  shapes = {name: leaf.hub_shape for leaf in leaves for name in leaf.names}
  left = source.tensors.keys() - shapes.keys()
  skipped = {n for n in left if n.startswith(tuple(prefixes))
             or _is_buffer(source, n, config)}
  if _HEAD in left and ('head',) not in {leaf.path for leaf in leaves}:
    embed = next(n for n in shapes if n.endswith('embed_tokens.weight'))
    if not _equal(source, _HEAD, embed):
      raise ValueError(f'{source.path}: config.json ties the embeddings, but '
                       f'{_HEAD} differs from {embed}')
    skipped.add(_HEAD)
  wrong = [f'missing tensors {sorted(shapes.keys() - source.tensors.keys())}',
           f'unknown tensors {sorted(left - skipped)}',
           'misshapen tensors ' + str([
               f'{n} {source.tensors[n].shape}, not {shape}'
               for n, shape in sorted(shapes.items())
               if n in source.tensors and source.tensors[n].shape != shape])]
  wrong = [text for text in wrong if not text.endswith('[]')]
  if wrong:
    raise ValueError(f'{source.path}: {"; ".join(wrong)}')
  return sorted(skipped)


def _equal(source: HubSource, first: str, second: str) -> bool:
  """Whether two tensors hold the same values up to the rounding of the type of
  one of them."""
  if source.tensors[first].shape != source.tensors[second].shape:
    return False
  rows = source.tensors[first].shape[0]

  def same(a, b):
    return (np.array_equal(a.astype(b.dtype), b)
            or np.array_equal(b.astype(a.dtype), a))

  return all(same(*(source.read(n, i, min(i + 4096, rows))
                    for n in (first, second)))
             for i in range(0, rows, 4096))


def _renamed(source: HubSource, leaves) -> HubSource:
  """The source with the names of the leaves for its tensors.

  A text model alone may have the names of the whole model
  (`model.language_model.`), and a whole model those of an older release.
  """
  wanted = next(leaf.names[0] for leaf in leaves if leaf.path == ('embed',)
                ).removesuffix(_EMBED)
  roots = [r for r in _ROOTS if r + _EMBED in source.tensors]
  if not roots or wanted in roots:
    root = wanted
  else:
    root = roots[0]

  def name(n):
    for prefix in _HEAD_ROOTS:
      if n == prefix + _HEAD:
        return _HEAD
    if n.startswith('visual.'):
      return f'model.{n}'
    if n.startswith(root) and n[len(root):].startswith(_TEXT_PARTS):
      return wanted + n[len(root):]
    return n

  theirs = {name(n): n for n in source.tensors}
  if len(theirs) < len(source.tensors):
    return source  # two tensors of one name; `_check` names unknown ones
  return dataclasses.replace(
      source, tensors={ours: source.tensors[n] for ours, n in theirs.items()},
      read=lambda n, start, stop: source.read(theirs[n], start, stop))


def _is_buffer(source: HubSource, name: str, config) -> bool:
  """Whether a tensor is a buffer, which old files hold beside the weights.

  Raises:
    ValueError: for rotary frequencies that are not those of config.json.
  """
  match = _BUFFER.search(name)
  if match is None or not hasattr(config, 'rope_theta'):
    return False
  size = source.tensors[name].shape
  want = rope.table(config, 2 * math.prod(size))
  if match[1] == 'inv_freq' and len(size) == 1 and not np.allclose(
      source.read(name, 0, size[0]).astype(np.float32), want, rtol=0.02):
    raise ValueError(f'{source.path}: {name} holds other rotary frequencies '
                     'than config.json says')
  return True


def _piece(source: HubSource, leaf: HubLeaf, name: str, index, dtype):
  """ours[i][index] of one hub tensor, of which only needed rows are read."""
  # The slice of each axis of `split`; its first axis is whole rows of the
  # hub's tensor wherever its size divides theirs.
  at = [index[leaf.perm.index(axis)] for axis in range(len(leaf.split))]
  rows, first = leaf.hub_shape[0], leaf.split[0]
  if rows % first:
    start, stop = 0, first
  else:
    start, stop, _ = at[0].indices(first)
    at[0] = slice(None)
  block = rows // first if rows % first == 0 else 1
  piece = source.read(name, *((start * block, stop * block)
                              if rows % first == 0 else (0, rows)))
  piece = piece.reshape(stop - start, *leaf.split[1:])[tuple(at)]
  if not np.isfinite(piece).all():
    raise ValueError(f'{source.path}: {name} holds NaN or infinite values')
  return piece.transpose(leaf.perm).astype(dtype)


def _read_leaf(source, leaf: HubLeaf, index, dtype) -> np.ndarray:
  """ours[index], which is read tensor by tensor."""
  if not leaf.stacked:
    return np.ascontiguousarray(
        _piece(source, leaf, leaf.names[0], index, dtype))
  sizes = [len(range(*s.indices(n)))
           for s, n in zip(index, leaf.shape, strict=True)]
  out = np.empty(sizes, dtype)
  for row, name in enumerate(leaf.names[index[0]]):
    out[row] = _piece(source, leaf, name, index[1:], dtype)
  return out


def _on_devices(shape, sharding, make) -> jax.Array:
  """A global array of the pieces `make(index)`.

  The host holds one piece at a time; jax.make_array_from_callback would hold
  all of them.
  """
  devices: dict = {}
  indices = sharding.addressable_devices_indices_map(shape)
  for device, index in indices.items():
    bounds = tuple(s.indices(n) for s, n in zip(index, shape, strict=True))
    devices.setdefault(bounds, []).append(device)
  pieces = []
  for bounds, same in devices.items():
    piece = make(tuple(slice(start, stop) for start, stop, _ in bounds))
    pieces += [jax.device_put(piece, device) for device in same]
    jax.block_until_ready(pieces[-len(same):])
  return jax.make_array_from_single_device_arrays(shape, sharding, pieces)


def load(source: HubSource, model: models.Model, like=None):
  """Parameters of a model from a checkpoint.

  Args:
    source: the checkpoint.
    model: a model that was built from its config.json.
    like: params-shaped ShapeDtypeStructs, whose types (float32 or bfloat16)
      the parameters get. Each process reads its part of a leaf with a sharding
      straight onto its devices; a leaf without a sharding becomes a numpy
      array. None: numpy arrays of float32.

  Returns:
    (nested dict of arrays, names of the tensors that were left out).

  Raises:
    ValueError: for missing, unknown or misshapen tensors, all of which it
      names; for NaN or infinite weights.
  """
  row = families.FAMILIES[model.family]
  leaves = {leaf.path: leaf for leaf in row.hub_leaves(model.config)}
  source = _renamed(source, leaves.values())
  skipped = _check(source, leaves.values(), row.skipped, model.config)

  def one(path, leaf):
    hub_leaf = leaves[tuple(key.key for key in path)]
    if hub_leaf.shape != leaf.shape:
      raise ValueError(f'{model.family}: leaf {"/".join(hub_leaf.path)} is '
                       f'{leaf.shape}, its HubLeaf {hub_leaf.shape}')
    make = lambda index: _read_leaf(source, hub_leaf, index, leaf.dtype)
    if leaf.sharding is None:
      return make((slice(None),) * len(leaf.shape))
    return _on_devices(leaf.shape, leaf.sharding, make)

  if like is None:
    like = jax.eval_shape(model.init, randomness.like_key())
  return jax.tree_util.tree_map_with_path(one, like), skipped


def _shards(sizes: dict[str, int], most: int) -> list[list[str]]:
  """The tensors in order, in shards of at most `most` bytes or one tensor."""
  out, room = [], 0
  for name, size in sizes.items():
    if size > room:
      out.append([])
      room = most
    out[-1].append(name)
    room -= size
  return out


def _token_ids(config: dict) -> dict:
  return {name: config[name] for name in _IDS if name in config}


def _write_ends(to: pathlib.Path, ids) -> None:
  """Adds end tokens to the generation config."""
  path = to / _GENERATION
  held = hub_folder.read_json(path) if path.is_file() else {}
  declared = held.get('eos_token_id')
  declared = declared if isinstance(declared, list) else [declared]
  if not ids or set(ids) <= set(declared):
    return
  ends = list(dict.fromkeys((*ids, *(i for i in declared if i is not None))))
  path.write_text(json.dumps(
      {**held, 'eos_token_id': ends if len(ends) > 1 else ends[0]},
      indent=2) + '\n')


def _copy_files(origin, to: pathlib.Path) -> dict:
  """Copies the files of a tokenizer; returns the token ids of config.json.

  Those of the text model are under 'text_config'.
  """
  origin = pathlib.Path(origin)
  if origin.suffix == '.gguf':
    tokenizer = gguf_file.tokenizer(origin)
    tokenizer.save_pretrained(to)
    return {name: getattr(tokenizer, name) for name in _IDS}
  origin = hub_folder.locate(origin)
  files = [origin / name for name in _COPIED if (origin / name).is_file()]
  if not any(p.name.startswith('tokenizer') for p in files):
    raise FileNotFoundError(f'{origin} holds no tokenizer files')
  for path in files:
    shutil.copyfile(path, to / path.name)
  if not (origin / 'config.json').is_file():
    return {}
  if not (to / _GENERATION).is_file():
    _write_ends(to, hub_folder.end_ids(origin))
  config = hub_folder.read_config(origin)
  return {**_token_ids(config),
          'text_config': _token_ids(config.get('text_config') or {})}


def new_folder(to, model: models.Model, dtype: str) -> pathlib.Path:
  """An empty folder beside a place; `moved` gives it the name of that place.

  Args:
    to: a folder that does not exist, or is empty.
    model: the model that is written, of a family that the hub has.
    dtype: a key of DTYPES.

  Raises:
    FileExistsError: if the folder is not empty.
    ValueError: for a family without a hub form, or another dtype.
  """
  to = pathlib.Path(to)
  if model.family not in families.FAMILIES:
    raise ValueError(f'the {model.family!r} family has no hub form; those '
                     f'that have one: {", ".join(families.FAMILIES)}')
  if dtype not in DTYPES:
    raise ValueError(f'dtype is {dtype!r}; allowed: {", ".join(DTYPES)}')
  if to.exists() and (not to.is_dir() or any(to.iterdir())):
    raise FileExistsError(f'{to} is there already; name a new folder')
  families.FAMILIES[model.family].to_hub(model.config)  # or it cannot be
  partial = to.with_name(to.name + '.partial')
  if partial.exists():
    shutil.rmtree(partial)
  partial.mkdir(parents=True)
  return partial


def moved(partial: pathlib.Path, to) -> list[str]:
  """Gives a complete folder its name; returns the names of its files."""
  to = pathlib.Path(to)
  if to.exists():
    to.rmdir()
  os.replace(partial, to)
  return sorted(p.name for p in to.iterdir())


def save(to, params, model: models.Model, *, dtype: str = 'float32',
         tokenizer=None, max_shard_bytes: int = 5_000_000_000,
         end_ids=(), chat_template: str = '') -> list[str]:
  """Writes a checkpoint folder that transformers loads.

  The folder is written beside its place and then renamed, so that it is whole
  or absent.

  Args:
    to: a folder that does not exist, or is empty.
    params: parameters, numpy or addressable jax arrays.
    model: their model, of a family that the hub has.
    dtype: 'float32' or 'bfloat16'.
    tokenizer: a folder or a .gguf file whose tokenizer is copied, or None.
    max_shard_bytes: the most bytes of a file; a larger tensor has its own file.
    end_ids: end tokens that the generation config declares besides those of the
      tokenizer.
    chat_template: the text of a template that replaces the tokenizer's; ''
      keeps the tokenizer's.

  Returns:
    The names of the files.

  Raises:
    FileExistsError: if the folder is not empty.
    ValueError: for a family without a hub form, or another dtype.
  """
  partial = new_folder(to, model, dtype)
  row = families.FAMILIES[model.family]
  config = row.to_hub(model.config)
  ids = {} if tokenizer is None else _copy_files(tokenizer, partial)
  nested = ids.pop('text_config', {})
  if 'text_config' in config:
    config['text_config'] |= nested
  else:
    ids = {**nested, **ids}
  _write_ends(partial, end_ids)
  if chat_template:
    (partial / 'chat_template.jinja').write_text(chat_template)
  (partial / 'config.json').write_text(json.dumps(
      {**config, **ids, 'dtype': dtype}, indent=2) + '\n')

  place, sizes = {}, {}
  for leaf in row.hub_leaves(model.config):
    for i, name in enumerate(leaf.names):
      place[name] = leaf, i
      sizes[name] = math.prod(leaf.hub_shape) * np.dtype(DTYPES[dtype]).itemsize

  def tensor(name):
    leaf, i = place[name]
    node = params
    for key in leaf.path:
      node = node[key]
    layer = np.asarray(node[i] if leaf.stacked else node)
    return np.ascontiguousarray(leaf.to_hub(layer).astype(DTYPES[dtype]))

  shards = _shards(sizes, max_shard_bytes)
  where = {}
  for i, names in enumerate(shards):
    file = 'model.safetensors' if len(shards) == 1 else (
        f'model-{i + 1:05d}-of-{len(shards):05d}.safetensors')
    safetensors_file.write(partial / file, {n: tensor(n) for n in names},
                           {'format': 'pt'})
    where.update(dict.fromkeys(names, file))
  if len(shards) > 1:
    (partial / 'model.safetensors.index.json').write_text(json.dumps(
        {'metadata': {'total_size': sum(sizes.values())},
         'weight_map': where}, indent=2) + '\n')
  return moved(partial, to)
