"""A made-up tokenizer in Qwen's manner, and checkpoint folders with it."""

import functools
import json
import pathlib

import jax
import numpy as np

from benchmarks import random_models
from zppo_jax import models
from zppo_jax.weights import hub_checkpoint

MERGES = [('t', 'h'), ('th', 'e'), ('Ġ', 'the'), ('Ċ', 'Ċ'), ('?', 'ĊĊ')]
SPECIAL = ('<|endoftext|>', '<|im_start|>', '<|im_end|>', '<|vision_start|>',
           '<|vision_end|>', '<|image_pad|>', '<|video_pad|>')
THINK = ('<think>', '</think>')  # added, but not special
ROWS = 288  # 270 words and padding
TEMPLATE = (
    "{%- for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + "
    "'<|im_end|>\\n' }}{%- endfor %}{%- if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\\n' }}")
SWITCH = (
    '{%- if enable_thinking is defined and enable_thinking is false %}'
    "{{ '<think>\\n\\n</think>\\n\\n' }}{%- endif %}")


def tokenizer(template: str = TEMPLATE + SWITCH + '{%- endif %}',
              pad='<|endoftext|>', prefix_space: bool = False):
  """Byte-level BPE: 256 bytes, MERGES, SPECIAL, THINK."""
  from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models as kinds,
    normalizers,
    pre_tokenizers,
  )
  from transformers import PreTrainedTokenizerFast
  alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
  words = [*alphabet, *(a + b for a, b in MERGES)]
  made = Tokenizer(kinds.BPE({w: i for i, w in enumerate(words)}, MERGES))
  made.normalizer = normalizers.NFC()
  made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
  made.decoder = decoders.ByteLevel()
  made.add_tokens([AddedToken(w, special=w in SPECIAL, normalized=False)
                   for w in (*SPECIAL, *THINK)])
  return PreTrainedTokenizerFast(
      tokenizer_object=made, eos_token='<|im_end|>', pad_token=pad,
      chat_template=template)


@functools.cache
def checkpoint(family: str = 'qwen3', rows: int = ROWS, seed: int = 0,
               num_layers: int = 2):
  """(Model, params) with the vocabulary of `tokenizer`."""
  model = models.build(
      family, vocab_size=rows, width=16, num_layers=num_layers, num_heads=4,
      num_kv_heads=2, head_dim=6, mlp_width=20, max_positions=2048,
      qk_norm=family == 'qwen3')
  rng = np.random.default_rng(seed)

  def one(path, leaf):
    noise = rng.standard_normal(leaf.shape).astype(np.float32)
    if path[-1].key == 'scale':
      return 1 + 0.2 * noise
    return noise * np.float32(2 * leaf.shape[-1]**-0.5)

  shapes = jax.eval_shape(model.init, jax.random.key(0))
  return model, jax.tree_util.tree_map_with_path(one, shapes)


def write(folder, made=None, **fields) -> str:
  """A checkpoint folder with a tokenizer; returns its path."""
  folder = pathlib.Path(folder)
  model, params = checkpoint(**fields)
  hub_checkpoint.save(folder, params, model)
  (made or tokenizer()).save_pretrained(folder)
  (folder / 'generation_config.json').write_text(json.dumps(
      {'eos_token_id': [263, 261]}))  # <|im_end|>, <|endoftext|>
  return str(folder)


def set_json(path, **fields) -> None:
  """Changes fields of a JSON file; None takes one out."""
  path = pathlib.Path(path)
  held = json.loads(path.read_text()) if path.is_file() else {}
  held.update(fields)
  path.write_text(json.dumps(
      {name: x for name, x in held.items() if x is not None}))


def write_published(folder, form: str = 'qwen3_5', **fields) -> str:
  """A folder as it is published; a template ends turns with <|im_end|>.

  Args:
    folder: where.
    form: 'qwen3_5': no generation config, <|endoftext|> in text_config;
      'base': a Qwen3 of text with <|endoftext|> alone in every file.
    fields: of `checkpoint`, for 'base'.
  """
  folder = pathlib.Path(folder)
  if form == 'qwen3_5':
    write_seeing(folder, 'qwen3_5')
    config = json.loads((folder / 'config.json').read_text())
    set_json(folder / 'config.json', text_config={
        **config['text_config'], 'eos_token_id': 261})
    return str(folder)
  write(folder, **fields)
  set_json(folder / 'config.json', eos_token_id=261)
  set_json(folder / 'generation_config.json', eos_token_id=261)
  set_json(folder / 'tokenizer_config.json', eos_token='<|endoftext|>')
  return str(folder)


TOWER = dict(
    depth=2, width=16, num_heads=2, mlp_width=20, out_width=16, patch_size=2,
    temporal_patch=2, channels=3, merge=2, num_positions=25, image_id=266,
    video_id=267, start_id=264, end_id=265)
SEEING = {
    'qwen3_5': dict(
        delta_key_heads=2, delta_value_heads=4, delta_key_dim=4,
        delta_value_dim=6, period=2, head_dim=8, rotary_share=0.5,
        rope_sections=(1, 1, 0), vision=TOWER),
    'qwen3_vl': dict(tied=False, head_dim=8, rope_sections=(2, 1, 1),
                     vision={**TOWER, 'taps': (0,)})}


@functools.cache
def seeing(family: str, seed: int = 0):
  """(Model, params) with a vision tower; the end token is often likely."""
  model = models.build(
      family, vocab_size=ROWS, width=16, num_layers=2, num_heads=4,
      num_kv_heads=2, mlp_width=20, max_positions=2048, **SEEING[family])
  params = random_models.draw(model, seed)
  params['head'][:, 263] *= 3
  return model, params


def write_seeing(folder, family: str, seed: int = 0) -> str:
  """A checkpoint folder with a tokenizer and processors; its path."""
  folder = pathlib.Path(folder)
  model, params = seeing(family, seed)
  hub_checkpoint.save(folder, params, model)
  tokenizer().save_pretrained(folder)
  pixels = dict(
      patch_size=2, merge_size=2, temporal_patch_size=2,
      size=dict(shortest_edge=16, longest_edge=4096), image_mean=[0.5] * 3,
      image_std=[0.5] * 3)
  (folder / 'preprocessor_config.json').write_text(json.dumps(pixels))
  (folder / 'video_preprocessor_config.json').write_text(json.dumps(
      {**pixels, 'fps': 2, 'min_frames': 2, 'max_frames': 8}))
  return str(folder)
