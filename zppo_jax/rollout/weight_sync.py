"""Rollout weights: the copy of the policy that decoding reads.

A copy has one entry per block, the compute type of the network, and the rollout
sharding. Making it is the weight sync of a step.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.typing import DTypeLike

from zppo_jax import allowed, randomness
from zppo_jax.devices import sharding
from zppo_jax.devices.shared_jit import shared_jit
from zppo_jax.models import Model, layers, lora
from zppo_jax.rollout import quantize

# Leaves that the network uses in float32: scales of norms (of the form 1 + w
# too), their biases, and leaves that set a recurrent layer's decay. They are
# exact because rounding them alone moves bf16 log-probs.
EXACT_LEAVES = frozenset({'scale', 'bias', 'offset', 'A_log', 'dt_bias'})


def cast(params: Any, dtype: DTypeLike) -> Any:
  """Params in the compute type, except EXACT_LEAVES."""
  return jax.tree_util.tree_map_with_path(
      lambda path, x: x if path[-1].key in EXACT_LEAVES else x.astype(dtype),
      params)


def _int8(params: Any, dtype: DTypeLike) -> Any:
  return jax.tree.map(
      lambda small, x: small if isinstance(small, quantize.Int8) else x,
      quantize.int8_leaves(params), cast(params, dtype),
      is_leaf=lambda x: isinstance(x, quantize.Int8))


# student.rollout_weights -> (params by block, compute type) -> rollout weights.
WEIGHTS: dict[str, Callable[[Any, DTypeLike], Any]] = {
    'same': cast,
    'bfloat16': lambda params, dtype: cast(params, jnp.bfloat16),
    'int8': _int8,
}


def rollout_copy(params: Any, dtype: DTypeLike,
                 weights: str = 'same') -> Any:
  """The weights that decoding reads, by block, in a form of WEIGHTS.

  Adapters are merged in float32, block by block, before anything is rounded.

  Args:
    params: stacked or by block (layers.unstack).
    dtype: the compute type.
    weights: a key of WEIGHTS.

  Raises:
    KeyError: for another key.
  """
  make = allowed.known('rollout weights', weights, WEIGHTS)
  return make(lora.merge(layers.unstack(params), jnp.float32), dtype)


@dataclasses.dataclass(frozen=True)
class LeafCopy:
  """How one leaf of the params becomes leaves of the rollout copy.

  Attributes:
    name: the leaf's, as in 'blocks/mlp/up'.
    program: jitted: the leaf -> its leaves of the copy, one per block if it is
      stacked. Leaves that are equal but for their values share a program.
    leaf: its shape, type and sharding; a lora.Adapted of them for a matrix with
      adapters, which becomes one merged matrix per block.
    source: its place among the leaves of the params.
    places: the places of its copies among the leaves of the rollout copy.
  """
  name: str
  program: Callable[[Any], tuple]
  leaf: Any
  source: int
  places: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Reshard:
  """Params in one sharding -> sharded `rollout_copy`, leaf by leaf.

  One program for all leaves would gather them all before it writes them, and so
  need twice the copy. Here the largest leaf comes first, while the rest of the
  copy does not exist yet. One device gathers nothing, so one program for all
  leaves needs no more memory there, and is compiled once.

  Attributes:
    leaves: the leaves in the order in which they are copied.
    copy: shapes, types and shardings of the rollout copy.
    adapted: the frozen weights, if what is copied are their adapters.
    at_once: jitted: all params -> the rollout copy; None on several devices.
  """
  leaves: tuple[LeafCopy, ...]
  copy: Any
  adapted: lora.Lora | None = None
  at_once: Callable[[Any], Any] | None = None

  def __call__(self, params: Any) -> Any:
    if self.adapted is not None:
      params = self.adapted.join(params)
    if self.at_once is not None:
      return self.at_once(params)
    sources, (targets, tree) = _leaves(params), jax.tree.flatten(self.copy)
    for one in self.leaves:
      for place, x in zip(one.places, one.program(sources[one.source]),
                          strict=True):
        targets[place] = x
    return jax.tree.unflatten(tree, targets)

  def eval_shape(self, params: Any) -> Any:
    """Shapes, types and shardings of the result, as of a jitted function."""
    del params
    return self.copy

  def lowered(self) -> dict[str, jax.stages.Lowered]:
    """Each program once, by the name of the first leaf that it copies."""
    once = {}
    for one in self.leaves:
      once.setdefault(one.program, one)
    return {one.name: program.lower(one.leaf)
            for program, one in once.items()}

  def peak_bytes(self) -> tuple[int, int]:
    """(the most bytes, copy so far included, that a device holds besides the
    params; bytes of the copy on a device), by compiled memory analysis."""
    first = {one.name: one.program for one in self.leaves}
    needs = {first[name]: program.compile().memory_analysis()
             for name, program in self.lowered().items()}
    peak = held = 0
    for one in self.leaves:
      need = needs[one.program]
      held += need.output_size_in_bytes
      peak = max(peak, held + need.temp_size_in_bytes)
    return peak, held


def _leaves(params: Any) -> list:
  """The leaves of params; a matrix with adapters is one of them."""
  return jax.tree.leaves(params, is_leaf=lora.is_adapted)


def _alone(path: Sequence[Any], x: Any) -> Any:
  """The params without all leaves but one."""
  for key in reversed(path):
    x = {key.key: x}
  return x


def compile_reshard(model: Model, mesh: Mesh, weights: str = 'same', *,
                    like: Any = None, rules: dict | None = None,
                    adapted: lora.Lora | None = None) -> Reshard:
  """The programs that make the rollout copy; nothing is compiled yet.

  Args:
    model: the network.
    mesh: the mesh on which params and copy lie.
    weights: a key of WEIGHTS.
    like: params or their shapes and types; None: as `model.init` makes them.
    rules: the sharding rules of the params; None: TRAIN_RULES.
    adapted: the frozen weights of a run with adapters. The copy is then made
      from its trained params, which are adapters.
  """
  rules = sharding.TRAIN_RULES if rules is None else rules
  if adapted is not None:
    like = adapted.join(jax.eval_shape(adapted.init, randomness.like_key()))
  params = jax.eval_shape(
      model.init, randomness.like_key()) if like is None else (
      jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), like))
  make = functools.partial(rollout_copy, dtype=jnp.dtype(model.config.dtype),
                           weights=weights)
  of = functools.partial(sharding.param_shardings, mesh=mesh)
  whole = jax.eval_shape(make, params)
  place = {path: i for i, (path, _) in enumerate(
      jax.tree_util.tree_leaves_with_path(whole))}
  programs: dict[Any, Callable] = {}
  leaves = []
  for source, ((path, leaf), before) in enumerate(zip(
      jax.tree_util.tree_leaves_with_path(params, is_leaf=lora.is_adapted),
      _leaves(of(params, rules=rules)), strict=True)):
    copies = jax.eval_shape(make, _alone(path, leaf))
    narrow, after = (tuple(jax.tree.leaves(of(copies, rules=r)))
                     for r in (rules, sharding.ROLLOUT_RULES))

    changed = lora.is_adapted(leaf) or any(
        x.dtype != leaf.dtype for x in jax.tree.leaves(copies))

    def run(x, path=path, narrow=narrow if changed else None):
      out = tuple(jax.tree.leaves(make(_alone(path, x))))
      # Devices then send each other numbers of the type of the copy.
      return out if narrow is None else (
          jax.lax.with_sharding_constraint(out, narrow))

    key = str(jax.make_jaxpr(run)(leaf)), before, narrow, after
    if key not in programs:
      programs[key] = shared_jit(
          run, of=('leaf copy', key[0]), in_shardings=(before,),
          out_shardings=after)
    leaves.append(LeafCopy(
        name='/'.join(k.key for k in path), program=programs[key],
        leaf=jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(
            x.shape, x.dtype, sharding=s), leaf, before),
        source=source, places=tuple(
            place[p] for p, _ in jax.tree_util.tree_leaves_with_path(copies))))
  shardings = of(whole, rules=sharding.ROLLOUT_RULES)
  size = lambda one: sum(
      math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
      for x in (targets[p] for p in one.places))
  copy = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=s), whole, shardings)
  targets = jax.tree.leaves(copy)
  return Reshard(
      tuple(sorted(leaves, key=size, reverse=True)), copy, adapted,
      shared_jit(make, in_shardings=(of(params, rules=rules),),
                 out_shardings=shardings) if mesh.size == 1 else None)


def _rules_of(params: Any, mesh: Mesh) -> dict | None:
  """The rule table by which params lie on the mesh; None if by neither."""
  leaves = jax.tree.leaves(params)
  if not all(isinstance(x, jax.Array) and isinstance(x.sharding, NamedSharding)
             and x.sharding.mesh == mesh for x in leaves):
    return None
  rules = (sharding.TRAIN_RULES if any('fsdp' in x.sharding.spec
                                       for x in leaves)
           else sharding.ROLLOUT_RULES)
  same = jax.tree.leaves(sharding.param_shardings(params, mesh, rules))
  return rules if [x.sharding for x in leaves] == same else None


def place_copy(params: Any, model: Model, mesh: Mesh,
               weights: str = 'same') -> Any:
  """`rollout_copy` of host or device params, in the rollout sharding. Params
  that lie on the mesh by one of the rule tables are copied leaf by leaf. Of
  shapes it is the shapes of the copy, with their shardings."""
  if isinstance(jax.tree.leaves(params)[0], jax.ShapeDtypeStruct):
    return compile_reshard(model, mesh, weights, like=params,
                           rules=sharding.ROLLOUT_RULES).copy
  rules = _rules_of(params, mesh)
  if rules is not None:
    return compile_reshard(model, mesh, weights, like=params, rules=rules)(
        params)
  copy = rollout_copy(params, jnp.dtype(model.config.dtype), weights)
  return jax.device_put(
      copy, sharding.param_shardings(copy, mesh, sharding.ROLLOUT_RULES))
