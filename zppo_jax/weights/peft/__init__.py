"""Adapters as a folder that the package `peft` loads beside the base weights.

  adapter_config.json        peft's LoraConfig
  adapter_model.safetensors  lora_A [r, in] and lora_B [out, r] of each matrix

Names are those of the hub's modules (weights/hub_leaf.py), behind the two
wrappers that peft puts around a model.
"""

import json
import os
import pathlib
from typing import Any

import numpy as np

from zppo_jax import models
from zppo_jax.devices import sharding
from zppo_jax.models import lora
from zppo_jax.models.lora import LoraConfig
from zppo_jax.weights import families, hub_checkpoint, safetensors_file
from zppo_jax.weights.hub_leaf import HubLeaf

WRAPPERS = 'base_model.model.'


def _of_leaf(leaf: HubLeaf, adapters: dict, dtype: Any) -> dict:
  """{name of peft: tensor} of one leaf, for each of its layers.

  The hub's matrix is [out, in], and ours [in..., out...] with the axes of each
  side in the hub's order, so that both adapters are reshaped and transposed.
  """
  num_in = sharding.num_in('/'.join(leaf.path[-2:]))
  inner, outer = leaf.perm[:num_in], leaf.perm[num_in:]
  assert (*outer, *inner) == tuple(range(len(leaf.perm))), leaf.path
  out = {}
  for i, name in enumerate(leaf.names):
    a, b = (np.asarray(adapters[part][i]) for part in sharding.ADAPTERS)
    module = WRAPPERS + name.removesuffix('.weight')
    rank = a.shape[-1]
    out[f'{module}.lora_A.weight'] = np.ascontiguousarray(
        a.reshape(-1, rank).T.astype(dtype))
    out[f'{module}.lora_B.weight'] = np.ascontiguousarray(
        b.reshape(rank, -1).T.astype(dtype))
  return out


def tensors(model: models.Model, adapters: Any, dtype: str) -> dict:
  """{name of peft: tensor} of adapters.

  Args:
    model: the network.
    adapters: as lora.init returns them, numpy or addressable jax arrays.
    dtype: a key of hub_checkpoint.DTYPES.

  Raises:
    KeyError: for a family without a hub form, or another dtype.
  """
  row = families.FAMILIES[model.family]
  out = {}
  for leaf in row.hub_leaves(model.config):
    node: Any = adapters
    for key in leaf.path:
      node = node.get(key) if isinstance(node, dict) else None
    if node is not None:
      out |= _of_leaf(leaf, node, hub_checkpoint.DTYPES[dtype])
  return out


def from_anywhere(base: str) -> str:
  """The base as peft finds it from any folder.

  peft reads a relative path from the folder of its own process, and takes a
  path that is not there for a model id of the hub.
  """
  return os.path.abspath(base) if os.path.isdir(base) else base


def config_of(section: LoraConfig, names, base: str) -> dict:
  """adapter_config.json of adapters.

  Args:
    section: the section `lora`.
    names: the tensors of the folder.
    base: where the base weights are; a folder that is there is named by its
      whole path.
  """
  modules = {name.split('.')[-3] for name in names}
  return {
      'peft_type': 'LORA', 'task_type': 'CAUSAL_LM',
      'base_model_name_or_path': from_anywhere(base),
      'r': section.rank,
      'lora_alpha': section.alpha, 'target_modules': sorted(modules),
      'lora_dropout': 0.0, 'bias': 'none', 'fan_in_fan_out': False,
      'use_rslora': False, 'use_dora': False, 'inference_mode': True}


def described(file: pathlib.Path) -> dict[str, Any]:
  """What a file of adapters says of them: rank, alpha, matrices and base.

  Raises:
    ValueError: for a file that is not readable, or of whole weights.
  """
  of = safetensors_file.description(file)
  if 'lora' not in of:
    raise ValueError(f'{file} holds whole weights; without --adapters they are '
                     'exported as such')
  return of['lora']


def read(path: str) -> tuple[models.Model, Any, LoraConfig, str]:
  """(network, adapters, section, where the base weights came from) of a
  finished run with adapters, or of its file of adapters.

  Raises:
    FileNotFoundError: without such a file.
    ValueError: see safetensors_file.load; for a file of other weights.
  """
  file = pathlib.Path(path)
  if file.is_dir():
    file = file / safetensors_file.ADAPTERS
  if not file.is_file():
    raise FileNotFoundError(
        f'no adapters at {file}; a finished run with lora.rank > 0 has them')
  of = described(file)
  section = LoraConfig(rank=of['rank'], alpha=of['alpha'],
                       matrices=tuple(of['matrices']))
  model = models.build(**{'family': 'decoder',
                          **safetensors_file.description(file)['model']})
  return (model, safetensors_file.load(file, lora.shapes(section, model)),
          section, of['base']['weights'])


def save(to: str, path: str, dtype: str = 'float32') -> list[str]:
  """Writes the adapters of a run as a folder of peft's, whole or not at all.

  Args:
    to: a folder that does not exist, or is empty.
    path: see `read`.
    dtype: 'float32' or 'bfloat16'.

  Returns:
    The names of the files.

  Raises:
    FileExistsError: if the folder is not empty.
    FileNotFoundError, ValueError: see `read`; for a family that the hub does
      not have, or another dtype.
  """
  model, adapters, section, base = read(path)
  folder = hub_checkpoint.new_folder(to, model, dtype)
  out = tensors(model, adapters, dtype)
  safetensors_file.write(folder / 'adapter_model.safetensors', out,
                         {'format': 'pt'})
  (folder / 'adapter_config.json').write_text(json.dumps(
      config_of(section, out, base), indent=2) + '\n')
  return hub_checkpoint.moved(folder, to)
