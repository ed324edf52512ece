"""The order in which new questions are drawn: a function of (seed, step)."""

import dataclasses
import functools

from zppo_jax.randomness import host_rng
from zppo_jax.records import Purpose, Question


@dataclasses.dataclass(frozen=True)
class Source:
  """A finite pool, shuffled anew for every pass.

  A pass holds floor(len(pool) / num_new) steps, so that the questions of a
  step are always distinct; the remainder waits for the next shuffle.

  Attributes:
    pool: all questions.
    num_new: questions a step.
    seed: of the shuffles.
    repeat: whether a second pass may begin.
  """
  pool: tuple[Question, ...]
  num_new: int
  seed: int
  repeat: bool

  def __post_init__(self):
    if not self.pool:
      raise ValueError('the question pool is empty')
    if len({q.id for q in self.pool}) != len(self.pool):
      raise ValueError('the question pool holds an id twice')
    if len(self.pool) < self.num_new:
      raise ValueError(f'the pool has {len(self.pool)} questions; a step '
                       f'draws {self.num_new}')

  @property
  def steps_per_pass(self) -> int:
    return len(self.pool) // self.num_new

  def check_steps(self, steps: int) -> None:
    """ValueError if a single pass is too short for `steps`."""
    if not self.repeat and steps > self.steps_per_pass:
      raise ValueError(
          f'{steps} steps of {self.num_new} questions need more than one pass '
          f'over {len(self.pool)} questions; set data.repeat=True or at most '
          f'{self.steps_per_pass} steps')

  @functools.cached_property
  def _by_id(self) -> dict[str, Question]:
    return {q.id: q for q in self.pool}

  def find(self, question_id: str) -> Question:
    """A question of the pool; ValueError for an id that is not in it."""
    if question_id not in self._by_id:
      raise ValueError(f'question {question_id!r} of the checkpoint\'s buffer '
                       f'is not in data.pool ({len(self.pool)} questions)')
    return self._by_id[question_id]

  def position(self, step: int) -> dict[str, int]:
    """Where the data stand before `step`: pass, and questions into it."""
    epoch, at = divmod(step, self.steps_per_pass)
    return {'pass': epoch, 'questions': at * self.num_new}

  def draw(self, step: int) -> tuple[Question, ...]:
    """X_new of a step."""
    epoch, at = divmod(step, self.steps_per_pass)
    order = host_rng(self.seed, epoch, Purpose.DATA).permutation(
        len(self.pool))
    start = at * self.num_new
    return tuple(self.pool[i] for i in order[start:start + self.num_new])
