"""What the embedded students and teachers learn from before RL.

A student's *belief* is a distribution over values for every (operator,
digit) fact. Easy facts are always right, medium ones in 60 %; a hard fact is
right in 30 %, and a *deep misconception* (a fixed share of the hard facts) in
0.5 %. Where it is wrong, a hard fact is mostly the systematic misconception
"forgets the constant", else some other digit. Each step of a trace is drawn
on its own.

Candidate prompts (BCQ, NCQ) do not leak the truth of hard facts: on hard
operators the label *and both candidates* are independent draws of that same
belief, and a fair coin says which candidate is the label. On easy and medium
operators the label is true and the other candidate has an error. No draw is
rejected or conditioned on another, because that would make the truth likelier
than in plain prompts. `tests/tasks/test_micro_corpus.py` counts it. No packaged
model has read privileged contexts; the exercise `context` teaches that.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from zppo_jax.chat import micro_chat, renderers
from zppo_jax.chat.segments import Encoded, content, template
from zppo_jax.chat.wording import Chat
from zppo_jax.records import Clip, Picture, PromptKind
from zppo_jax.tasks import micro, micro_pictures


class Form(NamedTuple):
  """The form in which exercises are shown.

  Attributes:
    chat: to token ids.
    show: (rng, family, operators in order of application, digits) -> the
      question's text and media.
  """
  chat: Chat
  show: Callable


def _in_text(rng, family: str, ops: str, digits: str):
  return micro.question_text(family, ops, digits), ()


def _in_pictures(rng, family: str, ops: str, digits: str):
  """Scans that evaluation does not use; a quarter as a clip."""
  return micro_pictures.show(rng, family, ops, digits, unseen=False,
                             clip=bool(rng.random() < 0.25))


TEXT_SHARE = 0.3  # of the exercises of the form 'pictures_and_text'


def _in_both(rng, family: str, ops: str, digits: str):
  """TEXT_SHARE as text, the others in pictures and clips."""
  in_text = rng.random() < TEXT_SHARE
  return (_in_text if in_text else _in_pictures)(rng, family, ops, digits)


FORMS = {'text': Form(micro_chat.CHAT, _in_text),
         'pictures': Form(micro_pictures.CHAT, _in_pictures),
         'pictures_and_text': Form(micro_pictures.CHAT, _in_both)}


@dataclasses.dataclass(frozen=True)
class Belief:
  """The distribution over values that a model is taught for each fact.

  Attributes:
    p_VOX: (12, 10, 10) float, p_VOX[op, x, value]; rows sum to 1.
    deep_OX: (12, 10) bool, facts with a deep misconception.
  """
  p_VOX: np.ndarray
  deep_OX: np.ndarray


def truth() -> Belief:
  """The belief of the teachers, in which every fact is right."""
  p = np.eye(10)[micro.world().table]
  return Belief(p_VOX=p, deep_OX=np.zeros((12, 10), bool))


def misconceived(*, medium_p: float, hard_p: float, deep_p: float,
                 deep_share: float, misconception_share: float) -> Belief:
  """A student's belief, with misconceptions on hard operators.

  Args:
    medium_p: probability that a medium fact is right.
    hard_p: the same for a hard fact that is not deep.
    deep_p: the same for a hard fact with a deep misconception.
    deep_share: fraction of hard facts that are deep, in [0, 1].
    misconception_share: of the wrong mass, the fraction on "forgets the
      constant"; the rest is spread over the other wrong digits.
  """
  world = micro.world()
  rng = np.random.default_rng([micro.WORLD_SEED, 11])
  hard = [(micro.OPERATORS.index(o), x) for o in micro.HARD for x in range(10)]
  deep = np.zeros((12, 10), bool)
  order = rng.permutation(len(hard))
  for i in order[:round(deep_share * len(hard))]:
    deep[hard[i]] = True
  p = np.zeros((12, 10, 10))
  for o, op in enumerate(micro.OPERATORS):
    for x in range(10):
      right = world.table[o, x]
      forgot = (right - world.constant[o]) % 10
      p_right = (1.0 if op in micro.EASY else medium_p if op in micro.MEDIUM
                 else deep_p if deep[o, x] else hard_p)
      others = [v for v in range(10) if v not in (right, forgot)]
      p[o, x, right] = p_right
      p[o, x, forgot] = (1 - p_right) * misconception_share
      p[o, x, others] = (1 - p_right) * (1 - misconception_share) / len(others)
  return Belief(p_VOX=p, deep_OX=deep)


@dataclasses.dataclass(frozen=True)
class ChainTask:
  """A drawn exercise: family, operators in order of application, digits."""
  family: str
  ops: str
  digits: str
  text: str
  media: tuple[Picture | Clip, ...]


def draw_task(rng, operators: str, mix: 'Mixture') -> ChainTask:
  """A question over `operators`; held-out compositions never occur."""
  family = mix.families[rng.integers(len(mix.families))]
  num_steps = int(rng.integers(1, mix.max_steps + 1))
  while True:
    ops = ''.join(operators[i]
                  for i in rng.integers(0, len(operators), num_steps))
    if family == micro.LIST or not micro.is_composed(ops):
      break
  width = num_steps if family == micro.LIST else 1
  digits = ''.join(map(str, rng.integers(0, 10, width)))
  text, media = FORMS[mix.form].show(rng, family, ops, digits)
  return ChainTask(family=family, ops=ops, digits=digits, text=text,
                   media=media)


def draw_trace(rng, task: ChainTask, belief: Belief) -> tuple[str, str]:
  """(response, answer) with every step drawn from the belief."""
  cumulative = belief.p_VOX.cumsum(-1)
  def step(op, x):
    row = cumulative[micro.OPERATORS.index(op), x]
    return min(int(np.searchsorted(row, rng.random(), side='right')), 9)
  return micro.work(task.family, task.ops, task.digits, step)


def draw_erring_trace(rng, task: ChainTask) -> tuple[str, str]:
  """A true trace but for one step, whose value is a uniform wrong digit."""
  errs_at = rng.integers(len(task.ops))
  position = iter(range(len(task.ops)))
  def step(op, x):
    right = micro.apply_operator(op, x)
    if next(position) != errs_at:
      return right
    return (right + int(rng.integers(1, 10))) % 10
  return micro.work(task.family, task.ops, task.digits, step)


def _as_shown(trace: tuple[str, str], values_only: bool) -> str:
  return f'A {trace[1]}' if values_only else trace[0]


@dataclasses.dataclass(frozen=True)
class Mixture:
  """Which exercises a model is taught, and in what form it answers.

  Attributes:
    belief: the belief from which labels are drawn.
    families: the families that the model sees.
    max_steps: the most operators per question; the fewest are 1.
    hard_candidates: the share of candidate prompts on hard operators.
    max_candidates: the most wrong candidates in an NCQ prompt.
    terse: whether labels are the values only ('A 7 2 9'), without steps.
    form: a key of FORMS.
  """
  belief: Belief
  families: str
  max_steps: int
  hard_candidates: float
  max_candidates: int
  terse: bool
  form: str = 'text'

  @property
  def chat(self) -> Chat:
    return FORMS[self.form].chat


class Example(NamedTuple):
  """A prompt and the ids of the response that it teaches."""
  prompt: Encoded
  response: tuple[int, ...]


def plain_example(rng, mix: Mixture) -> Example:
  """A plain question; a third each on easy, on hard and on all operators."""
  operators = (micro.EASY, micro.HARD, micro.OPERATORS)[rng.integers(3)]
  task = draw_task(rng, operators, mix)
  trace = draw_trace(rng, task, mix.belief)
  return Example(mix.chat.plain(task.text, task.media),
                 mix.chat.response(_as_shown(trace, mix.terse)))


def _candidate_task(rng, mix: Mixture) -> tuple[ChainTask, bool]:
  hard = rng.random() < mix.hard_candidates
  operators = micro.HARD if hard else micro.EASY + micro.MEDIUM
  return draw_task(rng, operators, mix), hard


def bcq_example(rng, mix: Mixture) -> Example:
  """A question with two candidates."""
  task, hard = _candidate_task(rng, mix)
  if hard:
    candidates = [draw_trace(rng, task, mix.belief) for _ in range(2)]
    label = candidates[rng.integers(2)]
  else:
    label = micro.work(task.family, task.ops, task.digits,
                       micro.apply_operator)
    candidates = [label, draw_erring_trace(rng, task)]
    if rng.random() < 0.5:
      candidates.reverse()
  values_only = rng.random() < 0.5
  shown = [_as_shown(c, values_only) for c in candidates]
  prompt = renderers.render(PromptKind.BCQ, mix.chat, renderers.Exhibit(
      question=task.text, media=task.media, candidates=tuple(shown)))
  return Example(prompt, mix.chat.response(_as_shown(label, mix.terse)))


def ncq_example(rng, mix: Mixture) -> Example:
  """A question with wrong candidates only.

  On hard operators label and candidates are independent draws of the belief,
  so a candidate may be right there: excluding it would leak.
  """
  task, hard = _candidate_task(rng, mix)
  count = int(rng.integers(1, mix.max_candidates + 1))
  if hard:
    candidates = [draw_trace(rng, task, mix.belief) for _ in range(count)]
    label = draw_trace(rng, task, mix.belief)
  else:
    candidates = [draw_erring_trace(rng, task) for _ in range(count)]
    label = micro.work(task.family, task.ops, task.digits,
                       micro.apply_operator)
  values_only = rng.random() < 0.5
  shown = [_as_shown(c, values_only) for c in candidates]
  prompt = renderers.render(PromptKind.NCQ, mix.chat, renderers.Exhibit(
      question=task.text, media=task.media, candidates=tuple(shown),
      answers=tuple(answer for _, answer in candidates)))
  return Example(prompt, mix.chat.response(_as_shown(label, mix.terse)))


def compression_example(rng, mix: Mixture) -> Example:
  """A trace, right or wrong, to its summary."""
  task = draw_task(rng, micro.OPERATORS, mix)
  trace = draw_erring_trace(rng, task)
  if rng.random() < 0.5:
    trace = micro.work(task.family, task.ops, task.digits,
                       micro.apply_operator)
  prompt = mix.chat.compression(_as_shown(trace, rng.random() < 0.3))
  return Example(prompt, mix.chat.response(f'A {trace[1]}'))


def context_example(rng, mix: Mixture) -> Example:
  """A question and what a privileged context shows of a response to it: the
  response, its answer or its first step (contexts.py). The label is that
  response, a draw of the belief like any other, so that a model learns to read
  contexts and no hard truth.
  """
  task, _ = _candidate_task(rng, mix)
  trace, answer = draw_trace(rng, task, mix.belief)
  shown = {'reference': trace, 'answer': answer,
           'hint': ' '.join(trace.split()[:3])}
  piece = list(shown)[rng.integers(len(shown))]
  before, after = mix.chat.wording.contexts[piece]
  prompt = mix.chat.privileged(
      task.text, (template(before), content(shown[piece]), template(after)),
      task.media)
  return Example(prompt, mix.chat.response(
      _as_shown((trace, answer), mix.terse)))


EXERCISES = {
    'plain': plain_example,
    'bcq': bcq_example,
    'ncq': ncq_example,
    'compression': compression_example,
    'context': context_example,
}
