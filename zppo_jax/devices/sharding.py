"""The mesh, and one table of logical axes for training, one for rollouts.

Every parameter leaf has a row in PARAM_AXES. The two rule tables say on which
mesh axis a logical axis lies. Training shards width over fsdp. Rollouts hold
whole weights per (data, fsdp) coordinate, so that decoding gathers none.
"""

import dataclasses
import math

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from zppo_jax import allowed
from zppo_jax.devices import hosts

MESH_AXES = ('data', 'fsdp', 'tensor')
BATCH_AXES = ('data', 'fsdp')

# leaf name (with its owner if owners share the name) -> logical axes, without
# the leading 'layers' axis of stacked modules.
PARAM_AXES = {
    'embed': ('vocab', 'width'),
    'head': ('width', 'vocab'),
    'attention/q': ('width', 'heads', 'head_dim'),
    'attention/k': ('width', 'kv_heads', 'head_dim'),
    'attention/v': ('width', 'kv_heads', 'head_dim'),
    'attention/o': ('heads', 'head_dim', 'width'),
    'mlp/gate': ('width', 'mlp'),
    'mlp/up': ('width', 'mlp'),
    'mlp/down': ('mlp', 'width'),
    'q_norm/scale': ('head_dim',),
    'k_norm/scale': ('head_dim',),
    'attention_norm/scale': ('norm',),
    'mlp_norm/scale': ('norm',),
    'norm/scale': ('norm',),
    'q_norm/offset': ('head_dim',),
    'k_norm/offset': ('head_dim',),
    'mixer_norm/offset': ('norm',),
    'mlp_norm/offset': ('norm',),
    'norm/offset': ('norm',),
    'out_norm/scale': ('head_dim',),
    'attention/q_gate': ('width', 'heads', 'pair', 'head_dim'),
    'delta/qkv': ('width', 'channels'),
    'delta/z': ('width', 'heads', 'head_dim'),
    'delta/a': ('width', 'heads'),
    'delta/b': ('width', 'heads'),
    'delta/conv': ('taps', 'channels'),
    'delta/A_log': ('heads',),
    'delta/dt_bias': ('heads',),
    'delta/o': ('heads', 'head_dim', 'width'),
    # Vision towers.
    'patch': ('patch_values', 'width'),
    'patch_bias': ('norm',),
    'positions': ('positions', 'width'),
    'attention/qkv': ('width', 'qkv', 'heads', 'head_dim'),
    'attention/qkv_bias': ('qkv', 'heads', 'head_dim'),
    'attention/o_bias': ('norm',),
    'attention_norm/bias': ('norm',),
    'mlp_norm/bias': ('norm',),
    'norm/bias': ('norm',),
    'mlp/up_bias': ('mlp',),
    'mlp/down_bias': ('norm',),
}
# Modules whose leaves have a leading axis of layers.
STACKED = {'blocks', 'taps'}

TRAIN_RULES = {
    'layers': None, 'width': 'fsdp', 'vocab': 'tensor', 'heads': 'tensor',
    'kv_heads': 'tensor', 'mlp': 'tensor', 'head_dim': None, 'norm': None,
    'patch_values': None, 'positions': None, 'qkv': None,
    'channels': 'tensor', 'taps': None, 'pair': None,
}
ROLLOUT_RULES = {**TRAIN_RULES, 'width': None}


@dataclasses.dataclass(frozen=True)
class MeshConfig:
  """Devices along each mesh axis; their product is the device count used."""
  data: int = 1
  fsdp: int = 1
  tensor: int = 1

  @property
  def shape(self) -> tuple[int, int, int]:
    return self.data, self.fsdp, self.tensor


def make_mesh(config: MeshConfig, devices=None) -> Mesh:
  """A mesh of (data, fsdp, tensor).

  Raises:
    ValueError: if an axis is below 1, or the mesh does not use all devices
      (a single process may leave the others idle with a mesh of one).
  """
  devices = jax.devices() if devices is None else devices
  for name, size in zip(MESH_AXES, config.shape, strict=True):
    allowed.number(f'mesh.{name}', size, '>= 1')
  count = math.prod(config.shape)
  alone = count == 1 and hosts.count() == 1
  if count > len(devices) or (count != len(devices) and not alone):
    several = '' if hosts.count() == 1 else f' of {hosts.count()} processes'
    raise ValueError(
        f'mesh {"x".join(map(str, config.shape))} (data x fsdp x tensor) '
        f'needs {count} devices; {len(devices)}{several} are here. Allowed: '
        f'{"" if several else "1x1x1 or "}a product of {len(devices)}')
  grid = np.asarray(devices[:count]).reshape(config.shape)
  return Mesh(grid, MESH_AXES)


def _is_part(path) -> bool:
  """Whether a key path ends in a field of a weight that is not an array
  (quantize.Int8); such fields share the weight's axes."""
  return isinstance(path[-1], jax.tree_util.GetAttrKey)


def param_axes(path) -> tuple[str, ...]:
  """Logical axes of a parameter from its key path.

  Raises:
    KeyError: for a leaf without a row in PARAM_AXES.
  """
  if _is_part(path):
    path = path[:-1]
  names = [str(getattr(k, 'key', getattr(k, 'name', k))) for k in path]
  for key in ('/'.join(names[-2:]), names[-1]):
    if key in PARAM_AXES:
      axes = PARAM_AXES[key]
      return ('layers', *axes) if STACKED.intersection(names) else axes
  raise KeyError(f'parameter {"/".join(names)} has no row in '
                 'sharding.PARAM_AXES')


def param_shardings(params, mesh: Mesh, rules: dict):
  """A NamedSharding for every leaf of a params-shaped pytree.

  Args:
    params: arrays or ShapeDtypeStructs.
    mesh: the mesh.
    rules: TRAIN_RULES or ROLLOUT_RULES.

  Raises:
    ValueError: if a sharded axis does not divide, naming the parameter.
  """
  def one(path, leaf):
    axes = param_axes(path)
    # A scale has size 1 along the axes that share it.
    spec = [None if _is_part(path) and size == 1 else rules[axis]
            for size, axis in zip(leaf.shape, axes, strict=True)]
    for size, axis, mesh_axis in zip(leaf.shape, axes, spec, strict=True):
      if mesh_axis and size % mesh.shape[mesh_axis]:
        raise ValueError(
            f'parameter {jax.tree_util.keystr(path)}: axis {axis!r} of size '
            f'{size} does not divide over mesh.{mesh_axis} = '
            f'{mesh.shape[mesh_axis]}')
    return NamedSharding(mesh, PartitionSpec(*spec))
  return jax.tree_util.tree_map_with_path(one, params)


def state_shardings(tree, params, shardings, mesh: Mesh):
  """Shardings of an optimizer state: params-shaped subtrees are sharded like
  params, everything else is replicated."""
  replicated = NamedSharding(mesh, PartitionSpec())
  structure = jax.tree.structure(params)
  is_params = lambda x: jax.tree.structure(x) == structure
  return jax.tree.map(
      lambda x: shardings if is_params(x) else replicated, tree,
      is_leaf=is_params)


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """The leading axis is cut over data and fsdp; other axes are whole."""
  return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def batch_shards(mesh: Mesh) -> int:
  """The number of parts into which the batch axis is cut."""
  return mesh.shape['data'] * mesh.shape['fsdp']


def put_batch(mesh: Mesh, tree):
  """Turns host arrays, equal on every process, into global sharded arrays."""
  sharding = batch_sharding(mesh)
  def put(x):
    x = np.asarray(x)
    return jax.make_array_from_callback(x.shape, sharding, lambda i: x[i])
  return jax.tree.map(put, tree)


def as_global(tree, shardings):
  """Host arrays, equal on every process, as arguments of a jitted function.

  A single process hands them to jit as they are. Several processes may not: jit
  refuses host arrays there for shardings that cut them.

  Args:
    tree: host arrays.
    shardings: a sharding for each, or one for all.
  """
  if hosts.count() == 1:
    return tree
  def put(sharding, of):
    return jax.tree.map(lambda x: jax.make_array_from_callback(
        np.shape(x), sharding, lambda i: np.asarray(x)[i]), of)
  return jax.tree.map(put, shardings, tree)


def to_host(tree):
  """Turns global arrays into numpy arrays, whole on every process."""
  def get(x):
    if isinstance(x, jax.Array) and not (
        x.is_fully_addressable or x.is_fully_replicated):
      from jax.experimental import multihost_utils
      return np.asarray(multihost_utils.process_allgather(x, tiled=True))
    return np.asarray(x)
  return jax.tree.map(get, tree)
