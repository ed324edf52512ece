"""What decoding keeps: caches on the device, and a record of all slots on the
host.

The decoding batch has B slots; each draws one rollout at a time. Neighbouring
slots that read the same prompt are a slot group. The keys and values of the
prompt are stored once per slot group, those of the response once per slot. A
place in the response cache is called an index, and all slots write to the same
index at the same step. The host picks an index that no live slot can see.

Beside the axes of records.py there are three:

  U slot groups   W decoding steps of a chunk   E end tokens
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

_NEVER = np.iinfo(np.int32).max  # a step that no chunk reaches


@dataclasses.dataclass(frozen=True)
class DecodeShape:
  """The sizes of a decode state.

  Attributes:
    slots: B, the number of rollouts that decode at once.
    samples_per_prompt: the number of slots in a slot group; it divides B.
    prompt_length: T, the tokens that the prompt cache of a slot group holds.
    response_length: R, the tokens that the response cache of a slot holds.
  """
  slots: int
  samples_per_prompt: int
  prompt_length: int
  response_length: int

  @property
  def slot_groups(self) -> int:
    """U."""
    return self.slots // self.samples_per_prompt


@struct.dataclass
class Prefilled:
  """P prompts of T tokens after their prefill, on device.

  Attributes:
    k, v: a tuple over attention layers; keys [P, K, H, T] and values
      [P, K, T, H], as in arrays.Slots.
    recurrent: the recurrent state after the last token of each prompt, a pytree
      with leaves [P, ...]; () without recurrent layers.
    logits_PV: float32 logits of the first response token.
  """
  k: tuple
  v: tuple
  recurrent: Any
  logits_PV: jax.Array


@struct.dataclass
class DecodeState:
  """What stays on the device between two chunks.

  Attributes:
    prompt_k, prompt_v: a tuple over attention layers; keys [U, K, H, T] and
      values [U, K, T, H] of the prompts.
    response_k, response_v: a tuple over attention layers; keys [B, K, H, R] and
      values [B, K, R, H] of the responses.
    recurrent: the recurrent state, a pytree with leaves [B, ...].
    logits_BV: float32 logits of each slot's next token.
  """
  prompt_k: tuple
  prompt_v: tuple
  response_k: tuple
  response_v: tuple
  recurrent: Any
  logits_BV: jax.Array


@struct.dataclass
class SamplingState:
  """What the host knows about each slot; a chunk reads it and changes nothing.

  The host's arrays are numpy arrays, which the engine updates in place. Each
  name ends in the array's axes, by which programs.shardings_by_axis places it.

  Attributes:
    live_B: bool, True on slots that draw.
    count_B: int32 number of tokens that the rollout has drawn.
    limit_B: int32 number of tokens that it may draw in all.
    next_B: int32 position of the first response token, on every rotary axis.
    start_B: int32 step at which the rollout was inserted.
    key_B2: uint32 data of the rollout's key.
    temperature_B, top_p_B: float32, see records.Decoding.
    top_k_B: int32, see records.Decoding.
    prompt_length_U: int32 tokens of the prompt of each slot group.
    written_R: int32 step at which an index of the response cache was last
      written; -1 if never.
  """
  live_B: Any
  count_B: Any
  limit_B: Any
  next_B: Any
  start_B: Any
  key_B2: Any
  temperature_B: Any
  top_p_B: Any
  top_k_B: Any
  prompt_length_U: Any
  written_R: Any


@struct.dataclass
class ChunkPlan:
  """What one chunk may do; the same on all devices.

  Attributes:
    index_W: int32 index of the response cache to which each step writes.
    first: int32 number of the first step, counted since the slots were idle.
    most: int32, the most steps that are taken, <= W.
    enough: int32; the chunk stops as soon as this many rollouts have ended in
      it, or all.
    end_E: int32 tokens that end a rollout.
    allowed_V: bool, False on ids that may never be drawn.
  """
  index_W: Any
  first: Any
  most: Any
  enough: Any
  end_E: Any
  allowed_V: Any


@struct.dataclass
class ChunkOutput:
  """The tokens that a chunk drew; small enough for the host.

  Attributes:
    tokens_WB: int32, -1 where a slot was not live.
    logp_WB: float32 nats (see records.Rollout.logps), 0 where it was not live.
    live_B: bool, True on slots whose rollout goes on.
    steps: int32 number of steps taken; the rest of W is unused.
  """
  tokens_WB: jax.Array
  logp_WB: jax.Array
  live_B: jax.Array
  steps: jax.Array


def empty(prompt: Prefilled, shape: DecodeShape) -> DecodeState:
  """A decode state of zeros.

  Args:
    prompt: one prefilled prompt (P = 1), or its shapes; it gives the layers,
      heads and types.
    shape: the sizes.
  """
  def zeros(x, first, axis=0, size=0):
    sizes = [first, *x.shape[1:]]
    if axis:
      sizes[axis] = size
    return jnp.zeros(sizes, x.dtype)
  each = lambda xs, *sizes: tuple(zeros(x, *sizes) for x in xs)
  B, U = shape.slots, shape.slot_groups
  T, R = shape.prompt_length, shape.response_length
  return DecodeState(
      prompt_k=each(prompt.k, U, 3, T), prompt_v=each(prompt.v, U, 2, T),
      response_k=each(prompt.k, B, 3, R), response_v=each(prompt.v, B, 2, R),
      recurrent=jax.tree.map(lambda x: zeros(x, B), prompt.recurrent),
      logits_BV=zeros(prompt.logits_PV, B))


def widen(prompt: Prefilled, state: DecodeState,
          shape: DecodeShape) -> DecodeState:
  """A decode state with more slots, which begins with those of `state`.

  Args:
    prompt, shape: see `empty`.
    state: the decode state that is copied.
  """
  put = lambda new, old: jax.lax.dynamic_update_slice(
      new, old, (0,) * old.ndim)
  return jax.tree.map(put, empty(prompt, shape), state)


def idle(shape: DecodeShape) -> SamplingState:
  """The host's state of slots of which none is live."""
  B = shape.slots
  return SamplingState(
      live_B=np.zeros(B, bool),
      count_B=np.zeros(B, np.int32),
      limit_B=np.zeros(B, np.int32),
      next_B=np.zeros(B, np.int32),
      start_B=np.full(B, _NEVER, np.int32),
      key_B2=np.zeros((B, 2), np.uint32),
      temperature_B=np.ones(B, np.float32),
      top_p_B=np.ones(B, np.float32),
      top_k_B=np.zeros(B, np.int32),
      prompt_length_U=np.zeros(shape.slot_groups, np.int32),
      written_R=np.full(shape.response_length, -1, np.int32))


def resized(sampling: SamplingState, shape: DecodeShape) -> SamplingState:
  """The host's state in a larger shape; what is new in it is idle."""
  def keep(larger, array):
    larger[:len(array)] = array
    return larger
  return jax.tree.map(keep, idle(shape), sampling)
