"""ZPPO on pictures and clips, from a hub folder to an exported one."""

import dataclasses
import importlib.util
import json
import pathlib
import runpy

import jax
import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.long import LONG
from zppo_jax import main, tasks
from zppo_jax.chat import images
from zppo_jax.learner import packing
from zppo_jax.records import Clip, Grader, Picture, Prompt, PromptKind, Question
from zppo_jax.train import loop
from zppo_jax.weights import pretrained

pytestmark = pytest.mark.usefixtures('quick_compile')
transformers = pytest.importorskip('transformers')
from tests import hub_builders  # noqa: E402

CONFIG = pathlib.Path(__file__).parents[2] / 'configs' / 'micro.py'


def drawn(i: int, width: int = 16, height: int = 12):
  """A coloured picture with a disc, as PNG in base64."""
  rng = np.random.default_rng(i)
  colour = lambda: tuple(rng.integers(0, 256, 3).tolist())
  image = Image.new('RGB', (width, height), colour())
  ImageDraw.Draw(image).ellipse((i % 5, i % 3, i % 5 + 7, i % 3 + 6), colour())
  return images.picture(image)


def question(i: int) -> Question:
  """By turns: a picture, two, a clip, text alone."""
  media = (lambda: (drawn(i),), lambda: (drawn(i), drawn(i + 100, 8, 8)),
           lambda: (Clip(tuple(drawn(i + k, 8, 8) for k in range(4)), 2.0),),
           lambda: ())[i % 4]()
  return Question(f'q{i}', f'the {i}?', '1', 'all', media)


# Any response that ends answers by the length of its text.
SEEN = tasks.Task(
    pool=lambda size: [question(i) for i in range(size)],
    evaluation=lambda split, size: [
        dataclasses.replace(question(i), id=f'e{i}', split=split)
        for i in range(size)],
    grader=Grader(lambda text: str(len(text) % 2),
                  lambda answer, question: answer == question.answer))


def make_config(student, teacher, **changes):
  c = runpy.run_path(str(CONFIG))['get_config']()
  c.student.weights, c.teacher.weights = student, teacher
  c.data.task = 'seen'
  with c.unlocked():
    c.data.pool = dict(size=12)
  c.steps = 2
  # 6 plain groups, then 8: one shape.
  c.algorithm.update(num_new=6, rollouts=4, tau=0.9, rho_replay=0.34,
                     rho_aug=0.67, max_tokens=8, teacher_max_tokens=8,
                     updates=2)
  c.shapes.update(prompt_buckets=(768,), row_buckets=(776,),
                  patch_buckets=(80,), group_buckets=(8,),
                  micro_tokens=16 * 856)
  c.mesh.update(data=2, fsdp=2, tensor=2)
  c.optimizer.learning_rate = 1e-3
  c.compression.update(cap=32, identity_below=32)
  c.eval.update(every=0, size=1, splits=('some',))
  c.samples.questions = 9
  c.lock()
  c.update_from_flattened_dict(changes)
  return c


def lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope='module')
def home(tmp_path_factory):
  """student, teacher: folders; whole: a run of two steps."""
  path = tmp_path_factory.mktemp('seen')
  tasks.TASKS['seen'] = SEEN
  hub_builders.write_seeing(path / 'student', 'qwen3_5')
  hub_builders.write_seeing(path / 'teacher', 'qwen3_5', seed=1)
  loop.main(make_config(str(path / 'student'), str(path / 'teacher')),
             path / 'whole')
  yield path
  del tasks.TASKS['seen']


@LONG
@pytest.mark.minutes(3)
def test_it_trains(home):
  """BCQ and NCQ on pictures and clips; sampler and trainer agree; the tower
  and the text model learn."""
  rows = lines(home / 'whole' / 'metrics.jsonl')
  assert [r['step'] for r in rows] == [0, 1]
  assert sum(r['groups/bcq'] for r in rows) >= 1
  assert sum(r['groups/ncq'] for r in rows) >= 1
  for row in rows:
    assert row['sampler_trainer/logp_gap_max'] < 1e-4
    assert row['update/trained_tokens'] > 0
    assert all(np.isfinite(v) for v in row.values())
  found = pretrained.load(str(home / 'whole'))
  _, before = hub_builders.seeing('qwen3_5')
  still = [jax.tree_util.keystr(path) for (path, x), y in zip(
      jax.tree_util.tree_leaves_with_path(found.params),
      jax.tree.leaves(before), strict=True) if np.array_equal(x, y)]
  assert not still


@LONG
def test_prompts_show_the_media_and_samples_say_so(home):
  """In plain, BCQ and NCQ prompts alike; runs of placeholders are one word."""
  for row in lines(home / 'whole' / 'samples.jsonl'):
    of = question(int(row['question']['id'][1:]))
    for group in row['groups']:
      pictures = sum(isinstance(m, Picture) for m in of.media)
      assert group['prompt'].count('<|image_pad|>') == pictures
      assert ('<|video_pad|>' in group['prompt']) == any(
          isinstance(m, Clip) for m in of.media)
      if of.media:
        assert '_pad|>×' in group['prompt']


@LONG
def test_a_resume_finds_its_pictures_again(home, tmp_path):
  """The buffer holds ids; one step and then two are two steps."""
  folders = str(home / 'student'), str(home / 'teacher')
  loop.main(make_config(*folders, steps=1), tmp_path)
  loop.main(make_config(*folders), tmp_path)
  for name in ('final.safetensors', 'samples.jsonl', 'buffer.jsonl'):
    assert (tmp_path / name).read_bytes() == (
        home / 'whole' / name).read_bytes(), name


# Before the fixture, which trains for minutes.
@pytest.mark.skipif(importlib.util.find_spec('torch') is None,
                    reason='needs the package torch')
def test_the_export_is_the_trained_model(home, tmp_path):
  """transformers reads it: the same logits under a picture."""
  import torch
  main.main(['export', f'--checkpoint={home}/whole', f'--to={tmp_path}/out'])
  found = pretrained.load(str(home / 'whole'))
  chat = pretrained.chat(found)
  encoded = chat.plain('the end?', question(0).media)
  prompt = Prompt(question(0), PromptKind.PLAIN, encoded.tokens, encoded.media)
  batch = packing.pad_prompts([prompt], 1, len(encoded.tokens),
                              len(encoded.media.patches_IC), 3)
  hidden, _ = found.model.apply(
      found.params, batch.tokens_PT, batch.positions_PTA,
      np.ones_like(batch.tokens_PT), media=batch.media)
  reference = transformers.Qwen3_5ForConditionalGeneration.from_pretrained(
      tmp_path / 'out')
  seen = images.from_folder(home / 'student', found.model.config.vision).see(
      question(0).media)
  ids = torch.as_tensor(batch.tokens_PT).long()
  with torch.no_grad():
    want = reference(
        input_ids=ids, pixel_values=torch.as_tensor(seen.patches_IC),
        image_grid_thw=torch.tensor([[1, *seen.frames[0]]]),
        mm_token_type_ids=(ids == hub_builders.TOWER['image_id']).int(),
    ).logits.numpy()
  got = np.asarray(hidden @ found.model.head(found.params))
  np.testing.assert_allclose(got, want, atol=1e-4)


@LONG
def test_zppo_sample_sees(home, tmp_path, capsys):
  """An image, two, and frames each change what the same draws say; an
  unreadable file is named."""
  for i in range(4):
    images.decode(drawn(i, 8, 8)).save(tmp_path / f'{i}.png')
  (tmp_path / 'frames').mkdir()
  for i in range(4):
    images.decode(drawn(i, 8, 8)).save(tmp_path / 'frames' / f'{i}.png')
  argv = ['sample', f'--model={home}/student', '--prompt=the end?',
          '--num=64', '--max_tokens=24']
  said = []
  for more in ([], [f'--image={tmp_path}/0.png'],
               [f'--image={tmp_path}/0.png,{tmp_path}/1.png'],
               [f'--video={tmp_path}/frames', '--fps=2']):
    main.main([*argv, *more])
    said.append(capsys.readouterr().out)
  assert len(set(said)) == 4
  with pytest.raises(SystemExit, match='gone.png'):
    main.main([*argv, f'--image={tmp_path}/gone.png'])
