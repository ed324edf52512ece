"""Files that a run writes and reads: errors that name them, sealed lines."""

import contextlib
import hashlib
import json
import os
import pathlib
import re
from typing import Any

SEAL = 'seal'  # the field of a line that holds the line's digest
# gs://bucket, and what pathlib makes of it, gs:/bucket
_ADDRESS = re.compile(r'[A-Za-z][A-Za-z0-9+.-]+:/')


def local(field: str, path) -> pathlib.Path:
  """A path of the file system, which a user named.

  Raises:
    ValueError: for an address, such as gs://bucket/run. A run appends to its
      files, renames them and locks its directory, which object stores cannot.
  """
  if _ADDRESS.match(str(path)):
    raise ValueError(
        f'{field} is {str(path)!r}, an address; a path of the file system is '
        'allowed, for several hosts one that they all see (docs/hosts.md). A '
        'bucket may be mounted there, or copied to and from it between runs')
  return pathlib.Path(path)


@contextlib.contextmanager
def naming(path):
  """Makes an OSError that is raised inside name the file."""
  try:
    yield
  except OSError as e:
    if e.filename is not None:
      raise
    cause = e.strerror or str(e)
    raise type(e)(e.errno or 0, f'cannot write: {cause}', str(path)) from e


def append(path, text: str) -> None:
  """Adds text to a file.

  Raises:
    OSError: for any failure, a full disk included; it names the file and cause.
  """
  with naming(path), open(path, 'a') as f:
    f.write(text)


def append_bytes(path, data: bytes) -> None:
  """Adds bytes to a file, and passes them to the system at once.

  Raises:
    OSError: see `append`.
  """
  with naming(path), open(path, 'ab', buffering=0) as f:
    while data:
      data = data[f.write(data):]


def write_json(path, value) -> None:
  """Writes JSON to a file, which gets its name only when it is complete.

  Raises:
    OSError: see `append`.
  """
  path = pathlib.Path(path)
  partial = path.with_suffix('.partial')
  with naming(path):
    partial.write_text(json.dumps(value, indent=2, sort_keys=True) + '\n')
    os.replace(partial, path)


def digest(value: Any) -> str:
  """A digest of JSON values that does not depend on the order of names."""
  whole = json.dumps(value, sort_keys=True)
  return hashlib.sha256(whole.encode()).hexdigest()


def sealed(row: dict) -> str:
  """A line of JSON that holds a digest of itself."""
  return json.dumps({**row, SEAL: digest(row)[:16]}) + '\n'


def unsealed(line) -> dict:
  """The row that `sealed` was given.

  It accepts a line without a seal, because earlier versions wrote such lines.

  Raises:
    ValueError: if the line is not a JSON object, or not what was written.
  """
  row = json.loads(line)
  if not isinstance(row, dict):
    raise ValueError('it is no JSON object')
  seal = row.pop(SEAL, None)
  if seal is not None and seal != digest(row)[:16]:
    raise ValueError('it was changed after it had been written')
  return row


def digest_of_start(path, size: int | None = None) -> tuple[int, str]:
  """(bytes, digest) of the first `size` bytes of a file, or of all of it."""
  path = pathlib.Path(path)
  sha, left = hashlib.sha256(), size
  with open(path, 'rb') as f:
    while left is None or left > 0:
      part = f.read(1 << 20 if left is None else min(left, 1 << 20))
      if not part:
        break
      sha.update(part)
      left = None if left is None else left - len(part)
    return f.tell(), sha.hexdigest()
