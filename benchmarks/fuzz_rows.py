"""Broken rows through the readers: each is a question or an error that says so.

A target of benchmarks/fuzz.py. A case is a file of a good row and one that was
mutated: its types, nesting, texts, columns, numbers or image bytes. It is read
as a run reads it, images decoded. An error has to name the file and the row;
one that does not, or is of another kind than a run reports, ends it with the
case's number.
"""

import base64
import collections
import copy
import io
import json
import pathlib
import random
import tempfile

import pyarrow as pa
from PIL import Image
from pyarrow import parquet

from zppo_jax.chat import pictures
from zppo_jax.data import pool
from zppo_jax.records import Clip

FORMATS = ('jsonl', 'parquet')
SOURCE = dict(kind='text', images='images', video='video', columns=dict(
    text='prompt', answer='reward.gold', id='name', hint='hint',
    responses='work', pass_rate='rate', subset='part'))
_WORDS = ('', ' ', 'seven', '<image>', '<image><image>', '<image 9>', '<video>',
          'a\x00b', '\u200b', '\ud800', 'x\udfff', 'é' * 40, '../up.png',
          '/etc', '~', '~nobody/a.png', 'http://host/a.png', 'data:,', 'data:',
          'data:image/png;base64,!!', 'n' * 300, 'a.png', 'none.png', '.')
_NUMBERS = (0, -1, 7, 2**63 - 1, 10**40, 1e308, -0.0, 0.1, float('inf'),
            float('nan'))


def png(rng: random.Random) -> bytes:
  """A small picture of one of the modes that PNG has."""
  out = io.BytesIO()
  Image.new(rng.choice(('L', 'RGB', 'RGBA', 'LA', 'P', '1', 'I;16')),
            (rng.randrange(1, 9), rng.randrange(1, 9))).save(out, 'PNG')
  return out.getvalue()


def row(rng: random.Random, name: str, held: str) -> dict:
  """A good row; images as bytes, base64 or a path that is there."""
  image = {'jsonl': base64.b64encode(png(rng)).decode().ljust(80, '='),
           'parquet': {'bytes': png(rng), 'path': None}}[held]
  prompt = rng.choice((
      '<image>How many?', 'How many?',
      [{'role': 'system', 'content': 'Be brief.'},
       {'role': 'user', 'content': '<image>How many?'}]))
  return {'prompt': prompt, 'reward': {'gold': '7', 'style': 'rule'},
          'name': name, 'hint': None, 'work': ['so 7'], 'rate': 0.25,
          'part': 'x', 'images': ['a.png' if rng.random() < 0.5 else image],
          'video': None}


def value(rng: random.Random, depth: int = 0):
  """Anything that a file may hold."""
  kind = rng.randrange(8 if depth < 4 else 5)
  if kind == 0:
    return None
  if kind == 1:
    return rng.choice(_NUMBERS)
  if kind in (2, 3):
    return rng.choice(_WORDS)
  if kind == 4:
    return rng.random() < 0.5
  if kind == 5:
    return [value(rng, depth + 1) for _ in range(rng.randrange(3))]
  if kind == 6:
    return {name: value(rng, depth + 1) for name in rng.sample(
        ('role', 'content', 'gold', 'bytes', 'path', 'frames', 'fps', 'type'),
        rng.randrange(4))}
  return [{'role': rng.choice(('user', 'system', 'assistant', 3)),
           'content': value(rng, depth + 1)} for _ in range(rng.randrange(3))]


def broken(rng: random.Random, data: bytes) -> bytes:
  """Image bytes that were cut or changed in some places."""
  if rng.random() < 0.4:
    return data[:rng.randrange(len(data))]
  out = bytearray(data)
  for _ in range(rng.randrange(1, 5)):
    out[rng.randrange(len(out))] = rng.randrange(256)
  return bytes(out)


def mutated(rng: random.Random, good: dict, held: str) -> dict:
  """A row with one to three things changed."""
  out = copy.deepcopy(good)
  for _ in range(rng.randrange(1, 4)):
    column = rng.choice(list(good))
    act = rng.randrange(6)
    if act == 0:
      out.pop(column, None)
    elif act == 1 and isinstance(out.get('reward'), dict):
      out['reward'][rng.choice(('gold', 'style'))] = value(rng)
    elif act == 2:
      data = broken(rng, png(rng))
      out['images'] = [{'bytes': data, 'path': None} if held == 'parquet'
                       else 'data:image/png;base64,'
                       + base64.b64encode(data).decode()]
    elif act == 3:
      out['video'] = rng.choice((
          {'frames': ['a.png'], 'fps': value(rng)},
          {'frames': value(rng), 'fps': 2}, value(rng)))
    else:
      out[column] = value(rng)
  return out


def write(rng: random.Random, path: pathlib.Path, rows, held: str) -> bool:
  """Whether the format can hold the rows at all."""
  if held == 'jsonl':
    lines = [json.dumps(r).encode() for r in rows]
    if rng.random() < 0.2:
      lines[-1] = broken(rng, lines[-1]).replace(b'\n', b' ') or b'{'
    path.write_bytes(b'\n'.join(lines) + b'\n')
    return True
  try:
    parquet.write_table(pa.Table.from_pylist(rows), path)
  # Mixed types and half surrogates have no Arrow column.
  except (pa.ArrowException, TypeError, ValueError, OverflowError):
    return False
  if rng.random() < 0.1:
    data = path.read_bytes()
    path.write_bytes(data[:rng.randrange(len(data))])
  return True


def outcome(path: pathlib.Path, held: str) -> str:
  """'question', 'skipped' or 'error: TYPE'.

  Raises:
    AssertionError: for an error that does not name file and row.
  """
  try:
    found = pool.open_pool(
        {'fuzz': dict(SOURCE, format=held, path=str(path))}, {})
    for question in found:
      for shown in question.media:
        for frame in shown.frames if isinstance(shown, Clip) else (shown,):
          pictures.decode(frame)
  except (ValueError, KeyError, FileNotFoundError) as e:
    said = str(e)
    whole = 'no parquet file' in said  # no row of it can be told
    if str(path) not in said or not (whole or ', line ' in said
                                     or ', row' in said):
      raise AssertionError(f'no file and row in {type(e).__name__}: {said}'
                           ) from e
    said.encode()
    return f'error: {type(e).__name__}'
  return 'question' if len(found) == 2 else 'skipped'


def main(count: int, seed: int) -> dict[str, dict[str, int]]:
  """Runs `count` cases and counts their outcomes.

  Args:
    count: cases.
    seed: of all of them; case i depends on (seed, i) alone.

  Raises:
    AssertionError: naming the first case that came out as nothing allowed.
  """
  counts: collections.Counter[str] = collections.Counter()
  with tempfile.TemporaryDirectory() as folder:
    home = pathlib.Path(folder)
    Image.new('L', (4, 4)).save(home / 'a.png')
    for i in range(count):
      rng = random.Random(f'fuzz rows {seed} {i}')
      held = FORMATS[i % 2]
      path = home / f'case.{held}'
      written = False
      while not written:
        good = row(rng, 'good', held)
        written = write(rng, path, [
            good, mutated(rng, {**good, 'name': 'other'}, held)], held)
      try:
        counts[outcome(path, held)] += 1
      except Exception as e:
        raise AssertionError(
            f'case {i} of seed {seed} ({held}): {type(e).__name__}: {e}') from e
  return {'outcomes': dict(sorted(counts.items()))}
