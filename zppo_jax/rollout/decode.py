"""Decoding on device: prefill, insertion into slots, chunks of tokens.

Everything here works on token ids. rollout/programs.py compiles it, and
rollout/engine.py decides on the host which rollout gets which slot.

At one step all slots write the keys and values of their tokens to the same
index of the response cache, so that a write is one slice, whatever the ages of
the rollouts are. Positions and validity are explicit: a slot sees the indices
that were written since its rollout began. rollout/decode_state.py has the
records and the key of the axes.
"""

from typing import Any

import jax
import jax.numpy as jnp

from zppo_jax.arrays import Cache, PromptBatch, Samples, Slots
from zppo_jax.models import Model, cache as cached, layers
from zppo_jax.records import Decoding, StopReason
from zppo_jax.rollout import drawing
from zppo_jax.rollout.decode_state import (
  ChunkOutput,
  ChunkPlan,
  DecodeShape,
  DecodeState,
  Prefilled,
  SamplingState,
  empty,
)


def _logits(model, params, hidden_BD):
  return jnp.einsum('bd,dv->bv', hidden_BD,
                    layers.weight(model.head(params), hidden_BD),
                    preferred_element_type=jnp.float32)


def prefill(params: Any, prompts: PromptBatch, *, model: Model) -> Prefilled:
  """Runs each prompt once. Params are by block (layers.unstack)."""
  last_PD, cache, recurrent = cached.prefill(model, params, prompts)
  return Prefilled(k=cache.k_LCKHS, v=cache.v_LCKSH, recurrent=recurrent,
                   logits_PV=_logits(model, params, last_PD))


def insert(state: DecodeState, prefilled: Prefilled, group_N: jax.Array,
           source_N: jax.Array, count: jax.Array) -> DecodeState:
  """Puts prompt source_N[n] into slot group group_N[n], for n < count.

  The slots of the group start from the prompt's recurrent state and logits.
  Behind a short prompt the prompt cache keeps old values, which
  `SamplingState.prompt_length_U` hides.

  Args:
    state: the decode state; donated by the caller.
    prefilled: prompts, whose T is at most that of the decode state.
    group_N: int32 slot groups.
    source_N: int32 prompts in `prefilled`.
    count: int32, the pairs that count; the rest of N is padding.
  """
  samples = state.logits_BV.shape[0] // state.prompt_k[0].shape[0]

  def one(n, state):
    group, source = group_N[n], source_N[n]
    def put(old, new, times):
      new = jax.lax.dynamic_slice_in_dim(new, source, 1, 0)
      new = jnp.broadcast_to(new, (times, *new.shape[1:])).astype(old.dtype)
      return jax.lax.dynamic_update_slice(
          old, new, (group * times, *[0] * (old.ndim - 1)))
    each = lambda old, new, times: jax.tree.map(
        lambda o, x: put(o, x, times), old, new)
    return state.replace(
        prompt_k=each(state.prompt_k, prefilled.k, 1),
        prompt_v=each(state.prompt_v, prefilled.v, 1),
        recurrent=each(state.recurrent, prefilled.recurrent, samples),
        logits_BV=put(state.logits_BV, prefilled.logits_PV, samples))

  return jax.lax.fori_loop(0, count, one, state)


def grow(k_CKHS: jax.Array, v_CKSH: jax.Array,
         size: int) -> tuple[jax.Array, jax.Array]:
  """The cache of one layer, padded with zeros to S = `size` tokens."""
  more = size - v_CKSH.shape[2]
  pad = lambda x, axis: jnp.pad(
      x, [(0, more if a == axis else 0) for a in range(4)])
  return pad(k_CKHS, 3), pad(v_CKSH, 2)


def write(state: DecodeState, new: tuple, index: jax.Array) -> DecodeState:
  """Writes one token per slot to the response cache.

  Args:
    state: the decode state.
    new: (keys [B, K, H, 1], values [B, K, 1, H]) of each attention layer.
    index: the index of the response cache, the same in every slot.
  """
  put = lambda old, x, axis: jax.lax.dynamic_update_slice_in_dim(
      old, x.astype(old.dtype), index, axis=axis)
  return state.replace(
      response_k=tuple(put(old, k, 3) for old, (k, _) in zip(
          state.response_k, new, strict=True)),
      response_v=tuple(put(old, v, 2) for old, (_, v) in zip(
          state.response_v, new, strict=True)))


def forward(params: Any, state: DecodeState, token_B: jax.Array,
            position_B: jax.Array, prompt_length_U: jax.Array,
            visible_BR: jax.Array, *,
            model: Model) -> tuple[DecodeState, tuple]:
  """Feeds one token per slot.

  The caller writes the new keys and values just before it feeds the next token,
  because a loop that reads a cache first and then writes to it would copy it.

  Args:
    params: by block.
    state: the decode state.
    token_B: int32 tokens.
    position_B: int32 positions of the tokens, on every rotary axis.
    prompt_length_U: see SamplingState.
    visible_BR: bool, True where a slot sees an index of the response cache.
    model: static.

  Returns:
    (the decode state with new logits and recurrent state, `new` of `write`).
  """
  T = state.prompt_k[0].shape[3]
  prompt = Slots(state.prompt_k, state.prompt_v,
                 jnp.arange(T)[None] < prompt_length_U[:, None])
  response = Slots(state.response_k, state.response_v, visible_BR)
  position_B1A = jnp.broadcast_to(
      position_B[:, None, None], (len(token_B), 1, model.num_axes))
  hidden_B1D, new = model.apply(
      params, token_B[:, None], position_B1A,
      jnp.ones((len(token_B), 1), jnp.int32),
      Cache((prompt, response), state.recurrent))
  by_layer = tuple(cached.lay_out(k, v) for k, v in zip(
      new.k_LBTKH, new.v_LBTKH, strict=True))
  return state.replace(
      recurrent=new.state,
      logits_BV=_logits(model, params, hidden_B1D[:, 0])), by_layer


def ends(token: jax.Array, end_E: jax.Array) -> jax.Array:
  """Whether each token is one of the end tokens."""
  end_ids = jax.lax.broadcast_to_rank(end_E, token.ndim + 1)
  return (token[..., None] == end_ids).any(-1)


def decode_chunk(params: Any, state: DecodeState, sampling: SamplingState,
                 plan: ChunkPlan, *, model: Model, mode: str,
                 vocab: int | None = None) -> tuple[
                     DecodeState, ChunkOutput]:
  """Draws up to `plan.most` tokens per slot without the host.

  Args:
    params: by block.
    state: donated by the caller.
    sampling: the slots before the chunk.
    plan: how far the chunk goes, and where it writes.
    model, mode, vocab: static; the last two as in drawing.draw.

  Returns:
    The decode state after the chunk, and what the chunk drew.
  """
  B, W = sampling.live_B.shape[0], plan.index_W.shape[0]
  begun = jnp.sum(sampling.live_B)

  def more(carry):
    w, _, live_B, *_ = carry
    left = jnp.sum(live_B)
    return (w < plan.most) & (left > 0) & (begun - left < plan.enough)

  def one(carry):
    w, state, live_B, count_B, written_R, tokens_WB, logp_WB, new = carry
    state = write(state, new, plan.index_W[jnp.maximum(w - 1, 0)])
    # Else a compiler for TPUs may bring a whole response cache to the chip,
    # write to it there, and write all of it back.
    state = jax.lax.optimization_barrier(state)
    token_B, logp_B = drawing.draw(
        state.logits_BV, sampling.key_B2, count_B, sampling.temperature_B,
        sampling.top_p_B, sampling.top_k_B, plan.allowed_V, mode, vocab,
        sampling.live_B)
    tokens_WB = tokens_WB.at[w].set(jnp.where(live_B, token_B, -1))
    logp_WB = logp_WB.at[w].set(jnp.where(live_B, logp_B, 0))
    visible_BR = written_R[None] >= sampling.start_B[:, None]
    state, new = forward(
        params, state, token_B, sampling.next_B + count_B,
        sampling.prompt_length_U, visible_BR, model=model)
    count_B += live_B
    live_B &= ~ends(token_B, plan.end_E) & (count_B < sampling.limit_B)
    written_R = written_R.at[plan.index_W[w]].set(plan.first + w)
    return w + 1, state, live_B, count_B, written_R, tokens_WB, logp_WB, new

  # Before the first token, zeros go to its index, which no slot sees yet.
  new = tuple((jnp.zeros((*k.shape[:3], 1), k.dtype),
               jnp.zeros((*v.shape[:2], 1, v.shape[3]), v.dtype))
              for k, v in zip(state.response_k, state.response_v, strict=True))
  w, state, live_B, _, _, tokens_WB, logp_WB, new = jax.lax.while_loop(
      more, one, (jnp.int32(0), state, sampling.live_B, sampling.count_B,
                  sampling.written_R, jnp.full((W, B), -1, jnp.int32),
                  jnp.zeros((W, B)), new))
  state = write(state, new, plan.index_W[jnp.maximum(w - 1, 0)])
  return state, ChunkOutput(tokens_WB=tokens_WB, logp_WB=logp_WB,
                            live_B=live_B, steps=w)


def sample(params: Any, prompts: PromptBatch, keys_PG: jax.Array, *,
           model: Model, decoding: Decoding, end_id: Any,
           allowed_V: Any) -> Samples:
  """G rollouts of each prompt in one traced call: a static batch.

  It draws what the engine draws, but has no scheduler: every slot waits for the
  longest rollout.

  Args:
    params: stacked or by block.
    prompts: the prompts; rollouts of a padded one (length 0) have length 0.
    keys_PG: one random key per rollout (randomness.rollout_keys).
    model: the `Model`.
    decoding: how tokens are drawn.
    end_id: the token, or the tokens, that end a rollout; -1: none.
    allowed_V: bool, False on ids that may never be drawn.
  """
  P, G = keys_PG.shape
  B, R, params = P * G, decoding.max_tokens, layers.unstack(params)
  end_E = jnp.atleast_1d(end_id)
  ready = prefill(params, prompts, model=model)
  share = lambda tree: jax.tree.map(lambda x: jnp.repeat(x, G, axis=0), tree)
  state = empty(ready, DecodeShape(
      slots=B, samples_per_prompt=G, prompt_length=1, response_length=R))
  state = state.replace(
      prompt_k=ready.k, prompt_v=ready.v, recurrent=share(ready.recurrent),
      logits_BV=share(ready.logits_PV))
  full = lambda value, dtype: jnp.full(B, value, dtype)
  sampling = SamplingState(
      live_B=share(prompts.length_P > 0),
      count_B=full(0, jnp.int32),
      limit_B=full(R, jnp.int32),
      next_B=share(prompts.next_P),
      start_B=full(0, jnp.int32),
      key_B2=jax.random.key_data(keys_PG).reshape(B, 2),
      temperature_B=full(decoding.temperature, jnp.float32),
      top_p_B=full(decoding.top_p, jnp.float32),
      top_k_B=full(decoding.top_k, jnp.int32),
      prompt_length_U=prompts.length_P,
      written_R=jnp.full(R, -1, jnp.int32))
  _, drawn = decode_chunk(
      params, state, sampling, ChunkPlan(
          index_W=jnp.arange(R), first=0, most=R, enough=B + 1, end_E=end_E,
          allowed_V=allowed_V),
      model=model, mode=drawing.mode_of(decoding))
  group = lambda x_BR: x_BR.reshape(P, G, R)
  tokens_PGR = group(drawn.tokens_WB.T)
  length_PG = jnp.sum(tokens_PGR >= 0, axis=-1, dtype=jnp.int32)
  tokens_PGR = jnp.maximum(tokens_PGR, 0)
  last_PG = jnp.take_along_axis(
      tokens_PGR, jnp.maximum(length_PG - 1, 0)[..., None], -1)[..., 0]
  ended = ends(last_PG, end_E) | (length_PG == 0)
  return Samples(
      tokens_PGR=tokens_PGR, logp_PGR=group(drawn.logp_WB.T),
      length_PG=length_PG, stop_PG=jnp.where(
          ended, int(StopReason.END), int(StopReason.LENGTH)))
