"""Adapters of a folder that `peft` wrote, as ours: to train on, or to merge."""

import json
import math
import pathlib
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from zppo_jax import models
from zppo_jax.devices import sharding
from zppo_jax.models import lora
from zppo_jax.models.lora import LoraConfig
from zppo_jax.weights import families, safetensors_file
from zppo_jax.weights.hub_leaf import HubLeaf
from zppo_jax.weights.peft import WRAPPERS, described, read

CONFIG, TENSORS = 'adapter_config.json', 'adapter_model.safetensors'
# Fields of peft's LoraConfig that make another function of the adapters, and
# the values without one.
_ABSENT = {'use_dora': (False,), 'bias': ('none',), 'fan_in_fan_out': (False,),
           'modules_to_save': (None, []), 'rank_pattern': (None, {}),
           'alpha_pattern': (None, {}), 'layers_to_transform': (None, []),
           'layer_replication': (None,), 'trainable_token_indices': (None, []),
           'target_parameters': (None, []), 'lora_bias': (False,)}


def is_folder(path: str) -> bool:
  """Whether a path is a folder of peft's."""
  return (pathlib.Path(path) / CONFIG).is_file()


def config_of(folder: pathlib.Path) -> dict[str, Any]:
  """adapter_config.json of a folder.

  Raises:
    ValueError: for one that is not readable, or whose adapters are of a kind
      that there is none of here; the field is named.
  """
  file = folder / CONFIG
  try:
    config = json.loads(file.read_text())
    kind, rank, alpha = (config[name] for name in (
        'peft_type', 'r', 'lora_alpha'))
  except (ValueError, KeyError, TypeError, RecursionError) as e:
    raise ValueError(f'{file} is not readable: {type(e).__name__}: {e}'
                     ) from None
  if kind != 'LORA':
    raise ValueError(f'{file}: peft_type is {kind!r}; allowed: LORA')
  for name, values in _ABSENT.items():
    if config.get(name, values[0]) not in values:
      raise ValueError(f'{file}: {name} is {config[name]!r}; adapters here are '
                       f'without it, allowed: {values[0]!r}')
  # rsLoRA multiplies by alpha / sqrt(r).
  factor = math.sqrt(rank) if config.get('use_rslora') else 1.0
  return {**config, 'lora_alpha': alpha * factor}


def _of_leaf(leaf: HubLeaf, tensors: dict[str, np.ndarray], rank: int,
             folder: pathlib.Path) -> dict[str, np.ndarray] | None:
  """{'lora_a', 'lora_b'} of one leaf, whose tensors are taken out; None if it
  has no adapters."""
  num_in = sharding.num_in('/'.join(leaf.path[-2:]))
  inner, outer = leaf.layer_shape[:num_in], leaf.layer_shape[num_in:]
  a, b = [], []
  for name in leaf.names:
    module = WRAPPERS + name.removesuffix('.weight')
    found = [tensors.pop(f'{module}.lora_{x}.weight', None) for x in 'AB']
    if found[0] is None or found[1] is None:
      continue
    wanted = ((rank, math.prod(inner)), (math.prod(outer), rank))
    shapes = tuple(x.shape for x in found)
    if shapes != wanted:
      raise ValueError(f'{folder}: {module} has adapters of shapes {shapes}; '
                       f'this model and r = {rank} have {wanted}')
    down, up = (np.asarray(x, np.float32) for x in found)
    a.append(down.T.reshape(*inner, rank))
    b.append(up.T.reshape(rank, *outer))
  if not a:
    return None
  if len(a) < len(leaf.names):
    raise ValueError(f'{folder}: {len(a)} of {len(leaf.names)} layers have '
                     f'adapters of {leaf.path[-1]!r}; a matrix has them in '
                     'every layer here')
  return {'lora_a': np.stack(a), 'lora_b': np.stack(b)}


def load(path: str, model: models.Model) -> tuple[LoraConfig, Any]:
  """(section, adapters as lora.init makes them) of a folder of peft's.

  Args:
    path: the folder.
    model: the network of its base.

  Raises:
    ValueError: for a folder that is not readable, and for adapters that do not
      fit the model; the message names the module.
  """
  folder = pathlib.Path(path)
  config = config_of(folder)
  try:
    tensors = load_file(folder / TENSORS)
  except (OSError, SafetensorError) as e:
    raise ValueError(f'{folder / TENSORS} is not readable: {e}') from None
  out: dict[str, Any] = {}
  for leaf in families.FAMILIES[model.family].hub_leaves(model.config):
    keys = tuple(jax.tree_util.DictKey(key) for key in leaf.path)
    if lora.name_of(keys) is None:
      continue
    found = _of_leaf(leaf, tensors, config['r'], folder)
    if found is not None:
      lora.put(out, keys, found)
  if tensors:
    raise ValueError(
        f'{folder}: {len(tensors)} tensors have no place in this model, the '
        f'first is {min(tensors)!r}. Adapters are of '
        f'{", ".join(lora.MATRICES)}')
  if not out:
    raise ValueError(f'{folder / TENSORS} holds no adapters')
  names = {lora.name_of(path[:-1]) for path, _ in
           jax.tree_util.tree_leaves_with_path(out)}
  return LoraConfig(
      rank=config['r'], alpha=config['lora_alpha'],
      matrices=tuple(n for n in lora.MATRICES if n in names)), out


def check(section: LoraConfig) -> None:
  """Refuses a lora.start that holds no adapters, or those of another rank or
  alpha; no tensor is read.

  Args:
    section: of the run.

  Raises:
    FileNotFoundError: for a path without adapters.
    ValueError: see `config_of`; for another rank or alpha.
  """
  where, theirs = pathlib.Path(section.start), is_folder(section.start)
  of = config_of(where) if theirs else {}
  file = where / (TENSORS if theirs else safetensors_file.ADAPTERS) if (
      where.is_dir()) else where
  if not file.is_file():
    raise FileNotFoundError(
        f'lora.start is {section.start!r}, where no adapters are; a folder of '
        f'peft\'s ({CONFIG} and {TENSORS}), a finished run with lora.rank > 0 '
        f'or its {safetensors_file.ADAPTERS} has them')
  of = of or described(file)
  rank, alpha = (of['r'], of['lora_alpha']) if theirs else (
      of['rank'], of['alpha'])
  if (rank, alpha) != (section.rank, section.alpha):
    raise ValueError(
        f'lora.start is {section.start!r} with rank {rank}, alpha {alpha:g}; '
        f'the section lora has rank {section.rank}, alpha {section.alpha:g}')


def start(section: LoraConfig, model: models.Model, params: Any) -> Any:
  """The adapters with which a run begins: those of lora.start.

  Args:
    section: of the run.
    model, params: the student's.

  Raises:
    FileNotFoundError, ValueError: see `check`, `load` and peft.read; for
      adapters of other matrices than the section's.
  """
  check(section)
  if is_folder(section.start):
    of, adapters = load(section.start, model)
  else:
    theirs, adapters, of, _ = read(section.start)
    if models.describe(theirs) != models.describe(model):
      raise ValueError(f'lora.start is {section.start!r}, adapters of another '
                       'model than student.weights')
  here, there = set(lora.chosen(section, params)), set(of.matrices)
  if here != there:
    raise ValueError(
        f'lora.start is {section.start!r} with matrices '
        f'{", ".join(sorted(there))}; the section lora has '
        f'{", ".join(sorted(here))}')
  return adapters
