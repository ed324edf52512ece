"""The update: policy loss, exact gradient accumulation, one optimizer step.

Losses and statistics are sums; the optimizer step divides once by the token
count. So k micro-batches equal one batch, whatever their lengths are.
"""

import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from zppo_jax.arrays import Beside, MicroBatch, PolicyOutput, TrainState
from zppo_jax.devices import compile_ahead, sharding
from zppo_jax.devices.shared_jit import shared_jit
from zppo_jax.learner import ewc, forward
from zppo_jax.models import lora
from zppo_jax.models.lora import Lora
from zppo_jax.objectives import reducers
from zppo_jax.objectives.losses import Loss

BASE = 'base'  # in `Beside.frozen`: the frozen weights of adapters
# (the copy of params, params, optimizer steps made) -> the next copy
Follow = Callable[[Any, Any, jax.Array], Any]


@struct.dataclass
class Sums:
  """Statistics of micro-batches over their trained tokens.

  Attributes:
    loss: the summed token loss.
    tokens: the number of trained tokens.
    positions: text positions, prompts and padding included.
    padding: the positions that hold no token.
    total: name -> sum of a statistic, [] or [N]: those of the loss, 'entropy'
      (nats), and 'log_ratio' (logp - old_logp, nats) if the batch holds old
      log-probs.
    highest: name -> largest value of a statistic that is neither a flag nor the
      entropy, or 0 if no trained token has one above 0.
    lowest: name -> smallest value, or 0 if no trained token has one below 0.
  """
  loss: jax.Array
  tokens: jax.Array
  positions: jax.Array
  padding: jax.Array
  total: dict[str, jax.Array]
  highest: dict[str, jax.Array]
  lowest: dict[str, jax.Array]


def no_sums() -> Sums:
  """The statistics of no micro-batch; a statistic that is not named is 0."""
  zero = np.zeros((), np.float32)  # no program makes it
  return Sums(loss=zero, tokens=zero, positions=zero, padding=zero, total={},
              highest={}, lowest={})


def add_sums(a: Sums, b: Sums) -> Sums:
  """The statistics of both; both have the same names."""
  return jax.tree.map(jnp.add, a, b).replace(
      highest=jax.tree.map(jnp.maximum, a.highest, b.highest),
      lowest=jax.tree.map(jnp.minimum, a.lowest, b.lowest))


def with_gold(sums: Sums, gold: Sums) -> Sums:
  """Statistics with the loss of answers beside them, their own statistics, and
  their tokens as 'gold/tokens'."""
  names = [name for name in gold.total if name.startswith('gold/')]
  return sums.replace(loss=sums.loss + gold.loss, total={
      **sums.total, **{name: gold.total[name] for name in names},
      'gold/tokens': gold.tokens})


def recorded_old_logps(output: PolicyOutput, batch: MicroBatch) -> MicroBatch:
  """The batch as it is: its old log-probs, if it has any, were scored."""
  del output
  return batch


def own_old_logps(output: PolicyOutput, batch: MicroBatch) -> MicroBatch:
  """The batch with the update's own log-probs, under stop_gradient, as the old
  ones. With one update per rollout batch the old policy is this policy."""
  return batch.with_target('old_logp', jax.lax.stop_gradient(output.logp_BT))


def policy_loss(params, batch: MicroBatch, beside: Beside | None = None, *,
                model, loss: Loss, temperature, chunk, vocab: int | None = None,
                old_logps=recorded_old_logps,
                frozen: Mapping[str, Any] | None = None,
                lessons: Collection[str] = (),
                reducer: str = 'token_mean', longest: int = 1):
  """Summed token loss of a micro-batch (ZPPO section 3.3).

  Args:
    params: the policy.
    batch: responses under the prompts that they were sampled from.
    beside: the params of frozen models and what else the loss reads; None for a
      loss of the policy alone.
    model: the policy's `Model`.
    loss: see losses.Loss.
    temperature: the sampler's temperature, so that ratios are those of the
      sampled distribution.
    chunk: positions whose logits exist at a time.
    vocab: see forward.policy_output.
    old_logps: `recorded_old_logps` or `own_old_logps`.
    frozen: name -> the `Model` of params in `beside.frozen`, each of which runs
      on this batch without a gradient.
    lessons: the names of `frozen` that read the lessons of the batch.
    reducer: a key of reducers.REDUCERS. The caller divides the sum by the count
      of the whole mini-batch.
    longest: the most tokens of a response, for the reducer.

  Returns:
    (loss sum, `Sums`).
  """
  chex.assert_equal_shape([batch.tokens_BT, batch.segment_BT, batch.mask_BT])
  chex.assert_equal_shape_prefix(
      [batch.tokens_BT, *batch.targets.values()], 2)
  output = forward.policy_output(params, batch, model=model,
                                 temperature=temperature, chunk=chunk,
                                 vocab=vocab)
  if beside is not None:
    output = output.replace(done=beside.done, frozen={
        name: forward.frozen_output(beside.frozen[name], batch, model=of,
                                    lessons=name in lessons)
        for name, of in (frozen or {}).items()})
  batch = old_logps(output, batch)
  loss_BT, statistics = loss(output, batch)
  chex.assert_equal_shape([loss_BT, batch.mask_BT])
  chex.assert_equal_shape_prefix(
      [batch.mask_BT, *statistics.values()], 2)
  weight_BT, _ = reducers.reduced(
      reducer, batch.mask_BT, batch.segment_BT,
      batch.targets.get('taught', batch.mask_BT), longest)
  total = jnp.sum(loss_BT * weight_BT)
  return total, diagnostics(output, batch, total, statistics)


def of_adapters(adapters, batch: MicroBatch, beside: Beside, *, loss_fn,
                join: Callable[[Any, Any], Any]):
  """`loss_fn` of the network that adapters and the frozen weights in `beside`
  make; its gradient is that of the adapters."""
  base = jax.lax.stop_gradient(beside.frozen[BASE])
  return loss_fn(join(base, adapters), batch, beside)


def diagnostics(output: PolicyOutput, batch: MicroBatch, loss,
                statistics: dict[str, jax.Array]) -> Sums:
  """The numbers of a micro-batch; nothing is trained by them.

  Args:
    output: what the policy said.
    batch: the micro-batch, with its old log-probs if it has any.
    loss: the summed loss.
    statistics: what the loss returned, arrays [B, T], or [B, T, N] of N numbers
      that are summed apart.
  """
  mask_BT = batch.mask_BT
  if 'old_logp' in batch.targets:
    # A text that no policy drew behind its prompt has no ratio in the loss.
    statistics = {**statistics, 'log_ratio': (
        output.logp_BT - batch.targets['old_logp'])
        * batch.targets.get('on_policy', 1)}
  statistics = jax.lax.stop_gradient(statistics)
  masked = {name: x_BT * (mask_BT if x_BT.ndim == 2 else mask_BT[..., None])
            for name, x_BT in statistics.items()}
  numbers = {name: masked[name] for name, x_BT in statistics.items()
             if x_BT.ndim == 2 and jnp.issubdtype(x_BT.dtype, jnp.floating)
             and name != 'entropy'}
  # A loss that knows the entropy saves the pass over the vocabulary for it.
  masked['entropy'] = statistics.get('entropy', output.entropy_BT) * mask_BT
  positions, padding = batch.prompts.positions()
  return Sums(
      loss=loss, tokens=mask_BT.sum(),
      positions=jnp.float32(mask_BT.size) + positions,
      padding=jnp.sum(batch.segment_BT == 0, dtype=jnp.float32) + padding,
      total={name: x_BT.sum(axis=(0, 1)) for name, x_BT in masked.items()},
      highest={name: x_BT.max(initial=0) for name, x_BT in numbers.items()},
      lowest={name: x_BT.min(initial=0) for name, x_BT in numbers.items()})


def accumulate(grads, params, batch: MicroBatch, *beside, loss_fn):
  """(gradient so far + the gradient of a micro-batch, its `Sums`).

  `beside` is a `Beside`, or nothing for a loss of the policy alone.
  """
  (_, sums), new = jax.value_and_grad(loss_fn, has_aux=True)(
      params, batch, *beside)
  return jax.tree.map(jnp.add, grads, new), sums


def optimizer_step(state: TrainState, grads, token_count, *anchor, tx,
                   follow: Follow | None = None,
                   pull: Callable | None = None):
  """Takes the token-level mean of the accumulated gradient, then one step.

  Args:
    state: the state.
    grads: the summed gradient over the mini-batch's trained rows.
    token_count: response tokens of the *whole* mini-batch, those of trivial
      groups included (DAPO's token-level aggregation); the count of another
      reducer in its place.
    *anchor: further arguments of `pull`.
    tx: the optimizer.
    follow: moves the copy of a FollowedState.
    pull: (mean gradient, params, *anchor) -> the gradient with that of a
      penalty of the parameters.

  Returns:
    (next state, global gradient norm before clipping).
  """
  # A mini-batch without groups has no tokens and no gradient.
  grads = jax.tree.map(lambda g: g / jnp.maximum(token_count, 1), grads)
  if pull is not None:
    grads = pull(grads, state.params, *anchor)
  updates, opt_state = optax.with_extra_args_support(tx).update(
      grads, state.opt_state, state.params, done=state.updates)
  params = optax.apply_updates(state.params, updates)
  following = {} if follow is None else {
      'own': follow(state.own, params, state.updates + 1)}
  return (state.replace(params=params, opt_state=opt_state,
                        updates=state.updates + 1, **following),
          optax.tree.norm(grads))


def sizes(batch: MicroBatch) -> tuple:
  """What tells the programs of micro-batches of a run apart."""
  if isinstance(batch, MicroBatch):
    batch = batch.replace(targets={})  # a run has the same ones in all
  return tuple(x.shape for x in jax.tree.leaves(batch))


def nothing_beside(state: TrainState) -> tuple:
  """The arguments of `accumulate` behind the batch: none."""
  del state
  return ()


def update_step(state: TrainState, micro_batches, token_count, *,
                accumulate_fn, add_fn, optimizer_fn, zeros_fn,
                beside_fn=nothing_beside,
                between: Callable[[Sums], None] = lambda sums: None,
                gold=(), gold_fn=None, anchor=()):
  """One optimizer step from the micro-batches of a mini-batch.

  The gradient of the micro-batches `gold` is that of another loss, `gold_fn`;
  of their statistics, those of `with_gold` are returned. `between` is called
  with the Sums of each micro-batch, which the device may still be computing.
  What it raises gives the step up, and `state` is intact. `anchor` are the
  further arguments of the optimizer step.

  Returns:
    (next state, `Sums`, gradient norm).
  """
  grads, parts, beside = zeros_fn(state.params), [], beside_fn(state)
  for batch in micro_batches:
    compile_ahead.PROGRAMS.need((id(accumulate_fn), sizes(batch)))
    grads, sums = accumulate_fn(grads, state.params, batch, *beside)
    parts.append(sums)
    between(sums)
  beside_parts = []
  for batch in gold:
    grads, sums = gold_fn(grads, state.params, batch, *beside)
    beside_parts.append(sums)
    between(sums)
  compile_ahead.PROGRAMS.need(id(optimizer_fn))
  state, norm = optimizer_fn(state, grads, token_count, *anchor)
  sums = functools.reduce(add_fn, parts) if parts else no_sums()
  if beside_parts:
    sums = with_gold(sums, functools.reduce(add_fn, beside_parts))
  return state, sums, norm


def _of_trained(params, batch: MicroBatch, *beside, loss_fn, trained):
  """A loss without a gradient to the parameters that are not trained."""
  return loss_fn(jax.tree.map(
      lambda p, moves: p if moves else jax.lax.stop_gradient(p), params,
      trained(params)), batch, *beside)


def zeros(params):
  """The start of accumulation: a gradient of 0."""
  return jax.tree.map(jnp.zeros_like, params)


def _beside(state: TrainState, frozen: dict, scheduled: bool,
            own: Callable[[TrainState], Mapping[str, Any]] | None) -> tuple:
  return (Beside(frozen=frozen if own is None else {**frozen, **own(state)},
                 done=state.updates if scheduled else None),)


def compile_update(*, loss_fn: Callable, tx, mesh, shardings: TrainState,
                   frozen: Mapping[str, Any] | None = None,
                   scheduled: bool = False,
                   own: Callable[[TrainState], Mapping[str, Any]] | None = None,
                   follow: Follow | None = None, adapted: Lora | None = None,
                   gold_loss_fn: Callable | None = None,
                   trained: Callable[[Any], Any] | None = None,
                   anchor: ewc.Anchor | None = None):
  """`update_step` with its device functions jitted for a mesh.

  Args:
    loss_fn: (params, batch) -> (loss sum, Sums). It gets a `Beside` too if
      there is a frozen model or a schedule; else the program has no argument
      for it.
    tx: the optimizer.
    mesh: the mesh.
    shardings: states.state_shardings of the same model, optimizer and mesh.
    frozen: name -> params of models that are not trained, which keep the
      sharding that they have.
    scheduled: whether the loss reads how many optimizer steps were made.
    own: a state -> name -> params of it that stand among the frozen ones, so
      that the loss reads them without a gradient.
    follow: see optimizer_step.
    adapted: the frozen weights, if the trained params are their adapters. They
      are then one of the frozen models.
    gold_loss_fn: like loss_fn, of the micro-batches `gold` of update_step. It
      gets the same `Beside`.
    trained: params -> whether each is trained; None: all are. The gradient of
      the others is 0.
    anchor: what holds the parameters, or None.
  """
  frozen = dict(frozen or {})
  if adapted is not None:
    frozen[BASE] = adapted.base
    of_whole = functools.partial(of_adapters, join=functools.partial(
        lora.join, scale=adapted.config.scale))
    loss_fn = functools.partial(of_whole, loss_fn=loss_fn)
    gold_loss_fn = gold_loss_fn and functools.partial(
        of_whole, loss_fn=gold_loss_fn)
  whole, rows = sharding.replicated(mesh), sharding.batch_sharding(mesh)
  reads = bool(frozen) or scheduled or own is not None
  if trained is not None:
    loss_fn = functools.partial(_of_trained, loss_fn=loss_fn, trained=trained)
    gold_loss_fn = gold_loss_fn and functools.partial(
        _of_trained, loss_fn=gold_loss_fn, trained=trained)
  accumulate_fn = shared_jit(
      functools.partial(accumulate, loss_fn=loss_fn),
      in_shardings=(shardings.params, shardings.params, rows,
                    *((None,) * reads)),
      out_shardings=(shardings.params, whole), donate_argnums=0)
  gold_fn = gold_loss_fn and shared_jit(
      functools.partial(accumulate, loss_fn=gold_loss_fn),
      in_shardings=(shardings.params, shardings.params, rows,
                    *((None,) * reads)),
      out_shardings=(shardings.params, whole), donate_argnums=0)
  optimizer_fn = shared_jit(
      functools.partial(optimizer_step, tx=tx, follow=follow,
                        pull=anchor and anchor.pull),
      in_shardings=(shardings, shardings.params, None,
                    *((shardings.params,) * 2 if anchor else ())),
      out_shardings=(shardings, whole), donate_argnums=0)
  # The zeros come from a program of their own. Then the first call of
  # accumulate_fn gets the types and placement of all later calls, and each
  # shape is compiled once.
  return functools.partial(
      update_step, accumulate_fn=accumulate_fn, optimizer_fn=optimizer_fn,
      beside_fn=functools.partial(
          _beside, frozen=frozen, scheduled=scheduled, own=own)
      if reads else nothing_beside,
      add_fn=shared_jit(add_sums, out_shardings=whole), gold_fn=gold_fn,
      anchor=anchor.arrays if anchor else (),
      zeros_fn=shared_jit(zeros, out_shardings=shardings.params))
