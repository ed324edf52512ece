"""The host side of one ZPPO step: which prompts it samples (Algorithm 1).

Data flows one way: a replayed or reformulated question enters again at the
start, as a prompt. Therefore sampling, scoring and the update know nothing of
ZPPO.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

import numpy as np

from zppo_jax import allowed
from zppo_jax.algorithms import compression, reformulate
from zppo_jax.algorithms.methods import Method
from zppo_jax.algorithms.privileged import hints
from zppo_jax.algorithms.privileged.hints import HintConfig, Hints
from zppo_jax.algorithms.replay import ReplayBuffer
from zppo_jax.algorithms.schedules import BySteps
from zppo_jax.chat import renderers
from zppo_jax.chat.segments import Encoded
from zppo_jax.chat.wording import Chat
from zppo_jax.randomness import Purpose, host_rng, question_rng
from zppo_jax.records import (
  Answers,
  CallStats,
  Group,
  HardVisit,
  Instance,
  Prompt,
  PromptKind,
  Question,
  Rollout,
  Summaries,
)


class Capabilities(Protocol):
  """What Algorithm 1 reads of teachers.Capabilities."""

  @property
  def max_compression_prompt(self) -> int: ...


class Teacher(Protocol):
  """What Algorithm 1 asks of a teacher; teachers.Teacher is the contract."""

  @property
  def capabilities(self) -> Capabilities: ...

  def answer(self, prompts: Sequence[Prompt], step: int) -> Answers: ...

  def summarise(self, prompts: Sequence[Prompt], traces: Sequence[str],
                step: int) -> Summaries: ...

  def hint(self, prompts: Sequence[Prompt], traces: Sequence[str],
           step: int) -> Summaries: ...


@dataclasses.dataclass(frozen=True)
class Rules:
  """Algorithm 1's constants (Table 8).

  Attributes:
    num_new: |X_new|, the new questions per step.
    tau: a question below this mean accuracy is hard; it graduates at tau.
    rho_replay: replayed questions as a fraction of |X_new|, added to it.
    rho_aug: reformulated instances as a fraction of |X_new|, added to it.
    max_prompt: the most tokens of a reformulated prompt; longer ones are
      skipped.
    seed: the run's seed.
    ties: a key of reformulate.TIES.
    prefix_share: how much of a reference solution is forced (POPE).
    prefix_share_schedule: by step, in its place; None for one that stays.
    rest_saturated: for so many steps a question whose BCQ was all right or all
      wrong takes no slot; 0 is Algorithm 1.
  """
  num_new: int
  tau: float
  rho_replay: float
  rho_aug: float
  max_prompt: int
  seed: int
  ties: str = 'list'
  prefix_share: float = reformulate.PREFIX_SHARE
  prefix_share_schedule: BySteps | None = None
  rest_saturated: int = 0

  def __post_init__(self) -> None:
    allowed.number('num_new', self.num_new, '>= 1')
    allowed.number('tau', self.tau, '(0, 1]')
    allowed.number('rho_replay', self.rho_replay, '>= 0')
    allowed.number('rho_aug', self.rho_aug, '>= 0')
    allowed.one_of('ties', self.ties, reformulate.TIES)
    allowed.number('algorithm.prefix_share', self.prefix_share, '(0, 1)')
    allowed.number('algorithm.rest_saturated', self.rest_saturated, '>= 0',
                   whole=True)

  def _floor(self, rho: float) -> int:
    # 0.29 * 100 is 28.999... in binary; rounding removes that before the floor.
    return math.floor(round(rho * self.num_new, 9))

  @property
  def num_replay(self) -> int:
    return self._floor(self.rho_replay)

  @property
  def num_aug(self) -> int:
    return self._floor(self.rho_aug)


@dataclasses.dataclass(frozen=True)
class Reformulated:
  """The reformulated prompts of a step, and statistics of how they were made.

  Attributes:
    prompts: the reformulated prompts within the bound.
    instances: the instance behind each prompt, in the same order.
    hard: the number of questions below tau, before any cap.
    visits: the hard questions below the pre-cap.
    teacher: the teacher's groups for them; () where it was not asked, because
      hints are stored with the questions.
    written: name -> what the teacher wrote for the prompts: the 'compression'
      of their candidates, the 'hint' of their questions. A method without
      reformulations has nothing written.
    removed: the number of pieces that were cut out of content
      (segments.Encoded.removed).
    over_bound: the number of instances skipped because their prompt was too
      long.
    calls: statistics of the calls to the teacher, summaries included.
  """
  prompts: tuple[Prompt, ...]
  instances: tuple[Instance, ...]
  hard: int
  visits: tuple[HardVisit, ...]
  teacher: tuple[Group, ...]
  written: Mapping[str, compression.Compressed | Hints]
  removed: int
  over_bound: int
  calls: CallStats


def nothing_reformulated(hard: int) -> Reformulated:
  """The result of a step in which no teacher was asked.

  Args:
    hard: as in `Reformulated`.
  """
  return Reformulated(
      prompts=(), instances=(), hard=hard, visits=(), teacher=(), written={},
      removed=0, over_bound=0, calls=CallStats())


def draw_replays(buffer: ReplayBuffer, new: Sequence[Question], step: int,
                 rules: Rules, method: Method) -> tuple[Question, ...]:
  """X_replay: uniform from the buffer, disjoint from X_new (step 1)."""
  if not method.replay:
    return ()
  rng = host_rng(rules.seed, step, Purpose.REPLAY)
  return buffer.draw(rules.num_replay, [q.id for q in new], rng)


def _prompt(question: Question, kind: PromptKind, encoded: Encoded) -> Prompt:
  return Prompt(question=question, kind=kind, tokens=encoded.tokens,
                media=encoded.media, forced=encoded.forced,
                removed=encoded.removed)


def plain_prompts(questions: Sequence[Question], chat: Chat) -> list[Prompt]:
  """The prompts of questions with the shared closing instruction."""
  for question in questions:
    chat.check_sees(question)
  return [_prompt(q, PromptKind.PLAIN, chat.plain(q.text, q.media, q.turns))
          for q in questions]


def candidate_rngs(rules: Rules, step: int
                   ) -> Callable[[str], np.random.Generator]:
  """Question id -> the generator that draws its candidates.

  Where ties break by list, all questions share one, in the order of the visits.
  Where they break by name, each has its own.
  """
  if rules.ties == 'name':
    return lambda question_id: question_rng(
        rules.seed, step, Purpose.CANDIDATES, question_id, PromptKind.PLAIN)
  shared = host_rng(rules.seed, step, Purpose.CANDIDATES)
  return lambda question_id: shared


def visit(group: Group, teacher_group: Group) -> HardVisit:
  """The visit of a hard question.

  Args:
    group: the student's plain group.
    teacher_group: the teacher's group for the same prompt.
  """
  return HardVisit(question=group.prompt.question, accuracy=group.accuracy,
                   wrong=group.wrong, teacher_correct=teacher_group.correct)


def render(instance: Instance, texts: Mapping[tuple[str, str], str],
           chat: Chat) -> tuple[Prompt, int]:
  """The prompt of an instance and the number of pieces removed from content.

  Args:
    instance: what is rendered, by the renderer of its kind.
    texts: as `compression.Compressed.texts`, of all candidates.
    chat: the student's chat.
  """
  question = instance.question
  encoded = renderers.render(instance.kind, chat, renderers.Exhibit(
      question=renderers.text_of(question), media=question.media,
      candidates=tuple(texts[question.id, c.text]
                       for c in instance.candidates),
      answers=tuple(c.answer for c in instance.candidates),
      hints=instance.hints, forced=instance.forced))
  return _prompt(question, instance.kind, encoded), encoded.removed


def hardest(plain: Sequence[Group], step: int, rules: Rules) -> list[Group]:
  """The groups whose questions the teacher is asked (step 3)."""
  return reformulate.pre_cap(
      plain, rules.tau, rules.num_aug,
      host_rng(rules.seed, step, Purpose.TIES), reformulate.TIES[rules.ties])


def reformulates(method: Method, rules: Rules) -> bool:
  """Whether a step of the method asks reformulated prompts."""
  return bool(method.reformulations and rules.num_aug)


def no_summaries(prompts: Sequence[Prompt],
                  traces: Sequence[str]) -> Summaries:
  """The summaries of nobody, who is asked for none."""
  del prompts, traces
  return Summaries(rollouts=(), calls=CallStats())


def _compressed(traces: Sequence[tuple[Question, Rollout]],
                compress: compression.CompressionConfig, chat: Chat,
                teacher: Teacher | None, step: int) -> compression.Compressed:
  """Candidate texts. Without a teacher, a trace that is too long to be shown
  unchanged is replaced by its last `cap` tokens."""
  ask: Callable = no_summaries
  longest = 0
  if teacher is not None:
    ask = functools.partial(teacher.summarise, step=step)
    longest = teacher.capabilities.max_compression_prompt
  return compression.compress(traces, compress, chat, longest, ask)


def _hinted(visits: Sequence[HardVisit], hint: HintConfig, chat: Chat,
            teacher: Teacher | None, rules: Rules, step: int) -> Hints:
  """The hints of hard questions, from the teacher or stored with them."""
  if hint.stored:
    return hints.stored(visits, hint)
  assert teacher is not None  # build refuses a row without one
  return hints.written(
      visits, hint, chat, teacher.capabilities.max_compression_prompt,
      host_rng(rules.seed, step, Purpose.HINTS),
      functools.partial(teacher.hint, step=step))


def _oracle(question: Question, rules: Rules, chat: Chat,
            step: int) -> tuple[int, ...]:
  """The beginning of a question's first stored response; () without one."""
  text = next(iter(question.responses), '')
  moving = rules.prefix_share_schedule
  share = rules.prefix_share if moving is None else moving(step)
  return reformulate.beginning(
      chat.response(text)[:-1], share) if text else ()


def reformulate_hard(plain: Sequence[Group], step: int, *, rules: Rules,
                     method: Method, teacher: Teacher | None, chat: Chat,
                     compress: compression.CompressionConfig,
                     hint: HintConfig = hints.DEFAULT,
                     resting: Collection[str] = ()) -> Reformulated:
  """Steps 2 to 5: teacher, caps, candidates, prompts.

  The teacher answers after the pre-cap, because that costs less. Its draws are
  keyed by (question, step), so that the prompts are those of Algorithm 1's
  order.

  Args:
    plain: the plain groups of the step.
    step: the step.
    rules: Algorithm 1's constants.
    method: it names the reformulations.
    teacher: a `teachers.Teacher`; a method without reformulations uses none,
      and neither do hints that are stored with the questions.
    chat: the student's chat.
    compress: when and how far candidates are compressed.
    hint: where hints come from.
    resting: ids of questions that take no slot in this step.
  """
  hard = sum(g.accuracy < rules.tau for g in plain)
  if not reformulates(method, rules):
    return nothing_reformulated(hard)
  groups = hardest(
      [g for g in plain if g.prompt.question.id not in resting], step, rules)
  teacher_groups: tuple[Group, ...] = ()
  calls = CallStats()
  if method.visited(hint):
    assert teacher is not None  # build refuses a row without one
    teacher_groups, calls = teacher.answer([g.prompt for g in groups], step)
  visits = [visit(g, t) for g, t in zip(
      groups, teacher_groups or [Group(g.prompt, ()) for g in groups],
      strict=True)]
  written: dict[str, compression.Compressed | Hints] = {}
  if 'hint' in method.reformulations:
    found = _hinted(visits, hint, chat, teacher, rules, step)
    visits = [found.of(v) for v in visits]
    written['hint'] = found
    calls = calls + found.calls
  if 'oracle_prefix' in method.reformulations:
    visits = [dataclasses.replace(
        v, oracle=_oracle(v.question, rules, chat, step))
              for v in visits]
  if reformulate.OF_OTHERS & set(method.reformulations):
    visits = reformulate.with_others(visits)
  instances = reformulate.post_cap(
      visits, method.reformulations, rules.num_aug,
      candidate_rngs(rules, step))
  compressed = _compressed(
      [(i.question, c) for i in instances for c in i.candidates], compress,
      chat, teacher, step)
  rendered = [render(i, compressed.texts, chat) for i in instances]
  within = [len(prompt.tokens) <= rules.max_prompt for prompt, _ in rendered]
  return Reformulated(
      prompts=tuple(prompt for prompt, _ in
                    itertools.compress(rendered, within)),
      instances=tuple(itertools.compress(instances, within)), hard=hard,
      visits=tuple(visits), teacher=tuple(teacher_groups),
      written={'compression': compressed, **written},
      removed=compressed.removed + sum(cut for _, cut in rendered)
      + sum(of.removed for of in written.values()),
      over_bound=within.count(False), calls=calls + compressed.calls)


@dataclasses.dataclass(frozen=True)
class Probe:
  """BCQs of questions that the student mostly solves, for a measurement alone.

  A student that reads candidates should answer a BCQ at least as well as the
  plain question; a student that learned to copy follows the wrong candidate.

  Attributes:
    prompts: one BCQ per question, on which no update is made.
    wrong: the parsed answer of the wrong candidate in each BCQ.
    accuracies: the plain accuracy of each question at this step.
    calls: statistics of the calls to the teacher for summaries.
  """
  prompts: tuple[Prompt, ...]
  wrong: tuple[str, ...]
  accuracies: tuple[float, ...]
  calls: CallStats


def probe_copying(plain: Sequence[Group], step: int, *, count: int,
                  rules: Rules, teacher: Teacher | None, chat: Chat,
                  compress: compression.CompressionConfig) -> Probe:
  """BCQs whose candidates are a correct and a wrong rollout of the student.

  Questions are drawn from those with tau <= plain accuracy < 1 and candidates
  from their rollouts, both by (seed, step). Candidates are compressed like any
  other. Without a teacher, a candidate that is too long to be shown unchanged
  is replaced by its last `cap` tokens.
  """
  rng = host_rng(rules.seed, step, Purpose.PROBE)
  easy = [g for g in plain if rules.tau <= g.accuracy < 1]
  chosen = [easy[i] for i in rng.permutation(len(easy))[:count]]
  pairs = []
  for group in chosen:
    pair = [group.correct[rng.integers(len(group.correct))],
            group.wrong[rng.integers(len(group.wrong))]]
    if rng.random() < 0.5:
      pair.reverse()
    pairs.append(Instance(question=group.prompt.question, kind=PromptKind.BCQ,
                          candidates=tuple(pair)))
  compressed = _compressed(
      [(i.question, c) for i in pairs for c in i.candidates], compress, chat,
      teacher, step)
  prompts, answers, accuracies = [], [], []
  for group, instance in zip(chosen, pairs, strict=True):
    prompt, _ = render(instance, compressed.texts, chat)
    if len(prompt.tokens) <= rules.max_prompt:
      prompts.append(prompt)
      answers.append(next(
          c.answer for c in instance.candidates if not c.reward))
      accuracies.append(group.accuracy)
  return Probe(prompts=tuple(prompts), wrong=tuple(answers),
               accuracies=tuple(accuracies), calls=compressed.calls)
