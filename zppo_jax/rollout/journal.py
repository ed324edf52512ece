"""rollouts/: what was drawn since the last checkpoint, by step.

A step of a large run takes minutes, so a run that is killed in one must not
draw the step anew. Rollouts are therefore written as they end: ids, the
sampler's log-probs and why they stopped. A resumed run begins the step again
and takes them from here. Texts and verdicts follow from the ids (the verdicts
of slow comparisons have a journal of their own).

A file holds one step. It begins with what decides the draws: a digest of
config, versions and chat, and the fingerprint of the weights. The rollouts of
another state are not used. A record is

    length of the payload | CRC-32 of it | payload

and the payload is a line of JSON, then int32 ids and float32 log-probs of all
rollouts of the record. A kill may tear the last record, which is cut off.
"""

import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from zppo_jax.devices import disk, hosts
from zppo_jax.devices.disk import append_bytes
from zppo_jax.randomness import Purpose
from zppo_jax.records import Prompt, StopReason
from zppo_jax.rollout.requests import Completion

FORMAT = 1
FOLDER = 'rollouts'
_FRAME = struct.Struct('<II')


@dataclasses.dataclass(frozen=True)
class Drawn:
  """A rollout that was drawn before.

  Attributes:
    tokens, logps, stop: as those of requests.Completion.
  """
  tokens: tuple[int, ...]
  logps: tuple[float, ...]
  stop: StopReason


def _digest(prompt: Prompt) -> str:
  return hashlib.blake2b(
      np.asarray(prompt.tokens, np.int32).tobytes(), digest_size=8).hexdigest()


def name_of(purpose: Purpose, prompt: Prompt) -> tuple:
  """What a draw is keyed by within a step, rollout aside. The prompt's digest
  is a part of it, because a teacher that answers anew changes the prompt."""
  return (int(purpose), prompt.question.id, int(prompt.kind), _digest(prompt))


def _framed(meta: Any, *arrays: np.ndarray) -> bytes:
  payload = json.dumps(meta).encode() + b'\n' + b''.join(
      x.tobytes() for x in arrays)
  return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def payloads(raw: bytes) -> Iterator[tuple[int, bytes]]:
  """(the bytes up to its end, payload) of each whole record."""
  at = 0
  while at + _FRAME.size <= len(raw):
    size, checksum = _FRAME.unpack_from(raw, at)
    at += _FRAME.size
    payload = raw[at:at + size]
    at += size
    if len(payload) < size or zlib.crc32(payload) != checksum:
      return
    yield at, payload


def rollouts(payload: bytes) -> Iterator[tuple[tuple, int, Drawn]]:
  """(name, rollout, Drawn) of a record."""
  line, _, arrays = payload.partition(b'\n')
  content = json.loads(line)
  count = sum(size for *_, rollouts in content for _, size, _ in rollouts)
  tokens = np.frombuffer(arrays, np.int32, count).tolist()
  logps = np.frombuffer(arrays, np.float32, count, offset=4 * count).tolist()
  at = 0
  for *name, rollouts in content:
    for rollout, size, stop in rollouts:
      yield tuple(name), rollout, Drawn(
          tokens=tuple(tokens[at:at + size]), logps=tuple(logps[at:at + size]),
          stop=StopReason(stop))
      at += size


class RolloutJournal:
  """The rollouts of the steps since the last checkpoint.

  With several processes the first one reads and writes, and tells the others
  what it read.

  Args:
    path: the folder, made at the first record.
    origin: a digest of what decides a run's draws beside the weights.
    note: writes a line to the run's log.

  Attributes:
    taken: how many rollouts of the step under way were taken from the file.
  """

  def __init__(self, path: str | os.PathLike, origin: str,
               note: Callable[[str], None]):
    self.path, self._origin, self._note = pathlib.Path(path), origin, note
    self._step: int | None = None
    self._weights: Any = None
    self._begun = False  # whether the file of the step has its first record
    self._drawn: dict[tuple, dict[int, Drawn]] = {}
    self.taken = 0

  def _file(self, step: int) -> pathlib.Path:
    return self.path / f'{step:08d}'

  def _header(self) -> dict:
    return {'format': FORMAT, 'step': self._step, 'origin': self._origin,
            'weights': np.asarray(self._weights).tolist()}

  def begin(self, step: int, weights: Any) -> None:
    """Begins a step: what its file holds is known from here on.

    Args:
      step: the step.
      weights: checkpoints.fingerprint of the weights that draw, which the
        device may still be computing.
    """
    self._step, self._weights, self.taken = step, weights, 0
    self._begun, self._drawn = hosts.from_first(
        lambda: self._read(step), name='rollouts')

  def _read(self, step: int) -> tuple[bool, dict]:
    """(whether the file goes on, what it holds)."""
    path = self._file(step)
    if not path.is_file():
      return False, {}
    raw = path.read_bytes()
    records = list(payloads(raw))
    header = json.loads(records[0][1]) if records else None
    if header != json.loads(json.dumps(self._header())):
      path.unlink()
      differ = [n for n, value in self._header().items()
                if header is not None and header.get(n) != value]
      self._note(f'{path} ' + (
          f'was drawn from another state ({", ".join(differ)})' if differ
          else 'has no whole first record')
          + '; its rollouts are drawn anew')
      return False, {}
    whole = records[-1][0]
    if whole < len(raw):
      os.truncate(path, whole)
      self._note(f'{path}: the last {len(raw) - whole} bytes are no whole '
                 'record; what they held is drawn anew')
    drawn: dict[tuple, dict[int, Drawn]] = {}
    for _, payload in records[1:]:
      for name, rollout, of in rollouts(payload):
        drawn.setdefault(name, {})[rollout] = of
    count = sum(map(len, drawn.values()))
    self._note(f'step {step} begins with {count} rollouts that were drawn '
               'before')
    return True, drawn

  def known(self, step: int, purpose: Purpose,
            prompts: Sequence[Prompt]) -> list[dict[int, Drawn]]:
    """The rollouts of each prompt that were drawn before, by their number."""
    self._check(step)
    if not self._drawn:
      return [{}] * len(prompts)
    known = [self._drawn.get(name_of(purpose, p), {}) for p in prompts]
    self.taken += sum(map(len, known))
    return known

  def keep(self, step: int, purpose: Purpose, prompts: Sequence[Prompt],
           ended: Iterable[tuple[int, Completion]]) -> None:
    """Writes rollouts that ended, but those which it held before.

    Args:
      step, purpose: of the draws.
      prompts: the prompts that were asked.
      ended: (place of its prompt, rollout), as engine.generate tells them.

    Raises:
      OSError: for a file that cannot be written; it names the file.
    """
    self._check(step)
    if self._drawn:
      ended = [(i, done) for i, done in ended if done.rollout not in
               self._drawn.get(name_of(purpose, prompts[i]), {})]
    ended = sorted(ended, key=lambda one: one[0])
    if not ended or not hosts.first():
      return
    completions = [done for _, done in ended]
    content = [
        [*name_of(purpose, prompts[i]),
         [[done.rollout, len(done.tokens), int(done.stop)] for _, done in its]]
        for i, its in itertools.groupby(ended, key=lambda one: one[0])]
    flat = itertools.chain.from_iterable
    record = _framed(
        content, np.fromiter(flat(c.tokens for c in completions), np.int32),
        np.fromiter(flat(c.logps for c in completions), np.float32))
    if not self._begun:
      with disk.naming(self.path):
        self.path.mkdir(exist_ok=True)
      record, self._begun = _framed(self._header()) + record, True
    append_bytes(self._file(step), record)

  def _check(self, step: int) -> None:
    if step != self._step:
      raise ValueError(f'the journal of rollouts is at step {self._step}; '
                       f'rollouts of step {step} do not belong to it')

  def kept(self) -> int:
    """How many rollouts the files hold, of all steps."""
    if not hosts.first() or not self.path.is_dir():
      return 0
    return sum(
        sum(1 for _, payload in list(payloads(path.read_bytes()))[1:]
            for _ in rollouts(payload))
        for path in self.path.iterdir() if path.name.isdigit())

  def cut(self, before: int | None = None) -> None:
    """Removes the files of steps before `before`, which a checkpoint holds, or
    all of them."""
    if not hosts.first() or not self.path.is_dir():
      return
    for path in self.path.iterdir():
      if path.name.isdigit() and (before is None or int(path.name) < before):
        path.unlink()
    if before is None and not any(self.path.iterdir()):
      self.path.rmdir()
