"""The threads that own the device: requests of all clients in few engines.

What is drawn depends on the prompt, its seed and the number of the choice
alone, so a request is answered alike in every company.

Choices draw in lanes, by the most tokens that they may have: a short one need
not wait for a row that a long one holds. Each lane is an engine with a thread
of its own, so that neither a burst nor a compilation of one holds up another.
"""

import collections
import contextlib
import dataclasses
import itertools
import queue
import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import Any

from zppo_jax import randomness
from zppo_jax.records import Decoding, PromptMedia, TokenSequence
from zppo_jax.rollout.engine import Completion, Engine, Request

_SCORED = 8  # rows at a time, so that nobody waits for many


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
    stop_ids: tokens that end a choice.
    owner: the request that it is of, None if it is of its own; requests share
      the slots.
  """
  tokens: tuple[int, ...]
  media: PromptMedia | None
  decoding: Decoding
  n: int
  seed: int
  stop: tuple[str, ...]
  stop_ids: tuple[int, ...] = ()
  owner: Hashable = None


@dataclasses.dataclass(frozen=True, eq=False)
class Score:
  """Log-probs of every token of a row; token 0 has none.

  Attributes:
    row: prompt and response.
    owner: as Generate's.
  """
  row: TokenSequence
  owner: Hashable = None


class _Lane:
  """A thread over a queue of (job, future) pairs."""

  def __init__(self):
    self._jobs: queue.Queue = queue.Queue()
    self._closing = False
    self._thread = threading.Thread(target=self._run, daemon=True)

  @property
  def alive(self) -> bool:
    return self._thread.is_alive()

  def start(self) -> None:
    self._thread.start()

  def put(self, job, future: Future) -> None:
    self._jobs.put((job, future))

  def close(self) -> None:
    """Ends after the jobs that are here."""
    self._jobs.put(None)
    self._thread.join()

  def _take(self) -> list:
    """All that waits; at least one where nothing is under way."""
    found = [] if self._open() or self._closing else [self._jobs.get()]
    with contextlib.suppress(queue.Empty):
      while True:
        found.append(self._jobs.get_nowait())
    if None in found:
      self._closing = True
    return [f for f in found if f is not None]

  def _open(self) -> Sequence[Future]:
    """Futures of what is under way."""
    raise NotImplementedError

  def _step(self) -> None:
    """Takes what waits and does some of it."""
    raise NotImplementedError

  def _run(self) -> None:
    try:
      while self._open() or not self._closing:
        self._step()
    except BaseException as e:
      for future in self._open():
        _settle(future, e)
      raise


class _Drawing(_Lane):
  """Generates by continuous batching."""

  def __init__(self, engine: Engine):
    super().__init__()
    self._engine, self._rows = engine, engine.shapes.rows[-1]
    self._lock, self._tokens = threading.Lock(), 0
    self._names = itertools.count()
    # id -> (future, choices wanted, choices that came)
    self._under_way: dict[int, tuple[Future, int, list[Completion]]] = {}

  def _open(self) -> Sequence[Future]:
    return [future for future, *_ in self._under_way.values()]

  def count(self, tokens: int) -> None:
    """That it has to draw so many tokens more at most, or fewer."""
    with self._lock:
      self._tokens += tokens

  def wait(self, tokens: int) -> float:
    """Tokens of a row until so many more would all be drawn."""
    return (self._tokens + tokens) / self._rows

  def _begin(self, job: Generate, future: Future) -> None:
    name = next(self._names)
    keys = randomness.seed_key_data(job.seed % 2**31, job.n)
    try:
      self._engine.submit(Request(
          name, job.tokens, keys, job.decoding, job.media, job.stop,
          job.stop_ids, name if job.owner is None else job.owner))
    except ValueError as e:
      _settle(future, e)
      return
    self._under_way[name] = future, job.n, []

  def _step(self) -> None:
    for job, future in self._take():
      if not future.cancelled():
        self._begin(job, future)
    for name, (future, *_) in list(self._under_way.items()):
      if future.cancelled():
        self._engine.cancel(name)
        del self._under_way[name]
    for done in self._engine.poll():
      future, wanted, came = self._under_way[done.id]
      came.append(done)
      if len(came) == wanted:
        del self._under_way[done.id]
        _settle(future, sorted(came, key=lambda c: c.rollout))


class _Scoring(_Lane):
  """Scores a few rows at a time, of all owners by turns."""

  def __init__(self, score: Callable[[Sequence[TokenSequence]], list]):
    super().__init__()
    self._score = score
    # Owner -> what waits of it; the first one is next.
    self._waiting: dict[Hashable, collections.deque] = {}

  def _open(self) -> Sequence[Future]:
    return [future for found in self._waiting.values() for _, future in found]

  def _next(self) -> list[tuple[Score, Future]]:
    chosen: list[tuple[Score, Future]] = []
    while self._waiting and len(chosen) < _SCORED:
      owner = next(iter(self._waiting))
      found = self._waiting.pop(owner)
      job, future = found.popleft()
      if not future.cancelled():
        chosen.append((job, future))
      if found:
        self._waiting[owner] = found  # behind the others
    return chosen

  def _step(self) -> None:
    for job, future in self._take():
      owner = future if job.owner is None else job.owner
      self._waiting.setdefault(owner, collections.deque()).append(
          (job, future))
    chosen = self._next()
    try:
      if chosen:
        self._settle_all(chosen)
    except BaseException as e:
      for _, future in chosen:
        _settle(future, e)
      raise

  def _settle_all(self, chosen: Sequence[tuple[Score, Future]]) -> None:
    try:
      results = self._score([job.row for job, _ in chosen])
    except ValueError as e:
      if len(chosen) > 1:  # one of them fits no shape, the others may
        for one in chosen:
          self._settle_all([one])
        return
      results = [e]
    for (_, future), result in zip(chosen, results, strict=True):
      _settle(future, result)


class Worker:
  """Generates in lanes, and scores beside them.

  A future that is cancelled gives up its places.

  Args:
    lanes: (most tokens of a choice, its engine), from short to long; each
      engine has its weights, and nobody else uses it from now on.
    score: rows -> what is told of each.
  """

  def __init__(self, lanes: Sequence[tuple[int, Engine]],
               score: Callable[[Sequence[TokenSequence]], list]):
    self._lanes = [(most, _Drawing(engine)) for most, engine in lanes]
    self._scoring = _Scoring(score)
    for lane in self._all():
      lane.start()

  def _all(self) -> list[_Lane]:
    return [lane for _, lane in self._lanes] + [self._scoring]

  @property
  def alive(self) -> bool:
    return all(lane.alive for lane in self._all())

  def submit(self, job: Generate | Score) -> Future:
    """The result to come: a list of Completion, or what `score` tells.

    It raises ValueError for a job that fits no shape of the engine.
    """
    future: Future = Future()
    if isinstance(job, Score):
      self._scoring.put(job, future)
      return future
    tokens = job.n * job.decoding.max_tokens
    lane = self._lane(job, tokens)
    lane.count(tokens)
    future.add_done_callback(lambda _: lane.count(-tokens))
    lane.put(job, future)
    return future

  def _lane(self, job: Generate, tokens: int) -> _Drawing:
    """The shortest that will have drawn it within one choice of full length,
    else the one that will have drawn it first."""
    fit = [(most, lane) for most, lane in self._lanes
           if job.decoding.max_tokens <= most] or self._lanes[-1:]
    return next((lane for most, lane in fit if lane.wait(tokens) <= most),
                min(fit, key=lambda x: x[1].wait(tokens))[1])

  def close(self) -> None:
    """Ends after the jobs that are here."""
    for lane in self._all():
      lane.close()


def _settle(future: Future, result: Any) -> None:
  # Its client may leave at this very moment.
  with contextlib.suppress(InvalidStateError):
    if isinstance(result, BaseException):
      future.set_exception(result)
    else:
      future.set_result(result)
