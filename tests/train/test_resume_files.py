"""A run on files that ended goes on at the exact next question."""

import json
import pathlib
import runpy

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests import kill_and_resume
from tests.builders import ROOT
from tests.long import long
from zppo_jax.train import loop

pytestmark = pytest.mark.usefixtures('quick_compile')
pytest.importorskip('transformers')
from tests import hub_builders  # noqa: E402

STEPS, NUM_NEW = 6, 3
# What runs in a process of its own, to be killed in its fifth update.
CHILD = """
import sys
from tests import kill_and_resume
from tests.train import test_resume_files
from zppo_jax.train import loop
kill_and_resume.arm('update', 5, 0.0)
loop.main(test_resume_files.make_config(sys.argv[1]), sys.argv[2])
"""


def rows(name, count):
  return [{'q': f'{name} {i}?', 'a': i, 'work': [f'so \\boxed{{{i}}}']}
          for i in range(count)]


def write_files(home) -> None:
  """JSONL in two files and parquet in several row groups."""
  for name, part in (('a', rows('a', 4)), ('b', rows('b', 3))):
    (home / 'lines').mkdir(exist_ok=True)
    (home / 'lines' / f'{name}.jsonl').write_text(
        ''.join(json.dumps(row) + '\n' for row in part))
  parquet.write_table(pa.Table.from_pylist(rows('p', 5)),
                      home / 'table.parquet', row_group_size=2)
  hub_builders.write(home / 'student', family='llama')


def make_config(home):
  """Two sources of 12 questions: a pass of four steps, then another."""
  home = pathlib.Path(home)
  c = runpy.run_path(str(ROOT / 'configs' / 'base.py'))['get_config']()
  c.method, c.steps = 'grpo', STEPS  # the least to compile
  c.student.update(weights=str(home / 'student'), dtype='float32',
                   remat='none')
  of = dict(columns=dict(text='q', answer='a', responses='work'),
            kind='number')
  c.data.task, c.data.repeat = 'files', True
  c.data.pool.sources = dict(
      lines=dict(of, format='jsonl', path=str(home / 'lines')),
      table=dict(of, format='parquet', path=str(home / 'table.parquet')))
  c.algorithm.update(num_new=NUM_NEW, rollouts=2, updates=1, max_tokens=4)
  c.optimizer.state_dtype = 'float32'
  c.shapes.update(prompt_buckets=(192,), row_buckets=(196,),
                  group_buckets=(NUM_NEW,), micro_tokens=8 * 196)
  c.checkpoint.every = 2
  c.eval.update(every=0, splits=())
  c.log.tensorboard = False
  return c


def asked(path) -> list[list[str]]:
  """The ids of each step's questions, as its samples tell them."""
  out: dict[int, list[str]] = {}
  for line in (path / 'samples.jsonl').read_text().splitlines():
    row = json.loads(line)
    out.setdefault(row['step'], []).append(row['question']['id'])
  assert [*out] == [*range(STEPS)][:len(out)]
  return [*out.values()]


def refuses_other_contents(home) -> None:
  """A gold that was changed since the checkpoint; it is changed back."""
  path = home / 'lines' / 'b.jsonl'
  whole = path.read_text()
  path.write_text(whole.replace('"a": 1,', '"a": 9,'))
  with pytest.raises(ValueError, match=(
      r'after [24] steps was trained on other data: .*lines/b.jsonl, '
      "line 2, question 'lines/5'")):
    loop.main(make_config(home), home / 'run')
  path.write_text(whole)


@pytest.mark.parametrize('how', ['error', long('kill -9')])
def test_the_next_question_after_an_end(how, tmp_path, monkeypatch):
  """fault C1: other contents under the same row numbers are refused.

  It ends in step 4, in the second pass over JSONL and parquet: what the
  resumed run asks, and the text that it asks, is what the whole one did."""
  write_files(tmp_path)
  loop.main(make_config(tmp_path), tmp_path / 'whole')
  kill_and_resume.end_a_run(
      how, monkeypatch, 5, CHILD, (tmp_path, tmp_path / 'run'),
      lambda: loop.main(make_config(tmp_path), tmp_path / 'run'))
  before = asked(tmp_path / 'run')
  assert len(before) == 4 and not (tmp_path / 'run/summary.json').exists()

  refuses_other_contents(tmp_path)
  loop.main(make_config(tmp_path), tmp_path / 'run')
  log = (tmp_path / 'run/attempts/0003/log.txt').read_text()
  assert 'resumed after ' in log
  whole = asked(tmp_path / 'whole')
  assert len(whole) == STEPS and before == whole[:4]
  assert asked(tmp_path / 'run') == whole
  # A pass asks each question once; the second is in another order.
  first = sum(whole[:4], [])
  assert sorted(first) == sorted([*(f'lines/{i}' for i in range(7)),
                                  *(f'table/{i}' for i in range(5))])
  assert sum(whole[4:], []) != first[:6]
  for name in ('samples.jsonl', 'final.safetensors'):
    assert (tmp_path / 'run' / name).read_bytes() == (
        tmp_path / 'whole' / name).read_bytes(), name
