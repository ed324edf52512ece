"""The shapes that a rollout engine may meet, and its compiled programs.

Every shape comes from a table, so the number of programs is bounded
(`Shapes.max_programs`); `Programs.compilations` counts the compiled ones.
"""

import dataclasses
import functools
import math

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from zppo_jax.devices import sharding
from zppo_jax.learner import packing
from zppo_jax.models import layers
from zppo_jax.rollout import decode


@dataclasses.dataclass(frozen=True, order=True)
class Geometry:
  """A pool's shape: rows B, rows per unit, prompt slots T, response slots R."""
  rows: int
  share: int
  prompt: int
  own: int


@dataclasses.dataclass(frozen=True)
class Shapes:
  """Sorted tables of all shapes.

  Attributes:
    rows: numbers of rows of a pool; the largest is the number of slots.
    shares: numbers of rows that read one prompt; 1 is one of them, and each
      divides all `rows`.
    prompts: prompt lengths in tokens.
    owns: numbers of response slots of a row; the last holds the longest
      response.
    patches: numbers of patches of a prompt's media.
    groups: numbers of prompts of one prefill.
  """
  rows: tuple[int, ...]
  shares: tuple[int, ...]
  prompts: tuple[int, ...]
  owns: tuple[int, ...]
  patches: tuple[int, ...]
  groups: tuple[int, ...]

  def __post_init__(self):
    for name in ('rows', 'shares', 'prompts', 'owns', 'groups'):
      table = tuple(sorted(set(getattr(self, name))))
      if not table or table[0] < 1:
        raise ValueError(f'shapes.{name} is {table}; it must hold at least '
                         'one size, each >= 1')
      object.__setattr__(self, name, table)
    object.__setattr__(self, 'patches', tuple(sorted(set(self.patches))))
    if self.shares[0] != 1:
      raise ValueError(f'shapes.shares is {self.shares}; 1 must be among them')
    for rows in self.rows:
      for share in self.shares:
        if rows % share:
          raise ValueError(f'shapes.rows holds {rows}; it must be a multiple '
                           f'of shares, {share}')

  @property
  def max_programs(self) -> int:
    """The most programs that an engine with these shapes can compile.

    A pool has |rows| |shares| |prompts| |owns| shapes. For each shape there may
    be programs that make it empty, widen it, decode in every mode, and insert
    prefills of every group size whose prompts are no longer. Slots of prompts
    or responses grow by one table entry at a time, whatever the other sizes
    are. Prefills differ by prompt length, patches and group size.
    """
    T, R, P = len(self.prompts), len(self.owns), len(self.groups)
    pools = len(self.rows) * len(self.shares)
    prefills = T * (1 + len(self.patches)) * P
    admissions = pools * R * P * T * (T + 1) // 2
    growths = pools * (T - 1) + len(self.rows) * (R - 1)
    growths += (len(self.rows) - 1) * len(self.shares) * T * R
    return prefills + admissions + growths + pools * T * R * (
        1 + len(decode.MODES))


def table_of(longest: int, smallest: int, factor: int = 4) -> tuple[int, ...]:
  """Sizes from `longest` down to `smallest`, each `factor` times smaller."""
  sizes = [longest]
  while sizes[-1] > smallest:
    sizes.append(max(smallest, -(-sizes[-1] // factor)))
  return tuple(sorted(sizes))


class Programs:
  """The jitted steps of rollout/decode.py for one model on one mesh."""

  def __init__(self, model, mesh, shapes: Shapes):
    self.model, self.mesh, self.shapes = model, mesh, shapes
    rows = sharding.batch_sharding(mesh)
    whole = sharding.replicated(mesh)
    split = mesh.shape['tensor']
    params = jax.eval_shape(lambda key: layers.unstack(model.init(key)),
                            jax.random.key(0))
    prompt = jax.eval_shape(
        functools.partial(decode.prefill, model=model), params,
        packing.pad_prompts([], 1, 1, 0, model.num_axes))
    self._prompt = prompt

    def heads(x):
      """Axis 0 over the batch, and heads over tensor if they divide."""
      axis = 'tensor' if x.ndim == 4 and x.shape[1] % split == 0 else None
      return NamedSharding(mesh, PartitionSpec(sharding.BATCH_AXES, axis))
    of = functools.partial(jax.tree.map, heads)
    prefilled = decode.Prefilled(
        of(prompt.k), of(prompt.v), of(prompt.state), rows)
    pool = decode.DecodeState(of(prompt.k), of(prompt.v), of(prompt.k),
                         of(prompt.v), of(prompt.state), rows)
    self._placed = pool
    # jit shares its cache between equal functions; no two partials are equal.
    fresh = functools.partial
    by_row = decode.Rows(*[rows] * 10, whole)
    self._prefill = jax.jit(
        functools.partial(decode.prefill, model=model),
        in_shardings=(None, rows), out_shardings=prefilled)
    self._empty = jax.jit(
        functools.partial(decode.empty, prompt), static_argnums=(0, 1, 2, 3),
        out_shardings=pool)
    self._admit = jax.jit(
        fresh(decode.admit), donate_argnums=0,
        in_shardings=(pool, prefilled, whole, whole, whole),
        out_shardings=pool)
    # The arrays are not donated, because no output has the shape of an input.
    # The method `grow` deletes them instead.
    layer = heads(prompt.k[0])
    self._grow = jax.jit(
        fresh(decode.grow), static_argnums=2, in_shardings=(layer, layer),
        out_shardings=(layer, layer))
    self._widen = jax.jit(
        functools.partial(decode.widen, prompt), static_argnums=(1, 2, 3, 4),
        in_shardings=(pool,), out_shardings=pool)
    self._bursts = {
        mode: jax.jit(
            functools.partial(decode.burst, model=model, mode=mode),
            donate_argnums=1,
            in_shardings=(None, pool, by_row, *[whole] * 6),
            out_shardings=(pool, whole))
        for mode in decode.MODES}

  @property
  def compilations(self) -> int:
    """The number of programs that were compiled so far."""
    return sum(f._cache_size() for f in (
        self._prefill, self._empty, self._admit, self._grow, self._widen,
        *self._bursts.values()))

  def prefill(self, params, prompts, size: int, length: int, patches: int):
    """Prefills at most `size` prompts; they are as in packing.pad_prompts."""
    batch = packing.pad_prompts(prompts, size, length, patches,
                                self.model.num_axes)
    return self._prefill(params, sharding.put_batch(self.mesh, batch))

  def empty(self, shape: Geometry) -> decode.DecodeState:
    return self._empty(*dataclasses.astuple(shape))

  def admit(self, pool, prefilled, units, sources):
    """The pool with prefilled prompt sources[i] in units[i]."""
    room = pool.prompt_k[0].shape[0]
    padded = np.zeros((2, room), np.int32)
    padded[:, :len(units)] = units, sources
    return self._admit(pool, prefilled, *padded, np.int32(len(units)))

  def grow(self, pool, prompt: int, own: int):
    """The pool with this many slots; layers that need no more keep theirs.

    One layer grows at a time and its old slots are freed at once, so at most
    one layer of the pool exists twice.
    """
    def longer(ks, vs, size):
      if ks[0].shape[3] == size:
        return ks, vs
      out = []
      for k, v in zip(ks, vs, strict=True):
        out.append(self._grow(k, v, size))
        k.delete()
        v.delete()
      return tuple(zip(*out, strict=True))
    prompt_k, prompt_v = longer(pool.prompt_k, pool.prompt_v, prompt)
    own_k, own_v = longer(pool.own_k, pool.own_v, own)
    return pool.replace(prompt_k=prompt_k, prompt_v=prompt_v, own_k=own_k,
                        own_v=own_v)

  def widen(self, pool, shape: Geometry):
    """The pool with this many rows; the rows that it has keep their values."""
    wider = self._widen(pool, *dataclasses.astuple(shape))
    for x in jax.tree.leaves(pool):
      x.delete()
    return wider

  def burst(self, mode: str, params, pool, *args):
    return self._bursts[mode](params, pool, *args)

  def largest(self, params) -> dict:
    """The largest text-only prefill and burst, both lowered."""
    s, shape = self.shapes, Geometry(
        self.shapes.rows[-1], 1, self.shapes.prompts[-1], self.shapes.owns[-1])
    pool, mode = jax.eval_shape(lambda: decode.empty(
        self._prompt, *dataclasses.astuple(shape))), decode.DRAW
    B, f32, i32 = shape.rows, np.zeros(shape.rows, np.float32), np.zeros(
        shape.rows, np.int32)
    rows = decode.Rows(
        np.zeros(B, bool), i32, i32, i32, i32, np.zeros((B, 2), np.uint32),
        f32, f32, i32, i32, np.zeros(shape.own, np.int32))
    one = np.int32(1)
    return {
        'prefill': self._prefill.lower(params, packing.pad_prompts(
            [], s.groups[-1], s.prompts[-1], 0, self.model.num_axes)),
        'burst': self._bursts[mode].lower(
            params, pool, rows, np.zeros(1, np.int32), one, one, one, one,
            np.ones(self.model.config.vocab_size, bool))}

  def largest_cache_bytes(self) -> int:
    """Bytes on one device of the largest pool: all slots are used, each has a
    prompt of its own, and every length is the longest."""
    s = self.shapes
    shape = Geometry(s.rows[-1], 1, s.prompts[-1], s.owns[-1])
    pool = jax.eval_shape(lambda: decode.empty(
        self._prompt, *dataclasses.astuple(shape)))
    one = lambda x, on: math.prod(on.shard_shape(x.shape)) * x.dtype.itemsize
    return sum(jax.tree.leaves(jax.tree.map(one, pool, self._placed)))

  def cache_bytes(self, shape: Geometry) -> dict[str, int]:
    """Bytes of a pool on all devices: attention cache and recurrent state."""
    pool = jax.eval_shape(lambda: decode.empty(
        self._prompt, *dataclasses.astuple(shape)))
    size = lambda tree: sum(x.size * x.dtype.itemsize
                            for x in jax.tree.leaves(tree))
    return {'prompts': size((pool.prompt_k, pool.prompt_v)),
            'responses': size((pool.own_k, pool.own_v)),
            'state': size(pool.state)}
