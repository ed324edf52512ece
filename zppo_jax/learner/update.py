"""The update: policy loss, exact gradient accumulation, one optimizer step.

Losses and statistics are sums; the optimizer step divides once by the token
count. So k micro-batches equal one batch, whatever their lengths are.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import optax
from flax import struct

from zppo_jax.arrays import Cache, MicroBatch, TrainState
from zppo_jax.devices import sharding
from zppo_jax.models import cache
from zppo_jax.objectives import importance, token_logps as logprobs


@struct.dataclass
class Sums:
  """Statistics of one micro-batch over its response tokens.

  Attributes:
    loss: the summed token loss.
    tokens: the number of response tokens.
    entropy: the summed entropy of the policy (nats).
    clip_low, clip_high, clip_dual: the number of tokens whose loss that bound
      determines.
    log_ratio_max, log_ratio_min: the extremes of logp - old_logp (nats).
    weight, weight_held, gap: sums of what importance.weighted returns under
      these names; 0 if the correction does not measure them.
    gap_max: the largest gap (nats).
    positions: text positions, prompts and padding included.
    padding: the positions that hold no token.
  """
  loss: jax.Array
  tokens: jax.Array
  entropy: jax.Array
  clip_low: jax.Array
  clip_high: jax.Array
  clip_dual: jax.Array
  log_ratio_max: jax.Array
  log_ratio_min: jax.Array
  weight: jax.Array
  weight_held: jax.Array
  gap: jax.Array
  gap_max: jax.Array
  positions: jax.Array
  padding: jax.Array


def zero_sums() -> Sums:
  zero = jnp.zeros(())
  return Sums(*[zero] * len(Sums.__dataclass_fields__))


def add_sums(a: Sums, b: Sums) -> Sums:
  total = jax.tree.map(jnp.add, a, b)
  return total.replace(
      log_ratio_max=jnp.maximum(a.log_ratio_max, b.log_ratio_max),
      log_ratio_min=jnp.minimum(a.log_ratio_min, b.log_ratio_min),
      gap_max=jnp.maximum(a.gap_max, b.gap_max))


def token_logps(params, batch: MicroBatch, *, model, temperature, chunk):
  """(logp_BT, entropy_BT) of a micro-batch's response tokens under `params`.

  Both are 0 on all other positions. They are also 0 on a response token that
  begins a segment, because it has no context: the token before it belongs to
  another sequence.
  """
  if batch.prompts is not None:
    return _behind_prompts(params, batch, model, temperature, chunk)
  hidden_BTD, _ = model.apply(
      params, batch.tokens_BT, batch.positions_BTA, batch.segment_BT,
      media=batch.media)
  segment_BT = batch.segment_BT
  follows_BT = jnp.pad(segment_BT[:, 1:] == segment_BT[:, :-1],
                       ((0, 0), (1, 0)))
  return logprobs.token_logps(
      hidden_BTD, model.head(params), batch.tokens_BT,
      follows_BT & (batch.mask_BT > 0), temperature=temperature, chunk=chunk)


def _behind_prompts(params, batch, model, temperature, chunk):
  """`token_logps` if prompts are run once for the rows that share them.

  The numbers and their gradient are the same (Prefix Grouper, arXiv
  2506.05433).
  """
  last_PD, slots, state = cache.prefill(model, params, batch.prompts)
  B = batch.tokens_BT.shape[0]
  rows = B // batch.prompts.tokens_PT.shape[0]
  state = jax.tree.map(lambda s: jnp.repeat(s, rows, axis=1), state)
  hidden_BTD, _ = model.apply(
      params, batch.tokens_BT, batch.positions_BTA, batch.segment_BT,
      Cache((slots,), state))
  # The last hidden state of a prompt predicts the first token of its responses.
  first_BD = jnp.repeat(last_PD, rows, axis=0)
  more = lambda x_BT: jnp.pad(x_BT, ((0, 0), (1, 0)))
  found = logprobs.token_logps(
      jnp.concatenate([first_BD[:, None], hidden_BTD], axis=1),
      model.head(params), more(batch.tokens_BT), more(batch.mask_BT) > 0,
      temperature=temperature, chunk=chunk)
  return tuple(x[:, 1:] for x in found)


def policy_loss(params, batch: MicroBatch, *, model, objective, temperature,
                chunk, own_old_logp, correct=importance.none):
  """Summed token objective of a micro-batch (ZPPO section 3.3).

  Args:
    params: the policy.
    batch: responses under the prompts that they were sampled from.
    model: the policy's `Model`.
    objective: (logp_BT, old_logp_BT, adv_BT) -> (loss_BT, flags).
    temperature: the sampler's temperature, so that ratios are those of the
      sampled distribution.
    chunk: positions whose logits exist at a time.
    own_old_logp: take the update's own log-probs under stop_gradient as the old
      ones. With one update per rollout batch the old policy is this policy.
    correct: a function of importance.CORRECTIONS, or importance.gap_alone.

  Returns:
    (loss sum, `Sums`).
  """
  chex.assert_equal_shape([
      batch.tokens_BT, batch.segment_BT, batch.mask_BT, batch.adv_BT,
      batch.old_logp_BT])
  logp_BT, entropy_BT = token_logps(
      params, batch, model=model, temperature=temperature, chunk=chunk)
  old_BT = (jax.lax.stop_gradient(logp_BT) if own_old_logp
            else batch.old_logp_BT)
  loss_BT, flags = objective(logp_BT, old_BT, batch.adv_BT)
  mask_BT = batch.mask_BT
  loss_BT, seen = correct(loss_BT, old_BT, batch.sampler_logp_BT, mask_BT,
                          batch.segment_BT)
  total = lambda x_BT: jnp.sum(x_BT * mask_BT)
  log_ratio_BT = jax.lax.stop_gradient(logp_BT - old_BT) * mask_BT
  loss = total(loss_BT)
  sums = zero_sums().replace(
      loss=loss, tokens=mask_BT.sum(), entropy=total(entropy_BT),
      log_ratio_max=log_ratio_BT.max(), log_ratio_min=log_ratio_BT.min(),
      positions=jnp.float32(mask_BT.size),
      padding=jnp.sum(batch.segment_BT == 0, dtype=jnp.float32),
      **{name: total(x_BT) for name, x_BT in (flags | seen).items()})
  if (asked := batch.prompts) is not None:
    size = asked.tokens_PT.size
    sums = sums.replace(
        positions=sums.positions + size,
        padding=sums.padding + size - asked.length_P.sum())
  if seen:
    sums = sums.replace(gap_max=jnp.max(seen['gap'] * mask_BT))
  return loss, sums


def accumulate(grads, sums: Sums, params, batch: MicroBatch, *, loss_fn):
  """Adds the gradient and statistics of a micro-batch to the running sums."""
  (_, new_sums), new = jax.value_and_grad(loss_fn, has_aux=True)(
      params, batch)
  return jax.tree.map(jnp.add, grads, new), add_sums(sums, new_sums)


def optimizer_step(state: TrainState, grads, token_count, *, tx):
  """Takes the token-level mean of the accumulated gradient, then one step.

  Args:
    state: the state.
    grads: the summed gradient over the mini-batch's trained rows.
    token_count: response tokens of the *whole* mini-batch, those of trivial
      groups included (DAPO's token-level aggregation).
    tx: the optimizer.

  Returns:
    (next state, global gradient norm before clipping).
  """
  # A mini-batch without groups has no tokens and no gradient.
  grads = jax.tree.map(lambda g: g / jnp.maximum(token_count, 1), grads)
  updates, opt_state = optax.with_extra_args_support(tx).update(
      grads, state.opt_state, state.params, done=state.updates)
  params = optax.apply_updates(state.params, updates)
  return (TrainState(params, opt_state, state.updates + 1),
          optax.tree.norm(grads))


def update_step(state: TrainState, micro_batches, token_count, *,
                accumulate_fn, optimizer_fn, zeros_fn):
  """One optimizer step from the micro-batches of a mini-batch.

  Returns:
    (next state, `Sums`, gradient norm).
  """
  grads, sums = zeros_fn(state.params)
  for batch in micro_batches:
    grads, sums = accumulate_fn(grads, sums, state.params, batch)
  state, norm = optimizer_fn(state, grads, token_count)
  return state, sums, norm


def zeros(params):
  """The start of accumulation: (zero gradient, zero statistics)."""
  return jax.tree.map(jnp.zeros_like, params), zero_sums()


def state_shardings(model, tx, mesh):
  """Shardings of a TrainState under the training rules."""
  params = jax.eval_shape(model.init, jax.random.key(0))
  opt_state = jax.eval_shape(tx.init, params)
  of_params = sharding.param_shardings(params, mesh, sharding.TRAIN_RULES)
  return TrainState(
      of_params, sharding.state_shardings(opt_state, params, of_params, mesh),
      sharding.replicated(mesh))


def abstract_state(model, tx, shardings: TrainState) -> TrainState:
  """Shapes, types and shardings of the result of `new_state`."""
  def make(key):
    params = model.init(key)
    return TrainState(params, tx.init(params), jnp.zeros((), jnp.int32))
  return jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      jax.eval_shape(make, jax.random.key(0)), shardings)


def new_state(params, tx, shardings: TrainState) -> TrainState:
  """A TrainState on the mesh from host or device params."""
  make = lambda p: TrainState(p, tx.init(p), jnp.zeros((), jnp.int32))
  return jax.jit(make, out_shardings=shardings)(
      jax.device_put(params, shardings.params))


def compile_update(*, loss_fn, tx, mesh, shardings: TrainState):
  """`update_step` with its device functions jitted for a mesh.

  Args:
    loss_fn: (params, batch) -> (loss sum, Sums).
    tx: the optimizer.
    mesh: the mesh.
    shardings: the `state_shardings` of the same model, optimizer and mesh.
  """
  whole, rows = sharding.replicated(mesh), sharding.batch_sharding(mesh)
  accumulate_fn = jax.jit(
      functools.partial(accumulate, loss_fn=loss_fn),
      in_shardings=(shardings.params, whole, shardings.params, rows),
      out_shardings=(shardings.params, whole), donate_argnums=0)
  optimizer_fn = jax.jit(
      functools.partial(optimizer_step, tx=tx),
      in_shardings=(shardings, shardings.params, None),
      out_shardings=(shardings, whole), donate_argnums=0)
  # The zeros come from a program of their own. Then the first call of
  # accumulate_fn gets the types and placement of all later calls, and each
  # shape is compiled once.
  zeros_fn = jax.jit(zeros, out_shardings=(shardings.params, whole))
  return functools.partial(
      update_step, accumulate_fn=accumulate_fn, optimizer_fn=optimizer_fn,
      zeros_fn=zeros_fn)
