"""The thread that owns the device: requests of all clients in one engine.

What is drawn depends on the prompt, its seed and the number of the choice
alone, so a request is answered alike in every company.
"""

import contextlib
import dataclasses
import itertools
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import Any

from zppo_jax import randomness
from zppo_jax.engine import Completion, Engine, Request
from zppo_jax.packing import Row
from zppo_jax.records import Decoding, PromptMedia


@dataclasses.dataclass(frozen=True, eq=False)
class Generate:
  """Choices for one prompt.

  Attributes:
    tokens: of the prompt.
    media: of the prompt.
    decoding: of every choice.
    n: choices.
    seed: choice i is drawn by (seed, i).
    stop: strings that end a choice.
  """
  tokens: tuple[int, ...]
  media: PromptMedia | None
  decoding: Decoding
  n: int
  seed: int
  stop: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Score:
  """Log-probs of every token of a row; token 0 has none."""
  row: Row


class Worker:
  """Generates by continuous batching, and scores what waits between bursts.

  A future that is cancelled gives up its places in the engine.

  Args:
    engine: with its weights loaded; nobody else uses it from now on.
    score: rows -> what is told of each.
  """

  def __init__(self, engine: Engine, score: Callable[[Sequence[Row]], list]):
    self._engine, self._score = engine, score
    self._jobs: queue.Queue = queue.Queue()
    self._names = itertools.count()
    # id -> (future, choices wanted, choices that came)
    self._open: dict[int, tuple[Future, int, list[Completion]]] = {}
    self._closing = False
    self._thread = threading.Thread(target=self._run, daemon=True)
    self._thread.start()

  @property
  def alive(self) -> bool:
    return self._thread.is_alive()

  def submit(self, job: Generate | Score) -> Future:
    """The result to come: a list of Completion, or what `score` tells.

    It raises ValueError for a job that fits no shape of the engine.
    """
    future: Future = Future()
    self._jobs.put((job, future))
    return future

  def close(self) -> None:
    """Ends after the jobs that are here."""
    self._jobs.put(None)
    self._thread.join()

  def _take(self) -> list:
    """All that waits; at least one where nothing is under way."""
    found = [] if self._open else [self._jobs.get()]
    with contextlib.suppress(queue.Empty):
      while True:
        found.append(self._jobs.get_nowait())
    if None in found:
      self._closing = True
    return [f for f in found if f is not None]

  def _begin(self, job: Generate, future: Future) -> None:
    name = next(self._names)
    keys = randomness.seed_key_data(job.seed % 2**31, job.n)
    try:
      self._engine.submit(Request(name, job.tokens, keys, job.decoding,
                                  job.media, job.stop))
    except ValueError as e:
      _settle(future, e)
      return
    self._open[name] = future, job.n, []

  def _score_all(self, scores) -> None:
    if not scores:
      return
    try:
      results = self._score([job.row for job, _ in scores])
    except ValueError as e:
      results = [e] * len(scores)
    for (_, future), result in zip(scores, results, strict=True):
      _settle(future, result)

  def _step(self) -> None:
    scores = []
    for job, future in self._take():
      if isinstance(job, Score):
        scores.append((job, future))
      else:
        self._begin(job, future)
    self._score_all(scores)
    for name, (future, *_) in list(self._open.items()):
      if future.cancelled():
        self._engine.cancel(name)
        del self._open[name]
    for done in self._engine.poll():
      future, wanted, came = self._open[done.id]
      came.append(done)
      if len(came) == wanted:
        del self._open[done.id]
        _settle(future, sorted(came, key=lambda c: c.rollout))

  def _run(self) -> None:
    try:
      while self._open or not self._closing:
        self._step()
    except BaseException as e:
      for future, *_ in self._open.values():
        _settle(future, e)
      raise


def _settle(future: Future, result: Any) -> None:
  # Its client may leave at this very moment.
  with contextlib.suppress(InvalidStateError):
    if isinstance(result, BaseException):
      future.set_exception(result)
    else:
      future.set_result(result)
