"""Which attention kernel a run gets, shape by shape."""

import dataclasses
import types

import numpy as np
import pytest

from tests.builders import small_config
from tests.long import LONG
from zppo_jax import models
from zppo_jax.models import attention
from zppo_jax.rollout.programs import Shapes
from zppo_jax.train import build
from zppo_jax.train.shapes import attention_kernels

pytestmark = pytest.mark.usefixtures('quick_compile')

TOWER = dict(
    depth=1, width=144, num_heads=2, mlp_width=8, out_width=64, patch_size=2,
    temporal_patch=2, channels=3, merge=2, num_positions=16, image_id=4,
    video_id=5, start_id=6, end_id=7)


def programs_on(platform, **fields):
  """Of an engine on a device that is not here; nothing is compiled."""
  device = types.SimpleNamespace(platform=platform, compute_capability='9.0')
  mesh = types.SimpleNamespace(devices=np.array([device], object),
                               shape=dict(data=1, fsdp=1, tensor=1))
  model = models.build('qwen3_5', **{**dict(
      vocab_size=8, width=64, num_layers=2, period=2, num_heads=2,
      num_kv_heads=1, head_dim=64, mlp_width=8, max_positions=512,
      delta_key_heads=1, delta_value_heads=1, delta_key_dim=8,
      delta_value_dim=8, rope_sections=(4, 2, 2), vision=TOWER,
      dtype='bfloat16'), **fields})
  return types.SimpleNamespace(model=model, mesh=mesh, shapes=Shapes(
      slots=(8,), samples_per_prompt=(1,), prompt_lengths=(128, 200),
      response_lengths=(64,), patches=(256,), prefill_sizes=(4,)))


def test_each_shape_of_an_engine_on_a_tpu():
  """A length that is no multiple, the tower's heads and decoding take XLA."""
  of_engine = attention_kernels.of_engine
  got = {(u.what, u.rows, u.length): u.choice for u in of_engine(
      programs_on('tpu'), 'student')}
  assert {k: (c.kernel, c.why.split(';')[0]) for k, c in got.items()} == {
      ('student prefill', 4, 128): ('splash', 'the platform is tpu'),
      ('student prefill', 4, 200): ('xla', '200 positions'),
      ('student prefill, vision', 4, 256): ('xla', 'head_dim is 72'),
      ('student decoding', 8, 1): ('xla', 'a single token')}


def test_a_run_on_a_cpu_and_what_is_told_of_it():
  """Ten groups of eight are trained at a time, a response behind 184 tokens of
  its prompt; one line for one reason."""
  run = build.build(small_config())
  uses = attention_kernels.of_run(run)
  assert len(uses) == len(set(uses)) == 5 + 2
  assert attention_kernels.Use(
      'training responses', 80, 200, attention.KernelChoice(
          'xla', 'the platform is cpu')) in uses
  assert len(attention_kernels.table(uses)) == len(uses)
  one, two = attention_kernels.summary(uses)
  assert one.startswith('attention xla, the platform is cpu: student prefill ')
  assert one.endswith('; training prompts 10x184; training responses 80x200')
  assert two.startswith('attention xla, a single token: student decoding ')


@LONG
def test_what_is_trained_is_what_is_told(monkeypatch, own_programs):
  """The shapes of a step's micro-batches are among them."""
  from zppo_jax.algorithms import replay
  from zppo_jax.train import step
  seen = set()
  among = attention.among

  def watched(q, k, *args, **kwargs):
    seen.add(k.shape[:2])
    return among(q, k, *args, **kwargs)
  monkeypatch.setattr(attention, 'among', watched)
  run = build.build(small_config())
  step.train_step(run, run.init_state(), replay.ReplayBuffer(9), 0)
  told = {(u.rows, u.length) for u in attention_kernels.of_run(run)}
  assert seen and seen <= told | {(1, 1)}  # init looks at one token


@pytest.mark.parametrize('asked, message', [
    ('splash', r'head_dim is 72.*\(vision\)'), ('auto', ''), ('xla', '')])
def test_the_tower_must_fit_too(asked, message):
  found = programs_on('tpu')
  config = dataclasses.replace(found.model.config, attention=asked)
  if not message:
    attention.check(asked, found.mesh, config)
    return
  with pytest.raises(ValueError, match=message):
    attention.check(asked, found.mesh, config)
