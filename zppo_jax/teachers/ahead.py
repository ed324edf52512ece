"""A teacher that is asked before its answers are needed.

A server answers while the device goes on drawing. Each question is a request of
its own, in a thread of its own, so that an answer waits for no other and a
journal gets it as soon as it has come. What was asked ahead is kept until
`answer` or `summarise` asks for it. An answer depends on (question, step) and
on no other request, so it does not matter when it was asked for.
"""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from zppo_jax.devices.beside import Beside
from zppo_jax.records import (
  Answers,
  CallStats,
  Group,
  Prompt,
  Scores,
  Summaries,
  TokenSequence,
  Wanted,
)
from zppo_jax.teachers import PLAIN, Capabilities, Teacher
from zppo_jax.teachers.journal import ANSWER, SUMMARY


@dataclasses.dataclass(frozen=True)
class AheadTeacher:
  """A teacher whose requests go out one by one, ahead of their use.

  Attributes:
    teacher: gets the requests; threads may share it.
    replies: what was asked ahead, by (what, step, id).
  """
  teacher: Teacher
  replies: dict[Hashable, Beside] = dataclasses.field(default_factory=dict)

  @property
  def capabilities(self) -> Capabilities:
    return self.teacher.capabilities

  def ask_ahead(self, prompts: Sequence[Prompt], step: int) -> None:
    """Asks what has not been asked, and waits for nothing."""
    self._begin(ANSWER, prompts, step, self._answer(prompts, step))

  def _begin(self, what: str, prompts: Sequence[Prompt], step: int,
             ask: Callable[[int], Any]) -> list[Beside]:
    """The replies to prompts, of which those that are new are asked."""
    keys = [(what, step, p.question.id) for p in prompts]
    for i, key in enumerate(keys):
      if key not in self.replies:
        self.replies[key] = Beside(functools.partial(ask, i))
    return [self.replies[key] for key in keys]

  def _taken(self, what: str, prompts: Sequence[Prompt], step: int,
             ask: Callable[[int], Any]) -> tuple[list, CallStats]:
    """(what came to each prompt, statistics of all); it is kept no longer."""
    replies = self._begin(what, prompts, step, ask)
    results = [reply() for reply in replies]
    for prompt in prompts:
      self.replies.pop((what, step, prompt.question.id), None)
    return ([one for (one,), _ in results],
            sum((calls for _, calls in results), CallStats()))

  def look_at_answers(self, prompts: Sequence[Prompt],
                      step: int) -> Sequence[Group]:
    """The answers, which `answer` still finds and counts the calls of."""
    replies = self._begin(ANSWER, prompts, step, self._answer(prompts, step))
    return tuple(reply().groups[0] for reply in replies)

  def _answer(self, prompts: Sequence[Prompt],
              step: int) -> Callable[[int], Answers]:
    return lambda i: self.teacher.answer([prompts[i]], step)

  def answer(self, prompts: Sequence[Prompt], step: int) -> Answers:
    """The answers; what was not asked ahead is asked now."""
    groups, calls = self._taken(
        ANSWER, prompts, step, self._answer(prompts, step))
    return Answers(groups=tuple(groups), calls=calls)

  def summarise(self, prompts: Sequence[Prompt], traces: Sequence[str],
                step: int) -> Summaries:
    """The summaries; what was not looked at before is asked now."""
    rollouts, calls = self._taken(
        SUMMARY, prompts, step, self._summary(prompts, traces, step))
    return Summaries(rollouts=tuple(rollouts), calls=calls)

  def look_at_summaries(self, prompts: Sequence[Prompt],
                        traces: Sequence[str], step: int) -> Summaries:
    """The summaries, which `summarise` still finds and counts the calls of."""
    replies = self._begin(
        SUMMARY, prompts, step, self._summary(prompts, traces, step))
    return Summaries(rollouts=tuple(r().rollouts[0] for r in replies),
                     calls=CallStats())

  def _summary(self, prompts: Sequence[Prompt], traces: Sequence[str],
               step: int) -> Callable[[int], Summaries]:
    return lambda i: self.teacher.summarise([prompts[i]], [traces[i]], step)

  def hint(self, prompts: Sequence[Prompt], traces: Sequence[str],
           step: int) -> Summaries:
    """Hints, which are asked when they are needed."""
    return self.teacher.hint(prompts, traces, step)

  def score(self, sequences: Sequence[TokenSequence], wanted: Wanted = PLAIN,
            step: int | None = None) -> Scores:
    """Scores, which are asked when they are needed."""
    return self.teacher.score(sequences, wanted, step)
