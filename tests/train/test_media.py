"""Questions with images and videos through chat, sampler, scorer, trainer."""

import dataclasses
import functools
import re

import jax
import numpy as np
import optax
import pytest
from PIL import Image

from tests import builders
from tests.long import LONG, long_but
from zppo_jax import models, randomness
from zppo_jax.algorithms import zppo
from zppo_jax.chat import images
from zppo_jax.chat.images import END, IMAGE, START, VIDEO, Pixels, Processor
from zppo_jax.chat.wording import MICRO, Chat
from zppo_jax.data import prompt_lengths
from zppo_jax.devices import sharding
from zppo_jax.learner import layouts, packing, scoring, states, update
from zppo_jax.models.vision import VisionConfig
from zppo_jax.objectives import losses
from zppo_jax.randomness import Purpose
from zppo_jax.records import (
  Clip,
  Decoding,
  Grader,
  Instance,
  PromptKind,
  Question,
  Rollout,
  StopReason,
  Verdict,
)
from zppo_jax.rollout import collect, weight_sync
from zppo_jax.rollout.build import make_engine
from zppo_jax.rollout.requests import Request

pytestmark = pytest.mark.usefixtures('quick_compile')


class LetterCodec:
  """A token per letter, and the special words."""
  words = ('<pad>', '<end>', IMAGE, VIDEO, START, END,
           *map(chr, range(32, 127)))
  ids = {word: i for i, word in enumerate(words)}
  vocab_size = 104
  pad_id, end_id = 0, 1
  reserved_ids = frozenset(range(6))
  sampled_ids = frozenset(range(1, len(words))) - {2, 3}

  def encode_template(self, text):
    return [self.ids[w] for w in re.findall(r'<\|\w+\|>|.', text)]

  def encode_content(self, text):
    return [self.ids[letter] for letter in text], 0

  def decode(self, ids):
    return ''.join(self.words[i] for i in ids)


CODEC = LetterCodec()
TOWER = dict(
    depth=2, width=16, num_heads=2, mlp_width=12, out_width=16, patch_size=2,
    temporal_patch=2, channels=3, merge=2, num_positions=16,
    image_id=CODEC.ids[IMAGE], video_id=CODEC.ids[VIDEO],
    start_id=CODEC.ids[START], end_id=CODEC.ids[END])
TEXT = dict(vocab_size=104, width=16, num_heads=4, num_kv_heads=2, head_dim=8,
            mlp_width=20, max_positions=256, remat='full')
FAMILIES = {
    'qwen3_vl': dict(num_layers=3, rope_sections=(2, 1, 1),
                     vision={**TOWER, 'taps': (0, 1)}),
    'qwen3_5': dict(
        num_layers=4, period=2, delta_key_heads=2, delta_value_heads=4,
        delta_key_dim=6, delta_value_dim=8, conv_kernel=3, rotary_share=0.75,
        rope_sections=(1, 1, 1), vision=TOWER)}
PIXELS = Pixels(16, 512, (0.5,) * 3, (0.5,) * 3)
CHAT = Chat(CODEC, MICRO, Processor(VisionConfig(**TOWER), PIXELS, PIXELS))


def picture(width, height, seed=0):
  values = np.random.default_rng(seed).integers(
      0, 256, (height, width, 3), np.uint8)
  return images.picture(Image.fromarray(values))


def clip(seed):
  return Clip(tuple(picture(8, 8, seed + i) for i in range(4)), 2.0)


QUESTIONS = [
    Question('a', '1+1', '2', 's', (picture(8, 8, 1),)),
    Question('b', 'Which?', '2', 's', (picture(8, 4, 2), picture(8, 12, 3))),
    Question('c', 'Then?', '2', 's', (clip(10),)),
    Question('d', '2', '2', 's', (picture(12, 8, 4), clip(20)))]


# Chat.


def test_plain_prompts_show_media_before_the_text():
  """An image, and a clip with the time of each pair of frames."""
  one, _, three, _ = zppo.plain_prompts(QUESTIONS, CHAT)
  show = lambda prompt: CODEC.decode(prompt.tokens)
  assert show(one) == START + IMAGE * 4 + END + '1+1:'
  frame = START + VIDEO * 4 + END
  assert show(three) == (
      f'{START}<0.2 seconds>{frame}<1.2 seconds>{frame}{END}Then?:')
  assert len(one.media.patches_IC) == 16
  assert three.media.segment_I.tolist() == [1] * 16 + [2] * 16
  assert len(three.media.positions_TA) == len(three.tokens)


@pytest.mark.parametrize('kind, mark', [
    (PromptKind.BCQ, 'BCQ'), (PromptKind.NCQ, 'NCQ7')])
def test_reformulations_show_the_same_media(kind, mark):
  """And a candidate's placeholders are letters."""
  text = f'{IMAGE} A 7'
  wrong = Rollout((2,), (-1.0,), text, StopReason.END, Verdict.WRONG, '7')
  prompt, _ = zppo.render(
      Instance(QUESTIONS[0], kind, (wrong, wrong)), {('a', text): text}, CHAT)
  (plain,) = zppo.plain_prompts(QUESTIONS[:1], CHAT)
  shown = START + IMAGE * 4 + END + '1+1' + mark
  assert CODEC.decode(prompt.tokens).startswith(shown)
  assert prompt.tokens.count(CODEC.ids[IMAGE]) == 4
  assert text in CODEC.decode(prompt.tokens)[len(shown):]
  for name in ('patches_IC', 'rotary_I2', 'segment_I', 'corners_I4'):
    np.testing.assert_array_equal(
        getattr(prompt.media, name), getattr(plain.media, name))
  assert len(prompt.media.positions_TA) == len(prompt.tokens)
  assert prompt.media.next_position > plain.media.next_position


def test_a_chat_of_text_alone_refuses_media():
  said = "question '.*' .*has images or videos; the model 'm/text' takes text"
  deaf = Chat(CODEC, MICRO, weights='m/text')
  for ask in (zppo.plain_prompts, prompt_lengths.measure,
              prompt_lengths.check_words):
    with pytest.raises(ValueError, match=said):
      ask(QUESTIONS, deaf)
  shown = dataclasses.replace(QUESTIONS[0], source='shapes')
  with pytest.raises(ValueError, match="of the source 'shapes' has images"):
    zppo.plain_prompts([shown], deaf)
  assert zppo.plain_prompts(
      [Question('t', '4', '4', 's')], CHAT)[0].media is None


# Engines.


@LONG
@pytest.mark.parametrize('family', long_but(['qwen3_5'], FAMILIES))
def test_a_step_on_a_mesh(family, make_mesh):
  """2 x 2 x 2: the sampler's log-probs are the trainer's, also where prompts
  with their pictures are run once a group; no placeholder is drawn, and every
  leaf of the tower moves."""
  model = models.build(family, **TEXT, **FAMILIES[family])
  mesh, temperature = make_mesh(2, 2, 2), 2.0
  host = jax.device_get(jax.jit(model.init)(jax.random.key(0)))
  tx = optax.sgd(1.0)
  shardings = states.state_shardings(model, tx, mesh)
  state = states.new_state(host, tx, shardings)
  sampler = collect.make_sampler(
      model=model, mesh=mesh, chat=CHAT,
      grader=Grader(lambda text: '', lambda answer, question: False),
      decoding=Decoding(16, temperature=temperature), num_rollouts=4,
      prompt_buckets=(64,), group_buckets=(4,), patch_buckets=(64,))
  groups = collect.collect(
      sampler, weight_sync.compile_reshard(model, mesh)(state.params),
      zppo.plain_prompts(QUESTIONS, CHAT), seed=0, step=0,
      purpose=Purpose.ROLLOUT)
  drawn = {t for g in groups for r in g.rollouts for t in r.tokens}
  # Some 200 draws at near even odds: two of 104 ids do not stay out by luck.
  assert len(drawn) > 60 and drawn <= CODEC.sampled_ids

  layout = layouts.Layout('padded', 16 * 144, 4, 4, (80,), (64,), (16,),
                          (64,), 3)
  score_fn = scoring.compile_scorer(
      model=model, mesh=mesh, shardings=shardings, temperature=temperature,
      chunk=512)
  for kind in ('padded', 'shared'):
    (batch,) = layouts.micro_batches(
        groups, builders.advantage_targets(
            groups, np.tile(np.float32([1, -1, 0.5, -0.5]), (4, 1))),
        layout._replace(kind=kind))
    batch = sharding.put_batch(mesh, batch)
    logp, _, _ = score_fn(state.params, batch)
    np.testing.assert_allclose(
        logp * batch.mask_BT, batch.targets['sampler_logp'], atol=1e-4)

  update_fn = update.compile_update(
      loss_fn=functools.partial(
          update.policy_loss, model=model, temperature=temperature, chunk=512,
          old_logps=update.own_old_logps, loss=functools.partial(
              losses.clipped_surrogate, clip=losses.ClipBounds())),
      tx=tx, mesh=mesh, shardings=shardings)
  tokens = packing.trained_tokens(groups)
  state, sums, norm = update_fn(state, [batch], float(tokens))
  assert sums.tokens == tokens and np.isfinite(sums.loss) and norm > 0
  for path, leaf in jax.tree_util.tree_leaves_with_path(
      jax.device_get(state.params)):
    before = functools.reduce(lambda tree, key: tree[key.key], path, host)
    assert np.isfinite(leaf).all() and (leaf != before).any(), path


@LONG
def test_media_are_prefilled_once_a_group(make_mesh, monkeypatch):
  """By submit and poll, also where a group has more rollouts than there are
  rows; the late ones see the pictures too."""
  model = models.build('qwen3_5', **TEXT, **FAMILIES['qwen3_5'])
  mesh = make_mesh()
  engine = make_engine(
      model=model, mesh=mesh, chat=CHAT, max_tokens=6, num_rollouts=(4,),
      prompt_buckets=(64,), group_buckets=(2,), patch_buckets=(64,), slots=4)
  run, seen = engine.programs.prefill, []

  def prefill(params, requests, *sizes):
    seen.extend(r.id for r in requests)
    return run(params, requests, *sizes)
  monkeypatch.setattr(engine.programs, 'prefill', prefill)
  engine.load(weight_sync.place_copy(
      jax.jit(model.init)(jax.random.key(0)), model, mesh))
  one, two, _, four = zppo.plain_prompts(QUESTIONS, CHAT)
  keys = randomness.seed_key_data(0, 6)
  found = {}
  for id, prompt, some in (('one', one, keys[:4]), ('two', two, keys),
                           ('four', four, keys[:4])):
    engine.submit(Request(id, prompt.tokens, some, Decoding(6), prompt.media))
  while engine.busy:
    found |= {(c.id, c.rollout): c.tokens for c in engine.poll()}
  assert sorted(seen) == ['four', 'one', 'two']
  told = engine.statistics
  assert (told.prompts, told.rollouts) == (3, 14)
  assert told.patches == sum(len(p.media.patches_IC) for p in (one, two, four))
  engine.submit(Request('late', two.tokens, keys[4:], Decoding(6), two.media))
  while engine.busy:
    found |= {(c.id, c.rollout): c.tokens for c in engine.poll()}
  assert [found['late', g] for g in (0, 1)] == [found['two', g] for g in (4, 5)]
  assert engine.statistics.prompts == 4 and not engine._prefilled
