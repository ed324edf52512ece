"""Prompts that no bucket holds: found by headers, refused or left out."""

import dataclasses
import json

import pytest
from PIL import Image, ImageDraw

from tests.builders import question
from zppo_jax.chat import images
from zppo_jax.data import pool as pools, prompt_lengths
from zppo_jax.records import Clip
from zppo_jax.weights import pretrained

pytest.importorskip('transformers')
from tests import hub_builders  # noqa: E402


def drawn(i, width=16, height=12):
  image = Image.new('RGB', (width, height), (i, 90, 200))
  ImageDraw.Draw(image).ellipse((i % 5, 1, i % 5 + 7, 8), (200, i, 0))
  return images.picture(image)


@pytest.fixture(scope='module')
def chat(tmp_path_factory):
  folder = hub_builders.write_seeing(tmp_path_factory.mktemp('seeing'),
                                     'qwen3_5')
  return pretrained.chat(pretrained.load(folder, dtype='float32',
                                         remat='none'))


def asked(i, *media):
  return dataclasses.replace(question(f'q{i}'), text=f'what is it? {i}',
                             media=media)


MEDIA = [(), (drawn(1),), (drawn(1), drawn(2, 8, 8)), (drawn(3, 40, 9),),
         (Clip(tuple(drawn(k, 8, 8) for k in range(5)), 2.0),),
         (drawn(1), Clip((drawn(4, 20, 8),), 1.0))]


@pytest.mark.parametrize('media', MEDIA)
def test_the_outline_is_that_of_the_prompt(chat, media):
  whole = chat.plain('what is it? \n', media)
  patches = 0 if whole.media is None else len(whole.media.patches_IC)
  assert chat.outline('what is it? \n', media) == (len(whole.tokens), patches)


def test_nothing_is_decoded(chat, monkeypatch):
  def never(of):
    raise AssertionError('decoded')
  monkeypatch.setattr(images, 'decode', never)
  assert chat.outline('x', (drawn(9, 30, 30),))[1] > 0


def test_the_reason_names_the_question_and_the_table(chat):
  one = asked(1, drawn(1))
  tokens, patches = chat.outline(one.text, one.media)
  assert prompt_lengths.why_overlong(one, chat, tokens, (patches,)) == ''
  assert prompt_lengths.why_overlong(one, chat, tokens - 1, (patches,)) == (
      f"question 'q1' has a prompt of {tokens} tokens; the largest of "
      f'shapes.prompt_buckets is {tokens - 1}')
  assert prompt_lengths.why_overlong(one, chat, tokens, (1, patches - 1)) == (
      f"question 'q1' has a prompt of {patches} patches; the largest of "
      f'shapes.patch_buckets is {patches - 1}')
  assert 'shapes.patch_buckets is empty' in prompt_lengths.why_overlong(
      one, chat, tokens, ())
  with pytest.raises(ValueError, match="'q1' has a prompt of"):
    prompt_lengths.check([asked(0), one], chat, tokens - 1, (patches,))


def test_refuse_and_drop(chat, tmp_path, capsys):
  (tmp_path / 'a.jsonl').write_text(''.join(
      json.dumps({'q': 'word ' * n, 'a': '1'}) + '\n' for n in (1, 900, 2)))
  pool = pools.open_pool({'mine': dict(
      format='jsonl', path=str(tmp_path), kind='text',
      columns=dict(text='q', answer='a'))}, {})
  with pytest.raises(ValueError, match="'mine/1' has a prompt of"):
    prompt_lengths.without_overlong(pool, 'refuse', chat, 1000, ())
  kept = prompt_lengths.without_overlong(pool, 'drop', chat, 1000, ())
  assert kept.ids == ('mine/0', 'mine/2')
  assert kept.record() == {
      'counts': {'rows': {'mine': 3}, 'skipped': {'mine': 0},
                 'prompt_tokens': {'mine': 1}}, 'kept': {'mine': 2}}
  assert '1 of 3 questions left out' in capsys.readouterr().out
  bounded = prompt_lengths.without_overlong(pool, 'drop', chat, 9000, (), 1000)
  assert bounded.ids == kept.ids
  with pytest.raises(ValueError, match=(
      r'data.prompt_tokens is 1000\. .*prompt_tokens up to 4605 hold all; ')):
    prompt_lengths.without_overlong(pool, 'refuse', chat, 9000, (), 1000)
  with pytest.raises(ValueError, match='data.prompt_tokens is -1; it must be'):
    prompt_lengths.without_overlong(pool, 'drop', chat, 9000, (), -1)
  whole = tuple(pool)
  fitting = prompt_lengths.without_overlong(whole, 'drop', chat, 1000, ())
  assert [q.id for q in fitting] == [
      'mine/0', 'mine/2']
