"""A teacher's pass over the rollouts of a step, and what of it is stored.

One pass per rollout batch gives the targets that a row with stored scores
reads (`NEEDS` of algorithms/distillation.py). A teacher inside the update
stores nothing; metrics of its sums by rollout read the numbers of `numbered`.
"""

import dataclasses
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from zppo_jax.algorithms import distillation_losses
from zppo_jax.algorithms.distillation import Distil
from zppo_jax.algorithms.distillation_losses import TOP_IDS, TOP_LOGPS
from zppo_jax.algorithms.privileged.contexts import Lessons
from zppo_jax.algorithms.targets import Targets
from zppo_jax.records import (
  CallStats,
  Group,
  Prompt,
  Scores,
  TokenSequence,
  Wanted,
)


def numbered(targets_of: Targets, groups: Sequence[Group]) -> Targets:
  """Targets with the number of each rollout in its mini-batch, place by place,
  for metrics of a teacher inside the update."""
  width = max((len(g.rollouts) for g in groups), default=0)
  return {(p, g): {**of, distillation_losses.ROLLOUT: np.full(
      len(groups[p].rollouts[g].tokens), p * width + g, np.int32)}
      for (p, g), of in targets_of.items()}


class Returned(NamedTuple):
  """A rollout whose sum of d the update tells.

  Attributes:
    number: its number in the mini-batch.
    question, right: of its group, and its verdict.
    tokens: its taught tokens.
  """
  number: int
  question: str
  right: bool
  tokens: int


def returned(targets_of: Targets, groups: Sequence[Group]) -> list[Returned]:
  """The graded rollouts of numbered targets that are taught."""
  out = []
  for (p, g), of in targets_of.items():
    rollout, number = groups[p].rollouts[g], of[distillation_losses.ROLLOUT]
    tokens = int(np.sum(of.get('taught', np.ones(len(number)))
                        * of.get('weight', 1) > 0))
    if tokens and rollout.graded:
      out.append(Returned(number=int(number[0]), tokens=tokens,
                          question=f'{p} {groups[p].prompt.question.id}',
                          right=rollout.reward == 1))
  return out


def _sequences(groups: Sequence[Group], places: Sequence[tuple[int, int]],
               prompts: Mapping[tuple[int, int], Prompt] | None = None
               ) -> list[TokenSequence]:
  """The rollouts at some places behind their own prompts, or others."""
  read = [groups[p].prompt if prompts is None else prompts[p, g]
          for p, g in places]
  return [TokenSequence(prompt=prompt.tokens, media=prompt.media,
                        response=groups[p].rollouts[g].tokens,
                        source=prompt.question.source)
          for (p, g), prompt in zip(places, read, strict=True)]


def _kept(ids: np.ndarray | None, logps: Any) -> dict[str, np.ndarray] | None:
  """Targets of one rollout from arrays [R, K]; None where none came."""
  if ids is None or logps is None:
    return None
  return {'kept_ids': np.asarray(ids, np.int32),
          'kept_logps': np.asarray(logps, np.float32)}


def _of_sampled(response: Sequence[int], logps: Any) -> dict | None:
  """The log-prob of the token alone and, for a support, as its one id."""
  if logps is None:
    return None
  logps = np.asarray(logps, np.float32)
  return {'teacher_logp': logps,
          'kept_ids': np.asarray(response, np.int32)[:, None],
          'kept_logps': logps[:, None]}


def wanted(distil: Distil, need: str, ids: Sequence[np.ndarray] = (),
           entropy: bool = False) -> Wanted:
  """What a stored need wants of the teacher.

  Args:
    distil: the settings.
    need: a key of NEEDS that is stored.
    ids: the student's likeliest ids, for 'teacher_given'.
    entropy: whether the teacher's entropies are wanted too.
  """
  return Wanted(top=distil.top if need == 'teacher_top' else distil.overlap,
                ids=ids if need == 'teacher_given' else (), entropy=entropy,
                temperature=distil.temperature)


def _arrays(need: str, sequences: Sequence[TokenSequence],
            ids: Sequence[np.ndarray], scores: Scores
            ) -> Iterable[dict[str, np.ndarray] | None]:
  """The targets of each sequence, None where no score came."""
  if need == 'teacher_given':
    return map(_kept, ids, scores.given_logps)
  if need == 'teacher_top':
    return map(_kept, scores.top_ids, scores.top_logps)
  return map(_of_sampled, [s.response for s in sequences], scores.logps)


def _watched(distil: Distil, need: str) -> bool:
  """Whether the teacher's likeliest ids are targets besides the kept ids."""
  return distil.overlap > 0 and need != 'teacher_top'


def _untaught(length: int, need: str, distil: Distil, entropy: bool,
              sampled: bool) -> dict[str, np.ndarray]:
  """The targets of a rollout without scores; its tokens are not taught."""
  ids = lambda width: np.full((length, width), -1, np.int32)
  logps = lambda width: np.zeros((length, width), np.float32)
  width = 1 if need == 'teacher_scores' else distil.top
  kept = {'kept_ids': ids(width), 'kept_logps': logps(width)}
  if _watched(distil, need):
    kept |= {TOP_IDS: ids(distil.overlap), TOP_LOGPS: logps(distil.overlap)}
  zeros = np.zeros(length, np.float32)
  return kept | {'taught': zeros} | (
      {'teacher_logp': zeros} if sampled or need == 'teacher_scores'
      else {}) | (
      {'teacher_entropy': zeros} if entropy else {})


@dataclasses.dataclass(frozen=True)
class Scored:
  """The teacher's pass over a rollout batch.

  Attributes:
    targets: (group, rollout) -> its targets, 'taught' (1 where a score came)
      among them.
    tokens, missing: response tokens that were asked about, and those of them
      without a score.
    calls: statistics of the calls to the teacher.
    lessons: what the teacher read; None if that is what the student read.
    sampled: (group, rollout) -> the teacher's log-probs of its tokens, nats,
      which come with any scores; they are no targets.
  """
  targets: Targets
  tokens: int = 0
  missing: int = 0
  calls: CallStats = dataclasses.field(default_factory=CallStats)
  lessons: Lessons | None = None
  sampled: Mapping[tuple[int, int], np.ndarray] = dataclasses.field(
      default_factory=dict)


def taught_inside(groups: Sequence[Group], lessons: Lessons) -> Scored:
  """The target 'taught' for a teacher that runs inside the update: 1 on the
  tokens of rollouts with a lesson."""
  return Scored(lessons=lessons, targets={
      (p, g): {'taught': np.full(len(rollout.tokens),
                                 (p, g) in lessons.prompts, np.float32)}
      for p, group in enumerate(groups)
      for g, rollout in enumerate(group.rollouts) if rollout.tokens})


def score_rollouts(
    groups: Sequence[Group], distil: Distil, need: str,
    score: Callable[[Sequence[TokenSequence], Wanted], Scores],
    student_ids: Callable[[Sequence[TokenSequence]], Sequence[np.ndarray]],
    entropy: bool = False, chosen: Container[tuple[int, int]] | None = None,
    sampled: bool = False, lessons: Lessons | None = None) -> Scored:
  """One pass of the teacher over the rollouts of a step.

  Args:
    groups: the groups that are trained on.
    distil: the settings.
    need: a key of NEEDS that is stored.
    score: the teacher.
    student_ids: sequences -> int32 [R, K] of each, the likeliest ids under the
      policy that begins the step; it is asked if the need is 'teacher_given'.
    entropy: whether the teacher also returns its entropies.
    chosen: (group, rollout) of those that the teacher is asked about; None for
      all. The others have targets and are not taught.
    sampled: whether the log-probs of the tokens are targets beside those of
      the kept ids.
    lessons: the prompts that the teacher reads; None: those of the student. A
      rollout without one is not scored, and not missing.
  """
  written = [(p, g) for p, group in enumerate(groups)
             for g, rollout in enumerate(group.rollouts) if rollout.tokens]
  places = [at for at in written if (chosen is None or at in chosen)
            and (lessons is None or at in lessons.prompts)]
  out = {(p, g): _untaught(len(groups[p].rollouts[g].tokens), need, distil,
                           entropy, sampled) for p, g in written}
  if not places:
    return Scored(targets=out, lessons=lessons)
  sequences = _sequences(
      groups, places, None if lessons is None else lessons.prompts)
  ids = student_ids(_sequences(groups, places)) if (
      need == 'teacher_given') else ()
  scores = score(sequences, wanted(distil, need, ids, entropy))
  arrays = list(_arrays(need, sequences, ids, scores))
  entropies = scores.entropies if entropy else (None,) * len(sequences)
  likeliest = list(zip(scores.top_ids, scores.top_logps, strict=True)) if (
      _watched(distil, need)) else []
  missing, of_tokens = 0, {}
  for i, (place, sequence, of, entropy_R, logp_R) in enumerate(zip(
      places, sequences, arrays, entropies, scores.logps, strict=True)):
    if of is None or (sampled and logp_R is None):
      missing += len(sequence.response)
      continue
    out[place] |= {**of, 'taught': np.ones(len(sequence.response), np.float32)}
    if likeliest and likeliest[i][0] is not None:
      out[place] |= {TOP_IDS: np.asarray(likeliest[i][0], np.int32),
                     TOP_LOGPS: np.asarray(likeliest[i][1], np.float32)}
    if logp_R is not None:
      of_tokens[place] = np.asarray(logp_R, np.float32)
    if sampled and logp_R is not None:
      out[place]['teacher_logp'] = np.asarray(logp_R, np.float32)
    if entropy and entropy_R is not None:
      out[place]['teacher_entropy'] = np.asarray(entropy_R, np.float32)
  return Scored(targets=out, missing=missing, calls=scores.calls,
                tokens=sum(len(s.response) for s in sequences),
                lessons=lessons, sampled=of_tokens)
