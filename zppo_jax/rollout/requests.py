"""Requests for rollouts: how they wait for slots, and how their rollouts end.

A request waits in parts, whose rollouts get slots together. The engine asks for
waiting parts in the order in which they get slots: `in_order`, or `in_turns`,
by which owners share the slots.
"""

import collections
import dataclasses
import heapq
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from zppo_jax.records import Decoding, PromptMedia, StopReason


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
    known: rollout -> its completion, of rollouts that were drawn before
      (rollout/journal.py). They are not drawn again. They hold their slots as
      long as they did then, so that the others meet the same shapes and the
      same order of the cache as in a run that was never interrupted, on which
      the last bits of their log-probs depend.
  """
  id: Hashable
  tokens: tuple[int, ...]
  key_G2: np.ndarray
  decoding: Decoding
  media: PromptMedia | None = None
  stop: tuple[str, ...] = ()
  stop_ids: tuple[int, ...] = ()
  owner: Hashable = None
  known: Mapping[int, 'Completion'] = dataclasses.field(default_factory=dict)

  @property
  def all_known(self) -> bool:
    """Whether nothing is left to draw."""
    return len(self.known) == len(self.key_G2)

  @property
  def stops(self) -> bool:
    """Whether anything but the end token or the limit may end a rollout."""
    return bool(self.stop or self.stop_ids)

  @property
  def next_position(self) -> int:
    """The position of the first response token, on every rotary axis."""
    return (len(self.tokens) if self.media is None
            else self.media.next_position)


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
class Part:
  """Rollouts of a request that get slots together.

  Attributes:
    request: the request.
    rollouts: numbers of its rollouts.
  """
  request: Request
  rollouts: range


@dataclasses.dataclass
class Running:
  """A rollout that has a slot.

  Attributes:
    request: its request.
    rollout: its number in the request.
    tokens: the tokens drawn so far.
    logps: their log-probs, nats.
  """
  request: Request
  rollout: int
  tokens: list[int]
  logps: list[float]

  @property
  def known(self) -> bool:
    """Whether it only holds its slot (see `Request.known`)."""
    return self.rollout in self.request.known


def parts_of(request: Request, size: int) -> list[Part]:
  """A request in parts of at most `size` rollouts."""
  G = len(request.key_G2)
  return [Part(request, range(g, min(g + size, G)))
          for g in range(0, G, size)]


def joined(placed: Iterable[tuple[Part, list[int]]]) -> list[
    tuple[Part, list[int]]]:
  """Parts and their slot groups with one part per request.

  Each prompt is then prefilled once. The parts of a request must follow each
  other in `placed`, as they do in a queue.
  """
  by_request: dict[Hashable, list[tuple[Part, list[int]]]] = {}
  for part, groups in placed:
    by_request.setdefault(part.request.id, []).append((part, groups))

  def one(parts):
    (first, _), (last, _) = parts[0], parts[-1]
    rollouts = range(first.rollouts.start, last.rollouts.stop)
    return Part(first.request, rollouts), [
        group for _, groups in parts for group in groups]

  return [one(parts) for parts in by_request.values()]


def in_turns(waiting: Iterable[Part], held: Mapping[Hashable, int],
             most: int, most_per_owner: int) -> list[Part]:
  """Waiting parts in an order that gives the next slot to the owner that holds
  the fewest slots; equals take turns in the order of their first parts.

  Args:
    waiting: parts of one rollout each, in the order of their arrival.
    held: how many slots each owner holds; an owner that is missing holds none.
    most: the most parts that are returned.
    most_per_owner: the most slots of an owner.
  """
  queues: dict[Hashable, collections.deque[Part]] = {}
  for part in waiting:
    queues.setdefault(part.request.owner, collections.deque()).append(part)
  turns = [(held.get(owner, 0), i, owner) for i, owner in enumerate(queues)]
  heapq.heapify(turns)
  parts: list[Part] = []
  while turns and len(parts) < most:
    count, i, owner = heapq.heappop(turns)
    if count >= most_per_owner:
      continue
    parts.append(queues[owner].popleft())
    if queues[owner]:
      heapq.heappush(turns, (count + 1, i, owner))
  return parts


def completed(running: Running, ended: bool,
              decode: Callable[[Sequence[int]], str],
              end_ids: Iterable[int]) -> Completion | None:
  """The completion of a rollout, or None if it goes on.

  A stop string takes precedence over a stop token behind it, and a stop token
  over the end of the rollout.

  Args:
    running: the rollout; tokens behind its first stop token are dropped.
    ended: whether an end token or the limit has ended it.
    decode: response tokens -> text without the end token.
    end_ids: the tokens that end a rollout.
  """
  of = lambda tokens, text, stop, matched=None: Completion(
      id=running.request.id, rollout=running.rollout, tokens=tuple(tokens),
      logps=tuple(running.logps[:len(tokens)]), text=text, stop=stop,
      matched=matched)
  tokens = running.tokens
  stop, stop_ids = running.request.stop, running.request.stop_ids
  stopped = next((i for i, t in enumerate(tokens) if t in stop_ids), None)
  if stopped is not None:
    del tokens[stopped + 1:]
    ended = True
  text = decode(tokens) if ended or stop else ''
  if stop and any(s in text for s in stop):
    holds = lambda n: any(s in decode(tokens[:n]) for s in stop)
    size = next(n for n in range(1, len(tokens) + 1) if holds(n))
    text = decode(tokens[:size])
    cut, string = min((text.find(s), s) for s in stop if s in text)
    return of(tokens[:size], text[:cut], StopReason.STOP_STRING, string)
  if not ended:
    return None
  last = tokens[-1]
  if stopped is not None and last not in end_ids:
    return of(tokens, decode(tokens[:-1]), StopReason.STOP_STRING, last)
  return of(tokens, text, StopReason.END if last in end_ids
            else StopReason.LENGTH)
