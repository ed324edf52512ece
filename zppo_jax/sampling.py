"""Decoding as state -> state: prefill once per question, then one while loop.

Engines speak token ids only. Everything here is traced; the caller jits.
"""

import chex
import jax
import jax.numpy as jnp
from flax import struct

from zppo_jax import logprobs
from zppo_jax.records import Cache, Decoding, PromptBatch, Samples, StopReason


@struct.dataclass
class SamplingState:
  """The decode loop's carry; rows B are (question, rollout) in that order.

  Attributes:
    step: next response position to draw.
    cache: attention cache; slots are prompt, then response positions.
    logits_BV: float32, of the next token.
    tokens_BR, logp_BR: what was drawn so far.
    length_B: tokens drawn in each row.
    done_B: rows that have emitted the end token.
  """
  step: jax.Array
  cache: Cache
  logits_BV: jax.Array
  tokens_BR: jax.Array
  logp_BR: jax.Array
  length_B: jax.Array
  done_B: jax.Array


def truncate(logits_BV, decoding: Decoding):
  """-inf on tokens outside top-k, then outside the nucleus.

  The nucleus is the smallest set of most likely tokens whose mass reaches
  top_p; the most likely token always stays. Tokens tied with the last one kept
  stay too, so there may be more than top_k.
  """
  if decoding.top_k and decoding.top_k < logits_BV.shape[-1]:
    kth = jax.lax.top_k(logits_BV, decoding.top_k)[0][..., -1:]
    logits_BV = jnp.where(logits_BV < kth, -jnp.inf, logits_BV)
  if decoding.top_p < 1:
    ordered = jnp.sort(logits_BV, axis=-1, descending=True)
    mass = jnp.cumsum(jax.nn.softmax(ordered, axis=-1), axis=-1)
    # The last token needed: the first at which the mass before it is < p.
    needed = jnp.concatenate(
        [jnp.zeros_like(mass[..., :1]), mass[..., :-1]], -1) < decoding.top_p
    lowest = jnp.min(jnp.where(needed, ordered, jnp.inf), -1, keepdims=True)
    logits_BV = jnp.where(logits_BV < lowest, -jnp.inf, logits_BV)
  return logits_BV


def draw(logits_BV, keys_B, position, decoding: Decoding, allowed_V):
  """Draws one token a row.

  Args:
    logits_BV: float32 logits of the model.
    keys_B: the key of each row; `position` is folded in.
    position: response position.
    decoding: temperature, top-p, top-k.
    allowed_V: False on ids that may never be drawn.

  Returns:
    (token_B, logp_B): logp is under the full vocabulary at the temperature,
    before truncation and before `allowed_V`, so that it is what the trainer
    computes for the same token.
  """
  scaled = logits_BV / logprobs.scaled(decoding.temperature)
  logps = jax.nn.log_softmax(scaled, axis=-1)
  candidates = jnp.where(allowed_V, scaled, -jnp.inf)
  if decoding.temperature > 0:
    candidates = truncate(candidates, decoding)
    def noise(key):
      key = jax.random.fold_in(key, position)
      return jax.random.gumbel(key, candidates.shape[-1:])
    candidates = candidates + jax.vmap(noise)(keys_B)
  token_B = jnp.argmax(candidates, axis=-1).astype(jnp.int32)
  return token_B, jnp.take_along_axis(logps, token_B[:, None], -1)[:, 0]


def _logits(model, params, hidden_BD):
  return jnp.einsum('bd,dv->bv', hidden_BD,
                    model.head(params).astype(hidden_BD.dtype),
                    preferred_element_type=jnp.float32)


def prefill(model, params, prompts: PromptBatch, num_rollouts: int,
            decoding: Decoding) -> SamplingState:
  """Runs each prompt once and shares its cache among its G rollouts."""
  P, T = prompts.tokens_PT.shape
  B, R = P * num_rollouts, decoding.max_tokens
  length_P = prompts.length_P
  real_PT = jnp.arange(T) < length_P[:, None]
  hidden_PTD, new = model.apply(
      params, prompts.tokens_PT, prompts.positions_PTA,
      real_PT.astype(jnp.int32), media=prompts.media)
  last_PD = jnp.take_along_axis(
      hidden_PTD, jnp.maximum(length_P - 1, 0)[:, None, None], 1)[:, 0]
  share = lambda x, axis: jnp.repeat(x, num_rollouts, axis=axis)
  room = lambda x: jnp.pad(x, ((0, 0), (0, 0), (0, R), (0, 0), (0, 0)))
  cache = Cache(
      k_LBSKH=share(room(new.k_LBTKH), 1), v_LBSKH=share(room(new.v_LBTKH), 1),
      valid_BS=share(jnp.pad(real_PT, ((0, 0), (0, R))), 0),
      state=jax.tree.map(lambda x: share(x, 1), new.state))
  return SamplingState(
      step=jnp.int32(0), cache=cache,
      logits_BV=share(_logits(model, params, last_PD), 0),
      tokens_BR=jnp.zeros((B, R), jnp.int32), logp_BR=jnp.zeros((B, R)),
      length_B=jnp.zeros(B, jnp.int32),
      # A padded prompt (length 0) is done before it starts.
      done_B=share(length_P == 0, 0))


def draw_step(state: SamplingState, keys_B, decoding, end_id, allowed_V):
  """Draws position `step` of all rows that are not done."""
  token_B, logp_B = draw(
      state.logits_BV, keys_B, state.step, decoding, allowed_V)
  alive_B = ~state.done_B
  put = lambda x_BR, x_B: jax.lax.dynamic_update_slice_in_dim(
      x_BR, jnp.where(alive_B, x_B, 0).astype(x_BR.dtype)[:, None],
      state.step, axis=1)
  return state.replace(
      step=state.step + 1, tokens_BR=put(state.tokens_BR, token_B),
      logp_BR=put(state.logp_BR, logp_B),
      length_B=state.length_B + alive_B,
      done_B=state.done_B | (token_B == end_id))


def forward_step(model, params, state: SamplingState, next_B,
                 prompt_slots: int) -> SamplingState:
  """Feeds the last drawn token; its keys and values get the next slot."""
  at = state.step - 1
  token_B1 = jax.lax.dynamic_slice_in_dim(state.tokens_BR, at, 1, axis=1)
  positions_B1A = jnp.broadcast_to(
      (next_B + at)[:, None, None], (*token_B1.shape, model.num_axes))
  hidden_B1D, new = model.apply(
      params, token_B1, positions_B1A, jnp.ones_like(token_B1), state.cache)
  slot = prompt_slots + at
  write = lambda cache, new: jax.lax.dynamic_update_slice_in_dim(
      cache, new.astype(cache.dtype), slot, axis=2)
  cache = Cache(
      k_LBSKH=write(state.cache.k_LBSKH, new.k_LBTKH),
      v_LBSKH=write(state.cache.v_LBSKH, new.v_LBTKH),
      valid_BS=jax.lax.dynamic_update_slice_in_dim(
          state.cache.valid_BS, ~state.done_B[:, None], slot, axis=1),
      state=new.state)
  return state.replace(
      cache=cache, logits_BV=_logits(model, params, hidden_B1D[:, 0]))


def sample(params, prompts: PromptBatch, keys_PG, *, model,
           decoding: Decoding, end_id: int, allowed_V) -> Samples:
  """G rollouts of each prompt.

  Args:
    params: policy, in the rollout sharding.
    prompts: the prompts; rollouts of a padded one have length 0.
    keys_PG: one random key per rollout (randomness.rollout_keys).
    model: the `Model`.
    decoding: how tokens are drawn.
    end_id: the token that ends a rollout.
    allowed_V: bool, False on ids that may never be drawn.

  Returns:
    `Samples`. A rollout depends on its prompt and key alone.
  """
  chex.assert_rank([prompts.tokens_PT, prompts.length_P], [2, 1])
  P, G = keys_PG.shape
  T, R = prompts.tokens_PT.shape[1], decoding.max_tokens
  keys_B = keys_PG.reshape(P * G)
  next_B = jnp.repeat(prompts.next_P, G)
  state = prefill(model, params, prompts, G, decoding)
  state = draw_step(state, keys_B, decoding, end_id, allowed_V)

  def more(state):
    return (state.step < R) & ~jnp.all(state.done_B)

  def next_token(state):
    state = forward_step(model, params, state, next_B, T)
    return draw_step(state, keys_B, decoding, end_id, allowed_V)

  state = jax.lax.while_loop(more, next_token, state)
  by_group = lambda x: x.reshape(P, G, *x.shape[1:])
  stop_B = jnp.where(state.done_B, int(StopReason.END), int(StopReason.LENGTH))
  return Samples(by_group(state.tokens_BR), by_group(state.logp_BR),
                 by_group(state.length_B), by_group(stop_B))
