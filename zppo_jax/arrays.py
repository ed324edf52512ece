"""Device records: the pytrees of arrays that programs take and return.

Array names end in the axis key of records.py. Host records are there too.
"""

import dataclasses
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

  def positions(self) -> tuple[int, jax.Array]:
    """(all positions, those of them that hold no token)."""
    size = self.tokens_PT.size
    return size, size - self.length_P.sum()


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
class OwnPrompts:
  """Says that the rows of a micro-batch hold their own prompts.

  Attributes:
    media: images and videos of the rows, or None in a batch of text alone.
  """
  media: Media | None

  def positions(self) -> tuple[int, jax.Array | int]:
    """(positions outside the rows, those of them without a token): none."""
    return 0, 0


@struct.dataclass
class LessonRows:
  """The sequences of a micro-batch whose rows hold their own prompts, behind
  the prompts that a teacher reads. Row b holds those of row b, in its order.

  Attributes:
    tokens_BT, positions_BTA, segment_BT: as in MicroBatch, with a T of its own.
    column_BT: int32, for each response token of the micro-batch its column
      here; 0 elsewhere.
    media: images and videos of the rows, or None.
  """
  tokens_BT: jax.Array
  positions_BTA: jax.Array
  segment_BT: jax.Array
  column_BT: jax.Array
  media: Media | None


@struct.dataclass
class MicroBatch:
  """Sequences that go through the trainer's graph at once.

  Attributes:
    tokens_BT: int32. A row holds one or more sequences, one behind the other;
      each is a prompt and its response, or a response alone (see `prompts`).
      Rows are right-padded.
    positions_BTA: int32 positions on the rotary axes; each sequence has its
      own.
    segment_BT: int32, 1, 2, ... on the sequences of a row, 0 on padding.
    mask_BT: float32, 1 on the tokens that are trained (or scored): response
      tokens whose sequence says so.
    targets: name -> array [B, T, ...], what a loss reads of each token, aligned
      with tokens and 0 outside responses. `algorithms.targets` says which
      names a method has; 'old_logp' (float32 nats under the policy before the
      first update) joins them where the trainer has scored the batch.
    prompts: OwnPrompts if rows hold their own prompts. With a PromptBatch, rows
      hold responses alone, and row b continues prompt b // (B / P), media
      included.
    lessons: what the teacher reads in the place of the prompts: LessonRows, or
      with a PromptBatch another one, whose P may be the number of rows. None:
      it reads the same.
  """
  tokens_BT: jax.Array
  positions_BTA: jax.Array
  segment_BT: jax.Array
  mask_BT: jax.Array
  targets: dict[str, jax.Array]
  prompts: OwnPrompts | PromptBatch
  lessons: PromptBatch | LessonRows | None = None

  def with_target(self, name: str, array_BT: jax.Array) -> 'MicroBatch':
    """This batch with one more target, or another array for one it has."""
    return dataclasses.replace(self, targets={**self.targets, name: array_BT})


@struct.dataclass
class Hidden:
  """A model's last step on a micro-batch.

  Attributes:
    hidden_BTD: the hidden state that predicts token t, in both layouts. On a
      token that begins a sequence with its own prompt it belongs to other
      tokens, so a loss reads it under the mask alone.
    head_DV: the matrix from hidden states to logits (before the temperature).
    mesh: the mesh on which the model runs, or None.
  """
  hidden_BTD: jax.Array
  head_DV: jax.Array
  mesh: Any = struct.field(pytree_node=False, default=None)


@struct.dataclass
class Beside:
  """What a loss reads besides the policy and its micro-batch.

  Attributes:
    frozen: name -> the params of a model that is not trained.
    done: int32, the optimizer steps before this one; None if no coefficient
      depends on them.
  """
  frozen: dict[str, Any] = struct.field(default_factory=dict)
  done: jax.Array | None = None


@struct.dataclass
class PolicyOutput:
  """What a loss reads of the policy. Position t describes token t given the
  tokens before it; an array that a loss does not read costs nothing.

  Attributes:
    logp_BT: float32 or wider, the log-prob of each token in nats, at the
      sampler's temperature; 0 where the batch's mask is 0.
    entropy_BT: the entropy of the distribution that logp_BT is taken from, in
      nats; 0 where the mask is 0.
    hidden_BTD, head_DV, mesh: those of `Hidden`.
    frozen: name -> the `Hidden` of a model that is not trained, on the same
      tokens; it has no gradient.
    done: as in `Beside`.
  """
  logp_BT: jax.Array
  entropy_BT: jax.Array
  hidden_BTD: jax.Array
  head_DV: jax.Array
  frozen: dict[str, Hidden] = struct.field(default_factory=dict)
  done: jax.Array | None = None
  mesh: Any = struct.field(pytree_node=False, default=None)


@struct.dataclass
class TrainState:
  """The state that an update replaces by the next one."""
  params: Any
  opt_state: Any
  updates: jax.Array  # int32: the number of optimizer steps taken


@struct.dataclass
class FollowedState(TrainState):
  """A TrainState with a copy of params that follows them, for a teacher of
  one's own weights. Checkpoints of runs without one have no such leaf.

  Attributes:
    own: the copy, sharded as params.
  """
  own: Any = None
