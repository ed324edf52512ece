"""`zppo sample` and `zppo models` by the command line."""

import pytest

from zppo_jax import main
from zppo_jax.chat import wording
from zppo_jax.commands import sample
from zppo_jax.records import Decoding
from zppo_jax.weights import pretrained

pytestmark = pytest.mark.usefixtures('quick_compile')
pytest.importorskip('transformers')
from tests import hub_builders  # noqa: E402


def run(capsys, *argv):
  main.main(['sample', *argv])
  return capsys.readouterr().out


def refused(*argv):
  with pytest.raises(SystemExit) as e:
    main.main(['sample', *argv])
  return e.value.code


def test_the_embedded_world(capsys):
  """Easy questions are right; greedy responses are equal."""
  out = run(capsys, '--model=micro/teacher', '--prompt=C a b c 4', '--num=2',
            '--temperature=0', '--max_tokens=16')
  first, second = out.split('\n---\n')
  assert first.strip() == second.strip() and ' A ' in first


def test_a_hub_folder(tmp_path, capsys):
  """By its chat template; seeds differ, a seed does not; thinking is on by
  this template's default."""
  folder = hub_builders.write(tmp_path / 'hub')
  argv = (f'--model={folder}', '--prompt=the end?', '--max_tokens=12')
  first = run(capsys, *argv)
  assert run(capsys, *argv) == first != run(capsys, *argv, '--seed=1')
  assert run(capsys, *argv, '--thinking=on') == first
  assert run(capsys, *argv, '--thinking=off') != first


def test_thinking_reaches_the_prompt(tmp_path):
  """A prompt of its own for each setting."""
  found = pretrained.load(hub_builders.write(tmp_path / 'hub'))
  chats = [pretrained.chat(found, wording.BARE, t) for t in (True, False)]
  on, off = (c.codec.decode(c.plain('hi').tokens) for c in chats)
  assert on == '<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n'
  assert off == on + '<think>\n\n</think>\n\n'


def test_refusals(tmp_path):
  model = '--model=micro/student'
  assert "--thinking is 'maybe'; allowed: on, off" in refused(
      model, '--prompt=C a 4', '--thinking=maybe')
  assert 'the decoder family takes no images or videos' in refused(
      model, '--prompt=C a 4', '--image=a.png')
  assert f"no frames in '{tmp_path}'" in refused(
      model, '--prompt=C a 4', f'--video={tmp_path}')
  assert '--num is 0' in refused(model, '--prompt=C a 4', '--num=0')
  assert 'temperature is -1' in refused(
      model, '--prompt=C a 4', '--temperature=-1')
  assert 'max_positions, 256' in refused(
      model, '--prompt=C a 4', '--max_tokens=300')
  assert '--prompt is needed' in refused(model)
  assert '--prompt holds half a surrogate pair' in refused(
      model, '--prompt=C \udcff 4')


def test_rows_without_a_tokenizer(tiny):
  found = pretrained.Pretrained(*tiny, '', ())
  with pytest.raises(ValueError, match='24 rows and no tokenizer'):
    sample.respond(found, ['C a 4'], Decoding(4), num=1, seed=0, thinking=None)


def test_models(capsys):
  main.main(['models'])
  assert 'Qwen3-8B' in capsys.readouterr().out
