"""From the groups of a step to its mini-batches on the mesh."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from zppo_jax.algorithms import (
  distillation_losses,
  lessons as lesson_lib,
  reference,
)
from zppo_jax.algorithms.credit import (
  gold,
  scores as teacher_scores,
  targets as credit_targets,
)
from zppo_jax.algorithms.credit.scores import Returned, Scored
from zppo_jax.algorithms.credit.settings import at
from zppo_jax.algorithms.distillation import Distil
from zppo_jax.algorithms.lessons import Lessons
from zppo_jax.algorithms.methods import Method
from zppo_jax.algorithms.privileged import contexts, lenders
from zppo_jax.algorithms.privileged.contexts import CONTEXTS
from zppo_jax.algorithms.targets import TargetContext, Targets
from zppo_jax.arrays import MicroBatch, TrainState
from zppo_jax.devices import compile_ahead, sharding
from zppo_jax.learner import layouts, packing, update
from zppo_jax.randomness import Purpose, host_rng
from zppo_jax.records import (
  CallStats,
  Group,
  Prompt,
  PromptKind,
  Question,
  Rollout,
  Scores,
  StopReason,
  TokenSequence,
  Verdict,
  Wanted,
)
from zppo_jax.teachers import PLAIN
from zppo_jax.train.run import Run


class MiniBatch(NamedTuple):
  """What one optimizer step is made of.

  Attributes:
    batches: micro-batches, on the mesh.
    tokens: response tokens of its groups, those of groups without a gradient
      included.
    count: what the summed loss is divided by; `tokens` under the token mean.
    rewarded: whether some advantage, or weight of a term, is not 0.
    gold: micro-batches of stored answers (algorithms/credit/gold.py).
    over_long: right stored answers that were left out, because no training row
      holds them; those of a step stand in its first mini-batch.
    gaps: of each micro-batch the largest |sampler - trainer| log-prob of a
      trained token (nats), on the device; () before `score`, and for a method
      without log-probs of the sampler.
    returned: rollouts whose sums of d the update tells; () for others.
  """
  batches: list[MicroBatch]
  tokens: int
  count: int
  rewarded: bool = True
  gold: Sequence[MicroBatch] = ()
  over_long: int = 0
  returned: Sequence[Returned] = ()
  gaps: Sequence[jax.Array] = ()


def advantages(run: Run, groups: Sequence[Group]) -> np.ndarray:
  """Advantages [len(groups), G] with statistics over these groups; a rollout
  without a verdict does not enter them and has advantage 0.

  Groups under a context have statistics of their own, because another policy
  drew them. Rollouts that are carried from there to the plain question have
  advantage 0, because no policy drew them behind it.
  """
  kinds = [g.prompt.kind for g in groups]
  width = max((run.num_rollouts, *(len(g.rollouts) for g in groups)))
  out = np.zeros((len(groups), width), np.float32)
  for places in (
      [p for p, kind in enumerate(kinds) if kind not in (
          PromptKind.PRIVILEGED, PromptKind.CARRIED)],
      [p for p, kind in enumerate(kinds) if kind == PromptKind.PRIVILEGED]):
    rewards, mask = np.zeros((2, len(places), width), np.float32)
    for row, p in enumerate(places):
      size = len(groups[p].rollouts)
      rewards[row, :size] = (
          groups[p].rewards if run.scoring is None
          else run.scoring.totals(groups[p]))
      mask[row, :size] = [r.graded for r in groups[p].rollouts]
    if places:
      out[places] = run.advantage_fn(rewards, mask)
  return out


def of_lessons(run: Run, lessons: Lessons,
               advantages_PG: np.ndarray) -> np.ndarray | None:
  """The advantages of what is trained on; None for texts of others, which have
  none.

  Args:
    run: the run.
    lessons: what is trained on.
    advantages_PG: the advantages of the student's groups.
  """
  if lessons.states == 'guided' or lessons.drawn is not None:
    return advantages(run, lessons.groups)
  return advantages_PG if lessons.of_student else None


def score_by_teacher(run: Run, state: TrainState, params,
                     groups: Sequence[Group], step: int,
                     read: Mapping[int, Prompt] | None = None) -> Scored:
  """The teacher's one pass over the rollouts of a step, and the passes of the
  student and of a base that the row's credit reads; nothing without a row that
  stores scores.

  Args:
    run: the run.
    state: the state before the step's updates. The student's own log-probs are
      those of the trained weights, whatever the rollout copy has of them.
    params: the student's rollout copy, whose likeliest ids are taken.
    groups: the groups that are trained on.
    step: the step.
    read: as Lessons.read.
  """
  lessons = _lessons(run, groups, step, read or {})
  chosen = None if run.credit is None else credit_targets.taught_places(
      run.credit, groups, run.seed, step, step * run.num_updates)
  if run.method.states == 'guided':  # what the teacher drew, by its own policy
    chosen = {(p, g) for p, group in enumerate(groups)
              for g, rollout in enumerate(group.rollouts)
              if not rollout.sampled}
  if run.stored_need:
    scored = teacher_scores.score_rollouts(
        groups, run.distil, run.stored_need,
        score=functools.partial(run.teacher.score, step=step),
        student_ids=lambda sequences: run.student_ids_fn(params, sequences),
        entropy=run.teacher.capabilities.entropy, chosen=chosen,
        sampled=run.credit is not None and run.credit.asks_teacher,
        lessons=lessons)
  else:
    scored = (Scored(targets={}) if lessons is None
              else teacher_scores.taught_inside(groups, lessons))
  if run.own_scores is None:
    return scored
  return dataclasses.replace(scored, targets=run.own_scores(
      state.params, groups, scored.targets, step))


def _lessons(run: Run, groups: Sequence[Group], step: int,
             read: Mapping[int, Prompt]) -> contexts.Lessons | None:
  """What the teacher reads; None if that is what the student reads."""
  if run.context is None:
    return None
  own = [p for p in range(len(groups)) if p not in read]
  made = lenders.lessons(
      run.distil.context, [groups[p] for p in own],
      dataclasses.replace(run.context, step=step), run.chat,
      run.rules.max_prompt, run.distil.context_of)
  return contexts.Lessons(
      prompts={**{(own[i], g): x for (i, g), x in made.prompts.items()},
               **{(p, g): prompt for p, prompt in read.items()
                  for g in range(len(groups[p].rollouts))}},
      untaught={(own[i], g): x for (i, g), x in made.untaught.items()})


def _read(lessons: contexts.Lessons,
          of_question: bool) -> dict[tuple[int, int], Prompt]:
  """The prompts of lessons. Where the rollouts of a group share one, those that
  are not taught by it have it too, so that a group has one prompt."""
  if not of_question:
    return dict(lessons.prompts)
  shared: dict[int, Prompt] = {}
  for (p, _), prompt in lessons.prompts.items():
    shared.setdefault(p, prompt)
  return {**{(p, g): shared[p] for p, g in lessons.untaught if p in shared},
          **lessons.prompts}


def _emptied(rollout: Rollout) -> Rollout:
  """A rollout that counts for nothing and keeps its place."""
  return dataclasses.replace(rollout, tokens=())


def _counted(groups: Sequence[Group]) -> Sequence[Group]:
  """The groups whose rollouts the loss is a mean over: those that were drawn
  behind the prompt on which they are trained, if there are any."""
  if all(g.prompt.kind == PromptKind.CARRIED for g in groups):
    return groups
  return [g if g.prompt.kind != PromptKind.CARRIED else Group(
      g.prompt, tuple(map(_emptied, g.rollouts))) for g in groups]


def _own_means(reducer: str, groups: Sequence[Group], targets: Targets,
               count: int, longest: int) -> Targets:
  """Targets whose 'weight' makes the divergence term a mean over its own
  rollouts, as the policy term is over the others: how many rollouts were drawn
  under a context changes neither.

  Args:
    reducer, longest: as of packing.reducer_count.
    groups: the groups of the mini-batch.
    targets: its targets.
    count: what the summed loss is divided by.
  """
  taught = {at: of for at, of in targets.items()
            if np.any(of.get('weight', 0))}
  own = packing.reducer_count(reducer, [Group(group.prompt, tuple(
      r if (p, g) in taught else _emptied(r)
      for g, r in enumerate(group.rollouts)))
      for p, group in enumerate(groups)], taught, longest)
  if not own:
    return targets
  return {at: {**of, 'weight': np.float32(count / own) * of['weight']}
          for at, of in targets.items()}


def make(run: Run, groups: Sequence[Group], advantages_PG: np.ndarray | None,
         step: int, scored: Scored | None = None
         ) -> tuple[list[MiniBatch], CallStats]:
  """I mini-batches, and statistics of the calls to the teacher for them.

  Args:
    run: the run.
    groups: the groups that are trained on.
    advantages_PG: their advantages; None for texts that the student did not
      draw, which have none.
    step: the step.
    scored: the results of `score_by_teacher`; None for a row without them.
  """
  scored = scored or Scored(targets={})
  read, untaught = {}, frozenset()
  if scored.lessons is not None:
    untaught = frozenset(scored.lessons.untaught)
    read = _read(scored.lessons, CONTEXTS[run.distil.context].of_question)
  split = packing.split_minibatches(
      len(groups), run.num_updates,
      host_rng(run.seed, step, Purpose.MINIBATCHES))
  calls = [CallStats()]

  def score(sequences: Sequence[TokenSequence],
            wanted: Wanted = PLAIN) -> Scores:
    if not run.method.teacher_scores:
      raise ValueError("a method's targets ask for scores of the teacher; its "
                       'row of methods.METHODS must say teacher_scores=True')
    scores = run.teacher.score(sequences, wanted, step)
    calls.append(scores.calls)
    return scores

  out, longest = [], run.sampler.decoding.max_tokens
  for number, indices in enumerate(split):
    chosen = [groups[i] for i in indices]
    if advantages_PG is None:
      advantages_pG = np.zeros((len(chosen), 0), np.float32)
    elif run.advantage_scope == 'rollout_batch':
      advantages_pG = advantages_PG[indices]
    else:
      advantages_pG = advantages(run, chosen)
    place = {i: p for p, i in enumerate(indices)}
    at_place = lambda of, place=place: {
        (place[i], g): x for (i, g), x in of.items() if i in place}
    targets = run.method.targets(TargetContext(
        groups=chosen, advantages=advantages_pG, step=step, seed=run.seed,
        score=score, done=step * run.num_updates + number,
        scored=at_place(scored.targets),
        untaught=frozenset(at_place(dict.fromkeys(untaught)))))
    count = packing.reducer_count(
        run.reducer, _counted(chosen), targets, longest)
    if run.method.draws:
      targets = _own_means(run.reducer, chosen, targets, count, longest)
    numbered = run.method.numbers_rollouts(run.distil, run.stored_need)
    if numbered:
      targets = teacher_scores.numbered(targets, chosen)
      returned = teacher_scores.returned(targets, chosen)
    batches = layouts.micro_batches(chosen, targets, run.layout,
                                    at_place(read))
    out.append(MiniBatch(
        batches=[sharding.put_batch(run.mesh, b) for b in batches],
        tokens=packing.trained_tokens(chosen),
        count=count, returned=returned if numbered else (),
        rewarded=bool(np.any(advantages_pG)) or (
            bool(run.method.terms) and any(
                np.any(of.get(name, 0)) for of in targets.values()
                for name in ('advantage', 'weight')))))
  return out, sum(calls[1:], calls[0])


def with_gold(run: Run, minibatches: Sequence[MiniBatch],
              plain: Sequence[Group], step: int) -> list[MiniBatch]:
  """Mini-batches with the stored answers to the step's questions, which are
  dealt out to them; without an anchor they stay as they are.

  Args:
    run: the run.
    minibatches: the results of `make`.
    plain: the groups of the step's questions.
    step: the step.
  """
  factor = None if run.credit is None else run.credit.gold
  if factor is None:
    return list(minibatches)
  answers, _ = run.stored.answer([g.prompt for g in plain], step)
  groups, over_long = lesson_lib.kept(answers, run.distil.keep,
                                      max(run.layout.response_buckets))
  split = packing.split_minibatches(
      len(groups), run.num_updates, host_rng(run.seed, step, Purpose.GOLD))
  out = []
  for number, (of, indices) in enumerate(zip(minibatches, split, strict=True)):
    chosen = [groups[i] for i in indices]
    batches = layouts.micro_batches(
        chosen, gold.targets(
            chosen, at(factor, step * run.num_updates + number), of.count),
        run.layout._replace(lessons=None))
    out.append(of._replace(
        gold=[sharding.put_batch(run.mesh, b) for b in batches],
        over_long=over_long if not number else 0))
  return out


def _score_by_reference(run: Run, minibatches: Sequence[MiniBatch]
                        ) -> list[MiniBatch]:
  """Adds the log-probs of the frozen reference policy, if the penalty reads
  those of the sampled tokens."""
  frozen = run.reference
  if frozen is None or not frozen.penalty.sampled:
    return list(minibatches)
  return [of._replace(batches=[
      b.with_target(reference.TARGET, _paced(
          run, frozen.score_fn(frozen.params, b)[0]))
      for b in of.batches]) for of in minibatches]


def _paced(run: Run, logp_BT: jax.Array) -> jax.Array:
  """Log-probs that the device was asked for; Noticed if the run must end."""
  run.notice.pace(logp_BT)
  return logp_BT


def score(run: Run, state: TrainState,
          minibatches: Sequence[MiniBatch]) -> list[MiniBatch]:
  """Adds the log-probs that a loss reads, before the first update.

  They are 'old_logp' by the trainer's own graph, and those of the reference. A
  method whose loss reads no 'old_logp' needs none, nor does a step of one
  update, which takes its own.
  """
  minibatches = _score_by_reference(run, minibatches)
  if run.num_updates == 1 or not run.method.old_logps:
    return minibatches
  return [_scored(run, state, of) for of in minibatches]


def _scored(run: Run, state: TrainState, of: MiniBatch) -> MiniBatch:
  batches, gaps = [], []
  for batch in of.batches:
    compile_ahead.PROGRAMS.need((id(run.score_fn), update.sizes(batch)))
    logp_BT, _, gap = run.score_fn(state.params, batch)
    batches.append(batch.with_target('old_logp', _paced(run, logp_BT)))
    gaps += [] if gap is None else [gap]
  return of._replace(batches=batches, gaps=gaps)


def sampler_gaps(minibatches: Sequence[MiniBatch]) -> tuple:
  """The gaps of all micro-batches, on the device."""
  return tuple(gap for of in minibatches for gap in of.gaps)


def _example_scores(sequences: Sequence[TokenSequence],
                    wanted: Wanted = PLAIN) -> Scores:
  """Scores of the right shapes, all 0."""
  def zeros(dtype, *axes: int):
    return tuple(np.zeros((len(s.response), *axes), dtype) for s in sequences)
  return Scores(
      logps=zeros(np.float32), calls=CallStats(),
      top_ids=zeros(np.int32, wanted.top) if wanted.top else (),
      top_logps=zeros(np.float32, wanted.top) if wanted.top else (),
      given_logps=tuple(np.zeros(np.shape(i), np.float32) for i in wanted.ids),
      entropies=zeros(np.float32) if wanted.entropy else ())


def example_targets(method: Method, num_updates: int,
                    distil: Distil | None = None, stored_need: str = '',
                    entropy: bool = False,
                    penalty: reference.Penalty | None = None,
                    lessons: bool = False) -> dict[str, np.ndarray]:
  """The targets of a made-up rollout, with the names, types and trailing axes
  that micro-batches of a run hold when they are trained on.

  Args:
    method: the run's method.
    num_updates: optimizer steps per step.
    distil, stored_need: those of the run.
    entropy: whether the teacher's scores hold entropies.
    penalty: that of the run's reference, or None.
    lessons: whether the teacher has a context inside the update.
  """
  rollouts = tuple(
      Rollout(tokens=(0,), logps=(0.0,), text='', stop=StopReason.END,
              verdict=verdict, answer='')
      for verdict in (Verdict.CORRECT, Verdict.WRONG))
  prompt = Prompt(Question(id='example', text='', answer='', split=''),
                  PromptKind.PLAIN, tokens=(0,))
  groups = [Group(prompt, rollouts)]
  scored = {} if not stored_need else teacher_scores.score_rollouts(
      groups, distil, stored_need, score=_example_scores, entropy=entropy,
      student_ids=lambda sequences: [
          np.zeros((len(s.response), distil.top), np.int32)
          for s in sequences]).targets
  make_targets = method.targets
  if method.terms:  # no route and no weight of a made-up rollout counts
    make_targets = functools.partial(make_targets, all_graded=True)
    scored = {(0, g): {**scored.get((0, g), {}), **{
        name: np.zeros(1, np.float32) for name in credit_targets.UNREAD[:3]}}
        for g in range(2)}
  targets = make_targets(TargetContext(
      groups=groups, advantages=np.float32([[1, -1]]),
      step=0, seed=0, score=_example_scores, scored=scored))
  example = dict(next(iter(targets.values())))
  if method.numbers_rollouts(distil, stored_need):
    example[distillation_losses.ROLLOUT] = np.zeros(1, np.int32)
  if lessons and not stored_need:
    example['taught'] = np.zeros(1, np.float32)
  if num_updates > 1 and method.old_logps:
    example['old_logp'] = np.zeros(1, np.float32)
  if penalty is not None and penalty.sampled:
    example[reference.TARGET] = np.zeros(1, np.float32)
  return example
