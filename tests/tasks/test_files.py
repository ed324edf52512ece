"""configs/files.py on a folder of parquet with images: train, resume, eval."""

import json
import runpy

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.builders import ROOT
from zppo_jax import tasks
from zppo_jax.commands import evaluate
from zppo_jax.data.media import content
from zppo_jax.tasks import digits
from zppo_jax.train import loop, models

pytestmark = pytest.mark.usefixtures('quick_compile')
pytest.importorskip('transformers')
pytest.importorskip('sklearn')
from tests import hub_builders  # noqa: E402


def table(questions):
  return pa.Table.from_pylist([
      {'problem': q.text, 'answer': q.answer,
       'images': [{'bytes': content(m), 'path': None} for m in q.media]}
      for q in questions])


@pytest.fixture(scope='module')
def config(tmp_path_factory):
  home = tmp_path_factory.mktemp('files')
  for split, made in (('train', digits.pool(24, 0.5)),
                      ('test', digits.evaluation('easy', 4))):
    (home / 'mine' / split).mkdir(parents=True)
    rows = table([*made, made[0]] if split == 'train' else made)
    parquet.write_table(rows, home / 'mine' / split / 'a.parquet',
                        row_group_size=5)
  (home / 'bench' / 'aime25').mkdir(parents=True)
  (home / 'bench' / 'aime25' / 'test.jsonl').write_text(json.dumps(
      {'question': 'Find n.', 'answer': '70'}) + '\n')
  c = runpy.run_path(str(ROOT / 'configs' / 'files.py'))['get_config']()
  c.method = 'grpo'  # the least to compile
  c.student.weights = hub_builders.write_seeing(home / 'student', 'qwen3_5')
  c.student.dtype = 'float32'
  mine = c.data.pool.sources.mine
  mine.path, mine.kind = str(home / 'mine' / 'train'), 'text'
  c.data.pool.filters.image_side = 32
  c.data.pool.store = str(home / 'store')
  c.data.repeat, c.steps = True, 1
  test = c.eval.sources.mine_test
  test.path, test.kind = str(home / 'mine' / 'test'), 'text'
  c.eval.update(every=0, size=2, benchmarks=str(home / 'bench'))
  c.algorithm.update(num_new=4, rollouts=2, updates=1, max_tokens=4)
  # One shape in all.
  c.shapes.update(prompt_buckets=(512,), row_buckets=(516,),
                  patch_buckets=(800,), group_buckets=(4,),
                  micro_tokens=8 * 1400)
  c.samples.every = 0
  return c


def test_it_trains_and_says_what_it_left_out(config, tmp_path, capsys):
  loop.main(config, tmp_path / 'run')
  said = capsys.readouterr().out
  assert 'mine: 25 rows, 1 by duplicates, 24 kept' in said
  kept = json.loads((tmp_path / 'run' / 'data.json').read_text())
  assert kept['counts']['duplicates'] == {'mine': 1}
  rows = (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()
  assert json.loads(rows[0])['groups/plain'] == 4

  summary = evaluate.main(config, str(tmp_path / 'run'), tmp_path / 'eval',
                         splits=('mine_test', 'bench:aime25'))
  assert {s: of['questions'] for s, of in summary['splits'].items()} == {
      'mine_test': 2, 'bench:aime25': 1}
  lines = (tmp_path / 'eval' / 'samples.jsonl').read_text().splitlines()
  assert json.loads(lines[-1])['gold'] == '70'


def test_splits_that_nobody_named_are_refused(config):
  task = tasks.get('files')
  with pytest.raises(KeyError, match="'other'; splits of files are the keys"):
    tasks.splits(task, config.eval, ('other',))
  whole = config.eval.sources.mine_test.path
  config.eval.sources.mine_test.path = 'gone'
  with pytest.raises(FileNotFoundError, match=(
      'eval.sources.mine_test.path: no .* file at gone')):
    tasks.splits(task, config.eval, ('mine_test',))
  config.eval.sources.mine_test.path = whole
  (asked, second) = tasks.splits(task, config.eval, ('mine_test',))['mine_test']
  assert asked.split == 'mine_test' and asked.id == 'mine_test/0'


def test_a_packaged_model_does_not_read_files():
  """micro/seeing_student was offered, and the refusal named no way out."""
  with pytest.raises(ValueError, match=(
      "student.weights .* the task 'files' has no chat .*"
      'zppo init DIR --files.*micro, micro_pictures, micro_clips alone')):
    models.chat_of('student', models.Loaded(None, None, None, {}), 'files',
                   tasks.get('files'))
