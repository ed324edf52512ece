"""verdicts.jsonl: verdicts by content, which a resumed run reads.

The key of a line is a digest of what was compared and of the code that compared
it, so a line is true for whichever step it was written. Therefore a resume cuts
no line, and a repeated step gets the verdicts that it got the first time, even
a timeout on a busy machine. A crash is not stored, because somebody may have
mended its cause.
"""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
from importlib import metadata

from zppo_jax.devices import disk
from zppo_jax.verdicts import kinds
from zppo_jax.verdicts.sandbox import GradingResult

VERSION = 2  # of the meaning of a line; `rules` covers the comparisons
STORED = ('score', 'unreadable', 'timeout', 'malformed')
# The files of kinds/ that compare; __init__ is the table itself.
RULES = ('__init__', 'edits', 'forms', 'gym', 'maths', 'numerals',
         'ocrbench/__init__', 'ocrbench/boxes', 'ocrbench/pages',
         'ocrbench/pairs', 'ocrbench/tables', 'ocrbench/words', 'plain',
         'prefilter', 'published', 'spelling', 'tolerance', 'units')
_OFFICIAL = str(pathlib.Path(__file__).with_name('official.py'))
# The packages that a package computes with; their versions count as its own.
BELOW = {'math-verify': ('latex2sympy2-extended', 'sympy')}


@dataclasses.dataclass(frozen=True)
class Contents:
  """What a journal holds.

  Attributes:
    verdicts: key -> result, of the code and packages of this process.
    outdated: the number of lines that another version of them wrote. No key of
      today equals one of theirs, so these answers are graded anew.
  """
  verdicts: dict[str, GradingResult]
  outdated: int

  def note(self, path: str | os.PathLike) -> str:
    """A line about outdated verdicts, '' if there are none."""
    if not self.outdated:
      return ''
    return (f'{path}: {self.outdated} verdicts were made by other rules or '
            'packages; their answers are graded anew')


@functools.cache
def rules() -> str:
  """A digest of the code that compares.

  It is a part of each key, so that no verdict of an old rule is taken for one
  of a new rule.
  """
  folder = pathlib.Path(kinds.__file__).parent
  digest = hashlib.sha256()
  for name in RULES:
    digest.update((folder / f'{name}.py').read_bytes())
  return digest.hexdigest()[:16]


def _version_of(package: str) -> str:
  try:
    return f'{package} {metadata.version(package)}'
  except metadata.PackageNotFoundError:
    return package  # the first comparison names the missing package


@functools.cache
def _versions(package: str) -> str:
  return ' '.join(map(_version_of, (package, *BELOW.get(package, ()))))


def version(kind: str) -> str:
  """Everything but the texts on which the verdicts of a kind depend."""
  if kind in (kinds.RESPONSE, *kinds.OFFICIAL):  # what the judge is told
    return f'{VERSION} {_digest_of_file(_OFFICIAL)}'
  if kind in kinds.JUDGED:
    return str(VERSION)
  row = kinds.get(kind)
  if row.source:
    return f'{VERSION} {_digest_of_file(row.source)}'
  if not row.package:
    return f'{VERSION} {rules()}'
  return f'{VERSION} {rules()} {_versions(row.package)}'


@functools.cache
def _digest_of_file(path: str) -> str:
  """A digest of the file at the first call, because an imported module does not
  change with its file."""
  return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()[:16]


def key(kind: str, reference: str, answer: str) -> str:
  """The digest of a comparison; lone surrogates may occur in the texts."""
  text = json.dumps([version(kind), kind, reference, answer])
  return hashlib.sha256(text.encode()).hexdigest()[:40]


def _outdated(row: dict) -> bool:
  """Whether other code or packages wrote a line.

  Lines of earlier versions name no version. Those of the table's kinds are
  outdated, because the table's code has changed since. Those of a judge or of a
  user's function may still be true; their keys decide.
  """
  kind = row.get('kind')
  return (isinstance(kind, str) and kinds.known(kind)
          and kind not in kinds.JUDGED and row.get('version') != version(kind))


def read(path: str | os.PathLike) -> Contents:
  """The verdicts of a file; there are none if the file does not exist.

  A last line that a kill tore is cut off.

  Raises:
    ValueError: for any other line that is not a verdict.
  """
  path = pathlib.Path(path)
  raw = path.read_bytes() if path.exists() else b''
  lines = raw.splitlines(keepends=True)
  verdicts: dict[str, GradingResult] = {}
  outdated = whole = 0
  for number, line in enumerate(lines, 1):
    try:
      row = disk.unsealed(line)
      result = GradingResult(row['status'], float(row['score']), row['reason'])
      name, old = row['key'], _outdated(row)
      if not isinstance(name, str):
        raise TypeError(f'its key is {name!r}')
    except (ValueError, KeyError, TypeError, RecursionError) as e:
      if number < len(lines):
        raise ValueError(f'{path}, line {number}: not a verdict: {e}') from e
      break
    if not line.endswith(b'\n'):
      break
    whole += len(line)
    if old:
      outdated += 1
    else:
      verdicts[name] = result
  if whole < len(raw):
    os.truncate(path, whole)
  return Contents(verdicts, outdated)


def append(path: str | os.PathLike,
           rows: list[tuple[str, str, GradingResult]]) -> None:
  """Writes the (key, kind, result) whose status is in STORED."""
  lines = [disk.sealed({'key': name, 'kind': kind, 'version': version(kind),
                        'status': result.status, 'score': result.score,
                        'reason': result.reason})
           for name, kind, result in rows if result.status in STORED]
  if lines:
    disk.append(path, ''.join(lines))
