"""The decoding cache: its layout, and attention that reads it.

Keys are stored as [C, K, H, S] and values as [C, K, S, H], so that both
products of a decoding step read them in their own order. A CPU would transpose
a cache of [C, S, K, H] for every token, which costs more than the products.
"""

import jax.numpy as jnp

from zppo_jax.arrays import Cache, NewKV, PromptBatch, Slots
from zppo_jax.objectives.rounding import is_narrow, rounded

_MASKED = -1e30  # finite, as in attention.py


def lay_out(k_BTKH, v_BTKH):
  """New keys and values of a layer as (k_BKHT, v_BKTH)."""
  return jnp.moveaxis(k_BTKH, 1, 3), jnp.swapaxes(v_BTKH, 1, 2)


def slots(fresh: NewKV, valid_BT) -> Slots:
  """All new tokens as slots; stacked layers stay stacked."""
  if isinstance(fresh.k_LBTKH, tuple):
    pairs = [lay_out(k, v) for k, v in zip(
        fresh.k_LBTKH, fresh.v_LBTKH, strict=True)]
    k, v = (tuple(x) for x in zip(*pairs, strict=True))
    return Slots(k, v, valid_BT)
  return Slots(jnp.moveaxis(fresh.k_LBTKH, 2, 4),
               jnp.swapaxes(fresh.v_LBTKH, 2, 3), valid_BT)


def prefill(model, params, prompts: PromptBatch):
  """Runs prompts through a `Model`.

  Returns:
    (last_PD, which is the hidden state of each prompt's last token; `Slots` of
    the prompts; the state of `NewKV`).
  """
  real_PT = jnp.arange(
      prompts.tokens_PT.shape[1])[None] < prompts.length_P[:, None]
  hidden_PTD, fresh = model.apply(
      params, prompts.tokens_PT, prompts.positions_PTA,
      real_PT.astype(jnp.int32), media=prompts.media, compact=True)
  last_P = jnp.maximum(prompts.length_P - 1, 0)
  last_PD = jnp.take_along_axis(hidden_PTD, last_P[:, None, None], 1)[:, 0]
  return last_PD, slots(fresh, real_PT), fresh.state


def by_layer(cache: Cache | None):
  """(past, valid) for layers.over_blocks. `past` is what differs from layer to
  layer, stacked or as a list over layers; `valid` is the masks of the sources,
  which all layers share."""
  if cache is None:
    return None, None
  valid = tuple(s.valid_CS for s in cache.sources)
  if isinstance(cache.sources[0].k_LCKHS, tuple):
    return list(zip(*[tuple(zip(s.k_LCKHS, s.v_LCKSH, strict=True))
                      for s in cache.sources], strict=True)), valid
  return tuple((s.k_LCKHS, s.v_LCKSH) for s in cache.sources), valid


def attend(q_BTNH, k_BTKH, v_BTKH, mask_BT, past, valid):
  """Attention of one new token (T = 1) to itself and to the slots of a cache.

  Rows that share slots are one operand of the products, so the slots are read
  once for all of these rows.

  Args:
    q_BTNH: queries.
    k_BTKH, v_BTKH: keys and values of the new token.
    mask_BT: True where the new token may read itself.
    past: (k_CKHS, v_CKSH) of each source.
    valid: valid_CS of each source.

  Returns:
    [B, 1, N, H] in the type of the queries.
  """
  B, _, N, H = q_BTNH.shape
  K = k_BTKH.shape[2]
  G, wide = N // K, jnp.promote_types(q_BTNH.dtype, jnp.float32)
  q = q_BTNH.reshape(B, K, G, H)
  # There is one key per row, so a matrix product would be mostly overhead.
  s = jnp.sum(q.astype(wide) * k_BTKH[:, 0, :, None], axis=-1, keepdims=True)
  scores = [jnp.where(mask_BT[:, None, None], s * H**-0.5, _MASKED)]
  for (k_CKHS, _), valid_CS in zip(past, valid, strict=True):
    C, S = valid_CS.shape
    shared = q.reshape(C, B // C, K, G, H).swapaxes(1, 2)
    s = jnp.einsum('ckmh,ckhs->ckms', shared.reshape(C, K, -1, H),
                   k_CKHS.astype(q.dtype), preferred_element_type=wide)
    s = jnp.where(valid_CS[:, None, None], s * H**-0.5, _MASKED)
    s = s.reshape(C, K, B // C, G, S).swapaxes(1, 2)
    scores.append(s.reshape(B, K, G, S))
  top = scores[0].max(-1, keepdims=True)
  for s in scores[1:]:
    top = jnp.maximum(top, s.max(-1, keepdims=True))
  weights = [jnp.exp(s - top) for s in scores]
  total = sum(w.sum(-1, keepdims=True) for w in weights)
  # As in layers.attend: narrow weights are divided by their total at the end.
  new, *old = [rounded(w, q.dtype) if is_narrow(q) else w / total
               for w in weights]
  out = new.astype(wide) * v_BTKH[:, 0, :, None]
  for w, (_, v_CKSH), valid_CS in zip(old, past, valid, strict=True):
    C, S = valid_CS.shape
    w = w.reshape(C, B // C, K, G, S).swapaxes(1, 2)
    o = jnp.einsum('ckms,cksh->ckmh', w.reshape(C, K, -1, S),
                   v_CKSH.astype(q.dtype), preferred_element_type=wide)
    o = o.reshape(C, K, B // C, G, H).swapaxes(1, 2)
    out += o.reshape(B, K, G, H)
  if is_narrow(q):
    out /= total
  return rounded(out, q.dtype).reshape(B, 1, N, H)
