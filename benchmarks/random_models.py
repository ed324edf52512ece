"""Small models of every family whose logits have a deviation of about 1."""

import functools

import numpy as np

from zppo_jax import models
from zppo_jax.commands.starting import random_model
from zppo_jax.models import Model

# Ids of placeholders and of the tokens around them; text is drawn below them.
IMAGE, VIDEO, START, END = 508, 509, 510, 511
TEXT = dict(vocab_size=512, width=64, num_layers=4, num_heads=4,
            num_kv_heads=2, head_dim=32, mlp_width=160, max_positions=2048)
TOWER = dict(
    depth=3, width=32, num_heads=2, mlp_width=64, out_width=64, patch_size=4,
    temporal_patch=2, channels=3, merge=2, num_positions=64, image_id=IMAGE,
    video_id=VIDEO, start_id=START, end_id=END)
DELTA = dict(delta_key_heads=2, delta_value_heads=4, delta_key_dim=16,
             delta_value_dim=16)
FIELDS = {
    'llama': {**TEXT, 'qk_norm': False},
    'qwen3': TEXT,
    'qwen3_vl': {**TEXT, 'rope_sections': (6, 5, 5),
                 'vision': {**TOWER, 'taps': (0, 2)}},
    'qwen3_5': {**TEXT, **DELTA, 'rotary_share': 0.5,
                'rope_sections': (4, 2, 2), 'vision': TOWER},
}


def _leaf(name: str, shape, fan_in: int, rng) -> np.ndarray:
  noise = rng.standard_normal(shape)
  if name in ('scale', 'dt_bias'):
    out = 1 + 0.2 * noise
  elif name == 'A_log':
    # Memories of 1 to 100 tokens. The class's own draw, log U(0, 16), leaves
    # most heads a memory of one token, whose output is one product q . k: where
    # that is near 0 the norm behind it blows rounding up.
    out = noise - 3
  elif name == 'offset' or name.endswith('bias'):
    out = 0.2 * noise
  else:
    out = noise * fan_in**-0.5
  return out.astype(np.float32)


def draw(model: Model, seed: int):
  """Parameters of a model that has a hub form: matrices of variance 1 / fan-in
  in the hub's [out, in], norms off the identity."""
  return random_model.draw(model, seed, _leaf)


@functools.cache
def build(family: str, seed: int = 0, dtype: str = 'float32'):
  """(Model, params) of a row of FIELDS."""
  model = models.build(family, dtype=dtype, **FIELDS[family])
  return model, draw(model, seed)
