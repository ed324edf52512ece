"""How fast a large file of rows with pictures is indexed and first drawn from.

  python -m benchmarks.reading --rows=100000 --group=100 --to=FILE.json

A parquet file of made-up rows is written, each with a question, an answer and
a picture of its own, which is null in one row of NULL. A process of its own
then opens it as a pool, as a run does, and draws the first batch: by columns of
one's own, by the mapping of MMFineReason, and as the suite AI2D. The last two
skip rows without a picture. Bytes are those that the parquet library asks of
the file, which a counting file tells exactly; the peak of memory is that of the
process, above what it held before it opened the pool.

The goals: indexed within 20 s and 1 GiB, the first batch within 2 s, both by
reading a part of the file.
"""

import argparse
import contextlib
import io
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import threading
import time
from unittest import mock

import numpy as np
from PIL import Image

COLUMNS = dict(text='question', answer='answer', id='id')
NULL = 500
GOALS = {'index_s': 20.0, 'index_mib': 1024.0, 'first_batch_s': 2.0}
# A file that is the copy of the suite, too.
_FILE = 'ai2d/data/test-00000-of-00001.parquet'
_CHUNK = 2000  # rows that are made at a time


class Counting(io.FileIO):
  """A file that counts the bytes that are read from it.

  Attributes:
    total: of all such files.
  """
  total = 0
  _lock = threading.Lock()  # threads of the library share a file

  def readinto(self, buffer) -> int:
    size = super().readinto(buffer)
    with Counting._lock:
      Counting.total += size or 0
    return size

  def read(self, size: int = -1) -> bytes:
    data = super().read(size)
    with Counting._lock:
      Counting.total += len(data)
    return data


def picture(rng: np.random.Generator, side: int) -> bytes:
  """A PNG of noise, which no packing makes smaller."""
  out = io.BytesIO()
  Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).save(
      out, 'PNG', compress_level=0)
  return out.getvalue()


def write(path: pathlib.Path, rows: int, group: int, side: int,
          seed: int) -> None:
  """Writes the rows in row groups of `group`."""
  import pyarrow as pa
  from pyarrow import parquet
  rng = np.random.default_rng(seed)
  texts = pa.list_(pa.string())
  kind = pa.schema([
      ('id', pa.int64()), ('source', pa.string()), ('question', pa.string()),
      ('options', texts), ('answer', pa.string()), ('pass_rate', pa.float64()),
      ('qwen3vl_235b_thinking_response', pa.string()),
      ('image', pa.struct([('bytes', pa.binary()), ('path', pa.string())]))])
  with parquet.ParquetWriter(path, kind) as writer:
    for start in range(0, rows, max(_CHUNK, group)):
      numbers = range(start, min(start + max(_CHUNK, group), rows))
      writer.write_table(pa.table({
          'id': list(numbers), 'source': [f'set {i % 7}' for i in numbers],
          'question': [f'What is {i} + {i % 97}, modulo 4?' for i in numbers],
          'options': [['zero', 'one', 'two', 'three']] * len(numbers),
          'answer': [str((i + i % 97) % 4) for i in numbers],
          'pass_rate': [0.25 * (i % 4) for i in numbers],
          'qwen3vl_235b_thinking_response': [
              f'<think>{i}</think> so\n<answer>{(i + i % 97) % 4}</answer>'
              for i in numbers],
          'image': [None if i % NULL == NULL - 1 else {
              'bytes': picture(rng, side), 'path': None} for i in numbers]},
          kind), row_group_size=group)


def _held(name: str) -> float:
  """MiB of a field of this process's /proc/self/status."""
  for line in pathlib.Path('/proc/self/status').read_text().splitlines():
    if line.startswith(f'{name}:'):
      return int(line.split()[1]) / 1024
  raise RuntimeError(f'/proc/self/status has no {name}')


def _pool(folder: pathlib.Path, way: str):
  """The questions of the file in a folder, opened in one of WAYS."""
  from zppo_jax.data import pool, suites
  if way == 'suite':
    return suites.open_pool('ai2d', str(folder))
  of = ({'mapping': 'mmfinereason'} if way == 'mapping' else
        {'columns': COLUMNS, 'kind': 'number', 'images': 'image'})
  return pool.open_pool({'made': dict(
      format='parquet', path=str(folder / _FILE), **of)}, {})


WAYS = ('columns', 'mapping', 'suite')


def measure(folder: str, way: str, batch: int, seed: int) -> dict:
  """Indexes a file and draws the first batch, in this process."""
  from pyarrow import PythonFile, parquet

  from zppo_jax.data import loader
  opened = parquet.ParquetFile
  files = contextlib.ExitStack()
  counted = lambda file, **options: opened(PythonFile(
      files.enter_context(Counting(file)), mode='r'))
  cpu = lambda: sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
  with files, mock.patch.object(parquet, 'ParquetFile', counted):
    Counting.total = 0
    before, begun, spent = _held('VmHWM'), time.perf_counter(), cpu()
    questions = _pool(pathlib.Path(folder), way)
    out = {'rows': sum(questions.counts['rows'].values()),
           'questions': len(questions),
           'file_bytes': os.path.getsize(pathlib.Path(folder) / _FILE),
           'index_s': time.perf_counter() - begun,
           'index_cpu_s': cpu() - spent, 'index_mib': _held('VmHWM') - before,
           'index_bytes': Counting.total}
    Counting.total = 0
    begun, spent = time.perf_counter(), cpu()
    drawn = loader.QuestionLoader(questions, batch, seed, True).draw(0)
  assert way == 'columns' or all(len(q.media) == 1 for q in drawn)
  return {**out, 'batch': batch, 'first_batch_s': time.perf_counter() - begun,
          'first_batch_cpu_s': cpu() - spent,
          'first_batch_bytes': Counting.total,
          'peak_mib': _held('VmHWM') - before}


def apart(folder: str, way: str, batch: int, seed: int) -> dict:
  """`measure` in a new process, which has opened nothing before."""
  code = ('import json, sys; from benchmarks import reading; '
          'print(json.dumps(reading.measure(*sys.argv[1:3], '
          'int(sys.argv[3]), int(sys.argv[4]))))')
  done = subprocess.run(
      [sys.executable, '-c', code, folder, way, str(batch), str(seed)],
      stdout=subprocess.PIPE, text=True, check=True,
      env={**os.environ, 'JAX_PLATFORMS': 'cpu'})
  return json.loads(done.stdout.splitlines()[-1])


def main(argv: list[str]) -> dict:
  """Measures and prints, or writes to --to, the numbers and the machine."""
  from zppo_jax.study.launch import machine
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--rows', type=int, default=100_000)
  parser.add_argument('--group', type=int, nargs='+', default=[100, 1000],
                      help='rows of a row group, each measured')
  parser.add_argument('--side', type=int, default=80, help='of a picture')
  parser.add_argument('--batch', type=int, default=32)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--folder', help='for the file; default: a temporary one')
  parser.add_argument('--to', type=pathlib.Path)
  flags = parser.parse_args(argv)
  out = {'command': ' '.join(['python -m benchmarks.reading', *(
      a for a in argv if not a.startswith(('--to', '--folder')))]),
      'seed': flags.seed, 'machine': machine(), 'goals': GOALS,
      'groups': {}}
  for group in flags.group:
    with tempfile.TemporaryDirectory(dir=flags.folder) as folder:
      path = pathlib.Path(folder) / _FILE
      path.parent.mkdir(parents=True)
      write(path, flags.rows, group, flags.side, flags.seed)
      out['groups'][str(group)] = {
          way: apart(folder, way, flags.batch, flags.seed) for way in WAYS}
  text = json.dumps(out, indent=1)
  print(text)
  if flags.to:
    flags.to.write_text(text + '\n')
  return out


if __name__ == '__main__':
  main(sys.argv[1:])
