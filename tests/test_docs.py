"""Pages that hold code: it runs."""

import json
import os
import re
import subprocess
import sys

import pytest

from tests.builders import ROOT
from tests.long import LONG
from zppo_jax import import_paths, tasks
from zppo_jax.records import Question, StopReason, Verdict
from zppo_jax.train import build
from zppo_jax.train.builders import rewards
from zppo_jax.train.control import callbacks, evaluations
from zppo_jax.verdicts import grading

pytest.importorskip('transformers')
from tests import hub_builders  # noqa: E402


def blocks(page: str) -> list[str]:
  text = (ROOT / 'docs' / page).read_text()
  return re.findall(r'```python\n(.*?)```', text, re.DOTALL)


@pytest.fixture
def tutorial(tmp_path, monkeypatch):
  """The two files of docs/your_task.md in a folder of their own."""
  task, config, *_ = blocks('your_task.md')
  (tmp_path / 'sums.py').write_text(task)
  (tmp_path / 'sums_config.py').write_text(config)
  monkeypatch.chdir(tmp_path)
  yield tmp_path
  sys.modules.pop('sums', None)


def in_a_shell(folder, *argv):
  """`zppo ARGV` as a process of its own in a folder: nothing but the command
  itself says where modules are found."""
  return subprocess.run(
      [sys.executable, '-P', '-m', 'zppo_jax.main', *map(str, argv)],
      cwd=folder, capture_output=True, text=True, timeout=600,
      env=os.environ | {'PYTHONPATH': str(ROOT)})


def test_the_tutorials_task_is_a_task(tutorial):
  import_paths.search(tutorial)
  task = tasks.get('sums:SUMS')
  pool = task.pool(size=50, digits=2)
  assert len({q.id for q in pool}) == 50
  for question in pool:
    a, b = map(int, re.findall(r'\d+', question.text))
    assert int(question.answer) == a + b
    assert task.grader.grade(task.grader.parse(f'It is {a + b}.'), question)
    assert not task.grader.grade(task.grader.parse('It is 1000.'), question)
  assert task.grader.parse('no idea') == ''
  assert len(task.pool(size=100, digits=1)) == 100  # all that there are
  with pytest.raises(ValueError, match='size is 101; .* only 100 different'):
    task.pool(size=101, digits=1)


def block_with(page: str, text: str) -> str:
  """The one block of a page that holds a text."""
  (found,) = [block for block in blocks(page) if text in block]
  return found


def tutorials_config(*texts):
  """The tutorial's config, changed by the blocks that hold texts."""
  space = {}
  exec(block_with('your_task.md', 'def get_config'), space)
  c = space['get_config']()
  for text in texts:
    exec(block_with('your_task.md', text), {'c': c})
  return c


def extended(tutorial, text):
  """The tutorial's task with the block that holds a text behind it."""
  with open(tutorial / 'sums.py', 'a') as task:
    task.write(block_with('your_task.md', text))
  import_paths.search(tutorial)


def test_the_tutorials_components_are_rewards(tutorial):
  extended(tutorial, 'SUMS_PARTS =')
  c = tutorials_config('reward.weights')
  found = rewards.with_rewards(c, tasks.get(c.data.task)).grader
  (of,) = grading.reward_all(
      [('about 19', StopReason.END, Question('q', '3 + 6', '9', ''))], [5],
      found)
  assert dict(of.components) == {
      'right': 0, 'near': 1, 'boxed': 0, 'soft_overlong': 1}


def test_the_tutorials_grader_marks_in_the_sandbox(tutorial):
  """Half a point is right or not by the threshold."""
  extended(tutorial, 'SUMS_MARKED =')
  c = tutorials_config('reward.threshold')
  task = tasks.get(c.data.task)
  question = task.pool(size=1, digits=2)[0]
  assert question.kind == 'sums:mark'
  assert {q.kind for q in task.evaluation('digits1', 5)} == {'sums:mark'}
  gold = int(question.answer)
  rows = [(text, StopReason.END, question) for text in (
      f'It is {gold}', f'It is {gold + 1}', f'It is {gold + 2}', 'no idea')]
  verdicts = lambda grader: [of.verdict for of in grading.reward_all(
      rows, [5] * len(rows), grader)]
  assert verdicts(rewards.with_rewards(c, task).grader) == [
      Verdict.CORRECT, Verdict.CORRECT, Verdict.WRONG, Verdict.NO_ANSWER]
  assert verdicts(task.grader) == [
      Verdict.CORRECT, Verdict.WRONG, Verdict.WRONG, Verdict.NO_ANSWER]


def test_the_tutorials_callback_sees_its_evaluations(tutorial, capsys):
  (tutorial / 'sums.py').write_text(
      (tutorial / 'sums.py').read_text()
      + block_with('your_task.md', 'def tell'))
  import_paths.search(tutorial)
  c = tutorials_config('run.callbacks')
  plan = evaluations.of_run(c, c.eval.splits, c.eval.splits)
  assert plan.due(50) == ('digits2',) and plan.due(60) == ('digits1',)
  callbacks.Events(callbacks.load(c.run.callbacks), tutorial).tell(
      'evaluation', 60, {'digits1': 0.5})
  assert capsys.readouterr().out == '60 0.5\n'


def tiny_run(student):
  """Overrides with which a step of the tutorial takes seconds."""
  return [
      f'--config.student.weights={student}',
      f'--config.teacher.weights={student}',
      '--config.student.dtype=float32', '--config.teacher.dtype=float32',
      '--config.steps=1', '--config.algorithm.num_new=4',
      '--config.algorithm.max_tokens=8',
      '--config.algorithm.teacher_max_tokens=8',
      '--config.shapes.prompt_buckets=(768,)',
      '--config.shapes.row_buckets=(776,)',
      '--config.shapes.group_buckets=(2,)',
      '--config.shapes.micro_tokens=6208', '--config.compression.cap=8',
      '--config.eval.size=2']


@LONG
def test_the_tutorial_trains_reports_and_stays_within_20_lines(tutorial):
  """fault F1: as the page says, from the folder of both files; with tiny random
  models instead of the named folders, one step."""
  task, *_ = blocks('your_task.md')
  lines = [x for x in task.splitlines() if x.strip()]
  assert len(lines) <= 20
  student = hub_builders.write(tutorial / 'student')
  done = in_a_shell(tutorial, 'train', '--config=sums_config.py',
                    '--workdir=run', *tiny_run(student))
  assert not done.returncode, done.stderr
  rows = (tutorial / 'run' / 'metrics.jsonl').read_text().splitlines()
  assert json.loads(rows[0])['groups/plain'] == 4


@LONG
def test_the_configs_folder_is_searched_from_anywhere(tutorial):
  """fault F1: the command is called from another folder than the config's."""
  elsewhere = tutorial / 'elsewhere'
  elsewhere.mkdir()
  done = in_a_shell(elsewhere, 'train', '--config=../sums_config.py',
                    '--workdir=run', '--config.student.weights=gone')
  assert "no weights 'gone'" in done.stderr  # the task was found before


def test_a_path_that_leads_to_no_task_is_refused(tutorial):
  import_paths.search(tutorial)
  with pytest.raises(ValueError, match="no module 'nothing' is installed or "
                     f'lies in {tutorial}'):
    tasks.get('nothing:SUMS')
  with pytest.raises(ValueError, match=r"'parse' in 'sums' \(.*sums.py\) is of "
                     'type function, not a Task; tasks there: SUMS'):
    tasks.get('sums:parse')
  with pytest.raises(ValueError, match=r"'gone' in 'sums' \(.*\) is missing; "
                     'tasks there: SUMS'):
    tasks.get('sums:gone')


def test_a_task_without_a_chat_needs_a_tokenizer(tutorial, tmp_path):
  from tests.builders import small_config
  import_paths.search(tutorial)
  config = small_config()
  config.data.task = 'sums:SUMS'
  with config.unlocked():
    config.data.pool = {'size': 64, 'digits': 2}
  config.eval.splits = ('digits1',)
  with pytest.raises(ValueError, match="student.weights came without a "
                     "tokenizer and the task 'sums:SUMS' has no chat"):
    build.build(config)
