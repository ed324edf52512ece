"""What a user names by import path: where it is looked for, what is said."""

import dataclasses
import importlib
import importlib.util
import sys

import pytest

from zppo_jax import import_paths, tasks
from zppo_jax.train.control import callbacks
from zppo_jax.verdicts import kinds, rewards
from zppo_jax.verdicts.sandbox import GradingJob, Sandbox


@pytest.fixture
def folder(tmp_path):
  """A searched folder; nothing of it is left behind."""
  before = set(sys.modules)
  import_paths.search(tmp_path)
  yield tmp_path
  for name in set(sys.modules) - before:
    del sys.modules[name]


def test_a_module_and_what_it_holds(folder):
  (folder / 'mine.py').write_text('VALUE = 3\n')
  module, value = import_paths.load('mine:VALUE', 'data.task')
  assert (module.__name__, value) == ('mine', 3)
  assert import_paths.load('mine:OTHER', 'data.task') == (module, None)


def test_a_function_that_cannot_be_called_is_named_with_its_line(folder):
  """issue 21: 63 lines of traceback, without the component."""
  path = folder / 'mine_calls.py'
  path.write_text('''
from zppo_jax.records import Grader
from zppo_jax.tasks import Task
def last_digit(response, x):
  return 1.0
def one(a):
  return a
def two(a, b):
  return a
PARSE = Task(one, two, Grader(two, two))
GRADE = Task(one, two, Grader(one, lambda a: a))
DRAW = Task(lambda: [], one, Grader(one, two))
FINE = Task(lambda: [], two, Grader(str, two, rewards={'near': one}))
''')
  tasks.get('mine_calls:FINE')
  mine = sys.modules['mine_calls']
  weights = rewards.RewardConfig({'last': 1.0})

  class Eval:
    sources, size = {}, 3
  for call, said in (
      (lambda: rewards.with_rewards(dataclasses.replace(
          mine.FINE.grader, rewards={'last': mine.last_digit}), weights, 9),
       "reward component 'last' is last_digit(response, x) in "
       f"{path}:4, which cannot be called with (response): missing a required "
       "argument: 'x'"),
      (lambda: tasks.get('mine_calls:PARSE'),
       f'parse of mine_calls:PARSE is two(a, b) in {path}:8, which cannot be '
       'called with (text)'),
      (lambda: tasks.get('mine_calls:GRADE'),
       f'grade of mine_calls:GRADE is <lambda>(a) in {path}:11, which cannot '
       'be called with (answer, question)'),
      (lambda: tasks.splits(mine.DRAW, Eval, ('s',), task_name='my:DRAW'),
       f'evaluation of my:DRAW is one(a) in {path}:6, which cannot be called '
       'with (split, size)'),
      (lambda: callbacks.load(['mine_calls:two']),
       f"run.callbacks 'mine_calls:two' is two(a, b) in {path}:8, which cannot "
       'be called with (event)'),
      (lambda: kinds.get('mine_calls:one'),
       f"kind 'mine_calls:one' of a question is one(a) in {path}:6, which "
       'cannot be called with (answer, gold)')):
    with pytest.raises(ValueError) as raised:
      call()
    assert raised.value.args[0].startswith(said)
  with pytest.raises(ValueError, match=r'parse is of type int; allowed: a '
                     r'function of \(text\)'):
    import_paths.check_call('parse', 3, 'text')


def test_a_package_in_a_folder(folder):
  (folder / 'pack').mkdir()
  (folder / 'pack' / 'inner.py').write_text('VALUE = 4\n')
  assert import_paths.load('pack.inner:VALUE', 'x')[1] == 4
  with pytest.raises(ValueError, match="no module 'pack.gone' is installed"):
    import_paths.load('pack.gone:VALUE', 'x')


def test_a_folder_is_searched_last_and_once(folder):
  """fault F1: a user's random.py beside a config hides no library."""
  (folder / 'random.py').write_text('raise RuntimeError("the wrong one")\n')
  sys.modules.pop('random')
  module, _ = import_paths.load('random:Random', 'x')
  assert str(folder) not in module.__file__
  import_paths.search(folder, f'{folder}/.')
  assert sys.path.count(str(folder)) == 1


@pytest.mark.parametrize('name', [
    '', ':', 'a:', ':b', '.a:b', 'a..b:c', 'a b:c', 'a:b:c', '../a:b', 'a/b:c'])
def test_a_name_of_another_form_is_refused(folder, name):
  with pytest.raises(ValueError, match='data.task is .*package.module:NAME'):
    import_paths.load(name, 'data.task')


def test_what_is_missing_inside_a_module_is_another_error(folder):
  (folder / 'mine.py').write_text('import not_there\n')
  with pytest.raises(ModuleNotFoundError, match='not_there'):
    import_paths.load('mine:VALUE', 'data.task')


def test_grading_workers_search_the_same_folders(folder):
  """fault F1: a grading function beside the config is found in the sandbox."""
  (folder / 'marks.py').write_text(
      'def mark(answer, gold):\n  return float(answer == gold[::-1])\n')
  sandbox = Sandbox()
  try:
    replies = sandbox.grade([GradingJob('marks:mark', '12', '21'),
                          GradingJob('marks:mark', '12', '12')])
  finally:
    sandbox.close()
  assert [(r.status, r.score) for r in replies] == [('score', 1.0),
                                                    ('score', 0.0)]


PACKAGE = import_paths.__name__.rpartition('.')[0]
NAMES = [(f'{module}:{name}', new)
         for module, names in import_paths.NAMES.items()
         for name, new in names.items()]


@pytest.mark.parametrize('old, new', import_paths.MODULES.items())
def test_a_module_of_an_earlier_version_is_refused_with_its_new_path(old, new):
  """Python finds the new one; it asks the table only for what is not there."""
  old, new = f'{PACKAGE}.{old}', f'{PACKAGE}.{new}'
  assert importlib.util.find_spec(new) is not None
  with pytest.raises(ModuleNotFoundError, match=f'^{old} is now {new}$'):
    importlib.import_module(old)
  with pytest.raises(ValueError, match=f"data.task is '{old}:X'.*{new}"):
    import_paths.load(f'{old}:X', 'data.task')


@pytest.mark.parametrize('old, new', NAMES)
def test_a_record_of_an_earlier_version_is_refused_with_its_new_path(old, new):
  module, name = f'{PACKAGE}.{old}'.split(':')
  path, found = new.split(':')
  assert hasattr(importlib.import_module(f'{PACKAGE}.{path}'), found)
  said = f'^{module}.{name} is now {PACKAGE}.{path}.{found}$'
  with pytest.raises(ImportError, match=said):
    exec(f'from {module} import {name}')  # as a user's file does
  with pytest.raises(ValueError, match=f'now .{PACKAGE}.{new}'):
    import_paths.load(f'{module}:{name}', 'data.task')


def test_other_names_that_are_not_there_are_what_they_always_were():
  records = importlib.import_module(f'{PACKAGE}.records')
  assert not hasattr(records, 'Nothing')
  with pytest.raises(ModuleNotFoundError, match='No module named'):
    importlib.import_module(f'{PACKAGE}.nothing')
  assert import_paths.moved('verdicts.wall') == ''
