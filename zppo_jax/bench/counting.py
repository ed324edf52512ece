"""Matmul FLOPs and bytes from shapes alone.

A multiply and an add count as two. Norms, rotary phases, softmax and
elementwise products are left out, as in every published MFU. Attention counts
the pairs that it is asked for: a causal prefill of T tokens reads T (T + 1) / 2
keys, whatever else a kernel computes. A backward pass counts as two forward
passes.
"""

import dataclasses
import math
from typing import NamedTuple

import jax

from zppo_jax.models import Model
from zppo_jax.models.decoder import DecoderConfig
from zppo_jax.models.qwen3_5 import Qwen35Config

TRAIN = 3  # a forward and a backward pass cost as much as 3 forward passes
# Of adapters, whose own products are not counted: the backward pass goes to the
# activations alone.
TRAIN_ADAPTERS = 2


class Layers(NamedTuple):
  """The number of layers of each kind in a model."""
  attention: int
  delta: int


@dataclasses.dataclass(frozen=True)
class Counted:
  """What one token costs a model.

  Attributes:
    layers: the number of layers by kind.
    token_flops: FLOPs of the forward pass in all projections, without attention
      scores, the recurrence and the head.
    head_flops: FLOPs of the forward pass for the logits of one token.
    pair_flops: FLOPs of the forward pass for one query token and one key token,
      in all layers.
    delta_flops: FLOPs of the forward pass of the recurrence for one token, in
      all layers.
    params: parameters of the decoder; embedding and head count once each.
    read_params: parameters that a decode step reads: all except the rows of an
      untied embedding.
    kv_token: the count of numbers in the keys and values that one token leaves
      in all layers.
    state_row: the count of numbers in the recurrent memory of one row in all
      layers; every step reads and writes it.
    conv_row: the count of numbers in the past inputs of a row's convolutions;
      every step reads and writes them.
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
  """The number of parameters, except those under the names `skip`."""
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  return sum(math.prod(x.shape) for path, x in
             jax.tree_util.tree_leaves_with_path(shapes)
             if path[0].key not in skip)


def _attention(c) -> tuple[int, int]:
  """(projection FLOPs per token, FLOPs per query-key pair) of a layer."""
  gated = isinstance(c, Qwen35Config)
  heads = (2 + gated) * c.num_heads + 2 * c.num_kv_heads  # q, gate, o; k, v
  return (2 * c.width * c.head_dim * heads, 4 * c.num_heads * c.head_dim)


def _delta(c: Qwen35Config) -> tuple[int, int, int, int]:
  """(projection FLOPs, recurrence FLOPs, the counts of numbers in the memory
  and in the convolution's inputs) of a DeltaNet layer.

  The recurrence reads the state with a key, adds an outer product and reads the
  state with a query: three products of key_dim x value_dim per head. The
  chunked form that training uses does other work, which is not counted.
  """
  keys = c.delta_key_heads * c.delta_key_dim
  values = c.delta_value_heads * c.delta_value_dim
  mixed = 2 * keys + values
  # q, k, v through the convolution; the gate z; a and b of every head; output
  columns = mixed + values + 2 * c.delta_value_heads + values
  projections = 2 * c.width * columns + 2 * c.conv_kernel * mixed
  head = c.delta_key_dim * c.delta_value_dim
  state = c.delta_value_heads * head
  return projections, 6 * state, state, mixed * (c.conv_kernel - 1)


def count(model: Model) -> Counted:
  """The cost of a token; the vision tower is not counted.

  Raises:
    ValueError: for a family whose layers this module does not know.
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
  """FLOPs of `rows` rows of `length` tokens behind a cache of `start` tokens.

  Args:
    c: the counts of the model.
    rows: B.
    length: T.
    start: the number of cached tokens that every new token sees.
    logits: the number of tokens per row whose logits are computed; None: all.
  """
  logits = length if logits is None else logits
  return rows * (length * (c.token_flops + c.delta_flops)
                 + logits * c.head_flops
                 + _pairs(start, length) * c.pair_flops)


def train_flops(c: Counted, prompts: int, prompt: int, rollouts: int,
                response: int, shared: bool = False) -> int:
  """FLOPs of the forward and backward pass of all rows, with logits of the
  responses alone.

  Recomputation does not count, because the work does not ask for it. With
  `shared` a prompt runs once for all of its rows.
  """
  rows = prompts * rollouts
  if not shared:
    return TRAIN * forward_flops(c, rows, prompt + response, logits=response)
  return TRAIN * (
      forward_flops(c, prompts, prompt, logits=0)
      + forward_flops(c, rows, response, start=prompt, logits=response))


def sample_flops(c: Counted, prompts: int, prompt: int, rollouts: int,
                 response: int, shared: bool = True) -> int:
  """FLOPs of generating `response` tokens for `rollouts` rows of each prompt.

  The last token is drawn but never fed. With `shared` a prompt is run once.
  """
  rows = prompts * rollouts
  fed = response - 1
  return (forward_flops(c, prompts if shared else rows, prompt, logits=1)
          + forward_flops(c, rows, fed, start=prompt))


def step_flops(c: Counted, prompts: int, prompt: int, rollouts: int,
               response: int, shared: bool = True,
               shared_update: bool = False) -> int:
  """FLOPs of an RL step on exact lengths: sampling and one update on all rows.

  Args:
    c, prompts, prompt, rollouts, response: see `sample_flops`.
    shared: whether sampling runs a prompt once.
    shared_update: whether the update runs a prompt once.
  """
  sizes = prompts, prompt, rollouts, response
  return sample_flops(c, *sizes, shared) + train_flops(
      c, *sizes, shared_update)


def decode_bytes(c: Counted, slots: int, context: int, *, weight_bytes: float,
                 cache_bytes: int, state_bytes: int = 4, prompt: int = 0,
                 samples_per_prompt: int = 1) -> dict[str, float]:
  """Bytes that one decode step must move.

  Args:
    c: the counts of the model.
    slots: B, the slots that draw.
    context: the number of tokens that a slot sees, the new token included.
    weight_bytes, cache_bytes, state_bytes: bytes of one number; a convolution's
      inputs have the type of the cache.
    prompt: the number of tokens of the context that are stored once for
      `samples_per_prompt` slots. A step reads them once for all of these slots,
      because cache.attend takes their queries as one operand of its products.
    samples_per_prompt: see decode_state.DecodeShape.

  Returns:
    weights, cache_read, cache_write, state_read, state_write, total.
  """
  shared = -(-slots // samples_per_prompt) * prompt
  cached_tokens = slots * (context - 1 - prompt) + shared
  state = slots * (c.state_row * state_bytes + c.conv_row * cache_bytes)
  out = {'weights': c.read_params * weight_bytes,
         'cache_read': cached_tokens * c.kv_token * cache_bytes,
         'cache_write': slots * c.kv_token * cache_bytes,
         'state_read': state, 'state_write': state}
  return {**out, 'total': sum(out.values())}


def sample_bytes(c: Counted, prompts: int, prompt: int, rollouts: int,
                 response: int, samples_per_prompt: int | None = None,
                 **sizes) -> float:
  """Bytes that all decode steps of `sample_flops` must move.

  Args:
    c, prompts, prompt, rollouts, response: see `sample_flops`.
    samples_per_prompt: the number of slots that read one copy of a prompt;
      None: all of the prompt's rollouts.
    sizes: see `decode_bytes`.
  """
  samples = samples_per_prompt or rollouts
  return sum(decode_bytes(
      c, prompts * rollouts, prompt + i + 1, prompt=prompt,
      samples_per_prompt=samples, **sizes)['total']
             for i in range(response - 1))
