"""Descriptions of parameter leaves in a hub checkpoint, without any IO.

A family's `hub_leaves(config)` returns one `HubLeaf` per parameter leaf.
weights/hub_checkpoint.py uses it to read and to write, so that import and
export cannot disagree.
"""

import dataclasses
import math
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class HubTensor:
  """The shape and the stored type ('F32', 'BF16', 'Q8_0', ...) of a tensor."""
  shape: tuple[int, ...]
  dtype: str


@dataclasses.dataclass(frozen=True)
class HubSource:
  """A checkpoint of the hub on disk, whose tensors are read when needed.

  Attributes:
    path: the folder or the GGUF file.
    config: config.json as a dict.
    tensors: the shape and type for each of the hub's names.
    read: (name, start, stop) -> rows [start, stop) of a tensor, dequantised,
      as float32, bfloat16 or float16.
  """
  path: pathlib.Path
  config: dict[str, Any]
  tensors: dict[str, HubTensor]
  read: Callable[[str, int, int], np.ndarray]


@dataclasses.dataclass(frozen=True)
class HubLeaf:
  """One leaf of our pytree and the hub tensors that hold it.

  ours[i] = transpose(reshape(hub[names[i]], split), perm). If `stacked`, the
  leaf has a new first axis over i; otherwise it has one name.

  Attributes:
    path: the keys in the parameter tree.
    names: the hub tensors, in the order of the stacked axis.
    hub_shape: the shape of each hub tensor.
    split: the shape, of the same size, to which a hub tensor is reshaped first.
    perm: the permutation of the axes of `split`.
    stacked: whether our leaf has a leading axis over `names`.
  """
  path: tuple[str, ...]
  names: tuple[str, ...]
  hub_shape: tuple[int, ...]
  split: tuple[int, ...]
  perm: tuple[int, ...]
  stacked: bool

  def __post_init__(self):
    if math.prod(self.split) != math.prod(self.hub_shape):
      raise ValueError(f'{self.names[0]}: split {self.split} of a tensor of '
                       f'shape {self.hub_shape}')
    if not self.stacked and len(self.names) != 1:
      raise ValueError(f'{"/".join(self.path)}: {len(self.names)} tensors for '
                       'one unstacked leaf')

  @property
  def layer_shape(self) -> tuple[int, ...]:
    """The shape of ours[i]."""
    return tuple(self.split[i] for i in self.perm)

  @property
  def shape(self) -> tuple[int, ...]:
    """The shape of our leaf."""
    lead = (len(self.names),) if self.stacked else ()
    return (*lead, *self.layer_shape)

  def to_ours(self, tensor: np.ndarray) -> np.ndarray:
    """ours[i] from a hub tensor, as a view if numpy can make one."""
    return tensor.reshape(self.split).transpose(self.perm)

  def to_hub(self, layer: np.ndarray) -> np.ndarray:
    """The hub tensor from ours[i]; this is the exact inverse of `to_ours`."""
    return layer.transpose(np.argsort(self.perm)).reshape(self.hub_shape)
