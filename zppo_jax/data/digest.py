"""What a question holds, as a digest: a resumed run relies on the same ones.

A row's digest covers its words, gold, kind, hint, stored responses and the
bytes of its images. A pool's are kept in a file of the run, so that a refused
resume can name the first row that differs.
"""

import base64
import hashlib
import itertools
import json
import pathlib
from collections.abc import Iterable, Sequence

from zppo_jax.data import media
from zppo_jax.records import Clip, Question

SIZE = 8  # bytes of a row's digest
NAME = 'data_rows.json'  # in a run's directory


def of_question(question: Question) -> bytes:
  """SIZE bytes that differ if anything differs that a run would ask."""
  out = hashlib.blake2b(digest_size=SIZE)

  def add(part: bytes) -> None:
    out.update(len(part).to_bytes(8, 'little') + part)

  for text in (question.id, question.text, question.answer, question.split,
               question.kind, question.source, question.hint,
               *question.responses):
    add(str(text).encode('utf-8', 'surrogatepass'))
  for shown in question.media:
    frames = shown.frames if isinstance(shown, Clip) else (shown,)
    add(f'{shown.fps!r}'.encode() if isinstance(shown, Clip) else b'')
    for frame in frames:
      add(hashlib.blake2b(media.content(frame)).digest())
  return out.digest()


def joined(rows: Iterable[bytes]) -> str:
  """One digest of rows in their order."""
  return hashlib.blake2b(b''.join(rows), digest_size=2 * SIZE).hexdigest()


def record(files: Sequence[str], rows: Sequence[bytes]) -> dict:
  """What a run's NAME holds.

  Args:
    files: in which each row lies.
    rows: their digests.
  """
  parts = [(name, len(list(several)))
           for name, several in itertools.groupby(files)]
  return {'bytes': SIZE, 'files': parts,
          'rows': base64.b64encode(b''.join(rows)).decode()}


def read(folder: pathlib.Path) -> tuple[list[str], list[bytes]]:
  """(files, rows) of a `record`; nothing where none can be read."""
  try:
    found = json.loads((folder / NAME).read_text())
    data, size = base64.b64decode(found['rows']), int(found['bytes'])
    files = [name for name, count in found['files'] for _ in range(count)]
    return files, [data[i:i + size] for i in range(0, len(data), size)]
  except (OSError, ValueError, KeyError, TypeError):
    return [], []


def first_difference(before: Sequence[bytes],
                     now: Sequence[bytes]) -> int | None:
  """The first row that differs or that one of them lacks; None without."""
  for i, (old, new) in enumerate(zip(before, now, strict=False)):
    if old != new:
      return i
  return None if len(before) == len(now) else min(len(before), len(now))
