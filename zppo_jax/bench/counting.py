"""Matmul FLOPs and bytes from shapes alone.

A multiply and an add are two. Norms, rotary phases, softmax and elementwise
products are left out, as in every published MFU. Attention is counted as it is
asked for: a causal prefill of T tokens reads T (T + 1) / 2 keys, whatever a
kernel computes beside them. A backward pass is two forward passes.
"""

import dataclasses
import math
from typing import NamedTuple

import jax

from zppo_jax.models import Model
from zppo_jax.models.decoder import DecoderConfig
from zppo_jax.models.qwen3_5 import Qwen35Config

TRAIN = 3  # forward passes that a forward and a backward pass cost


class Layers(NamedTuple):
  """How many of a model's layers are of each kind."""
  attention: int
  delta: int


@dataclasses.dataclass(frozen=True)
class Counted:
  """What one token costs a model.

  Attributes:
    layers: by kind.
    token_flops: forward, of all projections; without attention scores, the
      recurrence and the head.
    head_flops: forward, of the logits of one token.
    pair_flops: forward, of one query token and one key token in all layers.
    delta_flops: forward, of the recurrence of one token in all layers.
    params: of the decoder, embedding and head once each.
    read_params: parameters that a decode step reads: all but the rows of an
      untied embedding.
    kv_token: numbers of keys and values that one token leaves in all layers.
    state_row: numbers of recurrent memory of one row in all layers; it is read
      and written every step.
    conv_row: numbers of past inputs of its convolutions, likewise.
  """
  layers: Layers
  token_flops: int
  head_flops: int
  pair_flops: int
  delta_flops: int
  params: int
  read_params: int
  kv_token: int
  state_row: int
  conv_row: int


def _params(model: Model, skip=()) -> int:
  """Parameters but those under the names `skip`."""
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  return sum(math.prod(x.shape) for path, x in
             jax.tree_util.tree_leaves_with_path(shapes)
             if path[0].key not in skip)


def _attention(c) -> tuple[int, int]:
  """(projection FLOPs a token, FLOPs a query-key pair) of a layer."""
  gated = isinstance(c, Qwen35Config)
  heads = (2 + gated) * c.num_heads + 2 * c.num_kv_heads  # q, gate, o; k, v
  return (2 * c.width * c.head_dim * heads, 4 * c.num_heads * c.head_dim)


def _delta(c: Qwen35Config) -> tuple[int, int, int, int]:
  """(projection FLOPs, recurrence FLOPs, numbers of memory and of the
  convolution's inputs) of a DeltaNet layer.

  The recurrence reads the state with a key, adds an outer product and reads it
  with a query: three products of key_dim x value_dim a head. The chunked form
  that training uses is other work; this is the work that is asked for.
  """
  keys = c.delta_key_heads * c.delta_key_dim
  values = c.delta_value_heads * c.delta_value_dim
  mixed = 2 * keys + values
  # q, k, v through the convolution; the gate z; a and b of every head; out
  columns = mixed + values + 2 * c.delta_value_heads + values
  projections = 2 * c.width * columns + 2 * c.conv_kernel * mixed
  head = c.delta_key_dim * c.delta_value_dim
  state = c.delta_value_heads * head
  return projections, 6 * state, state, mixed * (c.conv_kernel - 1)


def count(model: Model) -> Counted:
  """What a token costs; the vision tower is not counted.

  Raises:
    ValueError: for a family whose layers are not known here.
  """
  c = model.config
  if isinstance(c, DecoderConfig):
    layers = Layers(c.num_layers, 0)
  elif isinstance(c, Qwen35Config):
    layers = Layers(c.num_blocks, c.num_layers - c.num_blocks)
  else:
    raise ValueError(f'the model family is {model.family!r}; FLOPs are '
                     'counted for decoder, llama, qwen3 and qwen3_5')
  projections, pair = _attention(c)
  token = layers.attention * projections
  delta, state, conv = 0, 0, 0
  if layers.delta:
    more, *each = _delta(c)
    token += layers.delta * more
    delta, state, conv = (layers.delta * n for n in each)
  token += c.num_layers * 6 * c.width * c.mlp_width
  params = _params(model, ('vision',))
  return Counted(
      layers, token, 2 * c.width * c.vocab_size, layers.attention * pair,
      delta, params, params if c.tied else params - c.vocab_size * c.width,
      layers.attention * 2 * c.num_kv_heads * c.head_dim, state, conv)


def _pairs(start: int, length: int) -> int:
  """Query-key pairs of `length` causal tokens behind `start` others."""
  return length * start + length * (length + 1) // 2


def forward_flops(c: Counted, rows: int, length: int, *, start: int = 0,
                  logits: int | None = None) -> int:
  """Of `rows` rows of `length` tokens behind a cache of `start`.

  Args:
    c: the model's.
    rows: B.
    length: T.
    start: cached tokens that every new one sees.
    logits: tokens of a row whose logits are computed; None: all.
  """
  logits = length if logits is None else logits
  return rows * (length * (c.token_flops + c.delta_flops)
                 + logits * c.head_flops
                 + _pairs(start, length) * c.pair_flops)


def train_flops(c: Counted, prompts: int, prompt: int, rollouts: int,
                response: int, shared: bool = False) -> int:
  """Forward and backward of all rows, logits of the responses alone.

  Recomputation is not asked for and not counted. With `shared` a prompt is run
  once for all of its rows.
  """
  rows = prompts * rollouts
  if not shared:
    return TRAIN * forward_flops(c, rows, prompt + response, logits=response)
  return TRAIN * (
      forward_flops(c, prompts, prompt, logits=0)
      + forward_flops(c, rows, response, start=prompt, logits=response))


def sample_flops(c: Counted, prompts: int, prompt: int, rollouts: int,
                 response: int, shared: bool = True) -> int:
  """Of generating `response` tokens for `rollouts` rows of each prompt.

  The last token is drawn and never fed. With `shared` a prompt is run once.
  """
  rows = prompts * rollouts
  fed = response - 1
  return (forward_flops(c, prompts if shared else rows, prompt, logits=1)
          + forward_flops(c, rows, fed, start=prompt))


def step_flops(c: Counted, prompts: int, prompt: int, rollouts: int,
               response: int, shared: bool = True,
               shared_update: bool = False) -> int:
  """Of an RL step on exact lengths: sampling and one update over all rows.

  Args:
    c, prompts, prompt, rollouts, response: as `sample_flops`.
    shared: whether sampling runs a prompt once.
    shared_update: whether the update does.
  """
  sizes = prompts, prompt, rollouts, response
  return sample_flops(c, *sizes, shared) + train_flops(
      c, *sizes, shared_update)


def decode_bytes(c: Counted, rows: int, context: int, *, weight_bytes: float,
                 cache_bytes: int, state_bytes: int = 4,
                 prompt: int = 0, share: int = 1) -> dict[str, float]:
  """Bytes that one decode step must move.

  Args:
    c: the model's.
    rows: B.
    context: tokens that a row sees, the new one included.
    weight_bytes, cache_bytes, state_bytes: of one number; a convolution's
      inputs lie in the type of the cache.
    prompt: tokens of the context that lie once for `share` rows. A step reads
      them once for all of those: cache.attend has the rows' queries as one
      operand of its products.
    share: rows of a unit (programs.Geometry).

  Returns:
    weights, cache_read, cache_write, state_read, state_write, total.
  """
  shared = -(-rows // share) * prompt
  kept = rows * (context - 1 - prompt) + shared
  state = rows * (c.state_row * state_bytes + c.conv_row * cache_bytes)
  out = {'weights': c.read_params * weight_bytes,
         'cache_read': kept * c.kv_token * cache_bytes,
         'cache_write': rows * c.kv_token * cache_bytes,
         'state_read': state, 'state_write': state}
  return {**out, 'total': sum(out.values())}


def sample_bytes(c: Counted, prompts: int, prompt: int, rollouts: int,
                 response: int, share: int | None = None, **sizes) -> float:
  """Of all decode steps of `sample_flops`' work.

  Args:
    c, prompts, prompt, rollouts, response: as `sample_flops`.
    share: rows that read one copy of a prompt; None: all of its rollouts.
    sizes: as `decode_bytes`.
  """
  rows, share = prompts * rollouts, share or rollouts
  return sum(decode_bytes(c, rows, prompt + i + 1, prompt=prompt, share=share,
                          **sizes)['total'] for i in range(response - 1))
