"""Parameter trees as safetensors files."""

import json
import os
import pathlib
from collections.abc import Mapping

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

FINAL = 'final.safetensors'  # the final weights in a run's directory
ADAPTERS = 'adapters.safetensors'  # the adapters that are merged in them


def _names(tree) -> dict:
  flat = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {'/'.join(str(k.key) for k in path): leaf for path, leaf in flat}


def write(path, arrays: Mapping[str, np.ndarray],
          metadata: dict[str, str]) -> None:
  """Writes a safetensors file that those may read whom the umask lets.

  The package's own `save_file` makes files that their owner alone may read.

  Args:
    path: the file to write; an existing file is replaced.
    arrays: by the name of the tensor, contiguous.
    metadata: of the file.
  """
  path = pathlib.Path(path)
  path.unlink(missing_ok=True)
  path.touch()
  mode = path.stat().st_mode & 0o777
  save_file(dict(arrays), path, metadata=metadata)
  path.chmod(mode)


def save(path, params, description: dict) -> None:
  """Writes params and a JSON description, atomically.

  Args:
    path: the file to write; an existing file is replaced.
    params: a nested dict of arrays.
    description: metadata of the file, e.g. the config that made the weights.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  arrays = {n: np.ascontiguousarray(x) for n, x in _names(params).items()}
  partial = path.with_suffix('.partial')
  write(partial, arrays,
        {'description': json.dumps(description, sort_keys=True)})
  os.replace(partial, path)


def description(path) -> dict:
  """The description that `save` stored.

  Raises:
    ValueError: for a damaged file, or one without a description.
  """
  try:
    with safe_open(path, framework='numpy') as f:
      text = (f.metadata() or {}).get('description')
  except SafetensorError as e:
    raise ValueError(f'{path} is not a readable safetensors file: {e}') from e
  if text is None:
    raise ValueError(f'{path} has no description; it was not written by '
                     'zppo_jax.weights.safetensors_file.save')
  return json.loads(text)


def load(path, like):
  """Reads params of a known structure.

  Args:
    path: a file that `save` wrote.
    like: a pytree of arrays or ShapeDtypeStructs with the names, shapes and
      types.

  Returns:
    A nested dict of numpy arrays.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: for a damaged file; for missing, unknown or misshapen
      tensors or another type; for NaN or infinite weights. Each names the
      tensor.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(f'no weights at {path}')
  try:
    with safe_open(path, framework='numpy') as f:
      tensors = {name: f.get_tensor(name) for name in f.keys()}
  except SafetensorError as e:
    raise ValueError(f'{path} is not a readable safetensors file: {e}') from e
  wanted = _names(like)
  missing = wanted.keys() - tensors.keys()
  unknown = tensors.keys() - wanted.keys()
  if missing or unknown:
    raise ValueError(f'{path}: missing tensors {sorted(missing)}, unknown '
                     f'tensors {sorted(unknown)}')
  for name, leaf in wanted.items():
    if tensors[name].shape != leaf.shape:
      raise ValueError(f'{path}: {name} has shape {tensors[name].shape}; the '
                       f'model has {leaf.shape}')
    if tensors[name].dtype != leaf.dtype:
      raise ValueError(f'{path}: {name} has type {tensors[name].dtype}; the '
                       f'model has {leaf.dtype}')
    if not np.isfinite(tensors[name]).all():
      raise ValueError(f'{path}: {name} holds NaN or infinite values')
  treedef = jax.tree.structure(like)
  return jax.tree.unflatten(treedef, [tensors[n] for n in wanted])
