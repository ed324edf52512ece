"""The shapes that a rollout engine may meet, and its compiled programs.

Every shape comes from a table, so the number of programs is bounded
(`Shapes.max_programs`); `Programs.compilations` counts the compiled ones.
Engines of equal models on equal meshes share them (devices/shared_jit.py).
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from zppo_jax import allowed, randomness
from zppo_jax.devices import compile_ahead, sharding
from zppo_jax.devices.compile_ahead import Job
from zppo_jax.devices.shared_jit import shared_jit
from zppo_jax.learner import packing
from zppo_jax.models import Model, layers
from zppo_jax.rollout import decode, decode_state, drawing
from zppo_jax.rollout.decode_state import (
  ChunkOutput,
  ChunkPlan,
  DecodeShape,
  DecodeState,
  Prefilled,
  SamplingState,
)

Record = TypeVar('Record')


def sorted_sizes(field: str, sizes: Sequence[int]) -> tuple[int, ...]:
  """Each size once, from the smallest to the largest.

  Args:
    field: the name of the field that holds the sizes, for errors.
    sizes: whole numbers >= 1.

  Raises:
    ValueError: for no sizes, or for anything else among them.
  """
  if not sizes:
    raise ValueError(f'{field} is {tuple(sizes)}; it must hold at least one '
                     'size')
  return tuple(sorted({allowed.number(f'a size in {field}', size, '>= 1',
                                      whole=True) for size in sizes}))


@dataclasses.dataclass(frozen=True)
class Shapes:
  """Sorted tables of all sizes; the fields of DecodeShape take theirs from it.

  Attributes:
    slots: numbers of slots; the largest is vLLM's max_num_seqs.
    samples_per_prompt: numbers of slots that read one prompt; 1 is one of them,
      and each divides all `slots`.
    prompt_lengths: tokens of a padded prompt.
    response_lengths: tokens of a response cache; the last holds the longest
      response.
    patches: patches of a prompt's padded media; () if no prompt has media.
    prefill_sizes: numbers of prompts of one padded prefill.
    cache_lengths: tokens of a prompt that a decode state holds; the last is the
      last of `prompt_lengths`. (): those lengths.
    share_from: decode states of shorter prompts have no slot groups of several
      slots. Each slot has the prompt of its own rollout.
    prefill_limits: the most prompts of a prefill, for each of `prompt_lengths`;
      media count as the longest prompt. (): no limit.
  """
  slots: tuple[int, ...]
  samples_per_prompt: tuple[int, ...]
  prompt_lengths: tuple[int, ...]
  response_lengths: tuple[int, ...]
  patches: tuple[int, ...]
  prefill_sizes: tuple[int, ...]
  cache_lengths: tuple[int, ...] = ()
  share_from: int = 0
  prefill_limits: tuple[int, ...] = ()

  def __post_init__(self):
    if not self.cache_lengths:
      object.__setattr__(self, 'cache_lengths', self.prompt_lengths)
    allowed.number('Shapes.share_from', self.share_from, '>= 0', whole=True)
    for field in dataclasses.fields(self):
      if field.name in ('share_from', 'prefill_limits'):
        continue
      table = getattr(self, field.name)
      if table or field.name != 'patches':
        table = sorted_sizes(f'Shapes.{field.name}', table)
      object.__setattr__(self, field.name, tuple(table))
    if self.cache_lengths[-1] != self.prompt_lengths[-1]:
      raise ValueError(
          f'Shapes.cache_lengths end at {self.cache_lengths[-1]}; they must '
          f'end at the longest prompt, {self.prompt_lengths[-1]}')
    if self.prefill_limits and len(self.prefill_limits) != len(
        self.prompt_lengths):
      raise ValueError(
          f'Shapes.prefill_limits is {self.prefill_limits}; it must have a '
          f'number for each of prompt_lengths, {self.prompt_lengths}')
    for limit in self.prefill_limits:
      allowed.number('a number in Shapes.prefill_limits', limit, '>= 1',
                     whole=True)
    if self.samples_per_prompt[0] != 1:
      raise ValueError(f'Shapes.samples_per_prompt is '
                       f'{self.samples_per_prompt}; 1 must be among them')
    for slots in self.slots:
      for samples in self.samples_per_prompt:
        if slots % samples:
          raise ValueError(
              f'Shapes.slots holds {slots}; it must be a multiple of every '
              f'samples_per_prompt, here of {samples}')

  @property
  def largest(self) -> DecodeShape:
    """All slots, each with a prompt of its own, and every length the longest.
    """
    return DecodeShape(
        slots=self.slots[-1], samples_per_prompt=1,
        prompt_length=self.prompt_lengths[-1],
        response_length=self.response_lengths[-1])

  def prefills(self, length: int, patches: int = 0) -> tuple[int, ...]:
    """Numbers of prompts of one padded prefill.

    Args:
      length: one of `prompt_lengths`.
      patches: of each prompt's padded media, whose tower needs memory too; 0
        for prompts without any.
    """
    if not self.prefill_limits:
      return self.prefill_sizes
    of = self.prompt_lengths[-1] if patches else length
    most = self.prefill_limits[self.prompt_lengths.index(of)]
    return tuple(dict.fromkeys(min(n, most) for n in self.prefill_sizes))

  @property
  def max_programs(self) -> int:
    """The most programs that an engine with these shapes can compile.

    There are |slots| |samples_per_prompt| |cache_lengths| |response_lengths|
    shapes of a decode state. For each shape there may be programs that make it
    empty, widen it, decode in every mode, and insert prefills of every size
    whose prompts are no longer. The caches of prompts and responses grow by one
    table entry at a time, whatever the other sizes are. Prefills differ by
    prompt length, patches and size.
    """
    T, R = len(self.cache_lengths), len(self.response_lengths)
    P, B = len(self.prefill_sizes), len(self.slots)
    samples = len(self.samples_per_prompt)
    prefills = len(self.prompt_lengths) * (1 + len(self.patches)) * P
    insertions = B * samples * R * P * sum(
        prompt <= cache for prompt in self.prompt_lengths
        for cache in self.cache_lengths)
    growths = B * samples * (T - 1) + B * (R - 1)
    growths += (B - 1) * samples * T * R
    return prefills + insertions + growths + B * samples * T * R * (
        1 + len(drawing.MODES))


def table_of(longest: int, smallest: int, factor: int = 4) -> tuple[int, ...]:
  """Sizes from `longest` down to `smallest`, each `factor` times smaller."""
  sizes = [longest]
  while sizes[-1] > smallest:
    sizes.append(max(smallest, -(-sizes[-1] // factor)))
  return tuple(sorted(sizes))


def shape_of(state: DecodeState) -> DecodeShape:
  """The sizes of a decode state."""
  (slots, *_, response), (groups, *_, prompt) = (
      keys[0].shape for keys in (state.response_k, state.prompt_k))
  return DecodeShape(slots=slots, samples_per_prompt=slots // groups,
                     prompt_length=prompt, response_length=response)


def shardings_by_axis(record: type[Record],
                      by_axis: Mapping[str, Any]) -> Record:
  """A record with the sharding of each array in place of the array.

  Args:
    record: a dataclass whose field names end in the axes of an array, such as
      key_B2.
    by_axis: the sharding of an array by its first axis.

  Raises:
    KeyError: for a field with another first axis, or without axes.
  """
  def one(name: str):
    axes = name.rpartition('_')[2] if '_' in name else ''
    return allowed.known(f'first axis of {record.__name__}.{name}', axes[:1],
                         by_axis)
  return record(**{f.name: one(f.name) for f in dataclasses.fields(record)})


class Programs:
  """The jitted steps of rollout/decode.py for one model on one mesh.

  Args:
    model: the network.
    mesh: the mesh on which it runs.
    shapes: all sizes that the steps may meet.
    vocab: see drawing.draw.

  Attributes:
    compilations: programs that were compiled by calls of this object's methods.
  """

  def __init__(self, model: Model, mesh: Mesh, shapes: Shapes,
               vocab: int | None = None):
    self.model, self.mesh, self.shapes = model, mesh, shapes
    self.compilations = 0
    batch = sharding.batch_sharding(mesh)
    whole = sharding.replicated(mesh)
    split = mesh.shape['tensor']
    params = jax.eval_shape(layers.unstack, jax.eval_shape(
        model.init, randomness.like_key()))
    # Equal models are traced once for it.
    prompt = shared_jit(functools.partial(
        decode.prefill, model=model)).eval_shape(
            params, packing.pad_prompts([], 1, 1, 0, model.num_axes))
    self._prompt = prompt

    def heads(x):
      """Axis 0 over the batch, and heads over tensor if they divide."""
      axis = 'tensor' if x.ndim == 4 and x.shape[1] % split == 0 else None
      return NamedSharding(mesh, PartitionSpec(sharding.BATCH_AXES, axis))
    k, v, recurrent = jax.tree.map(
        heads, (prompt.k, prompt.v, prompt.recurrent))
    prefilled = Prefilled(k=k, v=v, recurrent=recurrent, logits_PV=batch)
    state = DecodeState(
        prompt_k=k, prompt_v=v, response_k=k, response_v=v,
        recurrent=recurrent, logits_BV=batch)
    self._state_shardings, self._prefilled_shardings = state, prefilled
    sampling = shardings_by_axis(
        SamplingState, {'B': batch, 'U': batch, 'R': whole})
    self._sampling_shardings, self._whole = sampling, whole
    self._prefill = shared_jit(
        functools.partial(decode.prefill, model=model),
        in_shardings=(None, batch), out_shardings=prefilled)
    self._empty = shared_jit(
        functools.partial(decode_state.empty, prompt), static_argnums=0,
        out_shardings=state)
    self._insert = shared_jit(
        decode.insert, donate_argnums=0,
        in_shardings=(state, prefilled, whole, whole, whole),
        out_shardings=state)
    # The arrays are not donated, because no output has the shape of an input.
    # The method `grow` deletes them instead.
    self._grow = shared_jit(
        decode.grow, static_argnums=2, in_shardings=(k[0], k[0]),
        out_shardings=(k[0], k[0]))
    self._widen = shared_jit(
        functools.partial(decode_state.widen, prompt), static_argnums=1,
        in_shardings=(state,), out_shardings=state)
    self._decode = {
        mode: shared_jit(
            functools.partial(decode.decode_chunk, model=model, mode=mode,
                              vocab=vocab),
            donate_argnums=1, in_shardings=(None, state, sampling, whole),
            out_shardings=(state, whole))
        for mode in drawing.MODES}

  def _run(self, program, *args):
    before = program._cache_size()
    out = program(*args)
    self.compilations += program._cache_size() - before
    return out

  def _need(self, name: str, *sizes: Any) -> None:
    """Waits for a program of `jobs` that is being compiled."""
    compile_ahead.PROGRAMS.need((id(self), name, *sizes))

  def jobs(self, params: Any, shape: DecodeShape, size: int, length: int,
           sampling: SamplingState, plan: ChunkPlan,
           mode: str = drawing.DRAW) -> list[Job]:
    """The programs of a decode state that gets prefilled prompts, in the order
    of their first calls: their keys, and what compiles them.

    Args:
      params: shapes of the weights, with shardings.
      shape: the decode state.
      size, length: the number and the padded length of the prompts.
      sampling, plan, mode: arguments of `decode`, whose values do not count.
    """
    placed = lambda like, on: jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), like,
        on)
    prompts = sharding.abstract_batch(self.mesh, packing.pad_prompts(
        [], size, length, 0, self.model.num_axes))
    state = placed(self._abstract(shape), self._state_shardings)
    several = jax.eval_shape(lambda: decode_state.empty(
        self._prompt, DecodeShape(slots=size, samples_per_prompt=1,
                                  prompt_length=length, response_length=1)))
    prefilled = placed(Prefilled(
        k=several.prompt_k, v=several.prompt_v, recurrent=several.recurrent,
        logits_PV=several.logits_BV), self._prefilled_shardings)
    groups = np.zeros(shape.slot_groups, np.int32)
    every = {
        ('empty', shape): lambda: self._empty.lower(shape),
        ('prefill', size, length, 0): lambda: self._prefill.lower(
            params, prompts),
        ('insert', shape, size, length): lambda: self._insert.lower(
            state, prefilled, groups, groups, np.int32(0)),
        ('decode', mode, shape): lambda: self._decode[mode].lower(
            params, state, sampling, plan)}
    return [Job((id(self), *key), lambda lower=lower: lower().compile())
            for key, lower in every.items()]

  def prefill(self, params: Any, prompts: Sequence, size: int, length: int,
              patches: int) -> Prefilled:
    """Prefills at most `size` prompts; they are as in packing.pad_prompts."""
    batch = packing.pad_prompts(prompts, size, length, patches,
                                self.model.num_axes)
    self._need('prefill', size, length, patches)
    return self._run(self._prefill, params,
                     sharding.put_batch(self.mesh, batch))

  def empty(self, shape: DecodeShape) -> DecodeState:
    """A decode state of zeros."""
    self._need('empty', shape)
    return self._run(self._empty, shape)

  def insert(self, state: DecodeState, prefilled: Prefilled,
             groups: Sequence[int], sources: Sequence[int]) -> DecodeState:
    """The state with prefilled prompt sources[i] in slot group groups[i]."""
    padded = np.zeros((2, state.prompt_k[0].shape[0]), np.int32)
    padded[:, :len(groups)] = groups, sources
    self._need('insert', shape_of(state), *prefilled.k[0].shape[::3])
    return self._run(self._insert, state, prefilled, *sharding.as_global(
        (*padded, np.int32(len(groups))), self._whole))

  def grow(self, state: DecodeState, shape: DecodeShape) -> DecodeState:
    """The state with caches of the lengths of `shape`; `state` is deleted
    where they grow.

    One layer grows at a time and its old cache is freed at once, so at most one
    layer exists twice.
    """
    def longer(ks, vs, size):
      if ks[0].shape[3] == size:
        return ks, vs
      pairs = []
      for k, v in zip(ks, vs, strict=True):
        pairs.append(self._run(self._grow, k, v, size))
        k.delete()
        v.delete()
      return tuple(zip(*pairs, strict=True))
    prompt_k, prompt_v = longer(
        state.prompt_k, state.prompt_v, shape.prompt_length)
    response_k, response_v = longer(
        state.response_k, state.response_v, shape.response_length)
    return state.replace(prompt_k=prompt_k, prompt_v=prompt_v,
                         response_k=response_k, response_v=response_v)

  def widen(self, state: DecodeState, shape: DecodeShape) -> DecodeState:
    """The state with the slots of `shape`, which begin with its own; `state`
    is deleted."""
    wider = self._run(self._widen, state, shape)
    for x in jax.tree.leaves(state):
      x.delete()
    return wider

  def decode(self, mode: str, params: Any, state: DecodeState,
             sampling: SamplingState, plan: ChunkPlan) -> tuple[
                 DecodeState, ChunkOutput]:
    """decode.decode_chunk; `state` is donated."""
    self._need('decode', mode, shape_of(state))
    return self._run(
        self._decode[mode], params, state,
        sharding.as_global(sampling, self._sampling_shardings),
        sharding.as_global(plan, self._whole))

  def _abstract(self, shape: DecodeShape) -> DecodeState:
    return jax.eval_shape(lambda: decode_state.empty(self._prompt, shape))

  def lower_prefill(self, params: Any, size: int, length: int,
                    patches: int) -> jax.stages.Lowered:
    """The lowered prefill of `size` prompts; `params` may be shapes."""
    prompts = packing.pad_prompts([], size, length, 0, self.model.num_axes)
    if patches:
      prompts = prompts.replace(media=packing.blank_media(
          size, patches, self.model.config.vision.patch_values))
    return self._prefill.lower(params, prompts)

  def lower_decode(self, params: Any, shape: DecodeShape,
                   mode: str) -> jax.stages.Lowered:
    """The lowered decode chunk of a shape; `params` may be shapes."""
    one = np.int32(1)
    return self._decode[mode].lower(
        params, self._abstract(shape), decode_state.idle(shape), ChunkPlan(
            index_W=np.zeros(1, np.int32), first=one, most=one, enough=one,
            end_E=np.ones(1, np.int32),
            allowed_V=np.ones(self.model.config.vocab_size, bool)))

  def largest(self, params: Any) -> dict[str, jax.stages.Lowered]:
    """The largest text-only prefill and decode chunk, both lowered."""
    s = self.shapes
    return {
        'prefill': self.lower_prefill(
            params, s.prefills(s.prompt_lengths[-1])[-1], s.prompt_lengths[-1],
            0),
        'decode chunk': self.lower_decode(params, s.largest, drawing.DRAW)}

  def largest_cache_bytes(self) -> int:
    """Bytes of the largest decode state on one device (`Shapes.largest`)."""
    one = lambda x, on: math.prod(on.shard_shape(x.shape)) * x.dtype.itemsize
    return sum(jax.tree.leaves(jax.tree.map(
        one, self._abstract(self.shapes.largest), self._state_shardings)))

  def cache_bytes(self, shape: DecodeShape) -> dict[str, int]:
    """Bytes of a decode state on all devices: {'prompts', 'responses': the
    attention caches, 'state': the recurrent state}."""
    state = self._abstract(shape)
    size = lambda tree: sum(x.size * x.dtype.itemsize
                            for x in jax.tree.leaves(tree))
    return {'prompts': size((state.prompt_k, state.prompt_v)),
            'responses': size((state.response_k, state.response_v)),
            'state': size(state.recurrent)}
