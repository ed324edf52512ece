"""Conversations with pictures: their places, their rows and their loss."""

import jax
import numpy as np
import pytest
from PIL import Image

pytest.importorskip('transformers')
from tests import hub_builders  # noqa: E402
from tests.long import LONG
from tests.sft.builders import changed, micro_config, write_lines  # noqa: E402
from zppo_jax.learner import packing  # noqa: E402
from zppo_jax.sft import build, step  # noqa: E402

pytestmark = pytest.mark.usefixtures('quick_compile')


def chat(shown, second='why?'):
  """The picture is shown in the second message of the user."""
  return {'messages': [
      {'role': 'user', 'content': 'the end?'},
      {'role': 'assistant', 'content': 'no'},
      {'role': 'user', 'content': [{'type': 'image', 'image': shown},
                                   {'type': 'text', 'text': second}]},
      {'role': 'assistant', 'content': 'so'}]}


@pytest.fixture(scope='module')
def home(tmp_path_factory):
  path = tmp_path_factory.mktemp('pictures')
  hub_builders.write_seeing(path / 'student', 'qwen3_5')
  pixels = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
  Image.fromarray(pixels).save(path / 'a.png')
  Image.fromarray(255 - pixels).save(path / 'b.png')
  return path


def make_run(home, rows, **changes):
  c = micro_config('')
  with c.unlocked():
    c.student.update(weights=str(home / 'student'), unroll=1)
    c.data.task, c.data.batch, c.eval.holdout = '', len(rows), 0
    c.data.sources = dict(chats=dict(
        format='jsonl', columns=dict(messages='messages'),
        path=write_lines(home / 'chats.jsonl', rows)))
    c.shapes.update(row_buckets=(128,), patch_buckets=(64,), micro_tokens=192)
  return build.build(changed(c, **changes))


def loss(run):
  params = run.init_state().params
  sums = [jax.device_get(run.evaluate_fn(params, b)) for b in
          step.micro_batches(run, run.source.draw(0))]
  return sum(float(s.loss) for s in sums) / sum(float(s.tokens) for s in sums)


def test_a_picture_behind_an_answer_keeps_its_places(home):
  run = make_run(home, [chat('a.png')])
  (sequence,) = run.source.draw(0)
  of = sequence.sequence
  pad = run.chat.codec.ids['<|image_pad|>']
  assert pad not in of.prompt and pad in of.response
  positions = packing.positions_of(
      len(of.prompt), len(of.response), of.media, 3)
  np.testing.assert_array_equal(positions, of.media.positions_TA)
  said = np.array(of.response)[sequence.mask_R]
  end = run.chat.codec.end_id
  assert run.chat.codec.decode(said).replace('\n</think>\n\n', '') == (
      f'no{run.chat.codec.decode([end])}so{run.chat.codec.decode([end])}')
  # Rotary positions stand still over a picture, so the last one is below T.
  assert positions.max() < len(positions) - 1


@LONG
def test_rows_with_pictures_stay_alone_and_have_the_loss_of_each(home):
  rows = [chat('a.png'), chat('b.png'), chat('a.png', 'then')]
  text = [{'messages': r['messages'][:2]} for r in rows[:2]]
  run = make_run(home, [*rows, *text])
  batches = step.micro_batches(run, run.source.draw(0))
  seen = [b for b in batches if b.prompts.media is not None]
  assert sum(int((b.segment_BT.max(axis=1) == 1).sum()) for b in seen) == 3
  padded = make_run(home, [*rows, *text], shapes__layout='padded')
  assert loss(run) == pytest.approx(loss(padded), rel=1e-5)
  one, other = (loss(make_run(home, [chat(name)]))
                for name in ('a.png', 'b.png'))
  assert abs(one - other) > 1e-4


def test_too_many_patches_are_refused_with_the_row(home):
  with pytest.raises(ValueError, match=r'chats\.jsonl, line 1: .* patches; the '
                     'largest of shapes.patch_buckets is 0'):
    make_run(home, [chat('a.png')], shapes__patch_buckets=())
  with pytest.raises(FileNotFoundError, match=r's\.jsonl, line 1: .*c\.png'):
    make_run(home, [chat('c.png')])


@LONG
def test_shapes_auto_makes_room_for_pictures(home, monkeypatch):
  """The longest conversation and the one with most patches are both tried."""
  from zppo_jax.sft import shapes
  from zppo_jax.train.shapes import room
  tried = []
  monkeypatch.setattr(room, 'most_temporaries', lambda program: 2**60)
  monkeypatch.setattr(room, 'temporaries',
                      lambda program: tried.append(program) or 1)
  run = make_run(home, [chat('a.png'), chat('b.png', 'x' * 40)],
                 shapes__auto=True, **{
                     f'shapes__{name}': value
                     for name, value in shapes.DEFAULTS.items()})
  sizes = [step.dataset.sequence(run.source.pool.reader.taught(
      run.source.pool.lesson(i))).sequence for i in range(2)]
  assert max(run.room.row_buckets) >= max(map(len, sizes))
  assert max(run.room.patch_buckets) >= 64  # 16 x 16 pixels, 2 x 2 a patch
  longest = max(run.room.row_buckets) + max(run.room.patch_buckets)
  assert run.micro_tokens % longest == 0
  assert len(tried) == 3  # two micro-batches, the optimizer
