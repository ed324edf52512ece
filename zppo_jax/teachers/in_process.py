"""A teacher that runs on the devices of the student, in turns with it."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from zppo_jax import allowed
from zppo_jax.learner import scoring
from zppo_jax.randomness import Purpose
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
from zppo_jax.rollout import collect
from zppo_jax.teachers import PLAIN, Capabilities, check


@dataclasses.dataclass(frozen=True)
class InProcessTeacher:
  """A frozen model with samplers of one engine, and a scorer.

  Attributes:
    params: the teacher's weights, in the rollout sharding of its mesh.
    make_room: is called before the devices work for the teacher; it frees what
      the student's idle engine holds.
    answers: the sampler of G_T rollouts per question.
    summaries: the sampler of one summary per trace, cut at the compression cap.
    hints: the sampler of one hint per question, cut at the cap of hints, which
      are not graded.
    score_fn: Form -> its program (scoring.compile_describer), always the same.
    vocab: the ids that mean something to it; rows of its head beyond them are
      padding.
    row_buckets: the allowed lengths of prompt and response together.
    micro_tokens: the most positions of a scored batch on each batch shard.
    seed: the run's seed.
  """
  params: Any
  make_room: Callable[[], Any]
  answers: collect.Sampler
  summaries: collect.Sampler
  hints: collect.Sampler
  score_fn: Callable[[scoring.Form], Callable]
  vocab: int
  row_buckets: tuple[int, ...]
  micro_tokens: int
  seed: int

  @property
  def capabilities(self) -> Capabilities:
    sees = self.answers.chat.vision is not None
    return Capabilities(
        max_compression_prompt=self.answers.engine.shapes.prompt_lengths[-1],
        scores=True, pictures=sees, clips=sees, repeatable=True,
        top=self.vocab, gathers=True, entropy=True, temperature=True)

  def answer(self, prompts: Sequence[Prompt], step: int) -> Answers:
    """Graded rollouts, whose draws are keyed by (question, step)."""
    groups = self._drawn(self.answers, prompts, step, Purpose.TEACHER)
    wanted = len(prompts) * self.answers.num_rollouts
    return Answers(groups=tuple(groups), calls=CallStats(answers=wanted))

  def summarise(self, prompts: Sequence[Prompt], traces: Sequence[str],
                step: int) -> Summaries:
    """One summary per prompt."""
    del traces  # the prompts hold them
    groups = self._drawn(self.summaries, prompts, step, Purpose.COMPRESSION)
    return Summaries(rollouts=tuple(g.rollouts[0] for g in groups),
                     calls=CallStats(answers=len(prompts)))

  def hint(self, prompts: Sequence[Prompt], traces: Sequence[str],
           step: int) -> Summaries:
    """One hint per prompt."""
    del traces  # the prompts hold them
    groups = self._drawn(self.hints, prompts, step, Purpose.HINTS)
    return Summaries(rollouts=tuple(g.rollouts[0] for g in groups),
                     calls=CallStats(answers=len(prompts)))

  def draw(self, prompts: Sequence[Prompt], step: int,
           purpose: Purpose = Purpose.PRIVILEGED) -> list[Group]:
    """Graded rollouts under a context, keyed by (question, step); each purpose
    has a stream of its own, apart from the answers'."""
    return self._drawn(self.answers, prompts, step, purpose)

  def _drawn(self, sampler: collect.Sampler, prompts: Sequence[Prompt],
             step: int, purpose: Purpose) -> list[Group]:
    """Graded groups; the caches of student and teacher never exist at once."""
    self.make_room()
    groups = collect.collect(sampler, self.params, prompts, seed=self.seed,
                             step=step, purpose=purpose)
    sampler.engine.release()
    return groups

  def score(self, sequences: Sequence[TokenSequence], wanted: Wanted = PLAIN,
            step: int | None = None) -> Scores:
    """Log-probs by the trainer's graph, in one pass per sequence.

    It pads sequences to the run's buckets. Each bucket and form of `wanted` has
    a program of its own.

    Raises:
      ValueError: if a sequence is longer than every row bucket; for ids beyond
        the vocabulary.
    """
    del step
    check('in_process', self.capabilities, wanted, sequences)
    for ids in wanted.ids:
      if np.size(ids):
        for which, bound in (('smallest', np.min(ids)),
                             ('largest', np.max(ids))):
          allowed.number(f'the {which} of the ids to score', int(bound),
                         f'[-1, {self.vocab})',
                         note=', the ids of the vocabulary, or -1 for none')
    self.make_room()
    programs = self.answers.engine.programs
    found = scoring.by_row(
        self.score_fn(scoring.Form(
            top=wanted.top, given=len(wanted.ids) > 0, entropy=wanted.entropy,
            temperature=wanted.temperature)),
        self.params, sequences, mesh=programs.mesh,
        max_tokens=self.micro_tokens, buckets=self.row_buckets,
        patch_buckets=programs.shapes.patches,
        num_axes=programs.model.num_axes, given=wanted.ids,
        between=self.answers.between)
    field = lambda name, is_wanted: tuple(
        getattr(one, name) for one in found) if is_wanted else ()
    return Scores(
        logps=field('logp_BT', True), calls=CallStats(answers=len(sequences)),
        top_ids=field('top_id_BTK', wanted.top),
        top_logps=field('top_logp_BTK', wanted.top),
        given_logps=field('given_logp_BTN', len(wanted.ids)),
        entropies=field('entropy_BT', wanted.entropy))
