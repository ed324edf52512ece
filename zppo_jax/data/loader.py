"""The questions of each step, as a function of (seed, step)."""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Sequence

import grain
import numpy as np

from zppo_jax import allowed
from zppo_jax.data import digest
from zppo_jax.data.balance import Balance, dealt, digest as repeats_digest
from zppo_jax.data.pool import Pool
from zppo_jax.randomness import Purpose, host_rng
from zppo_jax.records import Question


@dataclasses.dataclass(frozen=True)
class QuestionLoader:
  """Loads the questions of each step from a finite pool.

  Every pass has a shuffle of its own. A pass holds floor(n / num_new) steps, so
  that the questions of a step are always distinct; the remainder waits for the
  next shuffle. n is the size of the pool. In a mixture, n is the number of
  questions until one of its sources is spent, so that a pass keeps the weights
  and repeats nothing. With a balance, some questions are drawn several times in
  a pass, in different steps.

  Attributes:
    pool: all questions, as a tuple or as a `Pool` of files.
    num_new: questions per step.
    seed: of the shuffles.
    repeat: whether a second pass may begin.
    balance: which questions a pass draws more than once; None: each once.
  """
  pool: Sequence[Question]
  num_new: int
  seed: int
  repeat: bool
  balance: Balance | None = None

  def __post_init__(self) -> None:
    if not len(self.pool):
      raise ValueError('the question pool is empty')
    if len(self._index) != len(self.pool):
      raise ValueError('the question pool holds an id twice')
    if self.balance is not None and self._weights:
      raise ValueError(
          'data.balance and weights of data.pool.sources are both set; a pass '
          'keeps one of the two shares')
    if len(self._order(0)) < self.num_new:
      raise ValueError(
          f'the pool has {len(self.pool)} questions'
          + (f', {len(self._order(0))} in a pass that keeps its weights'
             if self._weights else '')
          + f'; a step draws {self.num_new}')
    most = 1 if self._repeats is None else int(self._repeats.max())
    if most > self.steps_per_pass:
      raise ValueError(
          f'data.balance.factors repeats a question {most} times; a pass has '
          f'{self.steps_per_pass} steps of {self.num_new} questions, and a '
          'step draws a question once')

  @property
  def _weights(self) -> tuple[float, ...] | None:
    return self.pool.weights if isinstance(self.pool, Pool) else None

  @functools.cached_property
  def _index(self) -> dict[str, int]:
    ids = (self.pool.ids if isinstance(self.pool, Pool)
           else [q.id for q in self.pool])
    return {name: i for i, name in enumerate(ids)}

  @functools.cached_property
  def _repeats(self) -> np.ndarray | None:
    """Draws per pass of each question; None: each once."""
    return (None if self.balance is None
            else self.balance.repeats(list(self._index)))

  @functools.cached_property
  def _names(self) -> str:
    """The digest of names alone, which earlier versions stored."""
    return hashlib.blake2b('\n'.join(self._index).encode(),
                           digest_size=8).hexdigest()

  @functools.cached_property
  def contents(self) -> list[bytes]:
    """A digest of each question of the pool, in order (data/digest.py)."""
    if isinstance(self.pool, Pool):
      return self.pool.contents()
    return [digest.of_question(q) for q in self.pool]

  def record(self) -> dict:
    """The contents of digest.NAME of a run."""
    return digest.record(self._files(), self.contents)

  def _files(self) -> list[str]:
    return (self.pool.files() if isinstance(self.pool, Pool)
            else [''] * len(self.pool))

  def _order(self, epoch: int) -> grain.MapDataset:
    """The indices of the pool's questions in the order of a pass."""
    rng = host_rng(self.seed, epoch, Purpose.DATA)
    if self._repeats is not None:
      return grain.MapDataset.source(dealt(self._repeats, self.num_new, rng))
    if not isinstance(self.pool, Pool) or self._weights is None:
      return grain.MapDataset.source(rng.permutation(len(self.pool)))
    starts = np.cumsum([0, *self.pool.parts[:-1]])
    return grain.MapDataset.mix(
        [grain.MapDataset.source(start + rng.permutation(size))
         for start, size in zip(starts, self.pool.parts, strict=True)],
        weights=self._weights)

  @functools.cached_property
  def steps_per_pass(self) -> int:
    return len(self._order(0)) // self.num_new

  def check_steps(self, steps: int) -> None:
    """ValueError if a single pass is too short for `steps`."""
    if not self.repeat and steps > self.steps_per_pass:
      raise ValueError(
          f'{steps} steps of {self.num_new} questions need more than one pass '
          f'over {len(self.pool)} questions; set data.repeat=True or at most '
          f'{self.steps_per_pass} steps')

  def find(self, question_id: str) -> Question:
    """A question of the pool; ValueError for an id that is not in it."""
    if question_id not in self._index:
      raise ValueError(f'question {question_id!r} of the checkpoint\'s buffer '
                       f'is not in data.pool ({len(self.pool)} questions)')
    return self.pool[self._index[question_id]]

  def position(self, step: int) -> dict:
    """The position of the data before `step`.

    It holds the pass, the number of questions drawn in it, and a digest of the
    pool, on which a resumed run relies; with a balance, of its repeats too.
    """
    epoch, at = divmod(step, self.steps_per_pass)
    of_balance = {} if self._repeats is None else {
        'repeats': repeats_digest(self._repeats)}
    return {'pass': epoch, 'questions': at * self.num_new,
            'pool': digest.joined(self.contents), **of_balance}

  def check_position(self, stored: dict, step: int,
                     folder: pathlib.Path) -> None:
    """ValueError unless the position of a checkpoint is that of this run.

    Args:
      stored: the `position` in the checkpoint. Runs of earlier versions have a
        digest of names, or none if no file holds their questions.
      step: the number of steps done.
      folder: of the run, which may hold the digests of its rows.
    """
    here = self.position(step)
    pool = stored.get('pool', here['pool'])
    if {**stored, 'pool': pool} in (here, {**here, 'pool': self._names}):
      return
    if {**stored, 'pool': here['pool']} == here:
      raise ValueError(f'the checkpoint after {step} steps was trained on '
                       f'other data: {self._difference(folder)}')
    raise ValueError(
        f'the checkpoint after {step} steps stands at {stored} of its data; '
        f'this config would go on at {here}')

  def _difference(self, folder: pathlib.Path) -> str:
    """A text that names the first question that differs from a record."""
    files, before = digest.read(folder)
    now = self.contents
    first = digest.first_difference(before, now) if before else None
    if first is None:
      return (f'{folder / digest.NAME} does not say which of the '
              f'{len(now)} questions differ')
    counts = f'{len(before)} questions then, {len(now)} now'
    if first >= len(now):
      return f'{counts}; the first that is gone was in {files[first]}'
    if isinstance(self.pool, Pool):
      name, at = self.pool.ids[first], f'{self.pool.where(first)}, '
    else:
      name, at = self.pool[first].id, ''
    return f'{counts}; the first that differs is {at}question {name!r}'

  def draw(self, step: int, index: int = 0,
           count: int = 1) -> tuple[Question, ...]:
    """X_new of a step.

    Args:
      step: the number of the step, from 0.
      index, count: this process and the number of processes, for jobs that
        share the questions of a step. Training needs all of them on each host.
    """
    allowed.number('index', index, f'[0, {count})', whole=True)
    epoch, at = divmod(step, self.steps_per_pass)
    order, start = self._order(epoch), at * self.num_new
    chosen = [int(order[i])
              for i in range(start, start + self.num_new)][index::count]
    # Rows are read in the order of the files, because that is faster.
    questions = {i: self.pool[i] for i in sorted(chosen)}
    return tuple(questions[i] for i in chosen)
