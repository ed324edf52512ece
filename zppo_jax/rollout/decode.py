"""Decoding on device: prefill, insertion into rows, bursts of tokens.

Everything here works on token ids and is traced; rollout/engine.py jits it and
decides on the host which rollout gets which row.

A pool has B rows. A unit is `share` neighbouring rows that read one prompt: the
keys and values of the prompt are stored once per unit, those of the response
once per row. At one step all rows write what they draw to the same physical
slot, so that a write is one slice, whatever the ages of the rows are. The host
picks a slot that no living row can see. Positions and validity are explicit: a
row sees the slots that were written since it began.
"""

import jax
import jax.numpy as jnp
from flax import struct

from zppo_jax.arrays import Cache, PromptBatch, Samples, Slots
from zppo_jax.models import cache as cached, layers
from zppo_jax.records import Decoding, StopReason

# How tokens are drawn; the rows of a burst decide which mode must be compiled.
GREEDY, DRAW, TRUNCATE = 'greedy', 'draw', 'truncate'
MODES = (GREEDY, DRAW, TRUNCATE)


@struct.dataclass
class Prefilled:
  """P prompts after their prefill.

  Attributes:
    k, v: per layer, laid out as arrays.Slots: [P, K, H, T] and [P, K, T, H].
    state: the recurrent state after the last token, leaves [P, ...].
    logits_PV: float32 logits of the first response token.
  """
  k: tuple
  v: tuple
  state: tuple
  logits_PV: jax.Array


@struct.dataclass
class DecodeState:
  """The device arrays that live between two bursts; U units of B / U rows.

  Attributes:
    prompt_k, prompt_v: per layer, [U, K, H, T] and [U, K, T, H].
    own_k, own_v: per layer, [B, K, H, R] and [B, K, R, H].
    state: recurrent state, leaves [B, ...].
    logits_BV: float32 logits of each row's next token.
  """
  prompt_k: tuple
  prompt_v: tuple
  own_k: tuple
  own_v: tuple
  state: tuple
  logits_BV: jax.Array


@struct.dataclass
class Rows:
  """What the host knows about the rows of a pool before a burst.

  Attributes:
    live_B: True on rows that draw.
    count_B: int32 number of tokens drawn so far.
    limit_B: int32 number of tokens that may be drawn in all.
    next_B: int32 position of the first response token, on every axis.
    start_B: int32 step at which the row began.
    key_B2: uint32 data of the rollout's key.
    temperature_B, top_p_B, top_k_B: see records.Decoding.
    length_U: int32 number of prompt tokens of each unit.
    written_R: int32 step at which a slot was last written; -1 if never.
  """
  live_B: jax.Array
  count_B: jax.Array
  limit_B: jax.Array
  next_B: jax.Array
  start_B: jax.Array
  key_B2: jax.Array
  temperature_B: jax.Array
  top_p_B: jax.Array
  top_k_B: jax.Array
  length_U: jax.Array
  written_R: jax.Array


@struct.dataclass
class Drawn:
  """The tokens that a burst drew; small enough for the host.

  Attributes:
    tokens_WB: int32, -1 where a row was not alive.
    logp_WB: float32 nats (see records.Rollout.logps).
    live_B: True on rows that continue.
    steps: int32 number of steps taken; the rest of W is unused.
  """
  tokens_WB: jax.Array
  logp_WB: jax.Array
  live_B: jax.Array
  steps: jax.Array


def truncate(logits_BV, top_p_B, top_k_B):
  """Sets logits to -inf outside top-k, then outside the nucleus, per row.

  The nucleus is the smallest set of most likely tokens whose mass reaches
  top_p; the most likely token always stays. Tokens tied with the last kept
  token stay too, so there may be more than top_k. top_k = 0 and top_p = 1 keep
  all tokens.
  """
  V = logits_BV.shape[-1]
  ordered = jnp.sort(logits_BV, axis=-1, descending=True)
  last = jnp.where(top_k_B > 0, jnp.minimum(top_k_B, V), V) - 1
  kth = jnp.take_along_axis(ordered, last[:, None], axis=-1)
  ordered = jnp.where(ordered < kth, -jnp.inf, ordered)
  mass = jnp.cumsum(jax.nn.softmax(ordered, axis=-1), axis=-1)
  # The last token needed: the first at which the mass before it is < p. Of the
  # most likely one it counts as negative, for a p that is 0 in float32.
  needed = jnp.concatenate(
      [jnp.full_like(mass[..., :1], -1), mass[..., :-1]], -1) < top_p_B[:, None]
  lowest = jnp.min(jnp.where(needed, ordered, jnp.inf), -1, keepdims=True)
  lowest = jnp.where(top_p_B[:, None] < 1, lowest, -jnp.inf)
  return jnp.where(logits_BV < jnp.maximum(kth, lowest), -jnp.inf, logits_BV)


def _first_max(x_BV):
  """argmax in two passes, because a CPU runs these ten times faster."""
  top = jnp.max(x_BV, axis=-1, keepdims=True)
  ids = jnp.arange(x_BV.shape[-1], dtype=jnp.int32)
  found = jnp.min(jnp.where(x_BV == top, ids, x_BV.shape[-1]), axis=-1)
  # If a row holds NaN, no element equals its maximum. The result is then the
  # last id, so that it is in range, and its log-prob shows the NaN.
  return jnp.minimum(found, x_BV.shape[-1] - 1)


def draw(logits_BV, key_B2, position_B, temperature_B, top_p_B, top_k_B,
         allowed_V, mode: str):
  """Draws one token per row.

  Args:
    logits_BV: float32 logits of the model.
    key_B2: key data of each row; its response position is folded in.
    position_B: response positions.
    temperature_B, top_p_B, top_k_B: see records.Decoding.
    allowed_V: False on ids that may never be drawn.
    mode: GREEDY if all temperatures are 0, DRAW if no row truncates, else
      TRUNCATE. A row's token is the same in every mode that can serve it.

  Returns:
    (token_B, logp_B). logp is taken under the full vocabulary at the
    temperature (at 1 if that is 0), before truncation and before `allowed_V`.
    So it is what the trainer computes for the same token.
  """
  V, hot_B = logits_BV.shape[-1], temperature_B > 0
  scaled = logits_BV / jnp.where(hot_B, temperature_B, 1.0)[:, None]
  candidates = jnp.where(allowed_V, scaled, -jnp.inf)
  if mode != GREEDY:
    if mode == TRUNCATE:
      candidates = jnp.where(hot_B[:, None], truncate(
          candidates, top_p_B, top_k_B), candidates)
    def noise(key, position):
      key = jax.random.fold_in(jax.random.wrap_key_data(key), position)
      return jax.random.gumbel(key, (V,))
    drawn = candidates + jax.vmap(noise)(key_B2, position_B)
    candidates = jnp.where(hot_B[:, None], drawn, candidates)
  token_B = _first_max(candidates)
  top = jnp.max(scaled, axis=-1)
  total = jnp.sum(jnp.exp(scaled - top[:, None]), axis=-1)
  picked = jnp.take_along_axis(scaled, token_B[:, None], axis=-1)[:, 0]
  return token_B, (picked - top) - jnp.log(total)


def _logits(model, params, hidden_BD):
  return jnp.einsum('bd,dv->bv', hidden_BD,
                    layers.weight(model.head(params), hidden_BD),
                    preferred_element_type=jnp.float32)


def prefill(params, prompts: PromptBatch, *, model) -> Prefilled:
  """Runs each prompt once. Params are by block (layers.unstack)."""
  last_PD, slots, state = cached.prefill(model, params, prompts)
  return Prefilled(slots.k_LCKHS, slots.v_LCKSH, state,
                   _logits(model, params, last_PD))


def empty(shapes: Prefilled, rows: int, share: int, prompt: int,
          own: int) -> DecodeState:
  """A pool of zeros for rows whose prompts prefill to these shapes (P = 1)."""
  def zeros(x, first, axis=None, size=0):
    shape = [first, *x.shape[1:]]
    if axis is not None:
      shape[axis] = size
    return jnp.zeros(shape, x.dtype)
  each = lambda xs, *a: tuple(zeros(x, *a) for x in xs)
  return DecodeState(
      each(shapes.k, rows // share, 3, prompt),
      each(shapes.v, rows // share, 2, prompt),
      each(shapes.k, rows, 3, own), each(shapes.v, rows, 2, own),
      jax.tree.map(lambda x: zeros(x, rows), shapes.state),
      zeros(shapes.logits_PV, rows))


def widen(shapes: Prefilled, pool: DecodeState, rows: int, share: int,
          prompt: int, own: int) -> DecodeState:
  """A pool that begins with the rows of another; arguments as in `empty`."""
  put = lambda new, old: jax.lax.dynamic_update_slice(
      new, old, (0,) * old.ndim)
  return jax.tree.map(put, empty(shapes, rows, share, prompt, own), pool)


def admit(pool: DecodeState, prefilled: Prefilled, unit_N, source_N,
          count) -> DecodeState:
  """Puts prefilled prompt source_N[n] into unit_N[n], for n < count.

  The rows of a unit start from the prompt's state and logits. The remaining
  prompt slots of a unit keep old values, which `Rows.length_U` hides.
  """
  share = pool.logits_BV.shape[0] // pool.prompt_k[0].shape[0]

  def one(n, pool):
    unit, source = unit_N[n], source_N[n]
    def put(old, new, times):
      new = jax.lax.dynamic_slice_in_dim(new, source, 1, 0)
      new = jnp.broadcast_to(new, (times, *new.shape[1:])).astype(old.dtype)
      return jax.lax.dynamic_update_slice(
          old, new, (unit * times, *[0] * (old.ndim - 1)))
    each = lambda old, new, times: jax.tree.map(
        lambda o, x: put(o, x, times), old, new)
    return pool.replace(
        prompt_k=each(pool.prompt_k, prefilled.k, 1),
        prompt_v=each(pool.prompt_v, prefilled.v, 1),
        state=each(pool.state, prefilled.state, share),
        logits_BV=put(pool.logits_BV, prefilled.logits_PV, share))

  return jax.lax.fori_loop(0, count, one, pool)


def grow(k_CKHS, v_CKSH, size: int):
  """The slots of a layer, padded to `size` slots."""
  more = size - v_CKSH.shape[2]
  pad = lambda x, axis: jnp.pad(
      x, [(0, more if a == axis else 0) for a in range(4)])
  return pad(k_CKHS, 3), pad(v_CKSH, 2)


def write(pool: DecodeState, new, slot) -> DecodeState:
  """Writes one token per row, (k, v) by layer, into `slot` of every row."""
  put = lambda old, x, axis: jax.lax.dynamic_update_slice_in_dim(
      old, x.astype(old.dtype), slot, axis=axis)
  return pool.replace(
      own_k=tuple(put(o, k, 3) for o, (k, _) in zip(
          pool.own_k, new, strict=True)),
      own_v=tuple(put(o, v, 2) for o, (_, v) in zip(
          pool.own_v, new, strict=True)))


def forward(params, pool: DecodeState, token_B, position_B, length_U,
            visible_BR, *, model):
  """Feeds one token per row; returns (pool, keys and values for `write`).

  The caller writes these just before it feeds the next token, because a loop
  that reads a cache first and then writes to it would copy it.
  """
  T = pool.prompt_k[0].shape[3]
  prompt = Slots(pool.prompt_k, pool.prompt_v,
                 jnp.arange(T)[None] < length_U[:, None])
  own = Slots(pool.own_k, pool.own_v, visible_BR)
  position_B1A = jnp.broadcast_to(
      position_B[:, None, None], (len(token_B), 1, model.num_axes))
  hidden_B1D, new = model.apply(
      params, token_B[:, None], position_B1A,
      jnp.ones((len(token_B), 1), jnp.int32), Cache((prompt, own), pool.state))
  laid = tuple(cached.lay_out(k, v) for k, v in zip(
      new.k_LBTKH, new.v_LBTKH, strict=True))
  return pool.replace(
      state=new.state,
      logits_BV=_logits(model, params, hidden_B1D[:, 0])), laid


def ends(token, end_id):
  """Whether each token is the end token, or one of an array of end tokens."""
  end_ids = jax.lax.broadcast_to_rank(jnp.atleast_1d(end_id), token.ndim + 1)
  return (token[..., None] == end_ids).any(-1)


def burst(params, pool: DecodeState, rows: Rows, slot_W, first, most, enough,
          end_id, allowed_V, *, model, mode: str) -> tuple[DecodeState, Drawn]:
  """Draws up to `most` tokens per row and stops early if enough rows end.

  Args:
    params: by block.
    pool: donated by the caller.
    rows: the rows before the burst.
    slot_W: int32 free slot of each step.
    first: the number of the first step.
    most: the most steps that are taken, <= W.
    enough: the burst stops as soon as this many rows, or all, have ended in it.
    end_id: the token, or an array of the tokens, that ends a rollout; -1: none.
    allowed_V: bool, False on ids that may never be drawn.
    model, mode: static.

  Returns:
    The pool after the burst, and what the burst drew.
  """
  B, W = rows.live_B.shape[0], slot_W.shape[0]
  begun = jnp.sum(rows.live_B)

  def more(carry):
    w, _, live_B, *_ = carry
    left = jnp.sum(live_B)
    return (w < most) & (left > 0) & (begun - left < enough)

  def one(carry):
    w, pool, live_B, count_B, written_R, tokens_WB, logp_WB, new = carry
    pool = write(pool, new, slot_W[jnp.maximum(w - 1, 0)])
    token_B, logp_B = draw(
        pool.logits_BV, rows.key_B2, count_B, rows.temperature_B, rows.top_p_B,
        rows.top_k_B, allowed_V, mode)
    tokens_WB = tokens_WB.at[w].set(jnp.where(live_B, token_B, -1))
    logp_WB = logp_WB.at[w].set(jnp.where(live_B, logp_B, 0))
    visible_BR = written_R[None] >= rows.start_B[:, None]
    pool, new = forward(params, pool, token_B, rows.next_B + count_B,
                        rows.length_U, visible_BR, model=model)
    count_B += live_B
    live_B &= ~ends(token_B, end_id) & (count_B < rows.limit_B)
    written_R = written_R.at[slot_W[w]].set(first + w)
    return w + 1, pool, live_B, count_B, written_R, tokens_WB, logp_WB, new

  # Before the first token, zeros go to its slot, which no row sees yet.
  new = tuple((jnp.zeros((*k.shape[:3], 1), k.dtype),
               jnp.zeros((*v.shape[:2], 1, v.shape[3]), v.dtype))
              for k, v in zip(pool.own_k, pool.own_v, strict=True))
  w, pool, live_B, _, _, tokens_WB, logp_WB, new = jax.lax.while_loop(
      more, one, (jnp.int32(0), pool, rows.live_B, rows.count_B,
                  rows.written_R, jnp.full((W, B), -1, jnp.int32),
                  jnp.zeros((W, B)), new))
  pool = write(pool, new, slot_W[jnp.maximum(w - 1, 0)])
  return pool, Drawn(tokens_WB, logp_WB, live_B, w)


def mode_of(decoding: Decoding) -> str:
  """The cheapest mode that can serve a decoding."""
  if not decoding.temperature:
    return GREEDY
  cut = decoding.top_k or decoding.top_p < 1
  return TRUNCATE if cut else DRAW


def sample(params, prompts: PromptBatch, keys_PG, *, model,
           decoding: Decoding, end_id, allowed_V) -> Samples:
  """G rollouts of each prompt in one traced call: a static batch.

  It draws what the engine draws, but has no scheduler: every row waits for the
  longest one.

  Args:
    params: stacked or by block.
    prompts: the prompts; rollouts of a padded one (length 0) have length 0.
    keys_PG: one random key per rollout (randomness.rollout_keys).
    model: the `Model`.
    decoding: how tokens are drawn.
    end_id: see `burst`.
    allowed_V: bool, False on ids that may never be drawn.
  """
  P, G = keys_PG.shape
  B, R, params = P * G, decoding.max_tokens, layers.unstack(params)
  ready = prefill(params, prompts, model=model)
  share = lambda tree: jax.tree.map(lambda x: jnp.repeat(x, G, axis=0), tree)
  blank = empty(ready, B, G, 1, R)
  pool = blank.replace(prompt_k=ready.k, prompt_v=ready.v,
                       state=share(ready.state),
                       logits_BV=share(ready.logits_PV))
  full = lambda value, dtype: jnp.full(B, value, dtype)
  rows = Rows(
      share(prompts.length_P > 0), full(0, jnp.int32), full(R, jnp.int32),
      share(prompts.next_P), full(0, jnp.int32),
      jax.random.key_data(keys_PG).reshape(B, 2),
      full(decoding.temperature, jnp.float32),
      full(decoding.top_p, jnp.float32), full(decoding.top_k, jnp.int32),
      prompts.length_P, jnp.full(R, -1, jnp.int32))
  _, drawn = burst(
      params, pool, rows, jnp.arange(R), 0, R, B + 1, end_id, allowed_V,
      model=model, mode=mode_of(decoding))
  group = lambda x_BR: x_BR.reshape(P, G, R)
  tokens_PGR = group(drawn.tokens_WB.T)
  length_PG = jnp.sum(tokens_PGR >= 0, axis=-1, dtype=jnp.int32)
  tokens_PGR = jnp.maximum(tokens_PGR, 0)
  last_PG = jnp.take_along_axis(
      tokens_PGR, jnp.maximum(length_PG - 1, 0)[..., None], -1)[..., 0]
  ended = ends(last_PG, end_id) | (length_PG == 0)
  return Samples(tokens_PGR, group(drawn.logp_WB.T), length_PG, jnp.where(
      ended, int(StopReason.END), int(StopReason.LENGTH)))
