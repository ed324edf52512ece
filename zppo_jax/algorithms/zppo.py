"""The host side of one ZPPO step: which prompts are asked (Algorithm 1).

Data flows one way: a replayed or reformulated question enters again at the
start, as a prompt. So sampling, scoring and the update know nothing of ZPPO.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

from zppo_jax.algorithms import compression, reformulate
from zppo_jax.algorithms.methods import Method
from zppo_jax.algorithms.replay import ReplayBuffer
from zppo_jax.chat.wording import Chat
from zppo_jax.randomness import host_rng
from zppo_jax.records import (
  CallStats,
  Group,
  HardVisit,
  Instance,
  Prompt,
  PromptKind,
  Purpose,
  Question,
  Summaries,
)


@dataclasses.dataclass(frozen=True)
class Rules:
  """Algorithm 1's constants (Table 8).

  Attributes:
    num_new: |X_new|, the new questions per step.
    tau: a question below this mean accuracy is hard; it graduates at tau.
    rho_replay: replayed questions as a fraction of |X_new|, added to it.
    rho_aug: BCQ and NCQ instances as a fraction of |X_new|, added to it.
    max_prompt: tokens of the longest BCQ / NCQ prompt; longer ones are skipped.
    seed: the run's seed.
  """
  num_new: int
  tau: float
  rho_replay: float
  rho_aug: float
  max_prompt: int
  seed: int

  def __post_init__(self):
    if self.num_new < 1:
      raise ValueError(f'num_new is {self.num_new}; it must be >= 1')
    if not 0 < self.tau <= 1:
      raise ValueError(f'tau is {self.tau}; it must be in (0, 1]')
    for name in ('rho_replay', 'rho_aug'):
      if not 0 <= getattr(self, name):
        raise ValueError(f'{name} is {getattr(self, name)}; it must be >= 0')

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
    prompts: BCQ and NCQ prompts within the bound.
    instances: the instance behind each prompt, in the same order.
    hard: the number of questions below tau, before any cap.
    visits: hard questions that the teacher was asked about.
    teacher: the teacher's groups for them.
    compressed: the result of the compression; None if none was needed.
    removed: pieces cut out of content (segments.Encoded.removed).
    over_bound: the number of instances skipped because their prompt was too
      long.
    calls: statistics of the calls to the teacher, summaries included.
  """
  prompts: tuple[Prompt, ...]
  instances: tuple[Instance, ...]
  hard: int
  visits: tuple[HardVisit, ...]
  teacher: tuple[Group, ...]
  compressed: compression.Compressed | None
  removed: int
  over_bound: int
  calls: CallStats


def draw_replays(buffer: ReplayBuffer, new: Sequence[Question], step: int,
                 rules: Rules, method: Method) -> tuple[Question, ...]:
  """X_replay: uniform from the buffer, disjoint from X_new (step 1)."""
  if not method.replay:
    return ()
  rng = host_rng(rules.seed, step, Purpose.REPLAY)
  return buffer.draw(rules.num_replay, [q.id for q in new], rng)


def plain_prompts(questions: Sequence[Question], chat: Chat) -> list[Prompt]:
  """Every question with the shared closing instruction."""
  encoded = [chat.plain(q.text, q.media) for q in questions]
  return [Prompt(q, PromptKind.PLAIN, e.tokens, e.media)
          for q, e in zip(questions, encoded, strict=True)]


def visit(group: Group, teacher_group: Group) -> HardVisit:
  """What a hard plain group and the teacher's answers to it provide."""
  return HardVisit(group.prompt.question, group.accuracy, group.wrong,
                   teacher_group.correct)


def render(instance: Instance, texts, chat: Chat):
  """(Prompt, pieces removed from content) of an instance."""
  question = instance.question
  encoded = chat.reformulated(
      instance.kind, question.text,
      [texts[question.id, c.text] for c in instance.candidates],
      [c.answer for c in instance.candidates], question.media)
  prompt = Prompt(question, instance.kind, encoded.tokens, encoded.media)
  return prompt, encoded.removed


def reformulate_hard(plain: Sequence[Group], step: int, *, rules: Rules,
                     method: Method, teacher, chat: Chat,
                     compress: compression.CompressionConfig) -> Reformulated:
  """Steps 2 to 5: teacher, caps, candidates, prompts.

  The teacher is asked after the pre-cap, which costs less. Its draws are keyed
  by (question, step), so the prompts are those of Algorithm 1's order.
  """
  hard = sum(g.accuracy < rules.tau for g in plain)
  if not method.reformulations or not rules.num_aug:
    return Reformulated((), (), hard, (), (), None, 0, 0, CallStats())
  groups = reformulate.pre_cap(
      plain, rules.tau, rules.num_aug,
      host_rng(rules.seed, step, Purpose.TIES))
  answers, calls = teacher.answer([g.prompt for g in groups], step)
  visits = [visit(g, t) for g, t in zip(groups, answers, strict=True)]
  instances = reformulate.post_cap(
      visits, method.reformulations, rules.num_aug,
      host_rng(rules.seed, step, Purpose.CANDIDATES))
  compressed = compression.compress(
      [(i.question, c) for i in instances for c in i.candidates], compress,
      chat, teacher.capabilities.max_compression_prompt,
      functools.partial(teacher.summarise, step=step))
  prompts, kept, removed, over_bound = [], [], compressed.removed, 0
  for instance in instances:
    prompt, cut = render(instance, compressed.texts, chat)
    removed += cut
    if len(prompt.tokens) > rules.max_prompt:
      over_bound += 1
      continue
    prompts.append(prompt)
    kept.append(instance)
  return Reformulated(tuple(prompts), tuple(kept), hard, tuple(visits),
                      tuple(answers), compressed, removed, over_bound,
                      calls + compressed.calls)


@dataclasses.dataclass(frozen=True)
class Probe:
  """BCQs of questions that the student mostly solves; none is trained on.

  A student that reads candidates should answer a BCQ at least as well as the
  plain question; a student that learned to copy follows the wrong candidate.

  Attributes:
    prompts: one BCQ per question.
    wrong: the parsed answer of the wrong candidate in each BCQ.
    accuracies: the plain accuracy of each question at this step.
    calls: statistics of the calls to the teacher for summaries.
  """
  prompts: tuple[Prompt, ...]
  wrong: tuple[str, ...]
  accuracies: tuple[float, ...]
  calls: CallStats


def probe_copying(plain: Sequence[Group], step: int, *, count: int,
                  rules: Rules, teacher, chat: Chat,
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
    pairs.append(Instance(group.prompt.question, PromptKind.BCQ, tuple(pair)))
  traces = [(i.question, c) for i in pairs for c in i.candidates]
  if teacher is None:
    compressed = compression.compress(
        traces, compress, chat, 0, lambda *_: Summaries((), CallStats()))
  else:
    compressed = compression.compress(
        traces, compress, chat, teacher.capabilities.max_compression_prompt,
        functools.partial(teacher.summarise, step=step))
  kept = []
  for group, instance in zip(chosen, pairs, strict=True):
    prompt, _ = render(instance, compressed.texts, chat)
    if len(prompt.tokens) <= rules.max_prompt:
      wrong = next(c for c in instance.candidates if not c.reward)
      kept.append((prompt, wrong.answer, group.accuracy))
  fields = map(tuple, zip(*kept, strict=True)) if kept else ((), (), ())
  return Probe(*fields, compressed.calls)
