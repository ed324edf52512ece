"""fault F2: `zppo init` writes files that train at once."""

import json
import pathlib
import re
import subprocess
import sys

import chex
import jax
import numpy as np
import pytest
from PIL import Image

import zppo_jax
from tests.builders import ROOT
from zppo_jax import configs, main, tasks
from zppo_jax.commands import starting
from zppo_jax.commands.starting import random_model
from zppo_jax.train import build


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """A function that makes the folder and goes there; modules are forgotten."""
  monkeypatch.setattr(sys, 'path', [*sys.path])

  def make(*flags):
    main.main(['init', str(tmp_path / 'mine'), *flags])
    monkeypatch.chdir(tmp_path / 'mine')
    return tmp_path / 'mine'
  yield make
  for name in ('my_task', 'my_config', 'task_config'):
    sys.modules.pop(name, None)


def asked(config):
  """(train questions, evaluation questions by split, grader) of a config."""
  task = tasks.get(config.data.task)
  return (tasks.pool(task, config.data.pool), tasks.splits(
      task, config.eval, config.eval.splits, config.data.pool), task.grader)


def check(config):
  """The questions are different, apart, and graded by what the task says."""
  pool, splits, grader = asked(config)
  assert len({q.id for q in pool}) == len(pool) == 400
  for questions in splits.values():
    assert questions and not {q.id for q in questions} & {q.id for q in pool}
  for question in (*pool[:20], *next(iter(splits.values()))[:20]):
    assert grader.grade(grader.parse(f'4 h 1 A 9 {question.answer}'), question)
    wrong = (int(question.answer) + 1) % 10
    assert not grader.grade(grader.parse(f'4 h 1 A {wrong}'), question)
  assert grader.parse('a b') == ''


def test_text(folder, capsys):
  """The whole of what a run builds before anything compiles."""
  path = folder()
  assert sorted(p.name for p in path.iterdir()) == [
      'README.md', 'my_config.py', 'my_task.py']
  assert 'zppo train --config=my_config' in capsys.readouterr().out
  config = configs.load('my_config')
  check(config)
  draw = sys.modules['my_task'].draw
  assert len(draw(0, 64, 'easy', [8])) == 64  # all that there are
  with pytest.raises(ValueError, match='size is 65, .* 64 different easy'):
    draw(0, 65, 'easy', [8])
  run = build.build(config)
  assert run.steps == 40 and run.teacher is not None
  readme = (path / 'README.md').read_text()
  assert 'FILES' not in readme and '--prompt="C h i j 8"' in readme
  assert 'the run takes about a minute on two cores:' in readme
  assert "need a model of the hub with its tokenizer" in (
      path / 'my_task.py').read_text()


def test_pictures(folder):
  pytest.importorskip('sklearn')
  path = folder('--pictures')
  config = configs.load('my_config')
  check(config)
  pool, splits, _ = asked(config)
  shown = lambda questions: {q.media[0].path for q in questions}
  assert not shown(pool) & shown(splits['test'])
  for name in shown(pool):
    assert pathlib.Path(name).is_file() and path in pathlib.Path(name).parents
  assert build.build(config).sampler.chat.vision is not None
  readme = (path / 'README.md').read_text()
  assert '--image="pictures/8_0.png"' in readme and 'TIME' not in readme
  assert 'about two minutes on one core' in readme


def test_a_file_that_is_there_is_left_alone(tmp_path):
  (tmp_path / 'my_task.py').write_text('mine')
  with pytest.raises(SystemExit, match='holds my_task.py already; a new'):
    main.main(['init', str(tmp_path)])
  assert [p.name for p in tmp_path.iterdir()] == ['my_task.py']
  with pytest.raises(SystemExit, match='is a file; a new folder'):
    main.main(['init', str(tmp_path / 'my_task.py')])
  with pytest.raises(SystemExit, match='DIR is needed'):
    main.main(['init'])
  with pytest.raises(SystemExit, match='one DIR is needed, not a, b'):
    main.main(['init', 'a', 'b'])


def test_pictures_without_their_package(tmp_path, monkeypatch):
  from zppo_jax.tasks import micro_pictures
  monkeypatch.setattr(micro_pictures, '_scans', lambda: (_ for _ in ()).throw(
      ModuleNotFoundError("No module named 'sklearn'", name='sklearn')))
  micro_pictures.scans.cache_clear()
  with pytest.raises(SystemExit, match=r'pip install "zppo_jax\[digits\]"'):
    main.main(['init', str(tmp_path / 'a'), '--pictures'])
  micro_pictures.scans.cache_clear()
  assert not list(tmp_path.iterdir())


def test_a_folder_may_have_the_name_of_a_flag(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  main.main(['init', 'pictures'])
  assert (tmp_path / 'pictures' / 'my_task.py').is_file()


def test_files_of_my_own(folder, capsys):
  """No code: any text and any picture, with a model that reads them."""
  path = folder('--files')
  assert sorted(p.name for p in path.iterdir()) == [
      'README.md', 'data', 'model', 'my_config.py']
  assert 'data, model, my_config.py and README.md' in capsys.readouterr().out
  config = configs.load('my_config')
  pool, splits, grader = asked(config)
  assert len(pool) == 48 and len(splits['test']) == 16
  for question in (*pool, *splits['test']):
    # The file says as many squares as the picture has.
    pixels = np.asarray(Image.open(question.media[0].path).convert('L'))
    cells = pixels.reshape(3, 32, 3, 32).swapaxes(1, 2)[:, :, 16, 16]
    assert int(question.answer) == (cells < 255).sum()
  assert grader.parse('so \\boxed{4}') == '4'
  main.main(['prompts', '--config=my_config'])
  out = capsys.readouterr().out
  assert '\u27e6<|image_pad|> x 9\u27e7' in out and 'private first' in out
  config.shapes.update(auto=False, prompt_buckets=(512,), row_buckets=(576,),
                       patch_buckets=(36,), group_buckets=(1,),
                       micro_tokens=576)
  run = build.build(config)  # any language, any length up to max_positions
  encoded = run.sampler.chat.plain('Wie viele Vierecke? \u20ac \u7bc0')
  assert encoded.removed == 0
  assert run.sampler.chat.vision is not None
  assert random_model.files() == {  # equal in every call
      p.name: p.read_bytes() for p in (path / 'model').iterdir()}
  with pytest.raises(SystemExit, match='--pictures and --files are two kinds'):
    main.main(['init', 'two', '--pictures', '--files'])


def test_the_random_model_is_drawn_without_a_program():
  """Those of `model.init`, one for each shape, took most of a minute."""
  compiled = []

  def listen(name, seconds, **_):
    if name == '/jax/core/compile/backend_compile_duration':
      compiled.append(seconds)

  model = random_model._model()
  wanted = jax.eval_shape(model.init, jax.random.key(0))
  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    first, second = random_model.draw(model), random_model.draw(model)
    assert not compiled
    jax.jit(lambda x: x + 1)(0.5)
    assert compiled, 'compilations are no longer announced'
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
  chex.assert_trees_all_equal(first, second)
  chex.assert_trees_all_equal_shapes_and_dtypes(first, wanted)


@pytest.mark.long
def test_the_random_model_has_the_draws_of_its_class():
  """Means and deviations are equal up to what so few numbers allow."""
  model = random_model._model()
  own = jax.jit(model.init)(jax.random.key(1))
  for (path, leaf), its in zip(
      jax.tree.leaves_with_path(random_model.draw(model)),
      jax.tree.leaves(own), strict=True):
    if path[-1].key == 'A_log':  # four numbers a layer
      assert np.log(0.01) <= np.min(leaf) < np.max(leaf) <= np.log(16)
      continue
    slack = 5 * np.std(its) / leaf.size**0.5
    assert abs(np.mean(leaf) - np.mean(its)) <= slack, path
    assert abs(np.std(leaf) - np.std(its)) <= slack, path


def task_config(path):
  """The config that the README of --files shows, from its own blocks."""
  blocks = re.findall(r'```python\n(.*?)```', (path / 'README.md').read_text(),
                      re.DOTALL)
  for name, block in zip(('my_task.py', 'task_config.py'), blocks, strict=True):
    (path / name).write_text(block)
  return configs.load('task_config')


def test_a_task_of_my_own_beside_the_files(folder, capsys):
  """Own questions, words and grader, as the README of --files shows them."""
  config = task_config(folder('--files'))
  pool, splits, grader = asked(config)
  assert len({q.id for q in pool}) == 256 and len(splits['held_out']) == 16
  assert not {q.text for q in pool} & {q.text for q in splits['held_out']}
  right = pool[0].answer
  assert grader.grade(grader.parse(f'so {right}.'), pool[0])
  assert not grader.grade(grader.parse(f'{right}1'), pool[0])
  main.main(['prompts', '--config=task_config'])
  out = capsys.readouterr().out
  assert 'You are good at sums.' in out and 'End with the sum alone.' in out
  assert 'boxed' not in out


@pytest.mark.long
@pytest.mark.usefixtures('quick_compile')
def test_a_task_of_my_own_trains_the_model_of_the_files(folder):
  path = folder('--files')
  config = task_config(path)
  config.shapes.update(auto=False, prompt_buckets=(256,), row_buckets=(288,),
                       group_buckets=(4,), micro_tokens=288)
  config.update(steps=1, method='grpo')
  config.eval.size = 2
  zppo_jax.train(config, str(path / 'run'))
  (row,) = map(json.loads, (path / 'run' / 'metrics.jsonl').read_text(
      ).splitlines())
  assert row['groups/plain'] == 4 and 0 <= row['reward/near'] <= 1


def test_the_files_keep_the_rules_of_the_repository(tmp_path):
  """They are examples that people copy."""
  for kind in ('text', 'pictures', 'files'):
    if kind == 'pictures':
      pytest.importorskip('sklearn')
    for name, content in starting.contents(kind).items():
      if name.endswith('.py'):
        (tmp_path / name).write_bytes(content)
        assert max(map(len, content.decode().splitlines())) <= 80
        compile(content, name, 'exec')
  if ruff := next((p for p in (pathlib.Path(sys.executable).parent / 'ruff',)
                   if p.is_file()), None):
    done = subprocess.run([ruff, 'check', '--config', ROOT / 'pyproject.toml',
                           tmp_path], capture_output=True, text=True)
    assert not done.returncode, done.stdout
