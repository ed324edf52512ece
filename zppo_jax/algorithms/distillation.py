"""What a distillation row of methods.METHODS is made of.

A row names whose tokens are trained on (`states`, algorithms/lessons.py), how
policy and teacher are compared there, and what of the teacher must exist for
that (`NEEDS`). What a paper fixes is pinned; the section `distil` of a config
says the rest.

| distil.support | what is compared | what it needs of the teacher |
|---|---|---|
| whole | the whole vocabulary | its weights: a pass inside the update |
| student | the student's likeliest ids | log-probs of any given ids |
| teacher | the teacher's likeliest ids | these ids and their log-probs |
| sampled | the sampled token | the log-probs of given tokens |

All but the first are stored: one pass of the teacher per rollout batch.

With `distil.context` the teacher reads another prompt than the student
(privileged/contexts.py); what is compared, and how, stays.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

from zppo_jax import allowed
from zppo_jax.algorithms import distillation_losses, schedules, targets
from zppo_jax.algorithms.privileged import lenders
from zppo_jax.algorithms.privileged.contexts import CONTEXTS, LEVELS
from zppo_jax.algorithms.schedules import BySteps, Moving, Schedule
from zppo_jax.algorithms.targets import TargetContext, Targets
from zppo_jax.objectives import divergences, losses, reducers, surrogates
from zppo_jax.objectives.credit import evidence
from zppo_jax.objectives.credit.evidence import Call, Number, Row
from zppo_jax.objectives.divergences import Divergence

# What a row may need of a teacher -> the words for it in errors.
NEEDS = {
    'teacher_hidden': 'hidden states inside the update',
    'teacher_given': 'log-probs of any given ids',
    'teacher_top': 'its likeliest ids with their log-probs',
    'teacher_scores': 'log-probs of given tokens',
}
SUPPORTS = {'whole': 'teacher_hidden', 'student': 'teacher_given',
            'teacher': 'teacher_top', 'sampled': 'teacher_scores'}
STATES = ('student', 'teacher', 'stored', 'mixed', 'guided', 'context',
          'joint')
OTHER_STATES = ('teacher', 'stored')  # of 'mixed', besides the student's
KEEP = ('correct', 'all')
# Behind which prompt rollouts under a context are trained, and who draws them.
TRAINED_UNDER = ('plain', 'context', 'both')
DRAWN_BY = ('policy', 'teacher')
# An open field of the section `distil` ('', 0 for a count, None for a factor):
# the row's value, else this one.
_OPEN = {'divergence': 'jensen_shannon', 'support': 'whole', 'top': 100,
         'rest': 'bucket', 'reducer': 'token_mean', 'target': 'plain',
         'context': 'same', 'student_temperature': 0.0, 'asked_of': 'all',
         'trained_under': 'plain', 'coefficient': 1.0}
# Open fields that hold a number, whose open value is 0.
_NUMBERS = ('distil.top', 'distil.student_temperature')
# Fields with a value in configs/base.py that rows may pin to another one.
BASE = {'algorithm.updates': 4}


# Rows of divergences.TARGETS that distil.target may name.
TARGETS: dict[str, Row] = {
    'plain': Row(divergences.plain, frozenset()),
    'geometric': Row(divergences.geometric, frozenset(),
                     (Number('beta', '>= 0', 0.8),)),
    'mixture': Row(divergences.mixture, frozenset(),
                   (Number('alpha', '[0, 1)'),))}


@dataclasses.dataclass(frozen=True)
class Distil:
  """The section `distil` after the method's row has said its part.

  Attributes:
    divergence: of the next-token distributions.
    support: a key of SUPPORTS.
    top: K, the ids that are kept of the likeliest.
    rest: a key of divergences.REST, for all supports but 'whole'.
    temperature: the teacher's logits are divided by it.
    temperature_schedule: by optimizer step, in the place of `temperature`; None
      for one that stays.
    coefficient: the factor of the loss, by optimizer step.
    reducer: a key of reducers.REDUCERS.
    beta_schedule: by optimizer step, in the place of the divergence's beta;
      None for one that stays.
    student_share: the probability of student states in a step of 'mixed'.
    student_share_schedule: by step, in its place; None for one that stays.
    other_states: one of OTHER_STATES.
    keep: which texts of others are trained on, one of KEEP.
    target: what the student is compared with, made from the teacher.
    anchor: alpha of an anchored ratio.
    max_missing: a run stops beyond this share of tokens without a score.
    context: a key of contexts.CONTEXTS, what the teacher reads.
    context_of: one of lenders.OF, whose material the context shows.
    context_level: what the context 'reflection' discloses, of contexts.LEVELS.
    student_temperature: the student's logits are divided by it in the loss.
    guides: the most rollouts of a group that answers of the teacher replace, in
      the states 'guided'.
    asked_of: the route of credit/routes.py that a plain rollout of a question
      must be on, so that rollouts are drawn under its context.
    trained_under: one of TRAINED_UNDER.
    drawn_by: one of DRAWN_BY.
    mix: alpha of pi_distill, the share of the policy term.
    overlap: K, the likeliest ids of both that metrics compare; 0: none are.
    mix_schedule: by optimizer step, in its place; None for one that stays.
  """
  divergence: Divergence
  support: str
  top: int
  rest: str
  temperature: float
  coefficient: Schedule
  reducer: str
  student_share: float
  other_states: str
  keep: str
  max_missing: float
  target: Call = distillation_losses.PLAIN
  anchor: float = 1.0
  temperature_schedule: Moving | None = None
  context: str = 'same'
  context_of: str = lenders.OWN
  context_level: int = 0
  student_temperature: float = 1.0
  guides: int = 1
  asked_of: str = 'all'
  trained_under: str = 'plain'
  drawn_by: str = 'policy'
  mix: float = 0.5
  overlap: int = 0
  beta_schedule: Moving | None = None
  student_share_schedule: BySteps | None = None
  mix_schedule: Moving | None = None

  def __post_init__(self) -> None:
    allowed.one_of('distil.support', self.support, SUPPORTS)
    allowed.number('distil.top', self.top, '>= 1', whole=True)
    allowed.one_of('distil.rest', self.rest, divergences.REST)
    allowed.number('distil.temperature', self.temperature, '> 0')
    allowed.number('distil.student_temperature', self.student_temperature,
                   '> 0', note=', or 0 for algorithm.temperature')
    if self.temperature_schedule is not None:
      for end in self.temperature_schedule.ends:
        allowed.number('distil.temperature_schedule', end, '> 0')
      if self.support != 'whole':
        raise ValueError(
            f'distil.temperature_schedule is set, distil.support is '
            f"{self.support!r}; allowed: 'whole'. Stored scores would need a "
            'program for each temperature')
    if (self.beta_schedule is not None
        and self.divergence.kind != 'jensen_shannon'):
      raise ValueError(
          'distil.beta_schedule is set, distil.divergence is '
          f"{self.divergence.kind!r}; allowed: 'jensen_shannon', which alone "
          'has a beta')
    allowed.one_of('distil.reducer', self.reducer, reducers.REDUCERS)
    allowed.number('distil.student_share', self.student_share, '[0, 1]')
    allowed.one_of('distil.other_states', self.other_states, OTHER_STATES)
    allowed.one_of('distil.keep', self.keep, KEEP)
    allowed.number('distil.guides', self.guides, '>= 1', whole=True)
    allowed.number('distil.max_missing', self.max_missing, '[0, 1]')
    allowed.number('distil.anchor', self.anchor, '[0, 1]')
    allowed.one_of('distil.context', self.context, CONTEXTS)
    lenders.check_row(self.context, self.context_of)
    allowed.number('distil.context_level', self.context_level,
                   f'[0, {len(LEVELS) - 1}]', whole=True)
    allowed.one_of('distil.trained_under', self.trained_under, TRAINED_UNDER)
    allowed.one_of('distil.drawn_by', self.drawn_by, DRAWN_BY)
    allowed.number('distil.mix', self.mix, '[0, 1]')
    allowed.number('watch.overlap', self.overlap, '>= 0', whole=True,
                   note=' (0: off)')
    if self.support == 'teacher' and self.overlap > self.top:
      raise ValueError(
          f'watch.overlap is {self.overlap} and distil.top {self.top}; of the '
          "teacher's ids that are kept no more can be compared")

  @property
  def moves(self) -> bool:
    """Whether the loss reads how many optimizer steps were made."""
    return (self.coefficient.moves or self.target.moves
            or any(of is not None for of in (
                self.temperature_schedule, self.beta_schedule,
                self.mix_schedule)))


def _is_open(path: str, said: object) -> bool:
  """Whether a config field leaves its value to the row."""
  return said is None or said == (0 if path in _NUMBERS else '')


def check_pinned(name: str, pinned: Mapping[str, object], config: Any) -> None:
  """ValueError for a config field with another value than the row has.

  Args:
    name: the method's name.
    pinned: dotted config field -> the row's value. An open field ('') takes it.
    config: the config.
  """
  for path, value in pinned.items():
    said = functools.reduce(lambda of, key: of[key], path.split('.'), config)
    if not _is_open(path, said) and said != value:
      raise ValueError(f'{path} is {said!r}; method {name!r} has {value!r} '
                       'there, because its paper has it')


def with_row(name: str, pinned: Mapping[str, object], config: Any) -> Any:
  """The config with the row's value in each field of `BASE` that still has the
  value of configs/base.py; it says so, once.

  Args:
    name: the method's name.
    pinned: see `check_pinned`.
    config: the config; without such a field it is returned as it is.
  """
  for path, of_base in BASE.items():
    *sections, field = path.split('.')
    said = functools.reduce(lambda of, key: of[key], sections, config)[field]
    if said == of_base != pinned.get(path, of_base):
      print(f'method {name!r} has {path} = {pinned[path]!r}, as its paper '
            f'does; the {of_base!r} of configs/base.py is not read', flush=True)
      config = config.copy_and_resolve_references()
      functools.reduce(lambda of, key: of[key], sections, config)[field] = (
          pinned[path])
  return config


def settings(name: str, pinned: Mapping[str, object], config: Any,
             usual: Mapping[str, object] | None = None) -> Distil:
  """The section `distil` of a method.

  Args:
    name: the method's name.
    pinned: see `check_pinned`.
    config: the run's config.
    usual: dotted config field -> the row's value where the config leaves the
      field open.

  Raises:
    KeyError: for an unknown name, with the known ones.
    ValueError: for a number out of its range, or another value than a pinned
      one; the message names the field.
  """
  check_pinned(name, pinned, config)
  section = config.distil
  row = {**(usual or {}), **pinned}
  said: dict[str, Any] = {field: row.get(f'distil.{field}', default)
          if _is_open(f'distil.{field}', section[field]) else section[field]
          for field, default in _OPEN.items()}
  allowed.one_of('distil.divergence', said['divergence'],
                 divergences.DIVERGENCES)
  try:
    divergence = Divergence(said['divergence'], section.beta)
  except ValueError as e:
    raise ValueError(f'distil.{e}') from e
  updates = config.steps * config.algorithm.updates
  ranged = lambda field, span: schedules.ranged(
      f'distil.{field}', section[field], updates, span)
  return Distil(
      beta_schedule=ranged('beta_schedule', '(0, 1)'),
      mix_schedule=ranged('mix_schedule', '[0, 1]'),
      student_share_schedule=schedules.by_steps(
          'distil.student_share_schedule', section.student_share_schedule,
          config.steps, config.algorithm.updates, '[0, 1]'),
      target=evidence.read(
          'distil.target', said['target'], TARGETS,
          lambda field, text: schedules.moving(field, text, updates)),
      anchor=section.anchor,
      temperature_schedule=schedules.moving(
          'distil.temperature_schedule', section.temperature_schedule, updates)
      if section.temperature_schedule else None,
      divergence=divergence, support=said['support'], reducer=said['reducer'],
      top=said['top'], rest=said['rest'], context=said['context'],
      student_temperature=(said['student_temperature']
                           or config.algorithm.temperature),
      asked_of=said['asked_of'], trained_under=said['trained_under'],
      coefficient=schedules.of_section(
          section, updates, 'coefficient', said['coefficient']),
      overlap=config.watch.overlap,
      **{field: section[field] for field in (
          'temperature', 'student_share', 'other_states',
          'keep', 'max_missing', 'context_of', 'context_level', 'guides',
          'drawn_by', 'mix')})


def shows_attempt(distil: Distil) -> bool:
  """Whether the teacher reads the very rollout that it scores, or may."""
  return CONTEXTS[distil.context].attempt


def every_rollout(context: TargetContext) -> Targets:
  """The stored scores of every rollout that has a token and a lesson."""
  return {at: of for at, of in _with_scores(context).items()
          if at not in context.untaught}


def _with_scores(context: TargetContext) -> Targets:
  return {
      (p, g): context.scored.get((p, g), {})
      for p, group in enumerate(context.groups)
      for g, rollout in enumerate(group.rollouts)
      if rollout.tokens}


def advantages_and_scores(context: TargetContext) -> Targets:
  """The scores of every rollout, and what the clipped surrogate reads. Rollouts
  of advantage 0 are among them, because the teacher teaches them too, and so
  are those without a lesson, which have an advantage."""
  return {
      (p, g): {**targets.of_advantage(context.groups[p].rollouts[g],
                                      context.advantages[p][g]), **scores}
      for (p, g), scores in _with_scores(context).items()}


def most_rollouts(algorithm: Any) -> int:
  """How many rollouts of a mini-batch have a return of the teacher in metrics:
  those of its new questions, and of as many others."""
  return 2 * -(-algorithm.num_new // algorithm.updates) * algorithm.rollouts


def _scaled(context: losses.LossContext, loss: losses.Loss) -> losses.Loss:
  distil = context.distil
  return functools.partial(
      distillation_losses.scaled, loss=loss, coefficient=distil.coefficient,
      watched=functools.partial(
          distillation_losses.agreement, top=distil.overlap,
          vocab=context.vocab, chunk=context.chunk,
          student_temperature=distil.student_temperature,
          teacher_temperature=distil.temperature_schedule
          or distil.temperature) if distil.overlap else None)


def make_divergence(context: losses.LossContext) -> losses.Loss:
  """coefficient x divergence, over the ids of distil.support."""
  distil = context.distil
  common = dict(divergence=distil.divergence, beta=distil.beta_schedule,
                vocab=context.vocab,
                target=distil.target,
                student_temperature=distil.student_temperature,
                chunk=context.chunk)
  if distil.support == 'whole':
    loss = functools.partial(
        distillation_losses.whole_vocabulary_divergence,
        teacher_temperature=distil.temperature_schedule or distil.temperature,
        rollouts=most_rollouts(context.algorithm), **common)
  else:
    loss = functools.partial(
        distillation_losses.kept_ids_divergence, rest=distil.rest, **common)
  return _scaled(context, loss)


def make_surrogate_and_divergence(context: losses.LossContext) -> losses.Loss:
  """The surrogate + coefficient x divergence."""
  return losses.added((surrogates.make_surrogate(context),
                       make_divergence(context)))


def make_joint(context: losses.LossContext) -> losses.Loss:
  """mix x the surrogate + (1 - mix) x coefficient x divergence.
  (pi-Distill, 2602.04942.)"""
  mix, moving = context.distil.mix, context.distil.mix_schedule
  rest: float | Callable = 1 - mix
  if moving is not None:
    rest = lambda done: 1 - moving(done)
  return losses.added((
      functools.partial(distillation_losses.times, factor=moving or mix,
                        loss=surrogates.make_surrogate(context)),
      functools.partial(distillation_losses.times, factor=rest,
                        loss=make_divergence(context))))


def make_surrogate_and_released_ptd(context: losses.LossContext
                                    ) -> losses.Loss:
  """The surrogate + coefficient x the released form of PTD-PO, whose
  gradient is 0 (distillation_losses.released_ptd)."""
  term = functools.partial(
      distillation_losses.released_ptd, vocab=context.vocab,
      student_temperature=context.distil.student_temperature,
      chunk=context.chunk)
  return losses.added((surrogates.make_surrogate(context),
                       _scaled(context, term)))


def make_surrogate_and_estimate(context: losses.LossContext, *,
                                kind: str) -> losses.Loss:
  """The surrogate + coefficient x an estimator."""
  return losses.added((surrogates.make_surrogate(context),
                       make_estimate(context, kind=kind)))


def make_estimate(context: losses.LossContext, *, kind: str) -> losses.Loss:
  """coefficient x an estimator of estimators.ESTIMATORS."""
  return _scaled(context, functools.partial(
      distillation_losses.estimate, kind=kind))


def make_log_ratio(context: losses.LossContext) -> losses.Loss:
  """coefficient x the clipped surrogate of the log-ratio."""
  return _scaled(context, functools.partial(
      distillation_losses.log_ratio_surrogate,
      clip=losses.ClipBounds(**context.algorithm.clip)))


def make_anchored_surrogate(context: losses.LossContext) -> losses.Loss:
  """The clipped surrogate against an anchored old policy."""
  return functools.partial(
      distillation_losses.anchored_surrogate,
      clip=losses.ClipBounds(**context.algorithm.clip),
      alpha=context.distil.anchor)


def make_guided_surrogate(context: losses.LossContext) -> losses.Loss:
  """The clipped surrogate, whose old policy is the teacher on its answers."""
  return functools.partial(
      distillation_losses.guided_surrogate,
      clip=losses.ClipBounds(**context.algorithm.clip))


def make_surrogate_and_likelihood(context: losses.LossContext) -> losses.Loss:
  """The surrogate + coefficient x negative log-likelihood."""
  return losses.added((surrogates.make_surrogate(context),
                       make_negative_log_likelihood(context)))


def make_negative_log_likelihood(context: losses.LossContext) -> losses.Loss:
  """coefficient x negative log-likelihood."""
  return _scaled(context, distillation_losses.negative_log_likelihood)
