"""Digests of questions, by which a resume knows that the data are the same.

The digest of a row covers its words, gold answer, kind, hint, stored responses
and the bytes of its images. A run stores the digests of its pool in a file, so
that a refused resume can name the first row that differs.
"""

import base64
import hashlib
import itertools
import json
import pathlib
from collections.abc import Iterable, Sequence

from zppo_jax.data import media
from zppo_jax.records import Clip, Picture, Question

SIZE = 8  # bytes of the digest of a row
NAME = 'data_rows.json'  # in a run's directory


def _of(parts: Iterable[bytes]) -> bytes:
  out = hashlib.blake2b(digest_size=SIZE)
  for part in parts:
    out.update(len(part).to_bytes(8, 'little') + part)
  return out.digest()


def of_words(question: Question) -> bytes:
  """SIZE bytes that cover everything but images and videos."""
  return _of(str(text).encode('utf-8', 'surrogatepass') for text in (
      question.id, question.text, question.answer, question.split,
      question.kind, question.source, question.hint, *question.responses,
      *(part for turn in question.turns for part in turn)))


def of_media(words: bytes, shown: Sequence[Picture | Clip]) -> bytes:
  """The digest of a question, from the digest of its words and its media."""
  parts = [words]
  for one in shown:
    if isinstance(one, Clip):
      rate, frames = f'{float(one.fps)!r}'.encode(), one.frames
    else:
      rate, frames = b'', (one,)
    parts.append(rate)
    parts += [hashlib.blake2b(media.content(frame)).digest()
              for frame in frames]
  return _of(parts)


def of_question(question: Question) -> bytes:
  """SIZE bytes that cover everything that a run would ask."""
  return of_media(of_words(question), question.media)


def joined(rows: Iterable[bytes]) -> str:
  """One digest of all rows in their order."""
  return hashlib.blake2b(b''.join(rows), digest_size=2 * SIZE).hexdigest()


def record(files: Sequence[str], rows: Sequence[bytes]) -> dict:
  """The contents of the file NAME of a run.

  Args:
    files: the file of each row.
    rows: the digest of each row.
  """
  parts = [(name, len(list(several)))
           for name, several in itertools.groupby(files)]
  return {'bytes': SIZE, 'files': parts,
          'rows': base64.b64encode(b''.join(rows)).decode()}


def read(folder: pathlib.Path) -> tuple[list[str], list[bytes]]:
  """(files, rows) of a `record`; two empty lists if none can be read."""
  try:
    stored = json.loads((folder / NAME).read_text())
    data, size = base64.b64decode(stored['rows']), int(stored['bytes'])
    files = [name for name, count in stored['files'] for _ in range(count)]
    return files, [data[i:i + size] for i in range(0, len(data), size)]
  except (OSError, ValueError, KeyError, TypeError):
    return [], []


def first_difference(before: Sequence[bytes],
                     now: Sequence[bytes]) -> int | None:
  """The first row that differs or that one of them lacks; None if none does."""
  for i, (old, new) in enumerate(zip(before, now, strict=False)):
    if old != new:
      return i
  return None if len(before) == len(now) else min(len(before), len(now))
