"""Device records: the pytrees of arrays that programs take and return.

Array names end in the axis key of records.py. Host records are there too.
"""

from typing import Any

import jax
from flax import struct


@struct.dataclass
class Samples:
  """What the sampler returns; all arrays on device.

  Attributes:
    tokens_PGR: int32 ids, 0 beyond a row's length.
    logp_PGR: float32 nats, 0 beyond a row's length (see Rollout.logps).
    length_PG: int32 tokens, end token included.
    stop_PG: int32 `StopReason`.
  """
  tokens_PGR: jax.Array
  logp_PGR: jax.Array
  length_PG: jax.Array
  stop_PG: jax.Array


@struct.dataclass
class Media:
  """`PromptMedia` of a batch on device, right-padded to I patches.

  segment_BI is 0 on padding. The k-th placeholder of a row stands for the k-th
  merged patch of that row.
  """
  patches_BIC: jax.Array
  rotary_BI2: jax.Array
  segment_BI: jax.Array
  corners_BI4: jax.Array
  weights_BI4: jax.Array


@struct.dataclass
class PromptBatch:
  """Prompts of one shape, on device.

  Attributes:
    tokens_PT: int32, right-padded.
    length_P: int32 tokens; 0 marks a padded prompt.
    positions_PTA: int32 positions of the tokens.
    next_P: int32 position of the first response token, on every axis.
    media: images and videos, or None in a batch of text alone.
  """
  tokens_PT: jax.Array
  length_P: jax.Array
  positions_PTA: jax.Array
  next_P: jax.Array
  media: Media | None


@struct.dataclass
class NewKV:
  """What apply returns for the cache, besides hidden states.

  L counts attention layers in k and v. If params have one entry per block
  (layers.over_blocks), k and v are tuples over L and not stacked.

  Attributes:
    k_LBTKH, v_LBTKH: keys and values of the new tokens; the caller writes them
      to slots.
    state: the recurrent state after each row's last real token (segment > 0),
      a pytree that replaces the cache's state; () without recurrent layers.
      Leaves are [L, B, ...] if k and v are stacked, else [B, ...].
  """
  k_LBTKH: Any
  v_LBTKH: Any
  state: Any


@struct.dataclass
class Slots:
  """Keys and values that rows of a batch read, laid out for products.

  C rows of slots serve B rows that read: B is a multiple of C, and B / C
  neighbours share one row of slots. k and v are stacked or tuples, as in NewKV.

  Attributes:
    k_LCKHS: rotated keys.
    v_LCKSH: values.
    valid_CS: True where a slot holds a token that may be attended to.
  """
  k_LCKHS: Any
  v_LCKSH: Any
  valid_CS: jax.Array


@struct.dataclass
class Cache:
  """The decoding cache, an explicit input of apply, which only reads it.

  Attributes:
    sources: all slots that a token sees, in one softmax with the new tokens.
    state: the recurrent state (see NewKV).
  """
  sources: tuple[Slots, ...]
  state: Any = ()


@struct.dataclass
class MicroBatch:
  """Rows that go through the trainer's graph at once.

  Attributes:
    tokens_BT: int32. A row holds one or more sequences, one behind the other;
      each is a prompt and its response. Rows are right-padded.
    positions_BTA: int32 positions on the rotary axes; each sequence has its
      own.
    segment_BT: int32, 1, 2, ... on the sequences of a row, 0 on padding.
    mask_BT: float32, 1 on response tokens (the tokens that are trained).
    adv_BT: float32, the advantage of a sequence on its response tokens.
    old_logp_BT: float32 nats under the policy before the first update,
      aligned with tokens (position t holds log p(token t | tokens < t)).
    sampler_logp_BT: float32 nats as the sampler stored them, same alignment.
    media: images and videos of the rows, or None.
    prompts: None if rows hold their own prompts. Otherwise rows hold responses
      alone, and row b continues prompt b // (B / P), media included.
  """
  tokens_BT: jax.Array
  positions_BTA: jax.Array
  segment_BT: jax.Array
  mask_BT: jax.Array
  adv_BT: jax.Array
  old_logp_BT: jax.Array
  sampler_logp_BT: jax.Array
  media: Media | None = None
  prompts: PromptBatch | None = None


@struct.dataclass
class TrainState:
  """The state that an update replaces by the next one."""
  params: Any
  opt_state: Any
  updates: jax.Array  # int32: the number of optimizer steps taken
