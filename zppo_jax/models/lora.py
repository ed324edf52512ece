"""Low-rank adapters: W x + (alpha / rank) B A x on named matrices, W frozen.

LoRA (Hu et al. 2022, arXiv 2106.09685, section 4.1). A matrix that has adapters
is a record of three arrays in its place (`Adapted`), as an int8 matrix is a
record of two, so that no family knows of adapters: `layers.project` adds the
low-rank product.

The product is added to the output of the frozen one. A merged matrix inside the
forward pass would be the same function, but its gradient is that of the whole
matrix, at the cost of full training, and a mesh would sum it over the devices.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import DTypeLike

from zppo_jax import allowed, randomness
from zppo_jax.devices import sharding

# lora.matrices -> the owner and the name of a matrix in a block. Vision towers,
# embeddings, heads and norms have no adapters.
MATRICES = {
    'q': 'attention/q', 'q_gate': 'attention/q_gate', 'k': 'attention/k',
    'v': 'attention/v', 'o': 'attention/o', 'gate': 'mlp/gate',
    'up': 'mlp/up', 'down': 'mlp/down', 'delta_qkv': 'delta/qkv',
    'delta_z': 'delta/z', 'delta_a': 'delta/a', 'delta_b': 'delta/b',
    'delta_o': 'delta/o'}
# Those of an empty lora.matrices: attention and MLP. A Qwen3.5 has q_gate in
# the place of q.
DEFAULT = ('q', 'q_gate', 'k', 'v', 'o', 'gate', 'up', 'down')
_BLOCKS = 'blocks'


@dataclasses.dataclass(frozen=True)
class LoraConfig:
  """The section `lora`.

  Attributes:
    rank: r, the rank of B A; 0 means that all weights are trained.
    alpha: the product is multiplied by alpha / rank.
    matrices: keys of MATRICES; () means those of DEFAULT that the model has.
    start: a folder of peft's, or a run, with whose adapters a run begins; ''
      begins with new ones.
  """
  rank: int = 0
  alpha: float = 32.0
  matrices: tuple[str, ...] = ()
  start: str = ''

  def __post_init__(self) -> None:
    allowed.number('lora.rank', self.rank, '>= 0', whole=True)
    allowed.number('lora.alpha', self.alpha, '> 0')
    if self.start and not self.rank:
      raise ValueError(f'lora.start is {self.start!r} and lora.rank 0, which '
                       'trains all weights; it must be the rank of these '
                       'adapters')
    object.__setattr__(self, 'matrices', tuple(self.matrices))
    for name in self.matrices:
      allowed.one_of('a name of lora.matrices', name, MATRICES)

  @property
  def on(self) -> bool:
    return self.rank > 0

  @property
  def scale(self) -> float:
    """alpha / rank."""
    return self.alpha / self.rank


@struct.dataclass
class Adapted:
  """A frozen matrix with its adapters; stacked blocks have a first axis L.

  Attributes:
    base: W [in..., out...].
    lora_a: [in..., r], the paper's A transposed.
    lora_b: [r, out...], the paper's B transposed.
    scale: alpha / r.
  """
  base: Any
  lora_a: Any
  lora_b: Any
  scale: float = struct.field(pytree_node=False)

  @property
  def shape(self) -> tuple[int, ...]:
    return self.base.shape

  @property
  def dtype(self) -> Any:
    """The type of the frozen matrix."""
    return self.base.dtype

  def on_output(self, f: Callable[[Any], Any]) -> 'Adapted':
    """The matrix with another output: f acts on output axes, counted from the
    last one, which base and lora_b share."""
    return self.replace(base=f(self.base), lora_b=f(self.lora_b))

  def merged(self, dtype: DTypeLike | None = None) -> jax.Array:
    """base + scale * lora_a lora_b of one block, summed in float32.

    Args:
      dtype: of the result; None: that of the base.
    """
    a, b = (jnp.asarray(x, jnp.float32) for x in (self.lora_a, self.lora_b))
    product = jnp.tensordot(a, b, 1, precision=jax.lax.Precision.HIGHEST)
    out = jnp.asarray(self.base, jnp.float32) + self.scale * product
    return out.astype(dtype or self.base.dtype)


def is_adapted(x: Any) -> bool:
  return isinstance(x, Adapted)


def name_of(path: Sequence[Any]) -> str | None:
  """The key of MATRICES of a leaf by its key path; None for another leaf."""
  keys = [k.key for k in path]
  if not keys[0].startswith(_BLOCKS):
    return None
  owner = '/'.join(keys[-2:])
  return next((n for n, of in MATRICES.items() if of == owner), None)


def present(params: Any) -> list[str]:
  """The keys of MATRICES that params, or their shapes, have."""
  has = {name_of(path) for path, _ in
         jax.tree_util.tree_leaves_with_path(params)}
  return [name for name in MATRICES if name in has]


def chosen(config: LoraConfig, params: Any) -> dict[str, str]:
  """The name of each matrix with adapters -> its owner and name in a block.

  Args:
    config: the section.
    params: those of the model, or their shapes.

  Raises:
    ValueError: for a named matrix that the model does not have.
  """
  has = present(params)
  for name in config.matrices:
    allowed.one_of('a name of lora.matrices', name, has,
                   note=', the matrices of student.weights')
  wanted = config.matrices or [n for n in DEFAULT if n in has]
  return {name: MATRICES[name] for name in wanted}


def put(tree: dict, path: Sequence[Any], value: Any) -> None:
  """Puts a value at a key path into nested dicts, which are made on the way."""
  for key in path[:-1]:
    tree = tree.setdefault(key.key, {})
  tree[path[-1].key] = value


def init(config: LoraConfig, params: Any, key: jax.Array) -> Any:
  """New adapters: A uniform in +-1 / sqrt(in), B zero, both float32.

  The paper has a Gaussian A; this is the range of its authors' code and of
  PEFT, with which published learning rates were found.

  Args:
    config: the section.
    params: stacked params of the model, or their shapes.
    key: the key of all draws; the name of a matrix makes its own.

  Returns:
    The tree of params, with {'lora_a', 'lora_b'} in the place of each matrix
    that has adapters and without all other leaves.
  """
  wanted, out = chosen(config, params), {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    if name_of(path) not in wanted:
      continue
    num_in = sharding.num_in('/'.join(k.key for k in path[-2:]))
    lead, shape = leaf.shape[:1], leaf.shape[1:]
    inner, outer = shape[:num_in], shape[num_in:]
    of = jax.random.fold_in(key, np.uint32(randomness.question_uid(
        '/'.join(k.key for k in path))))
    bound = math.prod(inner)**-0.5
    put(out, path, {
        'lora_a': jax.random.uniform(
            of, (*lead, *inner, config.rank), jnp.float32, -bound, bound),
        'lora_b': jnp.zeros((*lead, config.rank, *outer), jnp.float32)})
  return out


def shapes(config: LoraConfig, model: Any) -> Any:
  """Shapes and types of the adapters of a Model."""
  params = jax.eval_shape(model.init, randomness.like_key())
  return jax.eval_shape(lambda key: init(config, params, key),
                        randomness.like_key())


def join(base: Any, adapters: Any, scale: float) -> Any:
  """Params of the network: base with `Adapted` where there are adapters.

  Nothing is computed, so it works on arrays, shapes and shardings alike.
  """
  if 'lora_a' in adapters:
    return Adapted(base=base, lora_a=adapters['lora_a'],
                   lora_b=adapters['lora_b'], scale=scale)
  return {name: join(of, adapters[name], scale) if name in adapters else of
          for name, of in base.items()}


def merge(params: Any, dtype: DTypeLike | None = None) -> Any:
  """Params by block (layers.unstack) with `Adapted.merged` in the place of each
  Adapted; params without any as they are."""
  return jax.tree.map(
      lambda x: x.merged(dtype) if is_adapted(x) else x, params,
      is_leaf=is_adapted)


@functools.partial(jax.jit, static_argnums=1)
def _stacked(x: Adapted, dtype: DTypeLike) -> jax.Array:
  return jax.vmap(lambda one: one.merged(dtype))(x)


def merge_stacked(params: Any) -> Any:
  """Stacked params of `join` as float32 arrays, merged leaf by leaf."""
  return jax.tree.map(
      lambda x: _stacked(x, jnp.float32) if is_adapted(x)
      else jnp.asarray(x, jnp.float32), params, is_leaf=is_adapted)


class OfAdapters(NamedTuple):
  """A jitted function of the params of a network, called with adapters.

  Attributes:
    program: (params, ...) -> results.
    join: adapters -> params.
  """
  program: Callable
  join: Callable[[Any], Any]

  def __call__(self, adapters: Any, *args: Any) -> Any:
    return self.program(self.join(adapters), *args)

  def lower(self, adapters: Any, *args: Any) -> Any:
    """The program of these arguments, lowered."""
    return self.program.lower(self.join(adapters), *args)


@dataclasses.dataclass(frozen=True)
class Lora:
  """The frozen weights of a run with adapters.

  Attributes:
    config: the section.
    base: stacked params on the mesh, in the compute type.
  """
  config: LoraConfig
  base: Any

  def init(self, key: jax.Array) -> Any:
    """New adapters; in the place of a Model's `init`, the trained params."""
    return init(self.config, self.base, key)

  def join(self, adapters: Any) -> Any:
    """Trained params -> the params of the network."""
    return join(self.base, adapters, self.config.scale)
