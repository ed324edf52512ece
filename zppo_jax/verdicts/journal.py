"""verdicts.jsonl: verdicts by content, reused when a run goes on.

A line's key is the digest of what was compared and by which version of what,
so that a line is true whenever and for whichever step it was written: a resume
cuts nothing here, and a step that is repeated gets the verdicts that it got
the first time, a timeout on a busy machine too. Crashes are not kept: what
failed may have been mended.
"""

import functools
import hashlib
import json
import os
import pathlib
from importlib import metadata

from zppo_jax.devices import disk
from zppo_jax.verdicts import kinds
from zppo_jax.verdicts.wall import Reply

VERSION = 2  # of what a line means; the comparisons are in `rules`
KEPT = ('score', 'unreadable', 'timeout', 'malformed')
# What our own comparisons are made of, beside this file.
RULES = ('forms', 'gym', 'kinds', 'maths', 'numerals', 'plain', 'screen',
         'spelling', 'units')
# What a package does its work with, whose versions count as its own does.
BELOW = {'math-verify': ('latex2sympy2-extended', 'sympy')}


@functools.cache
def rules() -> str:
  """Digest of the code of our own comparisons: another code, another key, so
  that no verdict of an old rule is told for a new one."""
  here = pathlib.Path(__file__).parent
  whole = hashlib.sha256()
  for name in RULES:
    whole.update((here / f'{name}.py').read_bytes())
  return whole.hexdigest()[:16]


def _version_of(package: str) -> str:
  try:
    return f'{package} {metadata.version(package)}'
  except metadata.PackageNotFoundError:
    return package  # the first use says what is missing


@functools.cache
def _versions(package: str) -> str:
  return ' '.join(map(_version_of, (package, *BELOW.get(package, ()))))


def version(kind: str) -> str:
  """What verdicts of a kind depend on besides the texts."""
  if kind == kinds.JUDGE:
    return str(VERSION)
  row = kinds.get(kind)
  if row.source:
    return f'{VERSION} {_digest_of_file(row.source)}'
  if not row.package:
    return f'{VERSION} {rules()}'
  return f'{VERSION} {rules()} {_versions(row.package)}'


@functools.cache
def _digest_of_file(path: str) -> str:
  """As it is when a process first asks: what is imported stays."""
  return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()[:16]


def key(kind: str, reference: str, answer: str) -> str:
  """Digest of a comparison; any text goes, lone surrogates too."""
  whole = json.dumps([version(kind), kind, reference, answer])
  return hashlib.sha256(whole.encode()).hexdigest()[:40]


def read(path) -> dict[str, Reply]:
  """Verdicts of a file, {} without one; what a kill tore is cut off.

  Raises:
    ValueError: for a line that is no verdict and not the last.
  """
  path, found, good = pathlib.Path(path), {}, 0
  raw = path.read_bytes() if path.exists() else b''
  lines = raw.splitlines(keepends=True)
  for number, line in enumerate(lines, 1):
    try:
      row = disk.unsealed(line)
      reply = Reply(row['status'], float(row['score']), row['reason'])
      name = row['key']
    except (ValueError, KeyError, TypeError, RecursionError) as e:
      if number < len(lines):
        raise ValueError(f'{path}, line {number}: not a verdict: {e}') from e
      break
    if not line.endswith(b'\n'):
      break
    found[name] = reply
    good += len(line)
  if good < len(raw):
    os.truncate(path, good)
  return found


def append(path, rows: list[tuple[str, str, Reply]]) -> None:
  """Adds (key, kind, reply) of verdicts that are worth keeping."""
  kept = [disk.sealed({'key': name, 'kind': kind, 'status': r.status,
                       'score': r.score, 'reason': r.reason})
          for name, kind, r in rows if r.status in KEPT]
  if kept:
    disk.append(path, ''.join(kept))
