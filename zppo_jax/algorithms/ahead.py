"""What a step asks and draws before all of its plain groups have ended.

A teacher behind an endpoint answers while the device draws, and its answers
make prompts that join the draws. Everything here is decided from the rollouts
that have ended and from answers that are waited for, and never from the time
that an answer took. So the prompts are those of `zppo.reformulate_hard`, and a
run that is repeated draws the same ones at the same moments.
"""

import collections
import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from zppo_jax.algorithms import compression, reformulate, zppo
from zppo_jax.algorithms.methods import Method
from zppo_jax.algorithms.privileged import hints
from zppo_jax.algorithms.privileged.hints import HintConfig
from zppo_jax.chat.wording import Chat
from zppo_jax.randomness import Purpose, host_rng
from zppo_jax.records import (
  Group,
  HardVisit,
  Instance,
  Prompt,
  PromptKind,
  Rollout,
  Summaries,
)

# The reformulations that need nothing of the teacher but its answer.
_OF_ANSWERS = ('bcq', 'placebo_bcq', 'prefix')


class AskedAhead(Protocol):
  """What is asked here of a teacher; teachers.ahead.AheadTeacher has it."""

  @property
  def capabilities(self) -> zppo.Capabilities: ...

  def ask_ahead(self, prompts: Sequence[Prompt], step: int) -> None: ...

  def look_at_answers(self, prompts: Sequence[Prompt],
                      step: int) -> Sequence[Group]: ...

  def look_at_summaries(self, prompts: Sequence[Prompt],
                        traces: Sequence[str], step: int) -> Summaries: ...


class Ahead:
  """What is done with the rollouts of plain prompts while others still draw.

  The teacher is asked about a question as soon as it is surely hard and within
  the pre-cap, so that no answer is thrown away. A prompt that surely is within
  the post-cap is drawn beside the plain ones: an NCQ as soon as its group has
  ended, and a BCQ when the device has room for it. Prompts that show summaries
  are left to the end of the draws.

  Args:
    prompts: the plain prompts of the step.
    step, rules, method, teacher, chat, compress: as of
      `zppo.reformulate_hard`.
    num_rollouts: G.
  """

  def __init__(self, prompts: Sequence[Prompt], step: int, *,
               num_rollouts: int, rules: zppo.Rules, method: Method,
               teacher: AskedAhead, chat: Chat,
               compress: compression.CompressionConfig):
    self._prompts, self._step, self._size = prompts, step, num_rollouts
    self._rules, self._names = rules, method.reformulations
    self._teacher, self._chat, self._compress = teacher, chat, compress
    self._rng_of = zppo.candidate_rngs(rules, step)
    salt = reformulate.salt_of(host_rng(rules.seed, step, Purpose.TIES))
    self._ranks = [reformulate.rank(p.question.id, salt) for p in prompts]
    self._bounds: dict[int, tuple[float, float]] = {}
    self._groups: dict[int, Group] = {}
    self._asked: dict[int, None] = {}  # places, in the order of asking
    self._made: dict[str, set[int]] = collections.defaultdict(set)

  def _sure(self, limit: int) -> set[int]:
    return set(reformulate.surely_capped(
        self._bounds, self._ranks, self._rules.tau, limit))

  def _open(self, name: str) -> set[int]:
    """The ended groups whose instance of a reformulation surely is within the
    post-cap, and was not made yet."""
    limit = reformulate.surely_shown(self._names, name, self._rules.num_aug)
    return (self._sure(limit) & self._groups.keys()) - self._made[name]

  def seen(self, place: int, rollouts: Sequence[Rollout]) -> list[Prompt]:
    """Takes in the graded rollouts of a prompt so far.

    Args:
      place: which of the prompts they belong to; those behind the plain ones
        were added here.
      rollouts: what has ended of its group.

    Returns:
      The NCQs to draw.
    """
    if place >= len(self._prompts):
      return []
    self._bounds[place] = reformulate.accuracy_bounds(rollouts, self._size)
    if len(rollouts) == self._size:
      self._groups[place] = Group(self._prompts[place], tuple(rollouts))
    new = sorted(self._sure(self._rules.num_aug) - self._asked.keys())
    self._asked |= dict.fromkeys(new)
    self._teacher.ask_ahead([self._prompts[i] for i in new], self._step)
    ncqs: list[Instance] = []
    for i in sorted(self._open('ncq')):
      self._made['ncq'].add(i)
      ncqs += self._instances(self._groups[i], (), ('ncq',))
    return self._rendered(ncqs)

  def idle(self, room: int) -> list[Prompt]:
    """Fills room that the device has.

    Waits for the answers to the questions that were asked first.

    Args:
      room: how many rollouts could be drawn beside those that draw.

    Returns:
      The BCQs, or other prompts made of answers, to draw.
    """
    prompts: list[Prompt] = []
    for place in self._asked:
      if len(prompts) * self._size >= room:
        break
      names = [n for n in self._names
               if n in _OF_ANSWERS and place in self._open(n)]
      if names:
        for name in names:
          self._made[name].add(place)
        [answers] = self._teacher.look_at_answers(
            [self._prompts[place]], self._step)
        prompts += self._rendered(self._instances(
            self._groups[place], answers.correct, names))
    return prompts

  def _instances(self, group: Group, teacher_correct: Sequence[Rollout],
                 names: Sequence[str]) -> list[Instance]:
    """Those of some names, as `reformulate.post_cap` makes them: the names
    before them draw first."""
    visit = HardVisit(
        question=group.prompt.question, accuracy=group.accuracy,
        wrong=group.wrong, teacher_correct=tuple(teacher_correct))
    rng = self._rng_of(visit.question.id)
    made = [(name, reformulate.REFORMULATIONS[name](visit, rng))
            for name in self._names]
    return [of for name, of in made if of is not None and name in names]

  def _rendered(self, instances: Sequence[Instance]) -> list[Prompt]:
    """The prompts that show no summary and are within the bound."""
    traces = lambda of: [(of.question, c) for c in of.candidates]
    most = self._teacher.capabilities.max_compression_prompt
    whole = [of for of in instances if not compression.asks(
        traces(of), self._compress, self._chat, most)]
    return _prompts(whole, self._rules, self._chat, self._compress, most,
                    zppo.no_summaries)


def _prompts(instances: Sequence[Instance], rules: zppo.Rules, chat: Chat,
             compress: compression.CompressionConfig, most: int,
             ask: Callable[..., Summaries]) -> list[Prompt]:
  """The prompts of instances that are within the bound; the other arguments are
  those of compression.compress."""
  texts = compression.compress(
      [(of.question, c) for of in instances for c in of.candidates], compress,
      chat, most, ask).texts
  prompts = [zppo.render(of, texts, chat)[0] for of in instances]
  return [p for p in prompts if len(p.tokens) <= rules.max_prompt]


def _asks(rules: zppo.Rules, method: Method, teacher: Any,
          hint: HintConfig) -> bool:
  """Whether a teacher answers beside the device, and ties break by name. Where
  questions rest it is asked when all groups have ended."""
  return (zppo.reformulates(method, rules) and method.visited(hint)
          and not rules.rest_saturated
          and rules.ties == 'name' and hasattr(teacher, 'ask_ahead'))


def of_plain(prompts: Sequence[Prompt], step: int, *, num_rollouts: int,
             rules: zppo.Rules, method: Method, teacher: Any, chat: Chat,
             compress: compression.CompressionConfig,
             hint: HintConfig = hints.DEFAULT) -> Ahead | None:
  """What is done while plain prompts draw, or None: teachers that share the
  device are asked when all groups have ended.

  Args:
    prompts: the plain prompts of the step.
    num_rollouts: G.
    step, rules, method, teacher, chat, compress, hint: as of
      `zppo.reformulate_hard`.
  """
  if not _asks(rules, method, teacher, hint):
    return None
  return Ahead(prompts, step, num_rollouts=num_rollouts, rules=rules,
               method=method, teacher=teacher, chat=chat, compress=compress)


def of_hard(plain: Sequence[Group], step: int, *, rules: zppo.Rules,
            method: Method, teacher: Any, chat: Chat,
            compress: compression.CompressionConfig,
            hint: HintConfig = hints.DEFAULT) -> Sequence[Prompt]:
  """Asks the teacher about all hard questions, and says what is to be drawn
  before it has answered: the NCQs that no answer can take out of the post-cap
  and that show summaries.

  Args:
    plain, step, rules, method, teacher, chat, compress, hint: as of
      `zppo.reformulate_hard`.
  """
  if not _asks(rules, method, teacher, hint):
    return ()
  groups = zppo.hardest(plain, step, rules)
  teacher.ask_ahead([g.prompt for g in groups], step)
  sure = reformulate.surely_shown(
      method.reformulations, 'ncq', rules.num_aug)
  most = teacher.capabilities.max_compression_prompt
  traces = lambda g: [(g.prompt.question, c) for c in g.wrong]
  return _prompts(
      [Instance(question=g.prompt.question, kind=PromptKind.NCQ,
                candidates=g.wrong)
       for g in groups[:sure]
       if compression.asks(traces(g), compress, chat, most)],
      rules, chat, compress, most,
      functools.partial(teacher.look_at_summaries, step=step))
