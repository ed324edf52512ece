"""The rollout engine: one scheduler on the host over pure device steps.

Requests wait in order, and a pool of rows decodes in bursts. The engine returns
rows that end and gives their places to waiting requests. Training, evaluation,
teachers in process and `zppo sample` all draw from here.

What a rollout draws is a function of its prompt, its key and its decoding. It
depends neither on the row, nor on the shape of the pool, nor on other rollouts.
"""

import collections
import dataclasses
import heapq
import itertools
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from zppo_jax.devices import sharding
from zppo_jax.learner import packing
from zppo_jax.records import Decoding, PromptMedia, StopReason
from zppo_jax.rollout import decode as sampling
from zppo_jax.rollout.programs import Geometry, Programs

_NEVER = np.iinfo(np.int32).max


@dataclasses.dataclass(frozen=True, eq=False)
class Request:
  """Rollouts of one prompt; the prompt is prefilled once for all of them.

  Attributes:
    id: the name of the request in completions; unique among requests under way.
    tokens: the prompt's tokens.
    key_G2: uint32 key data of each rollout (randomness.rollout_key_data); the
      number of keys is the number of rollouts.
    decoding: how tokens are drawn, and the most tokens that are drawn.
    media: what placeholders stand for, or None.
    stop: strings that end a rollout (StopReason.STOP_STRING).
    stop_ids: tokens that end a rollout in the same way when they are drawn.
    owner: whom the request belongs to; owners share the slots (see `Engine`).
  """
  id: Hashable
  tokens: tuple[int, ...]
  key_G2: np.ndarray
  decoding: Decoding
  media: PromptMedia | None = None
  stop: tuple[str, ...] = ()
  stop_ids: tuple[int, ...] = ()
  owner: Hashable = None

  @property
  def stops(self) -> bool:
    """Whether anything but the end token or the limit may end a rollout."""
    return bool(self.stop or self.stop_ids)


class Completion(NamedTuple):
  """One rollout that ended.

  Attributes:
    id: the id of its request.
    rollout: its number in the request, from 0.
    tokens: the drawn tokens; the end token is included when `stop` is END. The
      tokens of a stop string stay, up to the one that completed it.
    logps: see records.Rollout.
    text: the decoded tokens, cut before the first stop string or before the
      stop token.
    stop: why it ended.
    matched: the stop string or stop token that ended it.
  """
  id: Hashable
  rollout: int
  tokens: tuple[int, ...]
  logps: tuple[float, ...]
  text: str
  stop: StopReason
  matched: str | int | None = None


@dataclasses.dataclass(frozen=True)
class Statistics:
  """What an engine has done so far.

  Attributes:
    rounds: bursts; each burst synchronises once with the host.
    prompts: prompts that were prefilled.
    patches: patches of the images and videos in them, without padding.
    rollouts: rollouts that got a row; a prompt of G rollouts counts G.
  """
  rounds: int = 0
  prompts: int = 0
  patches: int = 0
  rollouts: int = 0


@dataclasses.dataclass(frozen=True)
class _Part:
  """Rollouts of a request that get rows together: as many as the slots hold."""
  request: Request
  rollouts: range


@dataclasses.dataclass
class _Row:
  """A row that draws."""
  request: Request
  rollout: int
  tokens: list
  logps: list


def _joined(placed: list[tuple[_Part, list[int]]]):
  """The same with one part per request, so that each prompt is prefilled once;
  each rollout keeps a unit of its own."""
  by_request: dict[Hashable, list] = {}
  for part, units in placed:
    by_request.setdefault(part.request.id, []).append((part, units))
  return [(_Part(some[0][0].request, range(
      some[0][0].rollouts.start, some[-1][0].rollouts.stop)),
      [u for _, units in some for u in units]) for some in by_request.values()]


class Engine:
  """A fixed number of slots, which are refilled as they become free.

  Args:
    programs: compiled steps and their shapes.
    decode: response tokens -> text without the end token.
    end_id: the token, or all tokens, that end a rollout.
    allowed_V: bool, False on ids that may never be drawn.
    burst: the most tokens per row between two synchronisations with the host.
    continuous: refill rows as they end; otherwise rows are refilled when all
      have ended, as in a static batch.
    fair: give the next free row to the owner that holds the fewest rows, and
      let a pool grow by more rows while others draw. An owner holds at most
      `most_rows` rows at a time. Otherwise requests get rows in their order.
    most_rows: the most rows of an owner; by default all rows.
  """

  def __init__(self, programs: Programs, *, decode: Callable[[Sequence], str],
               end_id: int | Sequence[int], allowed_V, burst: int = 64,
               continuous: bool = True, fair: bool = False,
               most_rows: int | None = None):
    self.programs, self.shapes = programs, programs.shapes
    self._decode, self._end_E = decode, np.atleast_1d(np.int32(end_id))
    self._allowed_V = np.asarray(allowed_V)
    self._burst, self._continuous, self._fair = burst, continuous, fair
    self._most_rows = most_rows or self.shapes.rows[-1]
    self._params: Any = None
    self._waiting: collections.deque[_Part] = collections.deque()
    self._shape: Geometry | None = None
    self._pool: sampling.DecodeState | None = None
    self._rows: list[_Row | None] = []
    self._live_B = np.zeros(0, bool)
    self._step = 0
    # Prompts of requests that still wait for rows: (Prefilled, index in it).
    self._kept: dict[Hashable, tuple[sampling.Prefilled, int]] = {}
    self.statistics = Statistics()

  @property
  def busy(self) -> bool:
    """Whether a request waits or draws."""
    return bool(self._waiting) or any(r is not None for r in self._rows)

  @property
  def shape(self) -> Geometry | None:
    """The shape of the pool as it is now; None before the first poll."""
    return self._shape

  def load(self, params) -> None:
    """Sets the weights: by block, in the rollout sharding.

    Raises:
      RuntimeError: while rollouts are drawn with other weights.
    """
    if params is not self._params and any(r is not None for r in self._rows):
      raise RuntimeError('rollouts are under way; their weights stay until '
                         'they end or are cancelled')
    if params is not self._params:
      self._kept.clear()
    self._params = params

  def submit(self, request: Request) -> None:
    """Queues a request.

    Raises:
      ValueError: for a prompt, media or response limit beyond the shapes, for
        an empty prompt or key list, or for an id that is under way.
    """
    name = f'the prompt of {request.id!r}'
    if not request.tokens or not len(request.key_G2):
      raise ValueError(f'{name} has {len(request.tokens)} tokens and '
                       f'{len(request.key_G2)} rollouts; each must be >= 1')
    self._bucket(request)
    longest = self.shapes.owns[-1]
    if request.decoding.max_tokens > longest:
      raise ValueError(f'{name}: max_tokens is {request.decoding.max_tokens}; '
                       f'this engine holds at most {longest}')
    if any(p.request.id == request.id for p in self._waiting) or any(
        r is not None and r.request.id == request.id for r in self._rows):
      raise ValueError(f'a request {request.id!r} is under way already')
    # Under `fair`, rows are dealt out to rollouts one by one.
    most = 1 if self._fair else self.shapes.rows[-1]
    self._waiting += [
        _Part(request, range(g, min(g + most, len(request.key_G2))))
        for g in range(0, len(request.key_G2), most)]

  def cancel(self, id: Hashable) -> bool:
    """Drops a request and what it drew; returns whether it was there."""
    waiting = [p for p in self._waiting if p.request.id != id]
    found = len(waiting) < len(self._waiting)
    self._waiting = collections.deque(waiting)
    self._kept.pop(id, None)
    for b, row in enumerate(self._rows):
      if row is not None and row.request.id == id:
        self._free(b)
        found = True
    return found

  def poll(self) -> list[Completion]:
    """Runs one burst of all rows and returns the rollouts that ended in it.

    Raises:
      RuntimeError: before `load`.
    """
    if not self.busy:
      return []
    if self._params is None:
      raise RuntimeError('the engine has no weights yet: load them first')
    self._fill()
    return self._draw()

  def generate(self, params, requests: Iterable[Request]) -> list[
      list[Completion]]:
    """The rollouts of each request, both in order.

    Raises:
      As `load` and `submit`; RuntimeError where requests are under way.
    """
    if self.busy:
      raise RuntimeError('generate needs an idle engine; use submit and poll')
    self.load(params)
    requests = list(requests)
    numbered = [dataclasses.replace(r, id=(i, r.id))
                for i, r in enumerate(requests)]
    for request in numbered:
      self.submit(request)
    out = [[None] * len(r.key_G2) for r in requests]
    while self.busy:
      for done in self.poll():
        i, id = done.id
        out[i][done.rollout] = done._replace(id=id)
    return out

  # Which rollout gets which row.

  def _bucket(self, request: Request) -> tuple[int, int]:
    name = f'the prompt of {request.id!r}'
    return (packing.bucket(len(request.tokens), self.shapes.prompts,
                           f'{name} in tokens'),
            packing.patch_bucket(request.media, self.shapes.patches, name))

  def _free(self, b: int) -> None:
    self._rows[b] = None
    self._live_B[b] = False

  def _restart(self) -> None:
    """Makes a pool for the waiting requests; called while no row draws."""
    s, waiting = self.shapes, self._waiting
    wanted = [len(p.rollouts) for p in waiting]
    fits = lambda share: sum(-(-n // share) * share for n in wanted)
    share = max((g for g in s.shares if fits(g) <= s.rows[-1] and all(
        n % g == 0 for n in wanted)), default=1)
    rows = next((b for b in s.rows if b >= fits(share)), s.rows[-1])
    shape = Geometry(rows, share, max(
        self._bucket(p.request)[0] for p in waiting), s.owns[0])
    if shape != self._shape:
      self._pool = None  # frees its memory before the next pool is made
      self._pool, self._shape = self.programs.empty(shape), shape
    B = rows
    self._rows, self._step = [None] * B, 0
    self._live_B, self._count_B, self._limit_B, self._next_B = (
        np.zeros(B, bool), *np.zeros((3, B), np.int32))
    self._start_B = np.full(B, _NEVER, np.int32)
    self._key_B2 = np.zeros((B, 2), np.uint32)
    self._temperature_B, self._top_p_B = np.ones((2, B), np.float32)
    self._top_k_B = np.zeros(B, np.int32)
    self._length_U = np.zeros(B // share, np.int32)
    self._written_R = np.full(shape.own, -1, np.int32)

  def _grow(self, prompt: int, own: int) -> None:
    """Grows by one table entry at a time, so that programs are few."""
    for name, table, goal in (('prompt', self.shapes.prompts, prompt),
                              ('own', self.shapes.owns, own)):
      for size in table:
        if getattr(self._shape, name) < size <= goal:
          self._shape = dataclasses.replace(self._shape, **{name: size})
          self._pool = self.programs.grow(self._pool, self._shape.prompt,
                                          self._shape.own)
    more = self._shape.own - len(self._written_R)
    self._written_R = np.pad(self._written_R, (0, more), constant_values=-1)

  def _fill(self) -> None:
    """Gives free units to waiting rollouts, in order."""
    if not self._waiting:
      return
    if not self._live_B.any():
      self._restart()
    elif not self._continuous:
      return
    elif self._fair:
      self._widen()
    share = self._shape.share
    free = [u for u in range(len(self._length_U))
            if not self._live_B[u * share:(u + 1) * share].any()]
    placed: list[tuple[_Part, list[int]]] = []
    for part in self._turns(len(free) * share):
      units = -(-len(part.rollouts) // share)
      if units > len(free):
        break
      placed.append((part, free[:units]))
      del free[:units]
    seated = {id(part) for part, _ in placed}
    self._waiting = collections.deque(
        p for p in self._waiting if id(p) not in seated)
    self._admit(_joined(placed) if self._fair else placed)

  def _turns(self, most: int) -> list[_Part]:
    """Waiting parts in the order in which they get rows; the list may stop
    after `most` rollouts."""
    if not self._fair:
      return list(itertools.islice(self._waiting, most))
    held = collections.Counter(
        r.request.owner for r in self._rows if r is not None)
    queues: dict[Hashable, collections.deque] = {}
    for part in self._waiting:
      queues.setdefault(part.request.owner, collections.deque()).append(part)
    turns = [(held[owner], i, owner) for i, owner in enumerate(queues)]
    heapq.heapify(turns)
    out: list[_Part] = []
    while turns and len(out) < most:
      count, i, owner = heapq.heappop(turns)
      if count >= self._most_rows:
        continue
      out.append(queues[owner].popleft())
      if queues[owner]:
        heapq.heappush(turns, (count + 1, i, owner))
    return out

  def _widen(self) -> None:
    """Adds rows for waiting rollouts while other rows draw."""
    held = int(self._live_B.sum())
    goal = held + len(self._turns(self.shapes.rows[-1]))
    size = next((b for b in self.shapes.rows if b >= goal),
                self.shapes.rows[-1])
    more = size - self._shape.rows
    if more <= 0:
      return
    self._shape = dataclasses.replace(self._shape, rows=size)
    self._pool = self.programs.widen(self._pool, self._shape)
    self._rows += [None] * more
    # No value of a row is read before a rollout gets the row.
    for name in ('_live_B', '_count_B', '_limit_B', '_next_B', '_start_B',
                 '_key_B2', '_temperature_B', '_top_p_B', '_top_k_B'):
      old = getattr(self, name)
      setattr(self, name, np.concatenate(
          [old, np.zeros((more, *old.shape[1:]), old.dtype)]))
    self._start_B[-more:] = _NEVER
    self._temperature_B[-more:] = self._top_p_B[-more:] = 1
    self._length_U = np.pad(self._length_U, (0, more // self._shape.share))

  def _count(self, **more: int) -> None:
    self.statistics = dataclasses.replace(self.statistics, **{
        name: getattr(self.statistics, name) + n for name, n in more.items()})

  def _admit(self, placed) -> None:
    by_shape = collections.defaultdict(list)
    for part, units in placed:
      by_shape[self._bucket(part.request)].append((part, units))
    sizes = self.shapes.groups
    for (length, patches), found in sorted(by_shape.items()):
      self._grow(length, self._shape.own)
      for part, units in found:
        if part.request.id in self._kept:
          prefilled, source = self._kept[part.request.id]
          self._take_in(prefilled, [(part, units, source)])
      found = [x for x in found if x[0].request.id not in self._kept]
      while found:
        size = next((s for s in sizes if s >= len(found)), sizes[-1])
        some, found = found[:size], found[size:]
        requests = [part.request for part, _ in some]
        prefilled = self.programs.prefill(
            self._params, requests, size, length, patches)
        self._count(prompts=len(some), patches=sum(
            len(r.media.patches_IC) for r in requests if r.media is not None))
        self._take_in(prefilled, [(*x, i) for i, x in enumerate(some)])
    left = {p.request.id for p in self._waiting}
    self._kept = {id: x for id, x in self._kept.items() if id in left}

  def _take_in(self, prefilled, some) -> None:
    """`some` holds triples: (part, its units, the row of its prompt)."""
    units = [u for _, us, _ in some for u in us]
    sources = [source for _, us, source in some for _ in us]
    self._pool = self.programs.admit(self._pool, prefilled, units, sources)
    for part, its, source in some:
      self._seat(part, its)
      self._count(rollouts=len(part.rollouts))
      if part.rollouts.stop < len(part.request.key_G2):
        self._kept[part.request.id] = prefilled, source

  def _seat(self, part: _Part, units: list[int]) -> None:
    request, share = part.request, self._shape.share
    d = request.decoding
    first = len(request.tokens) if request.media is None else (
        request.media.next_position)
    seats = itertools.chain(*(range(u * share, (u + 1) * share)
                              for u in units))
    self._length_U[units] = len(request.tokens)
    for g, b in zip(part.rollouts, seats, strict=False):
      self._rows[b] = _Row(request, g, [], [])
      self._live_B[b], self._count_B[b] = True, 0
      self._limit_B[b], self._next_B[b] = d.max_tokens, first
      self._start_B[b], self._key_B2[b] = self._step, request.key_G2[g]
      self._temperature_B[b], self._top_p_B[b] = d.temperature, d.top_p
      self._top_k_B[b] = d.top_k

  # Drawing.

  def _mode(self) -> str:
    live = self._live_B
    hot = live & (self._temperature_B > 0)
    if not hot.any():
      return sampling.GREEDY
    cut = (self._top_p_B < 1) | (self._top_k_B > 0)
    return sampling.TRUNCATE if (hot & cut).any() else sampling.DRAW

  def _slots(self, most: int) -> np.ndarray:
    """At most `most` slots for the next steps, which no living row sees.

    A row has drawn fewer tokens than its limit, so one slot is always free if
    the response slots have their full length.
    """
    oldest = self._start_B[self._live_B].min()
    free = np.flatnonzero(self._written_R < oldest)
    if not len(free):
      owns = self.shapes.owns
      self._grow(self._shape.prompt,
                 owns[owns.index(self._shape.own) + 1])
      free = np.flatnonzero(self._written_R < oldest)
    return free[:most]

  def _draw(self) -> list[Completion]:
    live = self._live_B.copy()
    left = int((self._limit_B - self._count_B)[live].max())
    stops = any(r is not None and r.request.stops for r in self._rows)
    most = min(8 if stops else self._burst, left)
    slots = self._slots(most)
    slot_W = np.zeros(self._burst, np.int32)
    slot_W[:len(slots)] = slots
    refills = self._waiting and self._continuous
    enough = max(1, len(live) // 8) if refills else len(live) + 1
    rows = sampling.Rows(
        live, self._count_B, self._limit_B, self._next_B, self._start_B,
        self._key_B2, self._temperature_B, self._top_p_B, self._top_k_B,
        self._length_U, self._written_R)
    self._pool, drawn = self.programs.burst(
        self._mode(), self._params, self._pool, rows, slot_W,
        np.int32(self._step), np.int32(len(slots)), np.int32(enough),
        self._end_E, self._allowed_V)
    drawn = sharding.to_host(drawn)
    steps = int(drawn.steps)
    self._written_R[slots[:steps]] = self._step + np.arange(steps)
    self._step += steps
    self._count(rounds=1)
    counts = (drawn.tokens_WB[:steps] >= 0).sum(0)
    self._count_B += counts.astype(np.int32)
    out = []
    for b in np.flatnonzero(live):
      row = self._rows[b]
      row.tokens += drawn.tokens_WB[:counts[b], b].tolist()
      row.logps += drawn.logp_WB[:counts[b], b].tolist()
      done = self._ended(row, not drawn.live_B[b])
      if done is not None:
        out.append(done)
        self._free(b)
    return out

  def _ended(self, row: _Row, over: bool) -> Completion | None:
    of = lambda tokens, text, stop, matched=None: Completion(
        row.request.id, row.rollout, tuple(tokens),
        tuple(row.logps[:len(tokens)]), text, stop, matched)
    stop, stop_ids = row.request.stop, row.request.stop_ids
    last = next((i for i, t in enumerate(row.tokens) if t in stop_ids), None)
    if last is not None:  # a stop string before it takes precedence
      del row.tokens[last + 1:]
      over = True
    text = self._decode(row.tokens) if over or stop else ''
    if stop and any(s in text for s in stop):
      holds = lambda n: any(s in self._decode(row.tokens[:n]) for s in stop)
      size = next(n for n in range(1, len(row.tokens) + 1) if holds(n))
      text = self._decode(row.tokens[:size])
      cut, said = min((text.find(s), s) for s in stop if s in text)
      return of(row.tokens[:size], text[:cut], StopReason.STOP_STRING, said)
    if not over:
      return None
    if last is not None and row.tokens[-1] not in self._end_E:
      return of(row.tokens, self._decode(row.tokens[:-1]),
                StopReason.STOP_STRING, row.tokens[-1])
    return of(row.tokens, text, StopReason.END if (
        row.tokens[-1] in self._end_E) else StopReason.LENGTH)
