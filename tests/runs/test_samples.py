"""Which questions of a step are recorded, and what of them."""

import base64
import dataclasses
import io

import numpy as np
from PIL import Image

from tests.builders import group, question, rollout, wrong
from zppo_jax.algorithms import compression
from zppo_jax.algorithms.zppo import nothing_reformulated
from zppo_jax.chat import pictures
from zppo_jax.chat.micro_chat import CHAT
from zppo_jax.records import CallStats, Clip, Instance, Prompt, PromptKind
from zppo_jax.runs import samples

NOTHING = nothing_reformulated(0)


def reformulated(*names):
  """A BCQ of each question, its wrong candidate shortened to 'A 7'."""
  prompts, instances, texts = [], [], {}
  for name in names:
    of = question(name)
    pair = (rollout(), wrong(7))
    instances.append(Instance(of, PromptKind.BCQ, pair))
    prompts.append(Prompt(of, PromptKind.BCQ, CHAT.plain(of.text).tokens))
    texts[name, pair[0].text], texts[name, pair[1].text] = 'A 9', 'A 7'
  written = compression.Compressed(
      texts=texts, failures=(), requested=0, unchanged=0, over_bound=0,
      prompt_tokens=0, generated_tokens=0, removed=0, calls=CallStats())
  return dataclasses.replace(
      NOTHING, prompts=tuple(prompts), instances=tuple(instances),
      written={'compression': written})


def test_reformulated_questions_come_first_and_one_place_is_for_others():
  plain = [group(name, 0) for name in 'abcdef']
  chosen = samples.choose(plain, reformulated('a', 'b', 'c', 'd'), 3, 0, 0)
  assert set(chosen[:2]) < set('abcd') and chosen[2] in 'ef'
  assert len(samples.choose(plain, NOTHING, 3, 0, 0)) == 3
  assert set(samples.choose(plain, reformulated(*'abcdef'), 4, 0, 0)) < set(
      'abcdef')
  assert sorted(samples.choose(plain, reformulated('a'), 99, 0, 0)) == list(
      'abcdef')


def test_the_choice_is_drawn_by_seed_and_step():
  plain = [group(name, 0) for name in 'abcdefghij']
  choose = lambda seed, step: samples.choose(plain, NOTHING, 4, seed, step)
  assert choose(0, 0) == choose(0, 0)
  assert len({tuple(choose(s, t)) for s in range(2) for t in range(3)}) == 6


def test_a_row_by_hand():
  made = reformulated('a')
  bcq = dataclasses.replace(group('a', 1, 2, PromptKind.BCQ),
                            prompt=made.prompts[0])
  teacher = group('a', 1, 1)
  made = dataclasses.replace(made, teacher=(teacher,))
  advantages = np.array([[0, 0], [1.5, -1.5]], np.float32)
  [row] = samples.rows([group('a', 0, 2), bcq], advantages, made, ['a'], 7,
                       count=4, seed=0, chat=CHAT)
  assert row['step'] == 7 and row['replayed'] and row['accuracy'] == 0
  assert row['question'] == {'id': 'a', 'text': 'C h 4', 'answer': '9',
                             'split': 'hard'}
  assert row['teacher'] == [
      {'text': '4 h 9 A 9', 'verdict': 'correct', 'answer': '9'}]
  plain, asked = row['groups']
  assert plain['kind'] == 'plain' and plain['candidates'] == []
  assert plain['prompt'] == 'C h 4 :'
  assert asked['candidates'] == [
      {'text': 'A 9', 'answer': '9', 'verdict': 'correct'},
      {'text': 'A 7', 'answer': '7', 'verdict': 'wrong'}]
  assert asked['rollouts'][0] == {
      'text': '4 h 9 A 9', 'verdict': 'correct', 'answer': '9', 'reward': 1.0,
      'length': 6, 'stop': 'end', 'advantage': 1.5}


def test_runs_of_placeholders_are_one_word():
  pad = '<|image_pad|>'
  assert samples.spelt(f'a{pad * 3}b{pad}<|video_pad|><|video_pad|> pad') == (
      f'a{pad}×3b{pad}<|video_pad|>×2 pad')


def test_media_become_few_small_pictures():
  """Two pictures and a clip of nine frames: four thumbnails in all, a place
  kept for each; those of the clip are evenly spaced. Text alone has none."""
  def picture(width, height, grey):
    return pictures.picture(Image.new('RGB', (width, height), (grey,) * 3))

  frames = tuple(picture(20, 10, 20 * i) for i in range(9))
  asked = dataclasses.replace(question('q'), media=(
      picture(640, 320, 90), Clip(frames=frames, fps=2.0), picture(8, 8, 50)))
  first, clip, last = samples.media(asked)
  assert [m['kind'] for m in (first, clip, last)] == [
      'picture', 'clip', 'picture']
  assert (first['size'], clip['size'], clip['count']) == ('640x320', '20x10', 9)

  def shown(item):
    return [Image.open(io.BytesIO(base64.b64decode(s))) for s in item['shown']]

  assert [i.size for i in shown(first)] == [(160, 80)]
  assert [abs(i.getpixel((5, 5))[0] - grey) < 3 for i, grey in zip(
      shown(clip), (0, 160), strict=True)] == [True, True]
  assert shown(last)[0].format == 'JPEG'
  five = dataclasses.replace(asked, media=(picture(8, 8, 50),) * 6)
  assert [len(m['shown']) for m in samples.media(five)] == [1, 1, 1, 1, 0, 0]
  row, = samples.rows([group('q', 1)], np.zeros((1, 8)), NOTHING, [], 0,
                      count=1, seed=0, chat=CHAT)
  assert 'media' not in row['question']  # files of text runs stay as they were
