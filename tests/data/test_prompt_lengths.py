"""Prompts that no bucket holds: found by headers, refused or left out."""

import dataclasses
import json

import pytest
from PIL import Image, ImageDraw

from tests.builders import question, small_config
from zppo_jax import tasks
from zppo_jax.chat import images, micro_chat
from zppo_jax.commands.prompting import show
from zppo_jax.data import pool as pools, prompt_lengths
from zppo_jax.records import Clip
from zppo_jax.train import build
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


def test_words_without_a_token_are_named_or_refused(capsys):
  """The words of a question that the tiny model has no token for."""
  asked_as = lambda name, text: dataclasses.replace(question(name), text=text)
  prompt_lengths.check_words([asked_as('q0', 'C h i 4')], micro_chat.CHAT)
  assert capsys.readouterr().out == ''
  some = [asked_as('q0', 'C h i 4'), asked_as('q1', 'What is C h 4 ?')]
  prompt_lengths.check_words(some, micro_chat.CHAT)
  said = capsys.readouterr().out
  assert said.startswith("warning: 'What', 'is', '?' are removed from 1 of 2 ")
  assert "question 'q1', 'What is C h 4 ?', is read as 'C h 4'" in said
  with pytest.raises(ValueError, match=(
      r"question 'q2' has no token .*'What', 'is', 'it\?' of 'What is it\?' are"
      r'.*vocabulary of its own \(docs/micro_world.md\)')):
    prompt_lengths.check_words(
        [*some, asked_as('q2', 'What is it?')], micro_chat.CHAT)


def test_a_run_and_its_prompts_say_which_words_are_removed(
    monkeypatch, capsys):
  """Both before anything compiles; `--dry-run` builds as a run does."""
  config = small_config()
  task = tasks.get(config.data.task)
  monkeypatch.setitem(tasks.TASKS, config.data.task, task._replace(
      pool=lambda **of: [dataclasses.replace(q, text=f'compute {q.text}')
                         for q in task.pool(**of)]))
  build.build(config)
  assert capsys.readouterr().out.count("'compute' are removed from 64 of") == 1
  show.main(config)
  assert "'compute' are removed from 1 of 1" in capsys.readouterr().out


def test_look_alikes_of_tags_are_named(chat, capsys):
  prompt_lengths.check_words([dataclasses.replace(
      asked(0), text='what <candidate> is it?')], chat)
  assert "warning: '<candidate>' are removed" in capsys.readouterr().out
