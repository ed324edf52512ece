"""Names of tensors as releases and classes of transformers write them."""

import functools
import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from zppo_jax.weights import families, pretrained

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')

TEXT = dict(
    vocab_size=61, hidden_size=32, intermediate_size=40, num_hidden_layers=4,
    num_attention_heads=4, num_key_value_heads=2, head_dim=8,
    max_position_embeddings=512)
DELTA = dict(
    linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8,
    linear_value_head_dim=12,
    rope_parameters=dict(
        rope_type='default', rope_theta=1e4, partial_rotary_factor=0.5,
        mrope_section=[1, 1, 0], mrope_interleaved=True))
TOWER = dict(
    depth=1, hidden_size=16, intermediate_size=20, num_heads=2,
    out_hidden_size=32, patch_size=2, num_position_embeddings=16)


@functools.cache
def whole(family, tied):
  """A random torch model with a tower."""
  text = {**TEXT, 'tie_word_embeddings': tied}
  tower = dict(TOWER)
  if family == 'qwen3_5':
    text |= DELTA
  else:
    text['rope_parameters'] = dict(
        rope_type='default', rope_theta=1e4, mrope_section=[2, 1, 1],
        mrope_interleaved=True)
    tower['deepstack_visual_indexes'] = [0]
  torch.manual_seed(0)
  return transformers.AutoModelForImageTextToText.from_config(
      transformers.AutoConfig.for_model(
          family, text_config=text, vision_config=tower, image_token_id=56,
          video_token_id=57, vision_start_token_id=58, vision_end_token_id=59,
          tie_word_embeddings=tied)).float().eval()


def check(folder, reference) -> pretrained.Pretrained:
  """The folder's logits are the reference's."""
  found = pretrained.load(str(folder))
  tokens = np.random.default_rng(0).integers(1, 50, (1, 40))
  axes = np.broadcast_to(np.arange(40)[None, :, None],
                         (1, 40, found.model.num_axes))
  hidden, _ = jax.jit(found.model.apply)(
      found.params, tokens, axes, np.ones_like(tokens))
  with torch.no_grad():
    want = reference(torch.as_tensor(tokens)).logits.numpy()
  np.testing.assert_allclose(
      hidden @ found.model.head(found.params), want, atol=1e-4)
  return found


@pytest.mark.parametrize('tied', [True, False])
def test_text_of_a_whole_model_as_transformers_saves_it(tmp_path, tied):
  """AutoModelForCausalLM of a folder with a tower, save_pretrained: model
  type qwen3_5_text, tensors model.language_model.*; fault A2."""
  whole('qwen3_5', tied).save_pretrained(tmp_path / 'whole')
  text = transformers.AutoModelForCausalLM.from_pretrained(
      tmp_path / 'whole').float().eval()
  text.save_pretrained(tmp_path / 'text')
  held = json.loads((tmp_path / 'text' / 'config.json').read_text())
  assert held['model_type'] == 'qwen3_5_text'
  names = load_file(tmp_path / 'text' / 'model.safetensors')
  assert any(n.startswith('model.language_model.layers.') for n in names)
  found = check(tmp_path / 'text', text)
  assert found.model.family == 'qwen3_5_text'
  assert found.model.config.tied == tied and found.model.config.vision is None


@pytest.mark.parametrize('tied', [True, False])
def test_text_as_its_own_class_saves_it(tmp_path, tied):
  """Qwen3_5ForCausalLM made from a text config: fault A2."""
  torch.manual_seed(1)
  text = transformers.AutoModelForCausalLM.from_config(
      transformers.AutoConfig.for_model(
          'qwen3_5_text', **TEXT, **DELTA, tie_word_embeddings=tied)
  ).float().eval()
  text.save_pretrained(tmp_path / 'text')
  check(tmp_path / 'text', text)


ROOTS = ('model.language_model.', 'language_model.model.', 'language_model.',
         'model.', '')


@pytest.mark.parametrize('root', ROOTS)
@pytest.mark.parametrize('tied', [True, False])
@pytest.mark.parametrize('family', ['qwen3_5', 'qwen3_vl'])
def test_prefixes(tmp_path, family, root, tied):
  """Of the text model, of the tower and of the head: fault A2."""
  reference = whole(family, tied)
  reference.save_pretrained(tmp_path / 'a')
  file = tmp_path / 'a' / 'model.safetensors'
  head = 'language_model.lm_head.weight' if (
      root == 'language_model.model.') else 'lm_head.weight'
  save_file({n.replace('model.language_model.', root, 1)
             .replace('lm_head.weight', head)
             .replace('model.visual.', 'visual.' if len(root) < 16
                      else 'model.visual.'): x
             for n, x in load_file(file).items()}, file)
  check(tmp_path / 'a', reference)


@pytest.mark.parametrize('tied', [True, False])
@pytest.mark.parametrize('root', ['model.', 'model.language_model.', ''])
def test_qwen3_vl_text(tmp_path, tied, root):
  """The text model of Qwen3-VL alone, tower beside it or not: fault A2."""
  reference = whole('qwen3_vl', tied)
  reference.save_pretrained(tmp_path / 'a')
  file, config = (tmp_path / 'a' / n for n in (
      'model.safetensors', 'config.json'))
  held = json.loads(config.read_text())['text_config']
  assert held['model_type'] == 'qwen3_vl_text'
  config.write_text(json.dumps({**held, 'tie_word_embeddings': tied}))
  save_file({n.replace('model.language_model.', root, 1): x
             for n, x in load_file(file).items()
             if root == 'model.' or '.visual.' not in n}, file)
  found = check(tmp_path / 'a', reference)
  row = families.FAMILIES['qwen3_vl_text']
  assert found.model.family == 'qwen3_vl_text'
  assert row.from_hub(row.to_hub(found.model.config)) == found.model.config


def llama(tied=True):
  torch.manual_seed(0)
  return transformers.AutoModelForCausalLM.from_config(
      transformers.AutoConfig.for_model(
          'llama', **TEXT, tie_word_embeddings=tied,
          rope_parameters=dict(rope_type='default', rope_theta=1e4))
  ).float().eval()


def edit_tensors(folder, **more):
  file = folder / 'model.safetensors'
  save_file({**load_file(file), **more}, file)


@pytest.mark.parametrize('stored', [np.float16, 'bfloat16'])
def test_a_tied_head_in_another_type(tmp_path, stored):
  """Equal values but for the rounding are the same head; a changed value is
  not: fault A9."""
  import ml_dtypes
  stored = ml_dtypes.bfloat16 if stored == 'bfloat16' else stored
  reference = llama()
  reference.save_pretrained(tmp_path)
  embed = load_file(tmp_path / 'model.safetensors')[
      'model.embed_tokens.weight']
  edit_tensors(tmp_path, **{'lm_head.weight': embed.astype(stored)})
  found = check(tmp_path, reference)
  assert 'left out by name: lm_head.weight' in found.notes
  wide = embed.astype(stored).astype(np.float32)
  edit_tensors(tmp_path, **{'lm_head.weight': wide})
  with pytest.raises(ValueError, match='lm_head.weight differs'):
    pretrained.load(str(tmp_path))
  edit_tensors(tmp_path, **{
      'model.embed_tokens.weight': embed.astype(stored)})
  pretrained.load(str(tmp_path))
  changed = embed.astype(stored)
  changed[5, 3] += 1
  edit_tensors(tmp_path, **{'lm_head.weight': changed})
  with pytest.raises(ValueError, match='lm_head.weight differs'):
    pretrained.load(str(tmp_path))


def test_rotary_buffers_of_old_files(tmp_path):
  """They are left out by name if they say what config.json says: fault A9."""
  reference = llama(False)
  reference.save_pretrained(tmp_path)
  frequency = (1e4**-(np.arange(0, 8, 2) / 8)).astype(np.float16)
  name = 'model.layers.{}.self_attn.rotary_emb.inv_freq'
  edit_tensors(tmp_path, **{name.format(i): frequency for i in range(4)},
               **{'model.rotary_emb.inv_freq': frequency.astype(np.float32)})
  found = check(tmp_path, reference)
  assert name.format(0) in found.notes[-1]
  edit_tensors(tmp_path, **{name.format(2): frequency / 2})
  with pytest.raises(ValueError, match='layers.2.*other rotary frequencies'):
    pretrained.load(str(tmp_path))
