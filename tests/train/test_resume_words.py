"""A run whose prompts would be others than before does not go on."""

import json
import pathlib
import shutil

import pytest

from zppo_jax.train import loop

pytestmark = pytest.mark.usefixtures('quick_compile')
pytest.importorskip('transformers')
from tests import hub_builders  # noqa: E402
from tests.hub_builders import set_json  # noqa: E402
from tests.train.test_hub_training import COIN, make_config, tasks  # noqa: E402

TEMPLATE = "{{ strftime_now('%d %b %Y') }}" + hub_builders.TEMPLATE + (
    '{%- endif %}')


def config(home, steps):
  return make_config(str(home / 'student'), str(home / 'student'), **{
      'method': 'grpo', 'algorithm.num_new': 2, 'steps': steps,
      'student.chat_template': str(home / 'mine.jinja')})


@pytest.fixture(scope='module')
def begun(tmp_path_factory):
  """A folder with a model, a template and a run of one step."""
  home = tmp_path_factory.mktemp('begun')
  hub_builders.write(home / 'student')
  (home / 'mine.jinja').write_text(TEMPLATE)
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(tasks.TASKS, 'coin', COIN)
    loop.main(config(home, 1), home / 'run')
  return home


def edit_template(home):
  (home / 'mine.jinja').write_text('Hello. ' + TEMPLATE)


def edit_ends(home):
  set_json(home / 'student' / 'generation_config.json', eos_token_id=[263])


def edit_words(home):
  path = home / 'student' / 'tokenizer.json'
  found = json.loads(path.read_text())
  words = found['model']['vocab']
  words['a'], words['b'] = words['b'], words['a']
  path.write_text(json.dumps(found))


def edit_date(home):
  path = home / 'run' / 'config.json'
  path.write_text(json.dumps(
      {**json.loads(path.read_text()), 'date': '2001-02-03'}))


@pytest.mark.parametrize('edit, named', [
    (edit_template, 'template'), (edit_ends, r'end tokens \(now \[263\], then'),
    (edit_words, 'vocabulary'), (edit_date, r"date \(now '2001-02-03', then")])
def test_other_prompts_are_refused(begun, monkeypatch, edit, named):
  """The paths in the config are the same; what lies there is not. It went on
  with other prompts, in silence."""
  monkeypatch.setitem(tasks.TASKS, 'coin', COIN)
  held = begun.with_name('held')
  shutil.copytree(begun, held)
  try:
    edit(begun)
    with pytest.raises(ValueError, match='after 1 steps was trained on other '
                                         f'prompts: {named}'):
      loop.main(config(begun, 2), begun / 'run')
  finally:
    shutil.rmtree(begun)
    shutil.move(held, begun)


def test_the_same_prompts_go_on(begun, monkeypatch):
  """Also after a checkpoint of an earlier version, which does not say."""
  monkeypatch.setitem(tasks.TASKS, 'coin', COIN)
  loop.main(config(begun, 2), begun / 'run')
  (file,) = begun.glob('run/checkpoints/2/host/metadata')
  held = json.loads(pathlib.Path(file).read_text())
  assert set(held['host'].pop('words')) == {
      'template', 'vocabulary', 'end tokens', 'date'}
  for name in ('digest', 'files'):
    del held[name]
  file.write_text(json.dumps(held))
  edit_ends(begun)
  assert loop.main(config(begun, 3), begun / 'run')['steps'] == 3
