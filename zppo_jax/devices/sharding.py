"""The mesh, and one table of logical axes for training, one for rollouts.

Every parameter leaf has a row in PARAM_AXES. The two rule tables say on which
mesh axis a logical axis lies. Training shards width over fsdp. Rollouts hold
whole weights per (data, fsdp) coordinate, so that decoding gathers none.
"""

import dataclasses
import functools
import math

import jax
import numpy as np
import optax
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from zppo_jax import allowed
from zppo_jax.devices import hosts

MESH_AXES = ('data', 'fsdp', 'tensor')
BATCH_AXES = ('data', 'fsdp')
FREE = PartitionSpec.UNCONSTRAINED  # an axis that the compiler may cut (`pin`)

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
# The adapters of a matrix, A and B (models/lora.py), below its name.
ADAPTERS = ('lora_a', 'lora_b')
# Modules whose leaves have a leading axis of layers.
STACKED = {'blocks', 'taps'}

TRAIN_RULES = {
    'layers': None, 'width': 'fsdp', 'vocab': 'tensor', 'heads': 'tensor',
    'kv_heads': 'tensor', 'mlp': 'tensor', 'head_dim': None, 'norm': None,
    'patch_values': None, 'positions': None, 'qkv': None,
    'channels': 'tensor', 'taps': None, 'pair': None, 'rank': None,
}
ROLLOUT_RULES = {**TRAIN_RULES, 'width': None}

# An axis that lies whole on every device where its rule does not divide it. The
# layer that reads such a parameter makes the copies (attention.copied), so that
# each device computes with the heads of its own queries alone.
COPIED = frozenset({'kv_heads'})


@dataclasses.dataclass(frozen=True)
class MeshConfig:
  """Devices along each mesh axis; their product is the device count used.

  Attributes:
    data, fsdp, tensor: devices along each axis.
    slices: TPU slices, which the network of the data centre joins. They lie
      along `data`, which has the fewest collectives.
  """
  data: int = 1
  fsdp: int = 1
  tensor: int = 1
  slices: int = 1

  @property
  def shape(self) -> tuple[int, int, int]:
    return self.data, self.fsdp, self.tensor


def make_mesh(config: MeshConfig, devices=None, field: str = 'mesh') -> Mesh:
  """A mesh of (data, fsdp, tensor).

  On TPUs, neighbours along an axis are neighbours in the network of the slice,
  and a coordinate of `data` never spans two slices. Other devices keep their
  order.

  Args:
    config: the sizes.
    devices: the devices; None: all.
    field: the name of the config's field, for errors.

  Raises:
    ValueError: if an axis is below 1, if the mesh does not use all devices (in
      one process, a mesh of one device may leave the others idle), or if the
      slices do not divide `data` or are not those of the devices.
  """
  devices = list(jax.devices() if devices is None else devices)
  sizes = {**dict(zip(MESH_AXES, config.shape, strict=True)),
           'slices': config.slices}
  for name, size in sizes.items():
    allowed.number(f'{field}.{name}', size, '>= 1')
  count, processes = math.prod(config.shape), {d.process_index for d in devices}
  single = '1x1x1 or ' if len(processes) == 1 else ''
  if count != len(devices) and not (single and count == 1):
    where = '' if single else f', on {len(processes)} processes'
    raise ValueError(
        f'{field} {"x".join(map(str, config.shape))} (data x fsdp x tensor) '
        f'needs {count} devices; {len(devices)} are here{where}. Allowed: '
        f'{single}a product of {len(devices)}')
  if config.data % config.slices:
    raise ValueError(
        f'{field}.data is {config.data}; it must be a multiple of '
        f'mesh.slices = {config.slices}, because slices lie along data')
  return Mesh(_grid(config, devices[:count], field), MESH_AXES)


def _grid(config: MeshConfig, devices: list, field: str) -> np.ndarray:
  """The devices of a mesh in the order of its axes."""
  if devices[0].platform != 'tpu' or len(devices) == 1:
    return np.asarray(devices).reshape(config.shape)
  there = len({getattr(d, 'slice_index', None) for d in devices})
  if there != config.slices:
    raise ValueError(f'mesh.slices is {config.slices}; the devices lie in '
                     f'{there} slice(s)')
  inside = (config.data // there, config.fsdp, config.tensor)
  try:
    if there > 1:
      return mesh_utils.create_hybrid_device_mesh(
          inside, (there, 1, 1), devices, allow_split_physical_axes=True)
    return mesh_utils.create_device_mesh(
        inside, devices, allow_split_physical_axes=True)
  except (NotImplementedError, ValueError) as e:
    raise ValueError(
        f'{field} {"x".join(map(str, config.shape))} (data x fsdp x tensor) '
        f'cannot be laid over the {len(devices)} {devices[0].device_kind} '
        f'devices: {e}') from e


def kv_copies(num_heads: int, num_kv_heads: int, mesh: Mesh | None) -> int:
  """How often each key/value head exists, so that the heads divide over tensor.

  Head h's copies are neighbours, and a device's queries read the copies that
  lie on it. Query heads that do not divide over tensor, which `param_shardings`
  refuses, have no copies.
  """
  tensor = 1 if mesh is None else mesh.shape['tensor']
  return 1 if num_heads % tensor else tensor // math.gcd(num_kv_heads, tensor)


def _is_part(path) -> bool:
  """Whether a key path ends in a field of a weight that is not an array
  (quantize.Int8, lora.Adapted); but for adapters, they share its axes."""
  return isinstance(path[-1], jax.tree_util.GetAttrKey)


def num_in(matrix: str) -> int:
  """How many of a matrix's axes are its input: all before the width that it
  writes, or the width that it reads.

  Args:
    matrix: its key in PARAM_AXES.
  """
  axes = PARAM_AXES[matrix]
  return len(axes) - 1 if axes[-1] == 'width' else 1


def param_axes(path) -> tuple[str, ...]:
  """Logical axes of a parameter from its key path.

  Adapters of a matrix (models/lora.py) have its input axes and a rank, or a
  rank and its output axes.

  Raises:
    KeyError: for a leaf without a row in PARAM_AXES.
  """
  names = [str(getattr(k, 'key', getattr(k, 'name', k))) for k in path]
  if names[-1] in ADAPTERS:
    axes = param_axes(path[:-1])
    split = num_in('/'.join(names[-3:-1])) + (axes[0] == 'layers')
    return ((*axes[:split], 'rank') if names[-1] == 'lora_a' else
            (*axes[:axes[0] == 'layers'], 'rank', *axes[split:]))
  if _is_part(path):
    path, names = path[:-1], names[:-1]
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
    ValueError: if a sharded axis that is not COPIED does not divide, naming the
      parameter.
  """
  def place(path, size, axis):
    # A scale of an Int8 has size 1 along the axes that share it.
    if _is_part(path) and path[-1].name == 'scale' and size == 1:
      return None
    mesh_axis = rules[axis]
    if mesh_axis and axis in COPIED and size % mesh.shape[mesh_axis]:
      return None
    return mesh_axis

  def one(path, leaf):
    axes = param_axes(path)
    spec = [place(path, size, axis)
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
  params, everything else is replicated. Such a subtree may lack parameters,
  with an optax.MaskedNode in the place of each."""
  replicated = NamedSharding(mesh, PartitionSpec())
  structure = jax.tree.structure(params)
  lacks = lambda x: isinstance(x, optax.MaskedNode)
  is_params = lambda x: jax.tree.structure(x, is_leaf=lacks) == structure

  def place(x):
    if not is_params(x):
      return replicated
    return jax.tree.map(lambda leaf, where: leaf if lacks(leaf) else where,
                        x, shardings, is_leaf=lacks)
  return jax.tree.map(place, tree, is_leaf=is_params)


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """The leading axis is cut over data and fsdp; other axes are whole."""
  return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def pin(x, mesh: Mesh | None, *axes):
  """x, held to axes of a mesh inside a program.

  Without it the compiler chooses a sharding for every intermediate array, and
  behind a gather it may choose to hold the whole batch on each device. On one
  device x is returned as it is, and so are rows that do not divide over the
  mesh, such as the single row from which shapes are read.

  Args:
    x: an array.
    mesh: the mesh, or None.
    *axes: for each of the first axes of x, the mesh axes over which it is cut
      (BATCH_AXES for rows), None for an axis that is whole, or FREE for one
      that the compiler may cut. The axes of x that are not named are FREE.
  """
  if mesh is None or mesh.size == 1:
    return x
  for size, axis in zip(x.shape, axes, strict=False):
    names = () if axis in (None, FREE) else (
        axis if isinstance(axis, tuple) else (axis,))
    if size % math.prod(mesh.shape[name] for name in names):
      return x
  spec = PartitionSpec(*axes, *[FREE] * (x.ndim - len(axes)))
  return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))


def pin_rows(tree, mesh: Mesh | None, axis: int = 0):
  """A pytree whose arrays have rows on an axis, with these rows held to the
  batch axes of a mesh (`pin`); other axes stay as they are."""
  return jax.tree.map(
      lambda x: pin(x, mesh, *[FREE] * axis, BATCH_AXES), tree)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def regathered(w, cut: NamedSharding, whole: NamedSharding):
  """A weight that lies as `cut`, gathered to lie as `whole`.

  Its gradient is summed over the devices straight into `cut`, so that no device
  holds the sum of a whole weight (ZeRO, Rajbhandari et al. 2020, section 5).
  """
  return jax.lax.with_sharding_constraint(
      jax.lax.with_sharding_constraint(w, cut), whole)


regathered.defvjp(
    lambda w, cut, whole: (regathered(w, cut, whole), None),
    lambda cut, whole, _, grad: (
        jax.lax.with_sharding_constraint(grad, cut),))


def batch_shards(mesh: Mesh) -> int:
  """The number of parts into which the batch axis is cut."""
  return mesh.shape['data'] * mesh.shape['fsdp']


def _stays_on_host(mesh: Mesh) -> bool:
  return mesh.size == 1 and mesh.devices.flat[0].platform == 'cpu'


def abstract_batch(mesh: Mesh, tree):
  """The shapes of a batch as `put_batch` hands it over, for compiling ahead: a
  program that was compiled for arrays of a sharding is compiled anew for arrays
  of the host."""
  placed = None if _stays_on_host(mesh) else batch_sharding(mesh)
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=placed), tree)


def put_batch(mesh: Mesh, tree):
  """Turns host arrays, equal on every process, into global sharded arrays.

  On one CPU they stay host arrays: the jitted function that takes them reads
  them where they are, and handing them over first costs more than a small step.
  """
  sharding = batch_sharding(mesh)
  if _stays_on_host(mesh):
    return tree
  if hosts.count() == 1:
    return jax.device_put(tree, sharding)
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
