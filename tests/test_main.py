"""The command line's errors: one line that says what is wrong and is known.

All of them come before anything is trained.
"""

import gc
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from tests import workdirs
from zppo_jax import main
from zppo_jax.commands import dry_run, failures
from zppo_jax.devices import compile_cache
from zppo_jax.train import guards, loop

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = f'--config={ROOT}/configs/micro.py'
PRETRAIN = f'--config={ROOT}/configs/micro_pretrain.py'


@pytest.fixture(autouse=True)
def _nothing_is_trained(monkeypatch):
  monkeypatch.delenv('ZPPO_TRACEBACK', raising=False)
  monkeypatch.setattr(loop, 'run_loop',
                      lambda *_: pytest.fail('the loop was reached'))


@pytest.fixture
def zppo(monkeypatch):
  """Runs `zppo ARGS` in this process, as the console script does."""
  def run(*argv):
    monkeypatch.setattr(sys, 'argv', ['zppo', *map(str, argv)])
    main.main()
  return run


@pytest.fixture
def refused(zppo):
  """Runs `zppo ARGS`, which must fail, and returns its one-line message."""
  def run(*argv):
    with pytest.raises(SystemExit) as e:
      zppo(*argv)
    message = e.value.code
    assert isinstance(message, str) and message.startswith('zppo')
    assert '\n' not in message
    return message
  return run


@pytest.mark.parametrize('argv', [(), ('--help',), ('-h',), ('help',)])
def test_help_names_every_command(zppo, capsys, argv):
  zppo(*argv)
  out = capsys.readouterr().out
  for command, row in main.COMMANDS.items():
    assert f'zppo {command}' in out
    assert (f'zppo {command} --config=' in out) == row.config


def test_help_is_immediate():
  code = ("import sys; from zppo_jax import main; main.main(['--help']); "
          "sys.exit('jax' in sys.modules)")
  assert subprocess.run([sys.executable, '-c', code], cwd=ROOT,
                        capture_output=True).returncode == 0


@pytest.fixture
def spoken(monkeypatch):
  """A command `say` without a config; returns what it was called with."""
  heard = []
  row = main.Command(
      lambda values: heard.append((values.words, values.times, values.to)),
      {'words': 'what to say'},
      {'times': (1, 'how often'), 'to': (None, 'whom')}, False)
  monkeypatch.setitem(main.COMMANDS, 'say', row)
  return heard


def test_command_without_config(zppo, refused, spoken):
  """Flags have the types of their defaults; --config is unknown to it."""
  zppo('say', '--words=good day', '--times', '3')
  zppo('say', '--words=bye', '--to=you')
  assert spoken == [('good day', 3, None), ('bye', 1, 'you')]
  assert 'zppo say: --words is needed (what to say)' in refused('say')
  assert 'times=often' in refused('say', '--words=a', '--times=often')
  assert "'config'" in refused('say', '--words=a', CONFIG)


def test_help_of_a_command_without_config(zppo, capsys, spoken):
  zppo('say', '--help')
  out = capsys.readouterr().out
  assert '--words: what to say' in out and '--config' not in out
  assert '[--times: how often; default 1]' in out


def test_an_unknown_command_names_near_ones_or_all(refused):
  message = refused('trian', CONFIG)
  assert "'trian'. Did you mean train?" in message and 'Known' not in message
  message = refused('zzzzzz', CONFIG)
  assert all(command in message for command in main.COMMANDS)


def test_missing_config(refused, tmp_path):
  assert '--config=NAME is needed' in refused(
      'train', f'--workdir={tmp_path}/run')


@pytest.mark.parametrize('command, config, flag', [
    ('train', CONFIG, '--workdir'), ('pretrain', f'{PRETRAIN}:student', '--to'),
])
def test_missing_flag_is_named(refused, command, config, flag):
  assert f'zppo {command}: {flag} is needed' in refused(command, config)


def test_missing_file_lists_its_neighbours(refused, tmp_path):
  (tmp_path / 'there.py').write_text('')
  message = refused('train', f'--config={tmp_path}/ther.py', '--workdir=run')
  assert f"no config file '{tmp_path}/ther.py'" in message
  assert f'{tmp_path}/there.py' in message


@pytest.mark.parametrize('key, suggestion', [
    ('algorithm.tua', 'config.algorithm.tau'),
    ('sede', 'config.seed'),
    ('optimizer.learningrate', 'config.optimizer.learning_rate'),
    ('data.pool.sise', 'config.data.pool.size'),
])
def test_unknown_key_suggests(refused, tmp_path, key, suggestion):
  message = refused('train', CONFIG, f'--workdir={tmp_path}/run',
                    f'--config.{key}=1')
  assert f"unknown config key 'config.{key}'" in message
  assert f'Did you mean {suggestion}' in message
  assert 'Known' not in message


@pytest.mark.parametrize('key, wanted, other', [
    ('zzzzzz', 'Known: config.', 'config.algorithm.tau'),
    ('algorithm.zzzzzz', 'config.algorithm.rho_replay', 'config.seed'),
    ('algorithm.reference.zzzzzz', 'config.algorithm.reference.kind',
     'config.algorithm.tau')])
def test_an_unknown_key_without_a_near_one_lists_some(
    refused, tmp_path, key, wanted, other):
  """issue 21: thousands of characters, also behind a good suggestion."""
  message = refused('train', CONFIG, f'--workdir={tmp_path}/run',
                    f'--config.{key}=1')
  assert wanted in message and other not in message and len(message) < 900
  assert message.count(', ') < 24


@pytest.mark.parametrize('key, fields', [
    ('algorithm.num_generations', ['algorithm.rollouts']),
    ('num_generations', ['algorithm.rollouts']),
    ('learning_rate', ['optimizer.learning_rate']),
    ('algorithm.per_device_train_batch_size',
     ['algorithm.num_new', 'algorithm.updates']),
    ('max_completion_length', ['algorithm.max_tokens']),
    ('algorithm.beta', ['algorithm.reference.kind',
                        'algorithm.reference.coefficient']),
    ('student.temperature', ['algorithm.temperature']),
    ('algorithm.epsilon', ['algorithm.clip.low']),
    ('gradient_accumulation_steps', ['shapes.micro_tokens']),
    ('max_steps', ['steps']), ('algorithm.seed', ['seed']),
    ('reward_weights', ['reward.weights']), ('lora.r', ['lora.rank'])])
def test_a_name_of_trl_is_said_in_ours(refused, tmp_path, key, fields):
  """num_generations was guessed to be num_new, a number of questions."""
  last = key.rpartition('.')[2]
  names = ' and '.join(f'config.{field}' for field in fields)
  message = refused('train', CONFIG, f'--workdir={tmp_path}/r',
                    f'--config.{key}=4')
  assert f'{last} of TRL is {names} here' in message
  message = refused('train', CONFIG, f'--workdir={tmp_path}/r', f'--{last}=4')
  assert f'unknown flag {last!r}' in message
  assert message.endswith('ields of the config are written ' + ' and '.join(
      f'--config.{field}=...' for field in fields))


def test_a_section_is_no_flag(refused, tmp_path):
  """It was called an unknown key; the weights of micro have no field yet."""
  say = lambda flag: refused('train', CONFIG, f'--workdir={tmp_path}/r', flag)
  assert say('--config.reward.weights=None').endswith(
      "config.reward.weights'. It is a section, which a config file sets whole")
  assert say('--config.lora=1').endswith(
      'a flag sets one of its fields, such as config.lora.alpha')


def test_a_name_of_trl_without_a_field_says_why(refused, tmp_path):
  for flag in ('--config.output_dir', '--output_dir', '--output-dir'):
    assert 'output_dir of TRL is the flag --workdir here' in refused(
        'train', CONFIG, f'--workdir={tmp_path}/r', f'{flag}=runs')
  for flag in ('--config.algorithm.num_iterations', '--num_iterations'):
    assert 'num_iterations of TRL has no field here: ' in refused(
        'train', CONFIG, f'--workdir={tmp_path}/r', f'{flag}=1')


def test_a_slip_in_a_section_comes_before_other_names(refused, tmp_path):
  assert 'Did you mean config.distil.temperature' in refused(
      'train', CONFIG, f'--workdir={tmp_path}/r',
      '--config.distill.temperature=1')
  assert 'Did you mean config.optimizer.clip_norm?' in refused(
      'train', CONFIG, f'--workdir={tmp_path}/r', '--config.clip_norm=1')


def test_weights_have_no_config(refused, tmp_path):
  """issue 21: the message did not say whose config is taken."""
  message = refused('eval', f'--checkpoint={tmp_path}', f'--to={tmp_path}/e')
  assert 'one --config=NAME is needed' in message
  assert 'A run that --checkpoint names brings its own config; a folder' in (
      message)
  assert 'own config' not in refused('train', f'--workdir={tmp_path}/e')


def test_misspelt_flag_is_named(refused, tmp_path):
  for wrong in ('wrokdir', 'worksdir'):
    message = refused('train', CONFIG, f'--{wrong}={tmp_path}/run')
    assert message.endswith(f'flag {wrong!r}. Did you mean --workdir?')
  assert message.startswith('zppo train: unknown flag')
  assert refused('train', CONFIG, '--fork=a').endswith('--fork-from?')


def test_a_misspelt_config_flag_is_named(refused, tmp_path):
  message = refused('train', '--confg=micro', f'--workdir={tmp_path}/r')
  assert message.endswith(' Did you mean --config by --confg?')
  assert 'Did you mean' not in refused('train', f'--workdir={tmp_path}/r')


def test_leftover_argument_is_named(refused, tmp_path):
  assert "'more'" in refused('train', CONFIG, f'--workdir={tmp_path}/r', 'more')


def test_value_of_a_wrong_type_is_named(refused, tmp_path):
  assert '--config.steps=ten' in refused(
      'train', CONFIG, f'--workdir={tmp_path}/run', '--config.steps=ten')


@pytest.mark.parametrize('override, known', [
    ('method=zpo', ('zpo', 'grpo_replay', 'zppo', 'placebo')),
    ('data.task=chess', ('chess', 'micro')),
    ('algorithm.normaliser=batch', ('batch', 'without_zero', 'group')),
    ('student.weights=micro/pupil', ('micro/pupil', 'micro/student')),
])
def test_unknown_name_lists_the_known(refused, tmp_path, override, known):
  message = refused('train', CONFIG, f'--workdir={tmp_path}/run',
                    '--config.method=grpo_replay', f'--config.{override}')
  assert all(name in message for name in known)
  assert not (tmp_path / 'run').exists()


def test_used_workdir_is_refused_and_left_alone(refused, tmp_path):
  (tmp_path / 'metrics.jsonl').write_text('{"step": 0}\n')
  message = refused('train', CONFIG, f'--workdir={tmp_path}',
                    '--config.method=grpo_replay')
  assert f'{tmp_path} is not empty' in message
  assert [p.name for p in tmp_path.iterdir()] == ['metrics.jsonl']


def test_traceback_on_request(zppo, tmp_path, monkeypatch):
  monkeypatch.setenv('ZPPO_TRACEBACK', '1')
  with pytest.raises(KeyError, match='chess'):
    zppo('train', CONFIG, f'--workdir={tmp_path}/run',
         '--config.data.task=chess')


def test_arguments_need_not_come_from_sys_argv(tmp_path):
  with pytest.raises(SystemExit, match="unknown method 'zpo'"):
    main.main(['train', CONFIG, f'--workdir={tmp_path}/run',
               '--config.method=zpo'])


def test_unknown_role_lists_the_known(refused, tmp_path):
  message = refused('pretrain', f'{PRETRAIN}:pupil', f'--to={tmp_path}/w')
  assert "'pupil'" in message and 'terse_teacher' in message


def test_workdir_that_is_a_file_is_refused(refused, tmp_path):
  (tmp_path / 'file').write_text('')
  assert f'{tmp_path}/file' in refused(
      'train', CONFIG, f'--workdir={tmp_path}/file',
      '--config.method=grpo_replay')


def test_help_of_a_command_names_its_flags(zppo, capsys):
  zppo('train', '--help')
  assert '--workdir' in capsys.readouterr().out


@pytest.mark.parametrize('flag', ['--dry-run', '--dry_run'])
def test_dry_run_reaches_no_loop(zppo, tmp_path, monkeypatch, flag):
  asked = []
  monkeypatch.setattr(
      dry_run, 'main', lambda *args, measure: asked.append(args))
  zppo('train', CONFIG, f'--workdir={tmp_path}/run', flag)
  assert asked[0][1] == f'{tmp_path}/run'
  assert not (tmp_path / 'run').exists()


def test_details_need_a_dry_run(refused, tmp_path):
  assert '--details is for --dry-run' in refused(
      'train', CONFIG, f'--workdir={tmp_path}/run', '--details')
  assert '--measure is for --dry-run' in refused(
      'train', CONFIG, f'--workdir={tmp_path}/run', '--measure')


def test_fork_from_is_spelt_either_way(refused, tmp_path):
  for flag in ('--fork-from', '--fork_from'):
    assert f'no checkpoint at {tmp_path}' in refused(
        'train', CONFIG, f'--workdir={tmp_path}/run', f'{flag}={tmp_path}',
        '--config.method=grpo_replay')


@pytest.mark.parametrize('argv', [
    ('--help',),              # written when the command has ended
    ('completion', 'bash')])  # more than a buffer, while it prints
def test_nobody_reads_on(argv):
  """As `yes | head`: no word, and the code of SIGPIPE."""
  reader, writer = os.pipe()
  os.close(reader)
  with open(writer, 'w') as output:
    ran = subprocess.run(
        [sys.executable, '-m', 'zppo_jax.main', *argv], cwd=ROOT,
        stdout=output, stderr=subprocess.PIPE, text=True)
  assert (ran.returncode, ran.stderr) == (128 + signal.SIGPIPE, '')


def test_another_broken_pipe_is_an_error(refused, monkeypatch):
  """Somebody reads what is printed; the pipe was another one."""
  def breaks(values):
    raise BrokenPipeError(32, 'Broken pipe', 'another')

  monkeypatch.setitem(main.COMMANDS, 'say', main.Command(breaks, {}, {}, False))
  assert "Broken pipe: 'another'" in refused('say')


def test_an_interrupted_run_says_so_and_exits_like_the_signal(
    zppo, tmp_path, monkeypatch, capsys):
  def interrupted(*_):
    raise guards.Interrupted('SIGTERM: saved after 3 of 9 steps', 15)
  monkeypatch.setattr(loop, 'main', interrupted)
  with pytest.raises(SystemExit) as e:
    zppo('train', CONFIG, f'--workdir={tmp_path}/run')
  assert e.value.code == 143
  assert 'zppo train: SIGTERM: saved' in capsys.readouterr().err


@pytest.mark.parametrize('argv', [
    ('eval', CONFIG, '--checkpoint=c', '--to=t'),
    ('eval', CONFIG, '--checkpoint=c', '--to=t', '--suites=s'),
    ('sample', '--model=m', '--prompt=p'),
    ('pretrain', CONFIG, '--to=t')])
def test_what_a_command_compiles_is_kept(zppo, monkeypatch, argv):
  class Enabled(BaseException):
    pass

  def enable():
    raise Enabled
  monkeypatch.setattr(compile_cache, 'enable', enable)
  with pytest.raises(Enabled):
    zppo(*argv)


@pytest.fixture
def python_hears_ctrl_c():
  """A process that was started behind `&` ignores SIGINT."""
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize('dropped', [False, True])
def test_ctrl_c_before_the_loop_names_the_users_line(
    zppo, tmp_path, monkeypatch, capsys, python_hears_ctrl_c, dropped):
  """issue 21: it named no line, its code was 1, and it could be dropped."""
  path = tmp_path / 'sums.py'
  path.write_text("""
import gc, os, signal, time
def interrupt(*_):
  gc.callbacks.clear()
  os.kill(os.getpid(), signal.SIGINT)
  list(map(str, range(100)))
def draw(dropped):
  gc.callbacks.append(interrupt) if dropped else None
  gc.collect() if dropped else interrupt()
  time.sleep(20)
""")
  names = {}
  exec(compile(path.read_text(), str(path), 'exec'), names)
  callbacks = gc.callbacks[:]
  monkeypatch.setitem(main.COMMANDS, 'say', main.Command(
      lambda values: names['draw'](dropped), {}, {}, False))
  try:
    with pytest.raises(SystemExit) as e:
      zppo('say')
  finally:
    gc.callbacks[:] = callbacks
  assert e.value.code == 128 + signal.SIGINT
  said = capsys.readouterr().err
  assert said.startswith(f'zppo say: stopped at once ({path}:')
  assert said.rstrip().endswith(' in draw)' if dropped else ' in interrupt)')


def test_report_takes_workdirs_without_a_flag(zppo, refused, tmp_path, capsys):
  path = workdirs.make(tmp_path / 'run', steps=3)
  zppo('report', path)
  assert capsys.readouterr().out.strip() == f'{path}/report.html'
  zppo('report', path, f'--to={tmp_path}/r.html', '--samples=2')
  assert '2 of 4 recorded questions' in (tmp_path / 'r.html').read_text()
  assert 'WORKDIR... is needed' in refused('report')
  assert 'no config.json' in refused('report', tmp_path)
  assert '--to=FILE.html' in refused('report', path, tmp_path)


def test_compare_prints_and_writes_the_table(zppo, refused, tmp_path, capsys):
  paths = [workdirs.make(tmp_path / m, method=m, steps=3)
           for m in ('zppo', 'grpo')]
  zppo('compare', *paths, f'--to={tmp_path}/t.md')
  out = capsys.readouterr().out
  assert '| zppo | 1 |' in out
  assert (tmp_path / 't.md').read_text().strip() == out.strip()
  other = workdirs.make(tmp_path / 'other', steps=4)
  assert "steps: '3', '4'" in refused('compare', *paths, other)


def test_eval_names_what_does_not_fit(refused, tmp_path):
  ask = ('eval', CONFIG, f'--to={tmp_path}/e')
  assert '--checkpoint is needed' in refused(*ask)
  assert "no weights 'gone'" in refused(*ask, '--checkpoint=gone')
  assert '--k is' in refused(*ask, '--checkpoint=micro/student', '--k=1,two')
  assert 'temperature 0' in refused(
      *ask, '--checkpoint=micro/student', '--rollouts=8')
  assert not (tmp_path / 'e').exists()


@pytest.mark.parametrize(('words', 'said'), [
    (('train', CONFIG, '--workdir=gs://bucket/run'),
     "--workdir is 'gs://bucket/run', an address"),
    (('train', CONFIG, '--workdir=run', '--fork-from=gs://bucket/run'),
     "--fork-from is 'gs://bucket/run', an address"),
    (('eval', CONFIG, '--checkpoint=x', '--to=s3://bucket/run'),
     "--to is 's3://bucket/run', an address"),
    (('report', 'gs://bucket/run'), "is 'gs://bucket/run', an address")])
def test_an_address_is_refused_and_no_folder_is_made(
    refused, tmp_path, monkeypatch, words, said):
  monkeypatch.chdir(tmp_path)
  assert said in refused(*words)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(('flags', 'said'), [
    (('--processes=2',), 'processes given without coordinator, process'),
    (('--processes=2', '--process=2', '--coordinator=a:1'), 'process is 2'),
    (('--processes=0',), 'processes is 0')])
def test_flags_that_name_no_process_are_refused(refused, tmp_path, flags, said):
  assert said in refused('train', CONFIG, f'--workdir={tmp_path}', *flags)


def test_what_is_said_to_other_processes(monkeypatch):
  assert failures.said(KeyboardInterrupt()) == 'stopped at once'
  assert failures.said(ValueError('steps is 0')) == 'steps is 0'
  assert 'Traceback' not in failures.said(ValueError('x'))
  assert 'AssertionError' in failures.said(AssertionError('a mistake'))
