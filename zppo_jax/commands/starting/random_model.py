"""A small Qwen3.5 of random numbers, as a checkpoint folder of the hub.

It reads any text, byte by byte, and any picture, so that files of a user's own
can be tried before a model is at hand.
"""

import json
import math
import pathlib
import tempfile
from collections.abc import Callable

import numpy as np

SPECIAL = ('<|endoftext|>', '<|im_start|>', '<|im_end|>', '<|vision_start|>',
           '<|vision_end|>', '<|image_pad|>', '<|video_pad|>')
THINK = ('<think>', '</think>')  # added, but not special
_BYTES = 256
_ROWS = 272  # of the embedding: bytes, SPECIAL, THINK and padding
_PATCH, _MERGE, _FRAMES = 16, 2, 2
_PIXELS = {'shortest_edge': 64 * 64, 'longest_edge': 256 * 256}
TEMPLATE = (
    "{%- for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}"
    '{%- if m.content is string %}{{ m.content }}{%- else %}'
    "{%- for part in m.content %}{%- if part.type == 'image' %}"
    "{{ '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{%- elif part.type == 'video' %}"
    "{{ '<|vision_start|><|video_pad|><|vision_end|>' }}"
    '{%- else %}{{ part.text }}{%- endif %}{%- endfor %}{%- endif %}'
    "{{ '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    '{%- endif %}')


def _id(token: str) -> int:
  return _BYTES + (*SPECIAL, *THINK).index(token)


def _model():
  """The network: four layers, two of them DeltaNets, below a vision tower."""
  from zppo_jax import models
  return models.build(
      'qwen3_5', vocab_size=_ROWS, width=64, num_layers=4, period=2,
      num_heads=4, num_kv_heads=2, head_dim=16, mlp_width=128,
      max_positions=8192, delta_key_heads=2, delta_value_heads=4,
      delta_key_dim=16, delta_value_dim=16, rotary_share=0.5,
      rope_sections=(2, 1, 1), vision=dict(
          depth=2, width=32, num_heads=2, mlp_width=64, out_width=64,
          patch_size=_PATCH, temporal_patch=_FRAMES, channels=3, merge=_MERGE,
          num_positions=256, image_id=_id('<|image_pad|>'),
          video_id=_id('<|video_pad|>'), start_id=_id('<|vision_start|>'),
          end_id=_id('<|vision_end|>')))


def _tokenizer():
  """A token for each byte."""
  from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models as kinds,
    pre_tokenizers,
  )
  from transformers import PreTrainedTokenizerFast
  words = sorted(pre_tokenizers.ByteLevel.alphabet())
  assert len(words) == _BYTES
  of_bytes = Tokenizer(kinds.BPE({w: i for i, w in enumerate(words)}, []))
  of_bytes.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  of_bytes.decoder = decoders.ByteLevel()
  of_bytes.add_tokens([
      AddedToken(word, special=word in SPECIAL, normalized=False)
      for word in (*SPECIAL, *THINK)])
  return PreTrainedTokenizerFast(
      tokenizer_object=of_bytes, eos_token='<|im_end|>',
      pad_token='<|endoftext|>', chat_template=TEMPLATE)


def _leaf(name: str, shape: tuple[int, ...], fan_in: int,
          rng: np.random.Generator) -> np.ndarray:
  if name in ('scale', 'dt_bias'):
    return np.ones(shape, np.float32)
  if name == 'offset' or name.endswith('bias'):
    return np.zeros(shape, np.float32)
  if name == 'A_log':
    return np.log(rng.uniform(0.01, 16, shape)).astype(np.float32)
  return (rng.standard_normal(shape) * fan_in**-0.5).astype(np.float32)


def draw(model, seed: int = 0, leaf: Callable[..., np.ndarray] = _leaf):
  """Parameters of a model that has a hub form, without a program; those of
  `model.init` would take a minute to compile.

  Args:
    model: the network.
    seed: of all draws.
    leaf: (name, shape, fan-in in the hub's [out, in], rng) -> an array; by
      default one of the distribution of `model.init`.
  """
  import jax

  from zppo_jax.weights import families
  leaves = {leaf.path: leaf for leaf in
            families.FAMILIES[model.family].hub_leaves(model.config)}
  rng = np.random.default_rng(seed)

  def one(path, like):
    names = tuple(key.key for key in path)
    fan_in = math.prod(leaves[names].hub_shape[1:])
    return leaf(names[-1], like.shape, fan_in, rng)

  return jax.tree_util.tree_map_with_path(
      one, jax.eval_shape(model.init, jax.random.key(0)))


def files() -> dict[str, bytes]:
  """The files of the folder by name; equal in every call."""
  from zppo_jax.weights import hub_checkpoint
  model = _model()
  pixels = {
      'patch_size': _PATCH, 'merge_size': _MERGE,
      'temporal_patch_size': _FRAMES, 'size': _PIXELS,
      'image_mean': [0.5] * 3, 'image_std': [0.5] * 3}
  with tempfile.TemporaryDirectory() as folder:
    to = pathlib.Path(folder, 'model')
    hub_checkpoint.save(to, draw(model), model)
    _tokenizer().save_pretrained(to)
    (to / 'preprocessor_config.json').write_text(json.dumps(pixels))
    (to / 'video_preprocessor_config.json').write_text(json.dumps(
        {**pixels, 'fps': 2, 'min_frames': 2, 'max_frames': 8}))
    return {p.name: p.read_bytes() for p in sorted(to.iterdir())}
