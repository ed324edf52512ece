"""From the samples of a benchmark to its score.

A question's value is the mean of the points of its rollouts, in [0, 1]; a
rollout without a verdict has none, and counts as 0. The score is the mean over
questions with Wilson's interval, except where JOINED names another. Questions
of one group (GROUPED) count once for the interval, because they are right or
wrong together; so it is, if anything, too wide. Averages of parts are plain
averages of the parts' means, with intervals by statistics.square_and_add.
"""

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from zppo_jax import allowed
from zppo_jax.statistics import pass_at_k, square_and_add, wilson_interval
from zppo_jax.verdicts.kinds import ocrbench

MEAN = 'mean over questions'
# Suites that ask one question or chart several times; all parts of an id but
# the last one tell which.
GROUPED = ('charxiv', 'dynamath', 'mmmu_pro', 'video_mmmu', 'wemath')


@dataclasses.dataclass(frozen=True)
class Estimate:
  """A mean with its 95 % interval.

  Attributes:
    mean, low, high: in [0, 1].
    over: the number of questions, or of parts whose means are averaged.
  """
  mean: float
  low: float
  high: float
  over: int


@dataclasses.dataclass(frozen=True)
class Asked:
  """A question and the points of its rollouts.

  Attributes:
    id, subset: of the question.
    points: of each rollout, in [0, 1].
    right: how many rollouts are right.
  """
  id: str
  subset: str
  points: tuple[float, ...]
  right: int

  @property
  def value(self) -> float:
    return sum(self.points) / len(self.points)


@dataclasses.dataclass(frozen=True)
class Score:
  """The score of a benchmark.

  Attributes:
    score: the number of the table.
    how: what it is an average of.
    parts: subset -> mean over its questions, if there are several subsets.
    extra: name -> other numbers: the average of parts, the worst case, pass@k.
  """
  score: Estimate
  how: str
  parts: dict[str, Estimate]
  extra: dict[str, Estimate]


def asked_of(rows: Sequence[Mapping[str, Any]]) -> list[Asked]:
  """The questions of the lines of samples.jsonl, in their order."""
  by_id: dict[str, list[Mapping[str, Any]]] = {}
  for row in rows:
    by_id.setdefault(row['id'], []).append(row)
  return [Asked(name, several[0]['subset'],
                tuple(row['points'] for row in several),
                sum(row['verdict'] == 'correct' for row in several))
          for name, several in by_id.items()]


def mean(values: Sequence[float], groups: int = 0) -> Estimate:
  """The mean of a value per question, with Wilson's interval.

  Args:
    values: of the questions.
    groups: the number of groups of questions that go together, which count
      once for the interval; 0: each question counts.
  """
  return Estimate(*wilson_interval(values, count=groups), len(values))


def average(parts: Sequence[Estimate], together: bool = False) -> Estimate:
  """The plain average of estimates.

  Args:
    parts: the estimates.
    together: whether they may go together, as those of one question's variants
      do; then their limits are averaged, too. Otherwise they are independent.
  """
  if together:
    return Estimate(*(float(np.mean([getattr(e, name) for e in parts]))
                      for name in ('mean', 'low', 'high')), len(parts))
  return Estimate(*square_and_add([(e.mean, e.low, e.high) for e in parts]),
                  len(parts))


def by_part(asked: Sequence[Asked]) -> dict[str, Estimate]:
  """Subset -> mean over its questions."""
  groups: dict[str, list[float]] = collections.defaultdict(list)
  for question in asked:
    groups[question.subset].append(question.value)
  return {name: mean(values) for name, values in sorted(groups.items())}


def worst_case(asked: Sequence[Asked]) -> Estimate:
  """DynaMath's worst case: a question counts if all its variants are right.

  The value of a question is the least points of its variants, rollout by
  rollout (Zou et al. 2024, arXiv 2411.00836). The last part of an id names the
  variant.
  """
  groups: dict[str, list[tuple[float, ...]]] = collections.defaultdict(list)
  for question in asked:
    groups[question.id.rpartition('/')[0]].append(question.points)
  return mean([float(np.array(points).min(axis=0).mean())
               for points in groups.values()])


def _abilities(asked: Sequence[Asked]) -> Estimate:
  """OCRBench v2: the average over abilities of the mean over their questions,
  as lmms-eval computes it."""
  return average(list(by_part([dataclasses.replace(
      question, subset=allowed.known('type of OCRBench v2', question.subset,
                                     ocrbench.ABILITIES))
      for question in asked]).values()))


# Benchmarks whose score is no mean over questions -> (how, function).
JOINED: dict[str, tuple[str, Callable[[Sequence[Asked]], Estimate]]] = {
    name: ('average over abilities', _abilities)
    for name in ('ocrbench_en', 'ocrbench_zh')}
# Further numbers of a benchmark: name -> {title: function}.
MORE: dict[str, dict[str, Callable[[Sequence[Asked]], Estimate]]] = {
    'dynamath': {'worst case': worst_case}}


def score_of(name: str, rows: Sequence[Mapping[str, Any]],
             ks: Sequence[int] = ()) -> Score:
  """The score of a benchmark from the lines of its samples.

  Args:
    name: of the benchmark.
    rows: lines of samples.jsonl.
    ks: each k of pass@k.

  Raises:
    ValueError: without a question, or for a k beyond the rollouts.
  """
  asked = asked_of(rows)
  if not asked:
    raise ValueError(f'{name}: no question was asked')
  parts = by_part(asked)
  how, joined = JOINED.get(name, (MEAN, None))
  groups = (len({question.id.rpartition('/')[0] for question in asked})
            if name in GROUPED else 0)
  overall = mean([question.value for question in asked], groups)
  extra = {}
  if joined is not None:
    extra[MEAN] = overall
    overall = joined(asked)
  elif len(parts) > 1:
    extra['average of parts'] = average(list(parts.values()), bool(groups))
  for title, function in MORE.get(name, {}).items():
    extra[title] = function(asked)
  for k in ks:
    extra[f'pass@{k}'] = mean([
        pass_at_k(len(q.points), q.right, k) for q in asked], groups)
  return Score(overall, how, parts if len(parts) > 1 else {}, extra)
