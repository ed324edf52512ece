"""What turns groups into gradients: scoring, advantages, loss, update."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from zppo_jax.algorithms import distillation_losses, methods, reference
from zppo_jax.algorithms.credit import gold
from zppo_jax.arrays import (
  Hidden,
  MicroBatch,
  OwnPrompts,
  PolicyOutput,
  TrainState,
)
from zppo_jax.chat import segments
from zppo_jax.devices import sharding
from zppo_jax.learner import ewc, layouts, scoring, states, update
from zppo_jax.models.lora import OfAdapters
from zppo_jax.objectives import advantages, importance, losses
from zppo_jax.rollout import weight_sync
from zppo_jax.train import models as loading
from zppo_jax.train.builders import (
  anchor as anchor_parts,
  distillation as parts_of,
)
from zppo_jax.train.builders.parts import Student
from zppo_jax.train.teaching import reading


class Learner(NamedTuple):
  """What turns groups into gradients; its fields are fields of Run."""
  reshard_fn: Callable
  score_fn: Callable
  advantage_fn: Callable
  update_fn: Callable
  init_state: states.Initial
  abstract_state: TrainState
  layout: layouts.Layout
  ewc: ewc.Anchor | None


def _example_output(frozen: dict, vocab: int) -> PolicyOutput:
  """A PolicyOutput of one token, of the types that a run has."""
  token = np.zeros((1, 1), np.float32)
  hidden = dict(hidden_BTD=token[..., None],
                head_DV=np.zeros((1, vocab), np.float32))
  return PolicyOutput(
      logp_BT=token, entropy_BT=token, done=np.int32(0),
      frozen={name: Hidden(**hidden) for name in frozen}, **hidden)


def _no_overlap(c) -> str:
  return (f'watch.overlap is {c.watch.overlap} and method {c.method!r}, whose '
          'loss reads no next-token distribution of a teacher; allowed: 0')


def _loss(c, method: methods.Method, correct: importance.Correction,
          gap_measured: bool, of: parts_of.Distillation, vocab: int,
          penalty: reference.Penalty,
          example: dict[str, np.ndarray]) -> losses.Loss:
  """The method's loss with its correction.

  Args:
    c, method, correct, gap_measured, of: those of the run.
    vocab: the true vocabulary, in ids.
    penalty: the penalty towards the reference, which is not corrected.
    example: the targets of one token (minibatches.example_targets).

  Raises:
    ValueError: if it reads a target that the method does not make.
  """
  context = losses.LossContext(
      algorithm=c.algorithm, distil=of.distil, vocab=vocab,
      chunk=c.shapes.logprob_chunk)
  loss = reference.penalised(
      correct.of(method.loss(context), gap_measured), penalty, context)
  if c.watch.overlap and not (of.stored_need
                              or distillation_losses.TEACHER in of.frozen):
    raise ValueError(_no_overlap(c))
  example = dict(example)
  if method.old_logps:
    example['old_logp'] = np.zeros(1, np.float32)
  token = np.zeros((1, 1), np.float32)
  output = _example_output(of.frozen, vocab)
  batch = MicroBatch(
      tokens_BT=np.int32(token), positions_BTA=np.int32(token[..., None]),
      segment_BT=np.int32(token), mask_BT=token, prompts=OwnPrompts(media=None),
      targets={name: x[None] for name, x in example.items()})
  try:
    _, statistics = jax.eval_shape(loss, output, batch)
  except KeyError as e:
    raise ValueError(
        f'the loss of method {c.method!r}, with algorithm.correction.kind = '
        f'{correct.kind!r}, reads the target {e}; the method makes '
        f'{", ".join(sorted(example))}') from e
  if c.watch.overlap and 'distil/overlap_ratio' not in statistics:
    raise ValueError(_no_overlap(c))
  return loss


def reads_scores(method: methods.Method) -> bool:
  """Whether a stored log-prob of a teacher stands beside the student's own."""
  return 'teacher_scores' in method.needs


def counted_ids(method: methods.Method, student: Student,
                of: parts_of.Distillation, example) -> int | None:
  """The ids over which the student is normalised: what is compared with a
  teacher leaves the padding of the head out, which may differ between the two.
  Otherwise it counts as in the sampler (None)."""
  if of.distil and (reads_scores(method) or 'sampler_logp' not in example):
    return segments.true_vocabulary(student.chat.codec)
  return None


def learner_of(c, method: methods.Method, student: Student, mesh, tx,
               correct: importance.Correction, gap_measured: bool,
               of: parts_of.Distillation, penalty: reference.Penalty,
               example: dict[str, np.ndarray],
               counted: int | None) -> Learner:
  """The compiled functions of a run, its first state and its layout.

  Args:
    c, method, student, mesh, tx, correct, gap_measured, of, penalty: those of
      the run.
    example: the targets of one token (minibatches.example_targets).
    counted: see `counted_ids`.

  Raises:
    ValueError: see `_loss`, builders.anchor and train.teaching.reading.
  """
  algo, shapes, model = c.algorithm, c.shapes, student.model
  vocab = segments.true_vocabulary(student.chat.codec)
  responses = tuple(shapes.response_buckets) or (
      max(algo.max_tokens, algo.teacher_max_tokens)
      if parts_of.teachers_states(c, method) else algo.max_tokens,)
  moving = parts_of.moving(c) if (
      method.teacher or parts_of.teacher_draws(c, method)) else None
  shardings = states.state_shardings(
      student.trained, tx, mesh, moving is not None and moving.followed)
  held = anchor_parts.anchor_of(c, student, shardings)
  adapted = student.adapted
  score_fn = scoring.compile_scorer(
      model=model, mesh=mesh, shardings=None if adapted else shardings,
      temperature=algo.temperature, chunk=shapes.logprob_chunk, vocab=counted)
  inside = moving is not None and 'teacher' in of.frozen
  own = algo.updates == 1 and method.old_logps
  loss_fn = functools.partial(
      update.policy_loss, model=model,
      temperature=(of.distil.student_temperature if of.distil
                   else algo.temperature),
      chunk=shapes.logprob_chunk, vocab=counted,
      loss=_loss(c, method, correct, gap_measured, of, vocab, penalty,
                 example),
      frozen={name: model for name, (model, _) in of.frozen.items()},
      lessons=() if of.context is None else ('teacher',),
      reducer=of.reducer, longest=max(responses),
      old_logps=update.own_old_logps if own else update.recorded_old_logps)
  return Learner(
      reshard_fn=weight_sync.compile_reshard(
          model, mesh, c.student.rollout_weights, adapted=adapted),
      score_fn=score_fn if adapted is None else OfAdapters(
          score_fn, adapted.join),
      advantage_fn=functools.partial(
          advantages.NORMALISERS[method.normaliser],
          eps=algo.advantage_eps),
      update_fn=update.compile_update(
          loss_fn=loss_fn, tx=tx, mesh=mesh, shardings=shardings,
          frozen={name: params for name, (_, params) in of.frozen.items()
                  if not (inside and name == 'teacher')},
          own=functools.partial(moving.beside, joined=student.joined)
          if inside else None, adapted=adapted,
          follow=None if moving is None else moving.follow,
          scheduled=of.distil is not None and of.distil.moves,
          gold_loss_fn=functools.partial(
              update.policy_loss, model=model, loss=gold.likelihood,
              temperature=gold.TEMPERATURE, chunk=shapes.logprob_chunk,
              vocab=vocab) if parts_of.has_gold(c, method) else None,
          trained=anchor_parts.trained_of(c, student.loaded.params),
          anchor=held),
      ewc=held,
      init_state=states.Initial(lambda: states.new_state(
          loading.first_params(c, student.loaded, adapted), tx, shardings)),
      abstract_state=states.abstract_state(student.trained, tx, shardings),
      layout=layouts.Layout(
          kind=shapes.layout, max_tokens=shapes.micro_tokens,
          multiple=sharding.batch_shards(mesh), rollouts=algo.rollouts,
          row_buckets=tuple(shapes.row_buckets),
          prompt_buckets=tuple(shapes.prompt_buckets),
          response_buckets=responses,
          patch_buckets=tuple(shapes.patch_buckets),
          num_axes=model.num_axes, lessons=reading.table(
              c, of.distil, of.context, of.stored_need)))
