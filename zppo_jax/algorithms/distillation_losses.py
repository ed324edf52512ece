"""Distillation losses: token divergences between policy and teacher.

Each function is a `losses.Loss` once its keywords are bound. Its loss is in
nats and without coefficient (`scaled` has it), and 0 on tokens that the teacher
did not teach. Statistics that metrics.of_distillation reads begin with
'distil/'.

Three of them compare next-token distributions, by what is known of the teacher:
`whole_vocabulary_divergence` its hidden states, `kept_ids_divergence` the
log-probs of some ids, `estimate` and `log_ratio_surrogate` that of the sampled
token. `negative_log_likelihood` needs its texts alone.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from zppo_jax.algorithms.schedules import Schedule
from zppo_jax.arrays import Hidden, MicroBatch, PolicyOutput
from zppo_jax.objectives import (
  divergences,
  estimators,
  gathered_logps,
  losses,
  top_logps,
  whole_vocabulary,
)
from zppo_jax.objectives.credit.evidence import Call, Row
from zppo_jax.objectives.credit.signals import COPIED, LARGE, TENTHS, UNLIKELY

TEACHER = 'teacher'  # its name among the frozen models
PLAIN = Call('plain', Row(divergences.plain, frozenset()))  # the teacher itself
# Targets: the teacher's likeliest ids, the likeliest first, for `agreement`.
TOP_IDS, TOP_LOGPS = 'teacher_top_ids', 'teacher_top_logps'
ROLLOUT = 'rollout'  # target: int32, the rollout's number in its mini-batch


def ahead(x_BT: jax.Array) -> jax.Array:
  """From position t describes token t to: position t predicts token t + 1."""
  return jnp.pad(x_BT, ((0, 0), (0, 1), *((0, 0),) * (x_BT.ndim - 2)))


def behind(x_BT: jax.Array) -> jax.Array:
  """Tokens of positions that `ahead` has moved."""
  return jnp.pad(x_BT, ((0, 0), (1, 0), *((0, 0),) * (x_BT.ndim - 2)))


def head_of(of: PolicyOutput | Hidden) -> whole_vocabulary.Head:
  return whole_vocabulary.Head(hidden_BTD=ahead(of.hidden_BTD),
                               head_DV=of.head_DV)


def scaled_teacher(output: PolicyOutput, temperature: float | Callable
                   ) -> tuple[whole_vocabulary.Head, float]:
  """The frozen teacher and the temperature that is left to divide by."""
  teacher = head_of(output.frozen[TEACHER])
  if not callable(temperature):
    return teacher, temperature
  # Logits are linear in hidden states, which may be divided by a traced
  # number; the blocks over the vocabulary take a number of the program.
  scaled_BTD = teacher.hidden_BTD / temperature(output.done)
  return teacher._replace(
      hidden_BTD=scaled_BTD.astype(teacher.hidden_BTD.dtype)), 1.0


def taught(batch: MicroBatch) -> jax.Array:
  """bool [B, T]: tokens with a loss for which the teacher's numbers came, and
  whose 'weight', if the method gives tokens one, is not 0."""
  asked_BT = batch.mask_BT * batch.targets.get('taught', batch.mask_BT)
  return asked_BT * batch.targets.get('weight', batch.mask_BT) > 0


def target_at(target: Call, done: jax.Array | None) -> divergences.Target:
  """A row of divergences.TARGETS with its number after `done` updates."""
  weight = target.values[0] if target.values else 0.0
  return divergences.Target(
      target.name, weight(done) if callable(weight) else weight)


def _tenths(mask_BT: jax.Array) -> jax.Array:
  """float [B, T, 10]: 1 in the tenth of its response in which a token lies.

  A response is a run of the mask: another response of the same row stands
  behind a prompt of its own.
  """
  T = mask_BT.shape[1]
  places = jnp.arange(T)[None]
  last = jax.lax.cummax(jnp.where(mask_BT > 0, -1, places), axis=1)
  end = jax.lax.cummin(jnp.where(mask_BT > 0, T, places), axis=1, reverse=True)
  length = jnp.maximum(end - last - 1, 1)
  return jax.nn.one_hot((places - last - 1) * TENTHS // length, TENTHS,
                        dtype=jnp.float32)


def _by_depth(batch: MicroBatch, asked_BT: jax.Array,
              **numbers: jax.Array) -> dict[str, jax.Array]:
  """Statistics [B, T, 10] of taught tokens by their tenth of a response: their
  number, and the numbers 'distil/NAME_depth' of each."""
  tenth_BTN = _tenths(batch.mask_BT) * asked_BT[..., None]
  return {'distil/tenths': tenth_BTN, **{
      f'distil/{name}': tenth_BTN * jnp.where(asked_BT, x_BT, 0)[..., None]
      for name, x_BT in numbers.items()}}


def _of_tokens(batch: MicroBatch, asked_BT: jax.Array, loss_BT: jax.Array,
               logp_BT: jax.Array, teacher_BT: jax.Array
               ) -> dict[str, jax.Array]:
  """Statistics of the sampled tokens' log-probs under both models."""
  d_BT = jnp.where(asked_BT, teacher_BT - logp_BT, 0)
  return {
      'distil/copied': asked_BT & (teacher_BT > COPIED),
      'distil/log_ratio': d_BT,
      'distil/beyond_10': asked_BT & (jnp.abs(d_BT) > LARGE),
      **_by_depth(batch, asked_BT, divergence_depth=loss_BT,
                  depth=jnp.abs(d_BT))}


def _of_rollouts(batch: MicroBatch, asked_BT: jax.Array, d_BT: jax.Array,
                 rollouts: int) -> dict[str, jax.Array]:
  """The statistic [B, T, N] of d by rollout; {} without their numbers. A number
  from `rollouts` on is left out."""
  if ROLLOUT not in batch.targets:
    return {}
  own_BTN = jax.nn.one_hot(batch.targets[ROLLOUT], rollouts,
                           dtype=jnp.float32) * asked_BT[..., None]
  return {'distil/rollouts': own_BTN * d_BT[..., None]}


def divergence_at(divergence: divergences.Divergence, beta: Callable | None,
                  done: jax.Array | None) -> divergences.Divergence:
  """The divergence with its beta after `done` updates, if that moves."""
  return divergence if beta is None else dataclasses.replace(
      divergence, beta=beta(done))


def whole_vocabulary_divergence(output: PolicyOutput, batch: MicroBatch, *,
                                divergence: divergences.Divergence, vocab: int,
                                target: Call = PLAIN,
                                student_temperature: float,
                                teacher_temperature: float | Callable,
                                chunk: int, rollouts: int = 0,
                                beta: Callable | None = None
                                ) -> losses.LossAndStatistics:
  """The divergence to the frozen model 'teacher' over the whole vocabulary.

  Args:
    output: it holds the teacher's hidden states.
    batch: the micro-batch.
    divergence: the divergence.
    target: what the student is compared with.
    vocab, student_temperature, chunk: those of
      whole_vocabulary.over_vocabulary.
    teacher_temperature: the same, or optimizer steps done -> the number.
    rollouts: N, the numbers of the target ROLLOUT that are told apart, if the
      batch has it.
    beta: optimizer steps done -> the divergence's number; None: its own.

  Returns:
    (loss_BT, statistics); 'overlap_mass' is there where it costs no further
    pass over the vocabulary.
  """
  asked_BT = taught(batch)
  overlap = divergence.kind == 'jensen_shannon'
  teacher, teacher_temperature = scaled_teacher(output, teacher_temperature)
  loss_BT, seen = whole_vocabulary.over_vocabulary(
      head_of(output), teacher, behind(batch.tokens_BT),
      behind(asked_BT), vocab=vocab, student_temperature=student_temperature,
      teacher_temperature=teacher_temperature,
      divergence=divergence_at(divergence, beta, output.done),
      target=target_at(target, output.done), overlap=overlap, chunk=chunk,
      mesh=output.mesh)
  seen = {name: x_BT[:, 1:] for name, x_BT in seen.items()}
  loss_BT = loss_BT[:, 1:]
  statistics = {
      'distil/divergence': loss_BT, 'distil/taught': asked_BT,
      'distil/student_entropy': seen['entropy'],
      'distil/teacher_entropy': seen['teacher_entropy'],
      'distil/entropy_gap': jnp.abs(seen['teacher_entropy']
                                    - seen['entropy']),
      **_of_tokens(batch, asked_BT, loss_BT, seen['logp'],
                   seen['teacher_logp']),
      **_of_rollouts(batch, asked_BT, seen['teacher_logp'] - seen['logp'],
                     rollouts),
      'entropy': seen['entropy']}
  if overlap:
    statistics['distil/overlap_mass'] = seen['overlap']
  return loss_BT, statistics


def _of_teacher(output: PolicyOutput, batch: MicroBatch) -> dict:
  """Statistics that the teacher's stored scores may hold."""
  entropy_BT = batch.targets.get('teacher_entropy')
  return {} if entropy_BT is None else {
      'distil/teacher_entropy': entropy_BT,
      'distil/entropy_gap': jnp.where(
          taught(batch), jnp.abs(entropy_BT - output.entropy_BT), 0)}


def _kept_advantage(s_BTK: jax.Array, t_BTK: jax.Array) -> jax.Array:
  """[B, T] sum over kept ids of p (t - s), both renormalised over them: 0 where
  the two agree there, and else below. (Rethinking OPD.)"""
  s, t = (divergences.REST['renormalised'](x) for x in (s_BTK, t_BTK))
  p = jnp.exp(s)
  return jnp.where(p > 0, p * (t - s), 0).sum(axis=-1)


def _kept_logps(output: PolicyOutput, batch: MicroBatch, *, bucket: bool,
                vocab: int, student_temperature: float, chunk: int
                ) -> tuple[jax.Array, jax.Array, jax.Array, int]:
  """(bool [B, T] taught, log-probs of student and teacher on the kept ids, the
  number of ids). The student's have one more, the rest, for a `bucket`."""
  asked_BT = taught(batch)
  ids_BTK = jnp.where(asked_BT[..., None], batch.targets['kept_ids'], -1)
  t_BTK = gathered_logps.where_kept(
      jax.lax.stop_gradient(batch.targets['kept_logps']), ids_BTK)
  head = head_of(output)
  s = gathered_logps.gathered_logps(
      head.hidden_BTD, head.head_DV, behind(ids_BTK), behind(asked_BT),
      vocab=vocab, temperature=student_temperature, rest=bucket,
      chunk=chunk, mesh=output.mesh)[:, 1:]
  return asked_BT, s, t_BTK, ids_BTK.shape[-1]


def _of_kept(output: PolicyOutput, batch: MicroBatch, loss_BT: jax.Array,
             asked_BT: jax.Array, kept: jax.Array,
             t_BTK: jax.Array) -> losses.LossAndStatistics:
  """The loss on taught tokens, with the statistics of kept ids."""
  mass = lambda logps: jnp.exp(logps).sum(axis=-1)
  return jnp.where(asked_BT, loss_BT, 0), {
      'distil/divergence': loss_BT, 'distil/taught': asked_BT,
      'distil/student_entropy': jnp.where(asked_BT, output.entropy_BT, 0),
      'distil/kept_mass_student': mass(kept),
      'distil/kept_mass_teacher': mass(t_BTK),
      'distil/kept_advantage': jnp.where(
          asked_BT, _kept_advantage(kept, t_BTK), 0),
      **_by_depth(batch, asked_BT, divergence_depth=loss_BT),
      **_of_teacher(output, batch)}


def released_ptd(output: PolicyOutput, batch: MicroBatch, *, vocab: int,
                 student_temperature: float, chunk: int
                 ) -> losses.LossAndStatistics:
  """The distillation term of PTD-PO's released code: a control that trains
  nothing.

  With S, T on the kept ids and one bucket, M = (S + T) / 2:

    1/2 [sum sg(S) log(S / M) + sum T log(T / M)]

  The stop-gradient is on the weights S alone, and M keeps its gradient. For
  every id dL = 1/2 [dS - (S + T) dM / M] = 1/2 [dS - 2 dS / 2] = 0. Its value
  is that of the true divergence, so that its curve looks alive.
  """
  asked_BT, s, t_BTK, k = _kept_logps(
      output, batch, bucket=True, vocab=vocab,
      student_temperature=student_temperature, chunk=chunk)
  t = divergences.REST['bucket'](t_BTK)
  S, T = jnp.exp(s), jnp.exp(t)
  log_m = jnp.log((S + T) / 2)
  loss_BT = ((jax.lax.stop_gradient(S) * jnp.where(S > 0, s - log_m, 0)).sum(-1)
             + (T * jnp.where(T > 0, t - log_m, 0)).sum(-1)) / 2
  return _of_kept(output, batch, loss_BT, asked_BT, s[..., :k], t_BTK)


def kept_ids_divergence(output: PolicyOutput, batch: MicroBatch, *,
                        divergence: divergences.Divergence, rest: str,
                        vocab: int, student_temperature: float, chunk: int,
                        target: Call = PLAIN, beta: Callable | None = None
                        ) -> losses.LossAndStatistics:
  """The divergence on the stored ids of each token.

  The targets are 'kept_ids' int32 [B, T, K] (-1: no id), 'kept_logps' (the
  teacher's, nats), and 'taught'.

  Args:
    output, batch: see losses.Loss.
    divergence: the divergence.
    target: what the student is compared with, over the support in use.
    beta: optimizer steps done -> the divergence's number; None: its own.
    rest: a key of divergences.REST, what stands for the other ids.
    vocab: the true vocabulary, in ids.
    student_temperature: the student's logits are divided by it.
    chunk: positions whose logits exist at a time.

  Returns:
    (loss_BT, statistics).
  """
  bucket = rest == 'bucket'
  asked_BT, s, t_BTK, k = _kept_logps(
      output, batch, bucket=bucket, vocab=vocab,
      student_temperature=student_temperature, chunk=chunk)
  kept = s[..., :k]
  s = s if bucket else divergences.REST[rest](s)
  loss_BT = divergence_at(divergence, beta, output.done)(
      s, target_at(target, output.done)(s, divergences.REST[rest](t_BTK)))
  return _of_kept(output, batch, loss_BT, asked_BT, kept, t_BTK)


def _sampled(output: PolicyOutput, batch: MicroBatch
             ) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
  """(bool [B, T] taught, the teacher's log-probs of the tokens, statistics).

  The mean of the statistic 'distil/divergence' estimates KL(S || T) for tokens
  of the student."""
  asked_BT = taught(batch)
  teacher_BT = batch.targets['teacher_logp']
  k1_BT = jnp.where(asked_BT, estimators.k1(output.logp_BT, teacher_BT), 0)
  return asked_BT, teacher_BT, {
      'distil/divergence': k1_BT, 'distil/taught': asked_BT,
      **_by_depth(batch, asked_BT, divergence_depth=k1_BT),
      'distil/student_entropy': jnp.where(asked_BT, output.entropy_BT, 0),
      **_of_teacher(output, batch)}


def estimate(output: PolicyOutput, batch: MicroBatch, *,
             kind: str) -> losses.LossAndStatistics:
  """An estimator of the sampled token, differentiated (estimators.as_loss).

  The targets are 'teacher_logp' (nats) and 'taught'.
  """
  asked_BT, teacher_BT, statistics = _sampled(output, batch)
  loss_BT = estimators.as_loss(kind)(output.logp_BT, teacher_BT)
  return jnp.where(asked_BT, loss_BT, 0), statistics


def log_ratio_surrogate(output: PolicyOutput, batch: MicroBatch, *,
                        clip: losses.ClipBounds) -> losses.LossAndStatistics:
  """The clipped surrogate whose advantage is log p_T - log p_old of the token.

  (On-policy distillation by policy gradient; MiniLLM, Gu et al. 2024, with the
  return of one token.) The targets are 'teacher_logp', 'taught' and 'old_logp',
  the trainer's own log-probs.
  """
  asked_BT, teacher_BT, statistics = _sampled(output, batch)
  old_BT = batch.targets['old_logp']
  advantage_BT = jnp.where(
      asked_BT, estimators.log_ratio(old_BT, teacher_BT), 0)
  loss_BT, more = losses.surrogate(output.logp_BT, old_BT, advantage_BT, clip)
  return loss_BT, {**statistics, **more}


def anchored_surrogate(output: PolicyOutput, batch: MicroBatch, *,
                       clip: losses.ClipBounds,
                       alpha: float) -> losses.LossAndStatistics:
  """The clipped surrogate whose ratio is against p_T^(1 - alpha) p_old^alpha.

  (RLAD, TRRD.) A token that the teacher did not score has the ratio of alpha =
  1, which is the clipped surrogate. The targets are 'advantage', 'old_logp',
  'teacher_logp' (nats) and 'taught'.
  """
  asked_BT, teacher_BT, statistics = _sampled(output, batch)
  old_BT = batch.targets['old_logp']
  anchor_BT = old_BT if alpha == 1 else jnp.where(
      asked_BT, (1 - alpha) * teacher_BT + alpha * old_BT, old_BT)
  loss_BT, more = losses.surrogate(
      output.logp_BT, anchor_BT, batch.targets['advantage'], clip)
  return loss_BT, {**statistics, **more}


def guided_surrogate(output: PolicyOutput, batch: MicroBatch, *,
                     clip: losses.ClipBounds) -> losses.LossAndStatistics:
  """The clipped surrogate of a group in which some texts are the teacher's.

  (NPO.) A text's ratio is against the policy that drew it: the teacher where
  its log-probs are known ('taught'), else the policy before the first update.
  The targets are 'advantage', 'old_logp', 'teacher_logp' (nats) and 'taught'.
  """
  asked_BT, teacher_BT, statistics = _sampled(output, batch)
  old_BT = jnp.where(asked_BT, teacher_BT, batch.targets['old_logp'])
  loss_BT, more = losses.surrogate(
      output.logp_BT, old_BT, batch.targets['advantage'], clip)
  return loss_BT, {**statistics, **more}


def negative_log_likelihood(output: PolicyOutput, batch: MicroBatch
                            ) -> losses.LossAndStatistics:
  """-log p of every token, whoever wrote it."""
  asked_BT = taught(batch)
  return jnp.where(asked_BT, -output.logp_BT, 0), {
      'distil/taught': asked_BT,
      'distil/student_entropy': jnp.where(asked_BT, output.entropy_BT, 0)}


def agreement(output: PolicyOutput, batch: MicroBatch, *, top: int, vocab: int,
              student_temperature: float,
              teacher_temperature: float | Callable, chunk: int
              ) -> dict[str, jax.Array]:
  """Statistics of the K likeliest ids of both models on taught tokens.

  They cost no pass of a model, but one product of the student's hidden states
  with its head, and one of the teacher's if it runs inside the update.
  (Rethinking OPD, K 16; the cliff is the tutorial's.)

  Args:
    output, batch: see losses.Loss. Unless the teacher is a frozen model, the
      batch has the targets TOP_IDS and TOP_LOGPS, or its kept ids are the
      teacher's likeliest.
    top: K.
    vocab, student_temperature, teacher_temperature, chunk: see
      `whole_vocabulary_divergence`.

  Returns:
    overlap_ratio, the share of the teacher's ids that are the student's too;
    overlap_advantage, minus the reverse KL over these common ids, both
    renormalised over them, nats, 0 without one; cliff, whether the student
    gives the teacher's likeliest id less than UNLIKELY.
  """
  asked_BT = taught(batch)
  describe = lambda head, given, temperature: jax.tree.map(
      lambda x_BT: x_BT[:, 1:], top_logps.describe(
          jax.lax.stop_gradient(head.hidden_BTD),
          jax.lax.stop_gradient(head.head_DV), behind(batch.tokens_BT),
          behind(asked_BT), given, top=top, vocab=vocab, chunk=chunk,
          temperature=temperature, mesh=output.mesh))
  if TEACHER in output.frozen:
    teacher, temperature = scaled_teacher(output, teacher_temperature)
    of = describe(teacher, None, temperature)
    ids_BTK, t_BTK = of.top_id_BTK, of.top_logp_BTK
  elif TOP_IDS in batch.targets:
    ids_BTK, t_BTK = batch.targets[TOP_IDS], batch.targets[TOP_LOGPS]
  else:
    ids_BTK, t_BTK = (batch.targets[name][..., :top]
                      for name in ('kept_ids', 'kept_logps'))
  ids_BTK = jnp.where(asked_BT[..., None], ids_BTK, -1)
  student = describe(head_of(output), behind(ids_BTK), student_temperature)
  common_BTK = (ids_BTK >= 0) & (
      ids_BTK[..., None] == student.top_id_BTK[..., None, :]).any(axis=-1)
  some_BT = common_BTK.any(axis=-1)
  # Without a common id the first stands for it, so that nothing is divided by
  # a mass of 0; the number is not used.
  used_BTK = common_BTK | (
      ~some_BT[..., None] & (jnp.arange(top) == 0)[None, None])
  s_BTK, t_BTK = (jnp.where(used_BTK, x_BTK, -jnp.inf)
                  for x_BTK in (student.given_logp_BTN, t_BTK))
  return {
      'distil/overlap_ratio': common_BTK.mean(axis=-1),
      'distil/overlap_advantage': jnp.where(
          some_BT & asked_BT, _kept_advantage(s_BTK, t_BTK), 0),
      'distil/cliff': asked_BT & (
          student.given_logp_BTN[..., 0] < jnp.log(UNLIKELY))}


def times(output: PolicyOutput, batch: MicroBatch, *, loss: losses.Loss,
          factor: float | Callable) -> losses.LossAndStatistics:
  """A loss times a number, or optimizer steps done -> a number, with its
  statistics."""
  loss_BT, statistics = loss(output, batch)
  number = (jnp.asarray(factor(output.done), loss_BT.dtype)
            if callable(factor) else factor)
  return number * loss_BT, statistics


def scaled(output: PolicyOutput, batch: MicroBatch, *, loss: losses.Loss,
           coefficient: Schedule, watched: Callable | None = None
           ) -> losses.LossAndStatistics:
  """A loss times its coefficient, which becomes the statistic
  'distil/coefficient' on taught tokens, and times the target 'weight'; with
  the statistics of `agreement`, where it is `watched`."""
  loss_BT, statistics = loss(output, batch)
  if watched is not None:
    statistics = {**statistics, **watched(output, batch)}
  number = jnp.asarray(coefficient(output.done), loss_BT.dtype)
  loss_BT = number * loss_BT
  if 'weight' in batch.targets:
    loss_BT = loss_BT * batch.targets['weight']
  return loss_BT, {
      **statistics, 'distil/coefficient': jnp.where(taught(batch), number, 0)}
