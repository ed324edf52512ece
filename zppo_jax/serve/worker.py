"""The threads that own the device: requests of all clients in few engines.

A choice depends on its prompt, its seed and its number alone, so a request gets
the same answer whatever other requests there are.

A lane serves choices by the most tokens that they may have, so that a short
choice need not wait for a slot that a long one holds. Each lane is an engine
with a thread of its own, so that neither a decode chunk nor a compilation of
one lane holds up another.
"""

import abc
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
from zppo_jax.rollout.engine import Engine
from zppo_jax.rollout.requests import Completion, Request

_SCORED = 8  # rows at once, so that no request waits for many


@dataclasses.dataclass(frozen=True, eq=False)
class Generate:
  """A job: choices for one prompt.

  Attributes:
    tokens: of the prompt.
    media: of the prompt.
    decoding: of every choice.
    n: the number of choices.
    seed: (seed, i) is the seed of choice i.
    stop: strings that end a choice.
    stop_ids: tokens that end a choice.
    owner: the request to which it belongs; None for a request of its own.
      Requests share the slots.
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
  """A job: the log-probs of every token of a sequence; token 0 has none.

  Attributes:
    row: prompt and response.
    owner: as Generate's.
  """
  row: TokenSequence
  owner: Hashable = None


class _Lane(abc.ABC):
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
    """Ends after the jobs that have come."""
    self._jobs.put(None)
    self._thread.join()

  def _take(self) -> list:
    """All waiting jobs; it waits for one if no job is in progress."""
    found = [] if self._open() or self._closing else [self._jobs.get()]
    with contextlib.suppress(queue.Empty):
      while True:
        found.append(self._jobs.get_nowait())
    if None in found:
      self._closing = True
    return [f for f in found if f is not None]

  @abc.abstractmethod
  def _open(self) -> Sequence[Future]:
    """The futures of the jobs in progress."""

  @abc.abstractmethod
  def _step(self) -> None:
    """Takes the waiting jobs and does a part of the work."""

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
    self._engine, self._slots = engine, engine.shapes.slots[-1]
    self._lock, self._tokens = threading.Lock(), 0
    self._names = itertools.count()
    # id -> (future, choices wanted, choices that came)
    self._under_way: dict[int, tuple[Future, int, list[Completion]]] = {}

  def _open(self) -> Sequence[Future]:
    return [future for future, *_ in self._under_way.values()]

  def count(self, tokens: int) -> None:
    """Adds to the number of tokens that the lane has to draw at most."""
    with self._lock:
      self._tokens += tokens

  def wait(self, tokens: int) -> float:
    """Tokens that a slot draws until the lane has drawn so many more."""
    return (self._tokens + tokens) / self._slots

  def _begin(self, job: Generate, future: Future) -> None:
    name = next(self._names)
    keys = randomness.seed_key_data(job.seed % 2**31, job.n)
    try:
      self._engine.submit(Request(
          id=name, tokens=job.tokens, key_G2=keys, decoding=job.decoding,
          media=job.media, stop=job.stop, stop_ids=job.stop_ids,
          owner=name if job.owner is None else job.owner))
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
  """Scores a few sequences at once, of all owners in turn."""

  def __init__(self, score: Callable[[Sequence[TokenSequence]], list]):
    super().__init__()
    self._score = score
    # Owner -> its waiting jobs; the first owner is next.
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
  """Generates in lanes, and scores in another thread.

  A future that is cancelled gives up its places.

  Args:
    lanes: (most tokens of a choice, engine), from short to long; each engine
      has its weights, and no other code may use it.
    score: sequences -> the log-probs of each.
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
    """The future of a job: a list of Completion, or the log-probs of `score`.

    Its error is a ValueError if the job fits no shape of the engine.
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
    """The lane for a job.

    It is the shortest lane that will have drawn the job within the time of one
    choice of full length, else the lane that will have drawn it first.
    """
    fit = [(most, lane) for most, lane in self._lanes
           if job.decoding.max_tokens <= most] or self._lanes[-1:]
    return next((lane for most, lane in fit if lane.wait(tokens) <= most),
                min(fit, key=lambda x: x[1].wait(tokens))[1])

  def close(self) -> None:
    """Ends after the jobs that have come."""
    for lane in self._all():
      lane.close()


def _settle(future: Future, result: Any) -> None:
  # Its client may leave at this very moment.
  with contextlib.suppress(InvalidStateError):
    if isinstance(result, BaseException):
      future.set_exception(result)
    else:
      future.set_result(result)
