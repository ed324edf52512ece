"""The record of a run: everything that its steps need."""

import dataclasses
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from zppo_jax import allowed
from zppo_jax.algorithms import (
  compression,
  distillation,
  methods,
  reference,
  zppo,
)
from zppo_jax.algorithms.credit.settings import Credit
from zppo_jax.algorithms.lessons import Drawing
from zppo_jax.algorithms.privileged.contexts import Material
from zppo_jax.algorithms.privileged.hints import DEFAULT, HintConfig
from zppo_jax.arrays import TrainState
from zppo_jax.chat.wording import Chat
from zppo_jax.data.loader import QuestionLoader
from zppo_jax.devices.notice import Notice
from zppo_jax.learner import layouts
from zppo_jax.learner.ewc import Anchor
from zppo_jax.learner.states import Initial
from zppo_jax.models.lora import Lora
from zppo_jax.objectives import importance
from zppo_jax.records import Question
from zppo_jax.rollout import collect
from zppo_jax.rollout.journal import RolloutJournal
from zppo_jax.runs import checkpoints, watch
from zppo_jax.teachers import Teacher, panel
from zppo_jax.teachers.in_process import InProcessTeacher
from zppo_jax.teachers.stored import StoredTeacher
from zppo_jax.train import guards
from zppo_jax.train.teaching.own import Own
from zppo_jax.train.watching.drift import Drift
from zppo_jax.verdicts.rewards import Scoring
from zppo_jax.verdicts.verifier import Verifier


class Measured(NamedTuple):
  """The numbers of an evaluation by name.

  Attributes:
    results: what the summary has too: the accuracy of each split.
    beside: what eval.jsonl alone has: the means of graded rewards.
  """
  results: Mapping[str, float]
  beside: Mapping[str, float] = types.MappingProxyType({})


class Procedure(NamedTuple):
  """What kinds of runs do differently; the loop does the rest.

  A run of any kind has `steps`, `seed`, `source`, `chat`, `eval_every`,
  `checkpoint`, `vain`, `patience`, `description`, `init_state`,
  `abstract_state`, `replays`, `buffer_capacity`, `reference`, `ewc`,
  `adapted`, `notice` and `journal`, as those of Run. An outcome
  has `step`, `state`, `buffer`, `settled`, `calls` and `minibatches`, as those
  of step.Outcome.

  Attributes:
    build: (config, day of the prompts) -> the run.
    opened: (run, config, workdir, function that adds what is to be closed,
      function that shows a line) -> the run with what belongs to its directory.
    kernels: run -> lines of the log about its attention.
    step: (run, where it stands, function that reads the step before) ->
      outcome.
    row: (run, outcome) -> the numbers of the step.
    samples: (run, outcome) -> lines of samples.jsonl.
    check: (run, workdir, outcome, row) -> None, or an error that ends the run.
    evaluate: (run, TrainState) -> Measured.
    drift: (run, TrainState) -> further numbers of an evaluation, which are no
      result either.
    numbers: run -> the names of all numbers of `evaluate`.
    of_workdir: (config, workdir) -> the config with what the workdir stores of
      it.
    proposed: config -> the fields of `shapes` that the build proposes.
  """
  build: Callable[[Any, Any], Any]
  opened: Callable[..., Any]
  kernels: Callable[[Any], list[str]]
  step: Callable[..., Any]
  row: Callable[[Any, Any], dict]
  samples: Callable[[Any, Any], list[dict]]
  check: Callable[..., None]
  evaluate: Callable[[Any, TrainState], Measured]
  drift: Callable[[Any, TrainState], Mapping[str, float]] = (
      lambda run, state: {})
  numbers: Callable[[Any], Sequence[str]] = lambda run: tuple(run.splits)
  of_workdir: Callable[[Any, Any], Any] = lambda config, path: config
  proposed: Callable[[Any], Sequence[str]] = lambda config: ()


class Reference(NamedTuple):
  """The frozen reference policy of a run.

  Attributes:
    penalty: the section `algorithm.reference`.
    params: a rollout copy of student.weights.
    score_fn: (params, MicroBatch) -> (logp_BT, entropy_BT), at the sampler's
      temperature.
  """
  penalty: reference.Penalty
  params: Any
  score_fn: Callable


@dataclasses.dataclass(frozen=True)
class Every:
  """How often something is done, and for how many questions.

  Attributes:
    name: its config section, for errors.
    every: steps between two times; 0: never.
    questions: the most questions per time.
  """
  name: str
  every: int
  questions: int

  def __post_init__(self) -> None:
    for field, lowest in (('every', 0), ('questions', 1)):
      allowed.number(f'{self.name}.{field}', getattr(self, field),
                     f'>= {lowest}')

  def due(self, step: int) -> bool:
    return bool(self.every) and step % self.every == 0


@dataclasses.dataclass(frozen=True)
class Run:
  """Everything that a run needs, compiled functions included.

  `init_state` places the pretrained weights and a fresh optimizer on the
  mesh; a resumed run never calls it and restores into `abstract_state`.
  `advantage_fn` maps host rewards and their mask [P, G] to advantages.

  `distil` is None for a method without that section. `stored_need` is the key
  of distillation.NEEDS whose scores are stored per rollout batch, or ''.
  `stored` gives the answers of questions as states; None if no step has them.
  `notice` says whether the run must end, and `journal` keeps its rollouts; None
  without a directory, or where checkpoint.journal is off.
  `student_ids_fn` maps (rollout copy, sequences) to the student's likeliest ids
  [R, K] of each. `credit` is the section of that name for a row with terms, and
  `own_scores` adds what it reads of the student and of a base to stored scores;
  `base` holds the params of that base, or None.
  `ewc` is None unless something holds the parameters.
  `context` is what contexts of the teacher are made of; None if it reads what
  the student reads. `own` is None unless the teacher's weights move with the
  student's. `adapted` holds the frozen weights if the trained params are their
  adapters. `drawing` says how rollouts are drawn under a context; None for a
  method that draws none. `lift` says when the teacher answers with and without
  its context, and `drift` is None unless evaluations measure it. `watched` has
  the words and phrases that metrics count. `config` is the config, with the
  shapes that shapes.auto proposed.
  """
  steps: int
  seed: int
  rules: zppo.Rules
  method: methods.Method
  compress: compression.CompressionConfig
  num_updates: int
  advantage_scope: str
  correction: importance.Correction
  gap_measured: bool
  source: QuestionLoader
  splits: dict[str, tuple[Question, ...]]
  eval_every: int
  probe: Every
  samples: Every
  checkpoint: checkpoints.Policy
  max_ratio: float
  max_ungraded: float
  vain: watch.Limits
  mesh: Any
  description: dict
  verifier: Verifier
  sampler: collect.Sampler
  greedy: collect.Sampler
  teacher: Teacher | None
  patience: guards.FailureBudget
  rate: Callable[[int], float]
  reshard_fn: Any
  score_fn: Any
  advantage_fn: Any
  update_fn: Any
  init_state: Initial
  abstract_state: TrainState
  buffer_capacity: int
  num_rollouts: int
  layout: layouts.Layout
  distil: distillation.Distil | None = None
  reducer: str = 'token_mean'
  stored_need: str = ''
  stored: StoredTeacher | None = None
  student_ids_fn: Callable | None = None
  reference: Reference | None = None
  credit: Credit | None = None
  own_scores: Callable | None = None
  base: Any = None
  notice: Notice = dataclasses.field(default_factory=Notice)
  journal: RolloutJournal | None = None
  hint: HintConfig = DEFAULT
  context: Material | None = None
  own: Own | None = None
  ewc: Anchor | None = None
  adapted: Lora | None = None
  drawing: Drawing | None = None
  lift: Every = Every('watch.lift', 0, 1)
  drift: Drift | None = None
  watched: Mapping[str, Sequence[str]] = dataclasses.field(
      default_factory=dict)
  config: Any = None

  def is_frozen(self, params: Any) -> bool:
    """Whether params are the weights below adapters, and no copy of them."""
    return self.adapted is not None and params is self.adapted.base

  def copies(self) -> dict[str, Any]:
    """Params beside the trained ones, by who reads them ('reference', a role of
    teachers, 'drift', 'base'), each once: the first reader has those that
    several share, and the weights below adapters are not among them."""
    readers = {
        'reference': self.reference and self.reference.params,
        **{role: teacher.params for role, teacher in
           panel.in_process_of(self.teacher).items()},
        'drift': self.drift and self.drift.base, 'base': self.base}
    out: dict[str, Any] = {}
    for reader, params in readers.items():
      if not (params is None or self.is_frozen(params)
              or any(params is other for other in out.values())):
        out[reader] = params
    return out

  @property
  def answering(self) -> dict[str, InProcessTeacher]:
    """The teachers of this process that write answers, summaries or hints in
    this run, by role; the others only score. A probe has its candidates
    summarised."""
    asked = (self.method.reformulations or self.method.takes_answers
             or self.probe.every)
    return panel.answering_of(self.teacher) if asked else {}

  @property
  def scoring(self) -> Scoring | None:
    """How responses are rewarded; None: 1 for right and 0 for wrong."""
    scoring = self.sampler.grader.scoring
    return scoring if scoring and scoring.names else None

  @property
  def chat(self) -> Chat:
    """The chat of the student's prompts."""
    return self.sampler.chat

  @property
  def replays(self) -> bool:
    """Whether the method keeps questions in the buffer."""
    return self.method.replay
