"""The rollout engine: one scheduler on the host over pure device steps.

Requests wait in order, and a batch of slots decodes in chunks: a decode chunk
is what the device draws between two synchronisations with the host. The engine
returns rollouts that end and inserts waiting requests in their slots. Training,
evaluation, teachers in process and `zppo sample` all draw from here.

What a rollout draws is a function of its prompt, its key and its decoding. It
depends neither on the slot, nor on the shape of the decode state, nor on other
rollouts.
"""

import collections
import dataclasses
import itertools
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import numpy as np

from zppo_jax import allowed
from zppo_jax.devices import sharding
from zppo_jax.devices.compile_ahead import Job
from zppo_jax.learner import packing
from zppo_jax.rollout import decode_state, drawing
from zppo_jax.rollout.decode_state import (
  ChunkPlan,
  DecodeShape,
  DecodeState,
  Prefilled,
  SamplingState,
)
from zppo_jax.rollout.programs import Programs
from zppo_jax.rollout.requests import (
  Completion,
  Part,
  Request,
  Running,
  completed,
  in_turns,
  joined,
  parts_of,
)

_STOP_CHUNK = 8  # steps of a chunk if a rollout may end at a stop string
_FEW = 8  # a chunk ends early if one slot in so many can be refilled


@dataclasses.dataclass(frozen=True)
class Statistics:
  """What an engine has done so far.

  Attributes:
    chunks: decode chunks; each synchronises once with the host.
    prompts: prompts that were prefilled.
    patches: patches of the images and videos in them, without padding.
    rollouts: rollouts that got a slot; a prompt of G rollouts counts G.
  """
  chunks: int = 0
  prompts: int = 0
  patches: int = 0
  rollouts: int = 0


class Engine:
  """A fixed number of slots, which are refilled as they become free.

  Args:
    programs: compiled steps and their shapes.
    decode: response tokens -> text without the end token.
    end_id: the token, or all tokens, that end a rollout.
    allowed_V: bool, False on ids that may never be drawn.
    decode_chunk: the most tokens per slot between two synchronisations with the
      host.
    continuous: refill slots as rollouts end (continuous batching); otherwise
      slots are refilled when all rollouts have ended, as in a static batch.
    fair: give the next free slot to the owner that holds the fewest slots, and
      let the decode state grow by more slots while others draw. An owner holds
      at most `max_slots_per_owner` slots at a time. Otherwise requests get
      slots in their order.
    max_slots_per_owner: the most slots of an owner; None: all slots.

  Raises:
    ValueError: for a decode chunk or a number of slots below 1.
  """

  def __init__(self, programs: Programs, *,
               decode: Callable[[Sequence[int]], str],
               end_id: int | Sequence[int], allowed_V: np.ndarray,
               decode_chunk: int = 64, continuous: bool = True,
               fair: bool = False, max_slots_per_owner: int | None = None):
    self.programs, self.shapes = programs, programs.shapes
    self._text_of, self._end_E = decode, np.atleast_1d(np.int32(end_id))
    self._end_ids = frozenset(self._end_E.tolist())
    self._allowed_V = np.asarray(allowed_V)
    self._decode_chunk = allowed.number('decode_chunk', decode_chunk, '>= 1',
                                        whole=True)
    self._continuous, self._fair = continuous, fair
    self._max_slots_per_owner = self.shapes.slots[-1] if (
        max_slots_per_owner is None) else allowed.number(
            'max_slots_per_owner', max_slots_per_owner, '>= 1', whole=True)
    self._params: Any = None
    self._waiting: collections.deque[Part] = collections.deque()
    # The four belong together: a shape, and the slots that have it.
    self._shape: DecodeShape | None = None
    self._state: DecodeState | None = None
    self._sampling: SamplingState | None = None
    self._running: list[Running | None] = []
    self._step = 0
    # Of each request under way: its rollouts that have not ended.
    self._left: dict[Hashable, int] = {}
    # Prompts of requests that still wait for slots: (Prefilled, index in it).
    self._prefilled: dict[Hashable, tuple[Prefilled | None, int]] = {}
    self.statistics = Statistics()

  @property
  def busy(self) -> bool:
    """Whether a request waits or draws."""
    return bool(self._left)

  @property
  def shape(self) -> DecodeShape | None:
    """The shape of the decode state as it is now; None before the first poll.
    """
    return self._shape

  def load(self, params: Any) -> None:
    """Sets the weights: by block, in the rollout sharding.

    Raises:
      RuntimeError: while rollouts are drawn with other weights.
    """
    if params is not self._params and any(
        r is not None for r in self._running):
      raise RuntimeError('rollouts are under way; their weights stay until '
                         'they end or are cancelled')
    if params is not self._params:
      self._prefilled.clear()
    self._params = params

  def release(self) -> bool:
    """Frees what an idle engine holds on the device: caches, recurrent state,
    prompts, weights. The next requests need `load`, and get new caches.

    Returns:
      Whether the engine was idle; otherwise nothing is freed.
    """
    if self.busy:
      return False
    self._prefilled.clear()
    self._params = self._shape = self._state = self._sampling = None
    self._running = []
    return True

  def submit(self, request: Request) -> None:
    """Queues a request.

    Raises:
      ValueError: for a prompt, media or response limit beyond the shapes, for
        an empty prompt or key list, or for an id that is under way.
    """
    name = f'the prompt of {request.id!r}'
    allowed.number(f'the number of tokens in {name}', len(request.tokens),
                   '>= 1')
    allowed.number(f'the number of rollouts of {name}', len(request.key_G2),
                   '>= 1')
    self._bucket(request)
    if request.stops and request.known:
      raise ValueError(f'{name} has known rollouts and stop strings; a known '
                       'rollout holds its slot for its tokens, and those after '
                       'a stop string are not known')
    allowed.number(
        f'{name}: max_tokens', request.decoding.max_tokens,
        f'<= {self.shapes.response_lengths[-1]}',
        note=', the longest response that this engine holds')
    if request.id in self._left:
      raise ValueError(f'a request {request.id!r} is under way already')
    self._left[request.id] = len(request.key_G2)
    # Under `fair`, slots are dealt out to rollouts one by one.
    self._waiting += parts_of(
        request, 1 if self._fair else self.shapes.slots[-1])

  def cancel(self, id: Hashable) -> bool:
    """Drops a request and what it drew; returns whether it was there."""
    if id not in self._left:
      return False
    self._waiting = collections.deque(
        p for p in self._waiting if p.request.id != id)
    self._prefilled.pop(id, None)
    for slot, running in enumerate(self._running):
      if running is not None and running.request.id == id:
        self._free(slot)
    self._left.pop(id, None)  # what waited
    return True

  def poll(self) -> list[Completion]:
    """Runs one decode chunk and returns the rollouts that ended in it.

    Raises:
      RuntimeError: before `load`.
    """
    if not self.busy:
      return []
    if self._params is None:
      raise RuntimeError('the engine has no weights yet: load them first')
    self._fill()
    return self._draw()

  def generate(self, params: Any, requests: Iterable[Request],
               see: Callable[[list[tuple[int, Completion]]],
                             Sequence[Request]] = lambda ended: ()
               ) -> list[list[Completion]]:
    """The rollouts of each request, both in order.

    Args:
      params: see `load`.
      requests: the requests.
      see: is called after every chunk with the rollouts that ended in it, each
        with the place of its request. It returns further requests, which take
        the next places. What it raises drops all requests.

    Raises:
      As `load`, `submit` and `see`; RuntimeError where requests are under way.
    """
    if self.busy:
      raise RuntimeError('generate needs an idle engine; use submit and poll')
    self.load(params)
    completions: list = []

    def add(more: Iterable[Request]) -> None:
      for request in more:
        self.submit(dataclasses.replace(
            request, id=(len(completions), request.id)))
        completions.append([None] * len(request.key_G2))

    try:
      add(requests)
      while self.busy:
        ended = [(done.id[0], done._replace(id=done.id[1]))
                 for done in self.poll()]
        for i, done in ended:
          completions[i][done.rollout] = done
        add(see(ended))
    except BaseException:
      self.drop()
      raise
    return completions

  def drop(self) -> None:
    """Drops all requests and what they drew."""
    self._waiting.clear()
    self._prefilled.clear()
    for slot, running in enumerate(self._running):
      if running is not None:
        self._free(slot)
    self._left.clear()

  # Which rollout gets which slot.

  def _bucket(self, request: Request) -> tuple[int, int]:
    """(prompt length, patches) to which a request's prompt is padded."""
    name = f'the prompt of {request.id!r}'
    return (packing.bucket(len(request.tokens), self.shapes.prompt_lengths,
                           f'{name} in tokens'),
            packing.patch_bucket(request.media, self.shapes.patches, name))

  def _held_B(self) -> np.ndarray:
    """Which slots are held, by rollouts that draw or by known ones."""
    return np.array([r is not None for r in self._running], bool)

  def _free(self, slot: int) -> None:
    id = self._running[slot].request.id
    self._left[id] -= 1
    if not self._left[id]:
      del self._left[id]
    self._running[slot] = None
    self._sampling.live_B[slot] = False

  def _shape_for(self, rollouts: Sequence[int], longest: int) -> DecodeShape:
    """The decode state with which requests begin.

    Args:
      rollouts: the rollouts of each part.
      longest: the longest prompt bucket of a part.
    """
    s = self.shapes
    needed = lambda samples: sum(-(-n // samples) * samples for n in rollouts)
    samples = 1 if longest < s.share_from else max(
        (n for n in s.samples_per_prompt if needed(n) <= s.slots[-1]
         and all(r % n == 0 for r in rollouts)), default=1)
    return DecodeShape(
        slots=next((b for b in s.slots if b >= needed(samples)), s.slots[-1]),
        samples_per_prompt=samples,
        prompt_length=next(n for n in s.cache_lengths if n >= longest),
        response_length=s.response_lengths[0])

  def jobs(self, params: Any, prompts: int, length: int,
           rollouts: int) -> list[Job]:
    """The programs that draw rollouts of prompts without media, for
    compile_ahead.

    Args:
      params: shapes of the weights, with shardings.
      prompts: their number.
      length: tokens of the longest.
      rollouts: those of each prompt.
    """
    s = self.shapes
    at_least = lambda table, least: next(
        (n for n in table if n >= least), table[-1])
    bucket = at_least(s.prompt_lengths, length)
    size = at_least(s.prefills(bucket), prompts)
    shape = self._shape_for([rollouts] * prompts, bucket)
    one = np.int32(1)
    return self.programs.jobs(
        params, shape, size, bucket, decode_state.idle(shape), ChunkPlan(
            index_W=np.zeros(self._decode_chunk, np.int32), first=one,
            most=one, enough=one, end_E=self._end_E,
            allowed_V=self._allowed_V))

  def _restart(self) -> None:
    """Makes idle slots for the waiting requests; called while none is live."""
    waiting = self._waiting
    shape = self._shape_for(
        [len(p.rollouts) for p in waiting],
        max(self._bucket(p.request)[0] for p in waiting))
    if shape != self._shape:
      self._state = None  # frees its memory before the next one is made
      self._state, self._shape = self.programs.empty(shape), shape
    self._sampling = decode_state.idle(shape)
    self._running, self._step = [None] * shape.slots, 0

  def _resize(self, resize: Callable, **sizes: int) -> None:
    """Changes sizes of the decode state by a method of Programs."""
    self._shape = dataclasses.replace(self._shape, **sizes)
    self._state = resize(self._state, self._shape)
    self._sampling = decode_state.resized(self._sampling, self._shape)

  def _grow(self, field: str, table: Sequence[int], goal: int) -> None:
    """Grows a length by one table entry at a time, so that programs are few."""
    for size in table:
      if getattr(self._shape, field) < size <= goal:
        self._resize(self.programs.grow, **{field: size})

  def _fill(self) -> None:
    """Gives free slot groups to waiting rollouts, in their order."""
    if not self._waiting:
      return
    if not self._held_B().any():
      self._restart()
    elif not self._continuous:
      return
    elif self._fair:
      self._widen()
    samples = self._shape.samples_per_prompt
    held_UG = self._held_B().reshape(-1, samples)
    free = np.flatnonzero(~held_UG.any(1)).tolist()
    placed: list[tuple[Part, list[int]]] = []
    for part in self._next_parts(len(free) * samples):
      size = -(-len(part.rollouts) // samples)
      if size > len(free):
        break
      placed.append((part, free[:size]))
      del free[:size]
    taken = {id(part) for part, _ in placed}
    self._waiting = collections.deque(
        p for p in self._waiting if id(p) not in taken)
    self._insert(joined(placed) if self._fair else placed)

  def _next_parts(self, most: int) -> list[Part]:
    """Waiting parts in the order in which they get slots; the list may stop
    after `most` rollouts."""
    if not self._fair:
      return list(itertools.islice(self._waiting, most))
    held = collections.Counter(
        r.request.owner for r in self._running if r is not None)
    return in_turns(self._waiting, held, most, self._max_slots_per_owner)

  def _widen(self) -> None:
    """Adds slots for waiting rollouts while other slots draw."""
    sizes = self.shapes.slots
    goal = int(self._held_B().sum()) + len(self._next_parts(sizes[-1]))
    size = next((b for b in sizes if b >= goal), sizes[-1])
    more = size - self._shape.slots
    if more > 0:
      self._resize(self.programs.widen, slots=size)
      self._running += [None] * more

  def _count(self, **more: int) -> None:
    self.statistics = dataclasses.replace(self.statistics, **{
        name: getattr(self.statistics, name) + n for name, n in more.items()})

  def _insert(self, placed: Sequence[tuple[Part, list[int]]]) -> None:
    """Prefills the prompts of parts, and inserts them in their slot groups."""
    by_shape = collections.defaultdict(list)
    for part, groups in placed:
      by_shape[self._bucket(part.request)].append((part, groups))
    for (length, patches), same_shape in sorted(by_shape.items()):
      sizes = self.shapes.prefills(length, patches)
      self._grow('prompt_length', self.shapes.cache_lengths, next(
          n for n in self.shapes.cache_lengths if n >= length))
      fresh = []
      for part, groups in same_shape:
        if part.request.id in self._prefilled:
          prefilled, source = self._prefilled[part.request.id]
          self._insert_from(prefilled, [(part, groups, source)])
        else:
          fresh.append((part, groups))
      while fresh:
        size = next((s for s in sizes if s >= len(fresh)), sizes[-1])
        batch, fresh = fresh[:size], fresh[size:]
        requests = [part.request for part, _ in batch]
        # Of known rollouts alone nothing is read.
        prefilled = None if all(r.all_known for r in requests) else (
            self.programs.prefill(
                self._params, requests, size, length, patches))
        drawn = [r for r in requests if not r.all_known]
        self._count(prompts=len(drawn), patches=sum(
            len(r.media.patches_IC) for r in drawn if r.media is not None))
        self._insert_from(prefilled, [(*x, i) for i, x in enumerate(batch)])
    waiting = {p.request.id for p in self._waiting}
    self._prefilled = {
        id: x for id, x in self._prefilled.items() if id in waiting}

  def _insert_from(self, prefilled: Prefilled | None, placed: Sequence[
      tuple[Part, list[int], int]]) -> None:
    """Inserts (part, its slot groups, the index of its prompt in `prefilled`,
    which is None where no prompt was read)."""
    if prefilled is not None:
      self._state = self.programs.insert(
          self._state, prefilled,
          [group for _, groups, _ in placed for group in groups],
          [source for _, groups, source in placed for _ in groups])
    for part, groups, source in placed:
      self._occupy(part, groups)
      self._count(rollouts=sum(
          g not in part.request.known for g in part.rollouts))
      if part.rollouts.stop < len(part.request.key_G2):
        self._prefilled[part.request.id] = prefilled, source

  def _occupy(self, part: Part, groups: list[int]) -> None:
    """Enters the rollouts of a part in the records of their slots."""
    request, samples = part.request, self._shape.samples_per_prompt
    decoding, s = request.decoding, self._sampling
    s.prompt_length_U[groups] = len(request.tokens)
    slots = itertools.chain(*(range(u * samples, (u + 1) * samples)
                              for u in groups))
    for rollout, b in zip(part.rollouts, slots, strict=False):
      self._running[b] = Running(request, rollout, tokens=[], logps=[])
      s.live_B[b], s.count_B[b] = rollout not in request.known, 0
      s.limit_B[b] = (len(request.known[rollout].tokens)
                      if rollout in request.known else decoding.max_tokens)
      s.next_B[b] = request.next_position
      s.start_B[b], s.key_B2[b] = self._step, request.key_G2[rollout]
      s.temperature_B[b], s.top_p_B[b] = decoding.temperature, decoding.top_p
      s.top_k_B[b] = decoding.top_k

  # Drawing.

  def _mode(self) -> str:
    """The cheapest mode that serves all live slots."""
    s = self._sampling
    hot_B = s.live_B & (s.temperature_B > 0)
    cut_B = (s.top_p_B < 1) | (s.top_k_B > 0)
    return drawing.TRUNCATE if (hot_B & cut_B).any() else drawing.DRAW

  def _free_indices(self, most: int) -> np.ndarray:
    """At most `most` indices of the response cache that no live slot sees.

    A live slot has drawn fewer tokens than its limit, so one index is always
    free if the response cache has its full length.
    """
    oldest = self._sampling.start_B[self._held_B()].min()
    free = np.flatnonzero(self._sampling.written_R < oldest)
    if not len(free):
      lengths = self.shapes.response_lengths
      longer = lengths[lengths.index(self._shape.response_length) + 1]
      self._grow('response_length', lengths, longer)
      free = np.flatnonzero(self._sampling.written_R < oldest)
    return free[:most]

  def _plan(self) -> tuple[int, np.ndarray]:
    """How many rollouts end the next chunk, and the indices of the response
    cache that it may write, one per step."""
    held_B = self._held_B()
    # A known rollout ends at its own length, which a chunk must not depend on.
    limit_B = np.array([0 if r is None else r.request.decoding.max_tokens
                        for r in self._running])
    left = int((limit_B - self._sampling.count_B)[held_B].max())
    stops = any(r is not None and r.request.stops for r in self._running)
    most = min(self._decode_chunk, left, _STOP_CHUNK if stops else left)
    indices = self._free_indices(most)
    refills = self._waiting and self._continuous
    enough = max(1, len(held_B) // _FEW) if refills else len(held_B) + 1
    return enough, indices.astype(np.int32)

  def _draw(self) -> list[Completion]:
    """Runs a chunk, and frees the slots whose rollouts ended in it.

    A known rollout ends on the host, so a chunk with known rollouts may be
    several calls of the program; each ends where a known rollout does.
    """
    enough, indices = self._plan()
    completions: list[Completion] = []
    while len(indices) and len(completions) < enough and (
        self._held_B().any()):
      steps, more = self._draw_part(ChunkPlan(
          index_W=_padded(indices, self._decode_chunk),
          first=np.int32(self._step), most=np.int32(len(indices)),
          enough=np.int32(enough - len(completions)), end_E=self._end_E,
          allowed_V=self._allowed_V), indices)
      completions += more
      indices = indices[steps:]
    return completions

  def _draw_part(self, plan: ChunkPlan, indices: np.ndarray) -> tuple[
      int, list[Completion]]:
    """(steps, completions) of a call of the program, or of steps in which known
    rollouts alone hold slots, for which no program runs."""
    s = self._sampling
    drawing = np.flatnonzero(s.live_B)
    known = [b for b, r in enumerate(self._running)
             if r is not None and not s.live_B[b]]
    if known:
      ends = int((s.limit_B - s.count_B)[known].min())
      plan = plan.replace(most=np.minimum(plan.most, np.int32(ends)))
    completions: list[Completion] = []
    steps = int(plan.most)
    if len(drawing):
      steps, completions = self._decode(plan, drawing)
    s.written_R[indices[:steps]] = self._step + np.arange(steps)
    self._step += steps
    for b in known:
      s.count_B[b] += steps
      if s.count_B[b] == s.limit_B[b]:
        request, rollout = self._running[b].request, self._running[b].rollout
        completions.append(request.known[rollout]._replace(id=request.id))
        self._free(b)
    return steps, completions

  def _decode(self, plan: ChunkPlan, drawing: np.ndarray) -> tuple[
      int, list[Completion]]:
    """(steps of the program, the rollouts that ended in it)."""
    s = self._sampling
    self._state, drawn = self.programs.decode(
        self._mode(), self._params, self._state, s, plan)
    drawn = sharding.to_host(drawn)
    self._count(chunks=1)
    steps = int(drawn.steps)
    counts_B = (drawn.tokens_WB[:steps] >= 0).sum(0)
    s.count_B[:] += counts_B.astype(np.int32)
    completions = []
    for b in drawing:
      running = self._running[b]
      running.tokens += drawn.tokens_WB[:counts_B[b], b].tolist()
      running.logps += drawn.logp_WB[:counts_B[b], b].tolist()
      completion = completed(
          running, not drawn.live_B[b], self._text_of, self._end_ids)
      if completion is not None:
        completions.append(completion)
        self._free(b)
    return steps, completions


def _padded(indices: np.ndarray, size: int) -> np.ndarray:
  """The indices with zeros behind them, which no step reads."""
  return np.concatenate([indices, np.zeros(size - len(indices), indices.dtype)])
