"""How much a step does: lengths of rollouts, decoding steps, micro-batches.

Nobody knows the lengths of rollouts ahead of a run. A plan assumes a lognormal
distribution, cut at the longest response, and takes its quantiles, so that it
draws nothing.
"""

import dataclasses
import heapq
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from zppo_jax import allowed
from zppo_jax.learner import layouts, packing
from zppo_jax.teachers import Teacher, panel
from zppo_jax.train.run import Run

_SHUFFLE = 0  # seed of the order in which rollouts of the quantiles come


@dataclasses.dataclass(frozen=True)
class Assumptions:
  """What a plan cannot know.

  Attributes:
    median_response: the median of the tokens of a response, as a share of the
      longest one.
    spread: the standard deviation of the logarithm of these tokens.
    mfu: the share of the peak rate that prefill, scoring and update reach.
    bandwidth: the share of the memory bandwidth that decoding, the optimizer
      and the weight copy reach.
    link: the share of the bandwidth of a device's links that collectives reach.
  """
  median_response: float = 0.25
  spread: float = 0.8
  mfu: float = 0.4
  bandwidth: float = 0.6
  link: float = 0.7

  def __post_init__(self):
    for name in ('median_response', 'mfu', 'bandwidth', 'link'):
      allowed.number(f'--{name}', getattr(self, name), '(0, 1]')
    allowed.number('--spread', self.spread, '>= 0')


def lengths(count: int, longest: int, of: Assumptions) -> np.ndarray:
  """Tokens of `count` responses, int [count], in a mixed order."""
  if not count:
    return np.zeros(0, int)
  normal = statistics.NormalDist()
  points = np.array([normal.inv_cdf((i + 0.5) / count) for i in range(count)])
  tokens = of.median_response * longest * np.exp(of.spread * points)
  tokens = np.clip(np.rint(tokens), 1, longest).astype(int)
  return np.random.default_rng(_SHUFFLE).permutation(tokens)


def decode_steps(tokens: Sequence[int], slots: int) -> int:
  """Steps until all responses are drawn, if a slot that becomes free takes the
  next one."""
  ends = [0] * max(1, slots)
  for length in tokens:
    heapq.heapreplace(ends, ends[0] + int(length))
  return max(ends)


@dataclasses.dataclass(frozen=True)
class Rollouts:
  """Rollouts that are drawn in one go.

  Attributes:
    prompts: the number of prompts.
    prompt: tokens to which each is padded.
    tokens: tokens of each response.
    steps: decoding steps.
  """
  prompts: int
  prompt: int
  tokens: np.ndarray
  steps: int


def rollouts(prompts: int, prompt: int, samples: int, longest: int, slots: int,
             of: Assumptions) -> Rollouts:
  """`samples` responses to each of some prompts, of at most `longest` tokens.
  """
  tokens = lengths(prompts * samples, longest, of)
  return Rollouts(prompts, prompt, tokens, decode_steps(tokens, slots))


@dataclasses.dataclass(frozen=True)
class Load:
  """What a step does, if the caps of its method are reached.

  Attributes:
    student: the student's plain rollouts, and its reformulated ones.
    teacher: each teacher's answers, and its summaries, by role.
    scores: the share of the rollouts that each teacher scores, by role.
    batches: how many micro-batches of each shape a step trains on.
    updates: optimizer steps.
    evaluation: the rollouts of one evaluation.
  """
  student: tuple[Rollouts, ...]
  teacher: dict[str, tuple[Rollouts, ...]]
  scores: dict[str, float]
  batches: dict[layouts.BatchShape, int]
  updates: int
  evaluation: Rollouts | None

  @property
  def tokens(self) -> int:
    """Response tokens of the student."""
    return int(sum(r.tokens.sum() for r in self.student))


def _shared(groups, of: layouts.Layout, shapes) -> Counter:
  units: Counter = Counter()
  for prompt, tokens in groups:
    shape = shapes[
        packing.bucket(prompt, of.prompt_buckets, 'a prompt'),
        packing.bucket(int(max(tokens)), of.response_buckets, 'a response')]
    units[shape] += -(-len(tokens) // shape.rows)
  return units


def _alone(groups, of: layouts.Layout, shapes) -> Counter:
  rows = [prompt + int(n) for prompt, tokens in groups for n in tokens]
  if of.kind == 'packed':
    rows = [sum(rows[i] for i in chosen)
            for chosen in packing.first_fit(rows, of.row_buckets)]
  return Counter(shapes[0, packing.bucket(row, of.row_buckets, 'a row')]
                 for row in rows)


def micro_batches(drawn: Sequence[Rollouts], of: layouts.Layout,
                  updates: int) -> dict[layouts.BatchShape, int]:
  """How many micro-batches of each shape train these rollouts in `updates`
  mini-batches of equal parts."""
  groups = [(r.prompt, tokens) for r in drawn if r.prompts
            for tokens in r.tokens.reshape(r.prompts, -1)]
  shapes = {(s.prompt, s.length): s for s in layouts.shapes(of)
            if not s.patches}
  units = (_shared if of.kind == 'shared' else _alone)(groups, of, shapes)
  return {shape: updates * math.ceil(n / updates / shape.units)
          for shape, n in units.items()}


def _shares(teacher: Teacher | None
            ) -> tuple[dict[str, Any], dict[str, float]]:
  """The shares of the questions that each teacher answers, and scores: of a
  panel the first member of a route answers, and all of them score."""
  teacher = panel.unwrapped(teacher)
  if not isinstance(teacher, panel.Panel):
    return {'teacher': 1}, {'teacher': 1.0}
  answers: Counter = Counter()
  scores: Counter = Counter()
  for route in teacher.routes.values():
    share = Fraction(1, len(teacher.routes))  # 3 x 0.1 is more than 0.3
    answers[f'teacher/{route.names[0]}'] += share
    for name in route.names:
      scores[f'teacher/{name}'] += share
  return dict(answers), {role: float(x) for role, x in scores.items()}


def of_run(run: Run, config, of: Assumptions) -> Load:
  """What a step of a run does, as far as a config says it.

  Every prompt fills its bucket: a plain one the smallest, a reformulated one
  the largest. As many questions are replayed and reformulated as the method
  allows, and all groups are trained on. Each route of a panel has as many
  questions as another, because a plan reads none.
  """
  algo, rules, method = config.algorithm, run.rules, run.method
  shapes = run.sampler.engine.shapes
  short, long = shapes.prompt_lengths[0], shapes.prompt_lengths[-1]
  slots = shapes.slots[-1]
  plain = rules.num_new + (rules.num_replay if method.replay else 0)
  hard = rules.num_aug if method.reformulations else 0
  student = tuple(
      rollouts(count, prompt, algo.rollouts, algo.max_tokens, slots, of)
      for count, prompt in ((plain, short), (hard, long)))
  evaluation = None
  if run.eval_every:
    count = config.eval.size * len(config.eval.splits)
    evaluation = rollouts(count, short, 1, algo.max_tokens, slots, of)
  asked = 0
  if run.teacher is not None and (hard or method.takes_answers):
    asked = hard or plain
  # Half of the reformulated prompts show two candidates, half show all wrong
  # rollouts.
  summaries, cap = hard // 2 * (2 + algo.rollouts), run.compress.cap + 1
  answering, scores = _shares(run.teacher)
  here = panel.in_process_of(run.teacher)
  teacher = {}
  for role, share in answering.items() if asked else ():
    if role in here:
      slots = here[role].answers.engine.shapes.slots[-1]
    count = math.ceil(share * summaries)
    teacher[role] = (
        rollouts(math.ceil(share * asked), short, algo.teacher_rollouts,
                 algo.teacher_max_tokens, slots, of),
        Rollouts(count, long, np.full(count, cap), -(-count // slots) * cap))
  return Load(student, teacher, scores,
              micro_batches(student, run.layout, run.num_updates),
              run.num_updates, evaluation)
