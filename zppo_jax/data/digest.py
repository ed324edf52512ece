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
from zppo_jax.records import Clip, Picture, Question

SIZE = 8  # bytes of a row's digest
NAME = 'data_rows.json'  # in a run's directory


def _of(parts: Iterable[bytes]) -> bytes:
  out = hashlib.blake2b(digest_size=SIZE)
  for part in parts:
    out.update(len(part).to_bytes(8, 'little') + part)
  return out.digest()


def of_words(question: Question) -> bytes:
  """SIZE bytes that differ if anything but what is shown differs."""
  return _of(str(text).encode('utf-8', 'surrogatepass') for text in (
      question.id, question.text, question.answer, question.split,
      question.kind, question.source, question.hint, *question.responses))


def of_media(words: bytes, shown: Sequence[Picture | Clip]) -> bytes:
  """A question's digest: that of its words, and the bytes of what it shows."""
  parts = [words]
  for one in shown:
    clip = isinstance(one, Clip)
    parts.append(f'{float(one.fps)!r}'.encode() if clip else b'')
    parts += [hashlib.blake2b(media.content(frame)).digest()
              for frame in (one.frames if clip else (one,))]
  return _of(parts)


def of_question(question: Question) -> bytes:
  """SIZE bytes that differ if anything differs that a run would ask."""
  return of_media(of_words(question), question.media)


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
