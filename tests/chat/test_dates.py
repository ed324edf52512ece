"""The date in prompts: a run's first day, an evaluation's run, or today."""

import datetime
import json
import pathlib
import runpy

import pytest

pytest.importorskip('transformers')
from tests import hub_builders  # noqa: E402
from tests.long import LONG
from tests.train.test_hub_training import COIN, make_config  # noqa: E402
from zppo_jax import main, tasks
from zppo_jax.chat import dates, hub_chat, rendering  # noqa: E402
from zppo_jax.chat.rendering import Day  # noqa: E402
from zppo_jax.commands import evaluate
from zppo_jax.runs import same_config, workdir
from zppo_jax.train import build, loop, models
from zppo_jax.weights import pretrained

pytestmark = pytest.mark.usefixtures('quick_compile')
ROOT = pathlib.Path(__file__).parents[2]
BODY = (
    "{%- for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + "
    "'<|im_end|>\\n' }}{%- endfor %}{%- if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\\n' }}{%- endif %}")
# As Llama 3.2 tells it, and 3.1, whose default is a day long ago.
LLAMA = (
    '{%- if not date_string is defined %}{%- if strftime_now is defined %}'
    "{%- set date_string = strftime_now('%d %b %Y') %}{%- else %}"
    "{%- set date_string = '26 Jul 2024' %}{%- endif %}{%- endif %}"
    "{{- '<|im_start|>system\\nToday Date: ' + date_string + "
    "'<|im_end|>\\n' }}") + BODY
OLDER = LLAMA.replace("strftime_now('%d %b %Y')", "'26 Jul 2024'").replace(
    'strftime_now is', 'false is')
MISTRAL = ("{%- set today = strftime_now('%Y-%m-%d') %}{{- today + '\\n' }}"
           + BODY)
FIRST, NEXT = datetime.date(2026, 3, 31), datetime.date(2026, 4, 1)


@pytest.fixture
def clock(monkeypatch):
  """Sets what day it is."""
  def to(day):
    monkeypatch.setattr(dates, 'today', lambda: Day(day, False))
  to(FIRST)
  monkeypatch.setitem(tasks.TASKS, 'coin', COIN)
  return to


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return hub_builders.write(tmp_path_factory.mktemp('dated'),
                            hub_builders.tokenizer(LLAMA))


def config(folder, **changes):
  return make_config(folder, folder, **{
      'method': 'grpo', 'algorithm.num_new': 2, 'samples.questions': 2,
      **changes})


def shown(path, name='samples.jsonl') -> list[str]:
  return (pathlib.Path(path) / name).read_text().splitlines()


@LONG
def test_a_run_that_goes_on_past_midnight(clock, folder, tmp_path):
  """fault A11: the resumed run has the prompts, and so the rollouts, of one
  that was not interrupted."""
  whole = config(folder, steps=2)
  loop.main(whole, tmp_path / 'whole')
  loop.main(config(folder, steps=1), tmp_path / 'cut')
  clock(NEXT)
  loop.main(whole, tmp_path / 'cut')
  assert shown(tmp_path / 'cut') == shown(tmp_path / 'whole')
  assert any('31 Mar 2026' in line for line in shown(tmp_path / 'cut'))
  assert not any('01 Apr 2026' in line for line in shown(tmp_path / 'cut'))
  stored = json.loads((tmp_path / 'cut' / 'config.json').read_text())
  assert stored['date'] == '2026-03-31'

  # A fork goes on with them, unless its config names another day.
  loop.main(config(folder, steps=3), tmp_path / 'fork', tmp_path / 'whole')
  assert any('31 Mar 2026' in line for line in shown(tmp_path / 'fork'))
  assert workdir.read_config(tmp_path / 'fork')['date'] == '2026-03-31'
  assert dates.of_run(tmp_path / 'fork' / 'checkpoints' / '3') == Day(
      FIRST, False)
  assert dates.choose(
      config(folder, **{'student.date': '2025-12-24'}),
      tmp_path / 'whole').date == datetime.date(2025, 12, 24)

  # So does an evaluation of it; one of bare weights is today's.
  for number, (of, day) in enumerate((
      (tmp_path / 'cut', FIRST),
      (tmp_path / 'cut' / 'checkpoints' / '1', FIRST),
      (tmp_path / 'cut' / 'final.safetensors', FIRST), (folder, NEXT))):
    to = tmp_path / f'eval{number}'
    evaluate.main(config(folder), str(of), to)
    assert json.loads((to / 'config.json').read_text())['date'] == str(day)
    assert dates.choose(config(folder), str(of)).date == day


def prompt(of: models.Loaded) -> str:
  return of.chat.codec.decode(of.chat.plain('the end?').tokens)


def test_the_configs_date_counts(clock, folder):
  """fault A11: student.date, also for templates that ask for date_string."""
  spec = config(folder).student
  for day, said in ((None, '31 Mar 2026'),
                    (rendering.parse_day('2024-02-29', 'x'), '29 Feb 2024'),
                    (Day(NEXT, False), '01 Apr 2026')):
    assert said in prompt(models.load_model(spec, day=day))
  older = hub_builders.tokenizer(OLDER)
  for given, said in ((True, '01 Apr 2026'), (False, '26 Jul 2024')):
    chat = hub_chat.chat(older, hub_builders.ROWS, day=Day(NEXT, given))
    assert said in chat.wording.opening


def test_no_clock_below(folder, monkeypatch):
  """fault A11: without a date a template that wants one is refused, not told
  the clock's; one that has a default tells that."""
  chat = lambda template, day=None: hub_chat.chat(
      hub_builders.tokenizer(template), hub_builders.ROWS, day=day)
  with pytest.raises(ValueError, match='asks for the date'):
    chat(MISTRAL)
  assert '26 Jul 2024' in chat(LLAMA).wording.opening
  assert '2026-04-01' in chat(MISTRAL, Day(NEXT, False)).wording.opening
  told = hub_builders.tokenizer(MISTRAL.replace('%Y-%m-%d', '%H:%M:%S %j'))
  assert hub_chat.chat(told, hub_builders.ROWS, day=Day(NEXT, False)
                       ).wording.opening.startswith('00:00:00 091')


@pytest.mark.parametrize('text', [
    'today', '2026-13-01', '2026-2-3', '20260301', '2026-02-30',
    '2026-03-01T10:00', '01.03.2026'])
def test_refused_dates(clock, folder, text, tmp_path):
  """fault A11: the field, the value and the form."""
  said = rf"is '{text}'; allowed: a date as YYYY-MM-DD"
  with pytest.raises(ValueError, match=f'student.date {said}'):
    loop.main(config(folder, **{'student.date': text}), tmp_path / 'run')
  for command in (['sample', '--prompt=x'], ['serve', '--port=0']):
    with pytest.raises(SystemExit, match=f'--date {said}'):
      main.main([command[0], f'--model={folder}', *command[1:],
                 f'--date={text}'])


def test_a_date_that_nothing_tells(clock, tmp_path):
  """fault A11: a named date is never left out in silence."""
  plain = hub_builders.write(tmp_path / 'plain')
  with pytest.raises(ValueError, match='2026-04-01 was given.*asks for none'):
    pretrained.chat(pretrained.load(plain), day=Day(NEXT, True))
  with pytest.raises(ValueError, match='--date is 2026-04-01.*no prompt tells'):
    pretrained.bare_chat(pretrained.load('micro/student'), day=Day(NEXT, True))
  micro = runpy.run_path(str(ROOT / 'configs' / 'micro.py'))['get_config']()
  micro.student.date = '2026-04-01'
  with pytest.raises(ValueError, match="student.date is '2026-04-01'"):
    build.build(micro)


def test_sample_and_serve_take_todays(clock, folder, capsys):
  """fault A11: and the day they are told; the prompt is what changes."""
  found = pretrained.load(folder)
  for day, said in ((None, '31 Mar 2026'), (Day(NEXT, True), '01 Apr 2026')):
    assert said in pretrained.bare_chat(found, day=day).wording.opening
  main.main(['sample', f'--model={folder}', '--prompt=the end?',
             '--max_tokens=1', '--date=2026-04-01'])


def test_a_run_of_an_earlier_version(tmp_path, folder):
  """fault A11: without a stored date it began on the day of its first
  attempt; what is stored and no date is named."""
  c = config(folder)
  out = workdir.Workdir.open(tmp_path, c)
  path = out.attempt / 'attempt.json'
  path.write_text(json.dumps({**json.loads(path.read_text()),
                              'started': '2025-06-01T23:59:59+0000'}))
  second = workdir.Workdir.open(tmp_path, c)
  assert second.attempt.name == '0002'
  assert dates.of_run(tmp_path) == Day(datetime.date(2025, 6, 1), False)
  stored = json.loads((tmp_path / 'config.json').read_text())
  del stored['config']['student']['date']
  same_config.check_same_config(tmp_path, stored, c)
  (tmp_path / 'config.json').write_text(json.dumps({**stored, 'date': 'x'}))
  with pytest.raises(ValueError, match="config.json: date is 'x'"):
    dates.of_run(tmp_path)
  (tmp_path / 'config.json').write_text('{')
  with pytest.raises(ValueError, match='config.json is not readable'):
    dates.of_run(tmp_path)
  assert dates.of_run(folder) is None  # a config.json of the hub
  # Weights that only lie in a run's folder are not that run's.
  assert dates.of_run(tmp_path / 'other.safetensors') is None
