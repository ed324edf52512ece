"""A penalty towards the run's initial policy, beside a policy objective.

  loss = policy objective + coefficient x penalty

With S the policy and R the frozen reference, both at the sampler's temperature,
d = log p_R(y) - log p_S(y) for the sampled token y:

| kind | penalty of a token | expected gradient, y drawn from S |
|---|---|---|
| k2 | d^2 / 2 | that of KL(S, R) |
| k3 | e^d - 1 - d (GRPO, arXiv 2402.03300, Eq. 4) | that of KL(R, S) |
| full | KL(S, R) over the vocabulary | that of KL(S, R), without sampling |

k1, which is -d, is refused: its expected gradient is zero. After the first of
several updates y is drawn from the policy before them; as in GRPO, no ratio
corrects the penalty for that, nor does algorithm.correction.

`route` says which rollouts the penalty holds; it is 'all' by default. With
'not taught' a group that the divergence term teaches loses it (PTD-PO).

k2 and k3 read the target TARGET, one pass of the reference per rollout batch;
full reads the hidden states of the frozen model MODEL inside the update.
"""

import dataclasses
import functools
from collections.abc import Collection

import jax
import jax.numpy as jnp
import numpy as np

from zppo_jax import allowed
from zppo_jax.algorithms.credit import routes
from zppo_jax.algorithms.distillation_losses import behind, head_of
from zppo_jax.algorithms.targets import (
  REFERENCE_WEIGHT,
  MakeTargets,
  TargetContext,
  Targets,
  draws,
  of_advantage,
)
from zppo_jax.arrays import MicroBatch, PolicyOutput
from zppo_jax.objectives import estimators, losses, whole_vocabulary
from zppo_jax.objectives.divergences import Divergence
from zppo_jax.randomness import Purpose

TARGET = 'reference_logp'
MODEL = 'reference'
KINDS = ('none', *estimators.ESTIMATORS, 'full')


@dataclasses.dataclass(frozen=True)
class Penalty:
  """The section `algorithm.reference`.

  Attributes:
    kind: one of KINDS.
    coefficient: the factor of the penalty; 0 for 'none', above 0 for others.
    route: a row of routes.ANCHOR_ROUTES, or 'not' before one. Other than by
      'all', rollouts that nothing else trains are trained only on the route.

  Raises:
    KeyError: for an unknown kind, with the known ones.
    ValueError: for k1, and for a coefficient out of its range.
  """
  kind: str = 'none'
  coefficient: float = 0.0
  route: str = 'all'

  def __post_init__(self) -> None:
    allowed.one_of('algorithm.reference.kind', self.kind, KINDS)
    if self.sampled:
      try:
        estimators.as_loss(self.kind)
      except ValueError as e:
        raise ValueError(
            f'algorithm.reference.kind is {self.kind!r}; {e}') from e
    field = 'algorithm.reference.coefficient'
    if self.on:
      allowed.number(field, self.coefficient, '> 0')
    else:
      allowed.number(field, self.coefficient, '[0, 0]',
                     note=" while algorithm.reference.kind is 'none'")
      allowed.one_of('algorithm.reference.route', self.route, ('all',))
    routes.read('algorithm.reference.route', self.route, routes.ANCHOR_ROUTES)

  @property
  def on(self) -> bool:
    return self.kind != 'none'

  @property
  def sampled(self) -> bool:
    """Whether the penalty reads the sampled token alone."""
    return self.kind in estimators.ESTIMATORS

  @property
  def routed(self) -> bool:
    """Whether the penalty leaves some rollouts out."""
    return self.on and self.route != 'all'

  def held(self, context: TargetContext,
           taught: Collection[tuple[int, int]] = ()
           ) -> dict[tuple[int, int], bool]:
    """Whether the penalty holds each graded rollout that has a token.

    Args:
      context: the mini-batch.
      taught: the rollouts that the divergence term teaches.
    """
    route = routes.read('algorithm.reference.route', self.route,
                        routes.ANCHOR_ROUTES)
    groups = {p for p, _ in taught}
    out: dict[tuple[int, int], bool] = {}
    for p, group in enumerate(context.groups):
      on_G = route(group, draws(group, context.seed, context.step,
                                Purpose.ROUTES), context.done, p in groups)
      out |= {(p, g): bool(on_G[g]) for g, rollout in enumerate(group.rollouts)
              if rollout.graded and rollout.tokens}
    return out


def with_all_graded(context: TargetContext, *, make: MakeTargets,
                    penalty: Penalty) -> Targets:
  """Targets that train every rollout with a verdict on the penalty's route.

  A rollout of a group that is all right or all wrong has advantage 0 and is
  penalised all the same. One without a verdict stays untrained.

  Args:
    context: the mini-batch.
    make: the targets of the method, of the names of `of_advantage`.
    penalty: a penalty.
  """
  held = penalty.held(context)
  out = {**{(p, g): of_advantage(context.groups[p].rollouts[g], 0.0)
            for (p, g), on in held.items() if on}, **make(context)}
  if not penalty.routed:
    return out
  return {place: {**of, REFERENCE_WEIGHT: np.full(
      len(of['advantage']), held.get(place, False), np.float32)}
      for place, of in out.items()}


def _asked(batch: MicroBatch) -> tuple[jax.Array, dict[str, jax.Array]]:
  """(bool [B, T] tokens that the penalty holds, the statistic of them where a
  route leaves some out)."""
  weight_BT = batch.targets.get(REFERENCE_WEIGHT)
  if weight_BT is None:
    return batch.mask_BT > 0, {}
  asked_BT = batch.mask_BT * weight_BT > 0
  return asked_BT, {'reference/anchored': asked_BT}


def sampled_penalty(output: PolicyOutput, batch: MicroBatch, *, kind: str,
                    coefficient: float
                    ) -> tuple[jax.Array, dict[str, jax.Array]]:
  """coefficient x an estimator of the sampled token; a `Loss`.

  Args:
    output: the policy's log-probs.
    batch: it holds TARGET, the reference's log-probs, nats.
    kind: a kind that estimators.as_loss allows.
    coefficient: the factor.

  Returns:
    (loss_BT, {'reference/kl': k3 of the token, whatever the kind, because its
    mean estimates KL(S, R) and that of k2 does not}).
  """
  asked_BT, held = _asked(batch)
  reference_BT = batch.targets[TARGET]
  loss_BT = estimators.as_loss(kind)(output.logp_BT, reference_BT)
  return jnp.where(asked_BT, coefficient * loss_BT, 0), {
      'reference/kl': jnp.where(
          asked_BT, estimators.k3(output.logp_BT, reference_BT), 0), **held}


def whole_penalty(output: PolicyOutput, batch: MicroBatch, *,
                  coefficient: float, vocab: int, temperature: float,
                  chunk: int) -> tuple[jax.Array, dict[str, jax.Array]]:
  """coefficient x KL(S, R) over the whole vocabulary; a `Loss`.

  Args:
    output: it holds the hidden states of the frozen model MODEL.
    batch: the micro-batch.
    coefficient: the factor.
    vocab: the true vocabulary, in ids.
    temperature: the logits of both are divided by it.
    chunk: positions whose logits exist at a time.

  Returns:
    (loss_BT, {'reference/kl': KL(S, R), nats}).
  """
  asked_BT, held = _asked(batch)
  kl_BT, _ = whole_vocabulary.over_vocabulary(
      head_of(output), head_of(output.frozen[MODEL]), behind(batch.tokens_BT),
      behind(asked_BT), vocab=vocab, student_temperature=temperature,
      teacher_temperature=temperature, divergence=Divergence('reverse'),
      chunk=chunk, mesh=output.mesh)
  kl_BT = kl_BT[:, 1:]
  return coefficient * kl_BT, {'reference/kl': kl_BT, **held}


def penalised(loss: losses.Loss, penalty: Penalty,
              context: losses.LossContext) -> losses.Loss:
  """A loss with its penalty; the loss itself where there is none."""
  if not penalty.on:
    return loss
  if penalty.sampled:
    term: losses.Loss = functools.partial(
        sampled_penalty, kind=penalty.kind, coefficient=penalty.coefficient)
  else:
    term = functools.partial(
        whole_penalty, coefficient=penalty.coefficient, vocab=context.vocab,
        temperature=context.algorithm.temperature, chunk=context.chunk)
  return losses.added((loss, term))
