r"""Graded rewards: named components in [0, 1], each with a weight.

A reward is sum over components of weight x value. Without weights it is 1 for
a right response and 0 for a wrong one. What counts as right (buffer, hard
questions, candidates, accuracy) stays a yes or no, by a threshold.

`COMPONENTS` has those that every task may use; a task brings more of its own
(records.Grader.rewards). Each reads a response on the host.

| name | value | source |
|---|---|---|
| right | 1 for a right response | - |
| score | the grader's own score | - |
| boxed | 1 for one `\boxed{}` that closes, and no other | - |
| think | 1 for thoughts that end once, before an answer | DeepSeek-R1 2.2.2 |
| answer_tags | think, then one `<answer>...</answer>` | DeepSeek-R1, Table 1 |
| soft_overlong | 1, falling to 0 at the limit | DAPO, Eq. 13 |
| cosine_right | (1 + cos(pi l / L)) / 2 if right | Yeo et al. 2025, 3.2 |
| cosine_wrong | (1 - cos(pi l / L)) / 2 if wrong | Yeo et al. 2025, 3.2 |
| linear_length | 1 for the shortest of a group, 0 for the longest | Kimi k1.5 |

l is the length of a response in tokens and L the limit, algorithm.max_tokens.
docs/your_task.md writes down how the papers' rewards are sums of these.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from zppo_jax import allowed, import_paths
from zppo_jax.records import (
  Grader,
  Group,
  Question,
  Rollout,
  StopReason,
  Verdict,
)
from zppo_jax.verdicts.kinds import boxed

_BOX = re.compile(r'\\(?:boxed|fbox)(?![A-Za-z])')
RIGHT, SCORE, TOTAL = 'right', 'score', 'total'


@dataclasses.dataclass(frozen=True)
class Response:
  """What a component reads of a response.

  Attributes:
    text: the whole response, from a forced beginning on.
    answer: the parsed answer, '' without one.
    question: what was asked.
    right: whether it counts as right.
    score: the grader's score in [0, 1]; 0 for a truncated response and for one
      without an answer.
    length: tokens that were drawn, end token included.
    limit: the most tokens of a response, L.
    truncated: whether the limit cut it.
    overlong: the part of the limit over which soft_overlong falls.
  """
  text: str
  answer: str
  question: Question
  right: bool
  score: float
  length: int
  limit: int
  truncated: bool
  overlong: float = 0.2


def _one_box(response: Response) -> float:
  return float(len(_BOX.findall(response.text)) == 1
               and bool(boxed.last(response.text)))


def _behind_thoughts(text: str) -> str | None:
  """What stands behind well-formed thoughts, or None.

  The opening tag may be missing, because many chat templates write it.
  """
  thoughts, closing, rest = text.partition('</think>')
  thoughts = thoughts.lstrip().removeprefix('<think>')
  if not closing or '<think>' in thoughts + rest or '</think>' in rest:
    return None
  return rest.strip() or None


def _think(response: Response) -> float:
  return float(_behind_thoughts(response.text) is not None)


def _answer_tags(response: Response) -> float:
  rest = _behind_thoughts(response.text) or ''
  return float(
      rest.startswith('<answer>') and rest.endswith('</answer>')
      and rest.count('<answer>') == rest.count('</answer>') == 1
      and bool(rest[len('<answer>'):-len('</answer>')].strip()))


def _soft_overlong(response: Response) -> float:
  """1 + R_length of DAPO's Eq. 13, whose L_cache is `overlong` x L."""
  cache = response.overlong * response.limit
  return min(max((response.limit - response.length) / cache, 0.0), 1.0)


def _cosine(response: Response) -> float:
  share = min(response.length / response.limit, 1.0)
  return (1 + math.cos(math.pi * share)) / 2


def _cosine_right(response: Response) -> float:
  return _cosine(response) if response.right else 0.0


def _cosine_wrong(response: Response) -> float:
  if response.right or response.truncated:
    return 0.0
  return 1 - _cosine(response)


def _linear_length(responses: Sequence[Response]) -> list[float]:
  """1/2 + the length reward of Kimi k1.5 (arXiv 2501.12599, section 2.3.3).

    lambda = 1/2 - (l - min l) / (max l - min l); min(0, lambda) if wrong
  """
  lengths = [r.length for r in responses]
  least, most = min(lengths), max(lengths)
  if least == most:
    return [0.5] * len(responses)
  falls = [0.5 - (n - least) / (most - least) for n in lengths]
  return [0.5 + (x if r.right else min(x, 0.0))
          for x, r in zip(falls, responses, strict=True)]


class Component(NamedTuple):
  """A row of COMPONENTS.

  Attributes:
    function: Response -> value in [0, 1]; of a group: all Responses -> values.
    of_group: whether it compares the responses of a group.
  """
  function: Callable[..., Any]
  of_group: bool = False


COMPONENTS = {
    RIGHT: Component(lambda response: float(response.right)),
    SCORE: Component(lambda response: response.score),
    'boxed': Component(_one_box),
    'think': Component(_think),
    'answer_tags': Component(_answer_tags),
    'soft_overlong': Component(_soft_overlong),
    'cosine_right': Component(_cosine_right),
    'cosine_wrong': Component(_cosine_wrong),
    'linear_length': Component(_linear_length, of_group=True),
}


@dataclasses.dataclass(frozen=True)
class RewardConfig:
  """The config section `reward`.

  Attributes:
    weights: component -> its weight; {}: 1 for right and 0 for wrong.
    decides: what a response must reach the threshold by, to be right: 'score',
      a component of the task's own, or 'total', the weighted mean of those of
      these that have a weight above 0.
    threshold: in (0, 1]; 0 is the task's own, which is of the score.
    overlong: the part of algorithm.max_tokens over which soft_overlong falls.
  """
  weights: Mapping[str, float]
  decides: str = SCORE
  threshold: float = 0.0
  overlong: float = 0.2

  def __post_init__(self) -> None:
    allowed.number('reward.threshold', self.threshold, '[0, 1]')
    allowed.number('reward.overlong', self.overlong, '(0, 1]')
    for name, weight in self.weights.items():
      allowed.number(f'reward.weights.{name}', weight, '(-inf, inf)')
    if self.weights and not any(self.weights.values()):
      raise ValueError(f'reward.weights is {dict(self.weights)}; one of them '
                       'must not be 0')
    if self.decides != SCORE and not self.threshold:
      raise ValueError(f'reward.decides is {self.decides!r} and '
                       'reward.threshold 0, which is the task\'s own and of '
                       'the score; it must be above 0')

  @property
  def on(self) -> bool:
    """Whether anything but the grader's own yes or no is asked for."""
    return bool(self.weights) or self.decides != SCORE


@dataclasses.dataclass(frozen=True)
class Scoring:
  """How a run rewards responses.

  Attributes:
    config: the section `reward`.
    own: the task's own components.
    limit: L, algorithm.max_tokens.
  """
  config: RewardConfig
  own: Mapping[str, Callable[[Response], float]]
  limit: int

  def __post_init__(self) -> None:
    taken = sorted(self.own.keys() & {*COMPONENTS, TOTAL})
    if taken:
      raise ValueError(f"the task's own component {taken[0]!r} has a name that "
                       'is taken; choose another')
    for name, function in self.own.items():
      if not name.isidentifier():
        raise ValueError(f"the task's own component {name!r} must have a name "
                         'of letters, digits and _')
      import_paths.check_call(f'reward component {name!r}', function,
                              'response')
    of_task = ', '.join(self.own) or 'none'
    for name in self.config.weights:
      allowed.one_of('reward.weights', name, (*COMPONENTS, *self.own),
                     note=f' (of the task: {of_task})')
    allowed.one_of('reward.decides', self.config.decides,
                   (SCORE, *self.own, TOTAL))
    if self.config.decides == TOTAL and not self._deciding:
      raise ValueError(
          "reward.decides is 'total'; no weight above 0 is one of 'score' and "
          f"the task's own components ({of_task})")

  @property
  def names(self) -> tuple[str, ...]:
    """The components that have a weight."""
    return tuple(self.config.weights)

  @property
  def _deciding(self) -> dict[str, float]:
    """Component -> weight, of the mean that decides."""
    if self.config.decides != TOTAL:
      return {self.config.decides: 1.0}
    return {name: weight for name, weight in self.config.weights.items()
            if weight > 0 and (name == SCORE or name in self.own)}

  def _value(self, name: str, response: Response) -> float:
    function = (self.own[name] if name in self.own
                else COMPONENTS[name].function)
    return _checked(name, response, function(response))

  def graded(self, response: Response, verdict: Verdict
             ) -> tuple[Verdict, tuple[tuple[str, float], ...]]:
    """(verdict, components) of a response; those of a group are not among them.

    Args:
      response: its `right` follows from the grader's verdict.
      verdict: the grader's verdict.

    Raises:
      ValueError: for a value that is not in [0, 1], with the component.
    """
    values = {name: self._value(name, response) for name in dict.fromkeys(
        (*self.names, *self._deciding)) if name in self.own or name == SCORE}
    if self.config.decides != SCORE and verdict in (
        Verdict.CORRECT, Verdict.WRONG):
      of = self._deciding
      mean = sum(w * values[name] for name, w in of.items()) / sum(of.values())
      right = mean >= self.config.threshold
      verdict = Verdict.CORRECT if right else Verdict.WRONG
      response = dataclasses.replace(response, right=right)
    values |= {name: self._value(name, response) for name in self.names
               if name not in values and not COMPONENTS[name].of_group}
    return verdict, tuple((name, values[name]) for name in self.names
                          if name in values)

  def of_group(self, group: Group) -> list[dict[str, float]]:
    """The components of each rollout of a group, and their 'total'; {} for a
    rollout without a verdict."""
    graded = group.graded
    values = {id(rollout): dict(rollout.components) for rollout in graded}
    responses = [self.response(r, group.prompt.question) for r in graded]
    for name in self.names:
      if name in COMPONENTS and COMPONENTS[name].of_group and graded:
        found = COMPONENTS[name].function(responses)
        for rollout, value in zip(graded, found, strict=True):
          values[id(rollout)][name] = value
    out = []
    for rollout in group.rollouts:
      of = values.get(id(rollout), {}) if rollout.graded else {}
      ordered = {name: of[name] for name in self.names if name in of}
      out.append({**ordered, TOTAL: sum(
          self.config.weights[name] * value for name, value in ordered.items())
      } if of else {})
    return out

  def response(self, rollout: Rollout, question: Question) -> Response:
    """What group components read of a rollout."""
    return Response(
        text=rollout.text, answer=rollout.answer, question=question,
        right=rollout.verdict == Verdict.CORRECT, score=rollout.reward,
        length=len(rollout.tokens), limit=self.limit,
        truncated=rollout.stop == StopReason.LENGTH,
        overlong=self.config.overlong)

  def totals(self, group: Group) -> list[float]:
    """The reward of each rollout of a group; 0 without a verdict, which is
    masked."""
    return [of.get(TOTAL, 0.0) for of in self.of_group(group)]


def _checked(name: str, response: Response, value: Any) -> float:
  """A component's value as a float; ValueError for one out of [0, 1]."""
  plain = value.item() if hasattr(value, 'item') else value
  value = float(plain) if isinstance(plain, bool) else plain
  return float(allowed.number(
      f'reward component {name!r} of question {response.question.id!r}', value,
      '[0, 1]'))


def with_rewards(grader: Grader, config: RewardConfig, limit: int) -> Grader:
  """The grader of a run with a section `reward`; the task's own without one.

  Args:
    grader: of the task.
    config: the section.
    limit: algorithm.max_tokens.

  Raises:
    KeyError: for a component that neither COMPONENTS nor the task has.
    ValueError: see Scoring.
  """
  if config.decides == SCORE and config.threshold:
    grader = dataclasses.replace(grader, threshold=config.threshold)
  if not config.on:
    return grader
  return dataclasses.replace(grader, scoring=Scoring(
      config=config, own=dict(grader.rewards), limit=limit))
