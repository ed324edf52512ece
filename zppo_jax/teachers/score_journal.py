"""A journal of a teacher's scores, which repeated steps reuse.

A server's log-probs may differ a little from one time to the next. A run that
was killed takes those of the sequences that it scores again from the journal,
so that it ends like one that was not. A sequence's scores stay on disk; memory
holds their places alone. Scores that did not come are not recorded.
"""

import base64
import binascii
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from zppo_jax.devices import disk, hosts
from zppo_jax.records import CallStats, Scores, TokenSequence, Wanted

# The fields of Scores with an entry per sequence -> (type, number of axes).
_FIELDS = {'logps': ('<f4', 1), 'top_ids': ('<i4', 2), 'top_logps': ('<f4', 2),
           'given_logps': ('<f4', 2), 'entropies': ('<f4', 1)}
Entry = dict[str, np.ndarray]  # field of Scores -> array of one sequence


def key_of(teacher: str, sequence: TokenSequence, wanted: Wanted) -> str:
  """The digest of a teacher, a sequence, and what is wanted of it alone."""
  parts: list[Any] = [np.int32(sequence.prompt), np.int32(sequence.response),
                      *(np.int32(ids) for ids in wanted.ids)]
  if sequence.media is not None:
    parts += [np.float32(sequence.media.patches_IC),
              np.int32(sequence.media.positions_TA)]
  head = [teacher, wanted.top, bool(wanted.entropy), float(wanted.temperature),
          len(wanted.ids), [list(np.shape(part)) for part in parts]]
  digest = hashlib.sha256(json.dumps(head).encode())
  for part in parts:
    digest.update(np.ascontiguousarray(part).astype(
        part.dtype.newbyteorder('<')).tobytes())
  return digest.hexdigest()


def _line(key: str, entry: Entry) -> str:
  packed = {name: {
      'shape': list(array.shape), 'base64': base64.b64encode(
          np.ascontiguousarray(array).astype(_FIELDS[name][0]).tobytes()
          ).decode()} for name, array in entry.items()}
  return disk.sealed({'key': key, **packed})


def _row(line: bytes) -> tuple[str, Entry]:
  """(key, entry) of a line.

  Raises:
    ValueError: for a line of another form, or one that was edited.
  """
  row = disk.unsealed(line)
  try:
    key, entry = row.pop('key'), {}
    if not isinstance(key, str) or 'logps' not in row:
      raise ValueError('it has no key or no log-probs')
    for name, held in row.items():
      kind, axes = _FIELDS[name]
      raw = base64.b64decode(held['base64'], validate=True)
      array = np.frombuffer(raw, kind).reshape(held['shape'])
      if array.ndim != axes or len(array) != row['logps']['shape'][0]:
        raise ValueError(f'{name} has shape {array.shape}')
      entry[name] = array.astype(array.dtype.newbyteorder('='))
  except (LookupError, TypeError, AttributeError, binascii.Error,
          ValueError) as e:
    raise ValueError(f'of another form: {e}') from e
  return key, entry


@dataclasses.dataclass(frozen=True)
class ScoreJournal:
  """Scores on disk, by digest.

  Attributes:
    path: teacher_scores.jsonl of a run.
    teacher: says which teacher it is; another one has other keys.
    places: key -> (offset, bytes) of its line.
  """
  path: pathlib.Path
  teacher: str
  places: dict[str, tuple[int, int]]

  @classmethod
  def open(cls, path, teacher: str) -> 'ScoreJournal':
    """The journal at a path; a last line that a kill tore is cut off.

    Of several processes the first reads and writes the file, and tells the
    others what it holds.

    Raises:
      ValueError: for a whole line that is no score, because no kill leaves one.
    """
    return hosts.from_first(lambda: cls._read(pathlib.Path(path), teacher),
                            'the journal of scores')

  @classmethod
  def _read(cls, path: pathlib.Path, teacher: str) -> 'ScoreJournal':
    journal, offset = cls(path, teacher, {}), 0
    if not path.exists():
      return journal
    with path.open('rb') as f:
      for number, line in enumerate(f, 1):
        if not line.endswith(b'\n'):
          os.truncate(path, offset)
          break
        try:
          key, _ = _row(line)
        except (ValueError, RecursionError) as e:
          raise ValueError(
              f'{path}, line {number}: {line[:60]!r} is no score of a teacher '
              f'({e}); mend it, or remove it: then the score is asked for '
              'again') from e
        journal.places.setdefault(key, (offset, len(line)))
        offset += len(line)
    return journal

  def keys(self, sequences: Sequence[TokenSequence],
           wanted: Wanted) -> list[str]:
    """The key of each sequence."""
    return [key_of(self.teacher, sequence, wanted.of([i]))
            for i, sequence in enumerate(sequences)]

  def recall(self, key: str) -> Entry:
    """The scores of a key of `places`."""
    offset, size = self.places[key]
    with self.path.open('rb') as f:
      f.seek(offset)
      return _row(f.read(size))[1]

  def record(self, keys: Sequence[str], scores: Scores) -> None:
    """Adds the scores that came to the file."""
    self.places.update(hosts.from_first(
        lambda: self._write(keys, scores), 'the journal of scores'))

  def _write(self, keys: Sequence[str],
             scores: Scores) -> dict[str, tuple[int, int]]:
    """Adds scores to the file; returns their places in it."""
    offset = self.path.stat().st_size if self.path.exists() else 0
    lines, places = [], {}
    for i, key in enumerate(keys):
      if scores.logps[i] is None:
        continue
      line = _line(key, {
          name: getattr(scores, name)[i] for name in _FIELDS
          if len(getattr(scores, name))})
      places[key] = offset, len(line)
      offset += len(line)
      lines.append(line)
    if lines:
      disk.append(self.path, ''.join(lines))
    return places

  def scores(self, keys: Sequence[str], wanted: Wanted,
             calls: CallStats) -> Scores:
    """The recorded scores of sequences; None for those without."""
    entries = hosts.from_first(lambda: [
        self.recall(key) if key in self.places else None for key in keys],
        'the recorded scores')
    field = lambda name, is_wanted: tuple(
        None if entry is None else entry[name]
        for entry in entries) if is_wanted else ()
    return Scores(
        logps=field('logps', True), calls=calls,
        top_ids=field('top_ids', wanted.top),
        top_logps=field('top_logps', wanted.top),
        given_logps=field('given_logps', len(wanted.ids)),
        entropies=field('entropies', wanted.entropy))
