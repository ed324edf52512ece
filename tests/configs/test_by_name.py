"""fault F2: a config is a packaged name, a file, or a module of the user."""

import copy
import pathlib
import pickle
import re
import sys

import pytest
from ml_collections import ConfigDict

from zppo_jax import configs, import_paths, main

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """An empty current folder of a user; what is imported there is forgotten."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, 'path', [*sys.path])
  before = set(sys.modules)
  yield tmp_path
  for name in set(sys.modules) - before:
    del sys.modules[name]


def test_the_packaged_configs_are_those_of_the_folder():
  assert configs.names() == sorted(
      p.stem for p in (ROOT / 'configs').glob('*.py'))


@pytest.mark.parametrize('name', [
    'base', 'micro', 'pod_9b', 'pod_9b:v5e:8x16', 'uni_opd_4b:multi',
    'micro_pretrain:teacher', 'sft'])
def test_a_packaged_name_is_the_file(folder, name):
  """From any folder, an argument included."""
  stem, colon, argument = name.partition(':')
  file = f'{ROOT}/configs/{stem}.py{colon}{argument}'
  assert configs.load(name) == configs.load(file)


def test_configs_of_two_calls_share_nothing():
  """A run changes its config; the next one of this process starts afresh."""
  one, two = configs.load('micro'), configs.load('micro')
  one.optimizer.learning_rate = 1.0
  one.data.pool.size = 3
  assert two.optimizer.learning_rate == 2e-4 and two.data.pool.size == 800


@pytest.mark.parametrize('base, change, said', [
    ('micro', lambda c: setattr(c.student, 'wieghts', 'x'),
     'the config has no field student.wieghts; did you mean student.weights?'),
    ('micro', lambda c: setattr(c, 'stpes', 3), 'did you mean steps?'),
    ('base', lambda c: c.shapes.update(micro_token=3),
     'did you mean shapes.micro_tokens?'),
    ('base', lambda c: c.teacher.update(dict(endpoint=dict(ur='x'))),
     'no field teacher.endpoint.ur; did you mean teacher.endpoint.url?'),
    ('base', lambda c: setattr(c.algorithm, 'num_generations', 4),
     'algorithm.num_generations; num_generations of TRL is algorithm.rollouts'),
    ('sft', lambda c: setattr(c.eval, 'zzz', 1),
     'no field eval.zzz; known: cadence, every, holdout, size, sources$'),
    ('base', lambda c: c.studnet.weights, 'no field studnet; did you mean '
     'student?')])
def test_a_misspelt_field_is_named_in_one_line(base, change, said):
  """It would be a new field that nothing reads; a copy says so, too."""
  for config in (configs.load(base),
                 configs.load(base).copy_and_resolve_references()):
    with pytest.raises(AttributeError, match=re.escape(said).replace(
        r'\$', '$')) as e:
      change(config)
    assert '\n' not in str(e.value) and len(str(e.value)) < 120


def test_sections_without_fields_are_open():
  """Tasks, sources, splits and weights have names of a user's own."""
  c = configs.load('base')
  c.data.pool = dict(size=4, digits=2)
  c.data.pool.more = 5
  c.reward.weights = ConfigDict(dict(right=1.0))
  c.eval.sources.mine = dict(c.data.pool, path='x')
  c.teacher.panel.members.one = dict(kind='endpoint')
  c.eval.cadence.aime = 100
  assert c.data.pool.to_dict() == dict(size=4, digits=2, more=5)
  assert c.eval.sources.mine.path == 'x' and c.reward.weights.right == 1.0
  assert pickle.loads(pickle.dumps(c)) == c == copy.deepcopy(c)
  with c.unlocked():
    c.data.pool.size, c.student.later = 5, 'a field of a later version'
  c.eval.sources.other = dict(path='y')  # what was open is open still
  with pytest.raises(AttributeError, match='no field student.latest'):
    c.student.latest = 1
  with pytest.raises(TypeError, match="Could not override field 'steps'"):
    c.steps = 'ten'


def test_the_command_names_the_line_of_a_misspelt_field(folder, monkeypatch):
  (folder / 'mine.py').write_text(OWN.replace('c.steps', 'c.stepz'))
  monkeypatch.delenv('ZPPO_TRACEBACK', raising=False)
  with pytest.raises(SystemExit) as e:
    main.main(['prompts', '--config=mine'])
  assert e.value.code == (
      'zppo prompts: AttributeError: the config has no field stepz; did you '
      f'mean steps? ({folder}/mine.py:5 in get_config; --traceback shows all '
      'of it)')


OWN = '''from zppo_jax.configs import micro

def get_config(steps='7'):
  c = micro.get_config()
  c.steps = int(steps)
  return c
'''


def test_a_users_config_starts_from_a_packaged_one(folder):
  (folder / 'mine.py').write_text(OWN)
  (folder / 'pack').mkdir()
  (folder / 'pack' / 'inner.py').write_text('from .deep import get_config\n')
  (folder / 'pack' / 'deep.py').write_text(OWN)
  for name, steps in (('mine.py', 7), ('./mine.py:9', 9), ('mine', 7),
                      ('mine:8', 8), ('pack.inner', 7), ('pack.deep:3', 3),
                      (f'{folder}/pack/deep.py:4', 4)):
    assert configs.load(name).steps == steps, name
  assert configs.load('mine').student.weights == 'micro/student'


def test_a_packaged_name_goes_before_a_module_of_that_name(folder):
  (folder / 'files.py').write_text(OWN)
  assert configs.load('files').data.task == 'files'
  assert configs.load('files.py').data.task == 'micro'


def test_what_no_config_is_is_refused_with_what_is_known(folder):
  (folder / 'mine.py').write_text(OWN)
  (folder / 'none.py').write_text('x = 1\n')
  (folder / 'gap.py').write_text('import not_there_at_all\n')
  for name, said in (
      ('micr', 'did you mean micro'), ('nothing', 'Packaged: base, files, '),
      ('a-b', "'a-b'; allowed: a packaged config, a file that ends in .py, or"),
      ('gone.py', "known in '.': gap.py, mine.py, none.py"),
      ('configs/micro.py', '--config=micro is the one of the package'),
      ('none.py', 'none.py defines no get_config'),
      ('none', 'none.py defines no get_config'),
      ('pack.gone', "'pack.gone', which is no packaged config and no module")):
    with pytest.raises(ValueError) as e:
      configs.load(name)
    assert said in str(e.value), (name, str(e.value))
  with pytest.raises(ModuleNotFoundError, match='not_there_at_all'):
    configs.load('gap')


def test_what_a_config_names_is_found_beside_it_and_here(folder):
  """fault F1: the folder of a config is searched, and the current one."""
  (folder / 'far').mkdir()
  (folder / 'far' / 'own.py').write_text(OWN)
  (folder / 'far' / 'beside.py').write_text('VALUE = 1\n')
  (folder / 'here.py').write_text('VALUE = 2\n')
  configs.load('far/own.py')
  assert import_paths.load('beside:VALUE', 'data.task')[1] == 1
  assert import_paths.load('here:VALUE', 'data.task')[1] == 2
