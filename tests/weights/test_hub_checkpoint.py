"""Hub folders in and out: bitwise, shard by shard, and what is refused."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.long import LONG
from zppo_jax import models
from zppo_jax.devices import sharding
from zppo_jax.weights import (
  families,
  hub_checkpoint,
  hub_folder,
  hub_leaf,
  safetensors_file,
)

BF16 = ml_dtypes.bfloat16
SHAPES = dict(vocab_size=32, width=16, num_layers=3, num_heads=4,
              num_kv_heads=2, head_dim=6, mlp_width=24, max_positions=64)


def make(family='qwen3', **fields):
  fields = {'qk_norm': family == 'qwen3', 'tied': False, **fields}
  return models.build(family, **{**SHAPES, **fields})


def random_params(model, dtype=np.float32, seed=0):
  rng = np.random.default_rng(seed)
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  return jax.tree.map(
      lambda x: rng.standard_normal(x.shape).astype(dtype), shapes)


def load(folder, shardings=None, dtype='float32'):
  source = hub_checkpoint.read(folder)
  row = families.FAMILIES[hub_checkpoint.family_of(source.config)]
  model = row.build(row.from_hub(source.config))._replace(
      family=source.config['model_type'])
  return model, *hub_checkpoint.load(source, model,
                                     like(model, shardings, dtype))


def like(model, shardings=None, dtype='float32'):
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  if shardings is None:
    shardings = jax.tree.map(lambda _: None, shapes)
  return jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(
          x.shape, hub_checkpoint.DTYPES[dtype], sharding=s),
      shapes, shardings, is_leaf=lambda x: x is None)


def assert_same(a, b):
  """Bitwise, types included."""
  jax.tree.map(lambda x, y: (
      np.testing.assert_equal(np.asarray(x).dtype, np.asarray(y).dtype),
      np.testing.assert_array_equal(x, y)), a, b)


def tensors_of(folder):
  out = {}
  for path in pathlib.Path(folder).glob('*.safetensors'):
    out.update(load_file(path))
  return out


@pytest.fixture
def folder(tmp_path):
  """A small qwen3 checkpoint."""
  model = make()
  hub_checkpoint.save(tmp_path / 'hub', random_params(model), model)
  return tmp_path / 'hub'


def edit(folder, **fields):
  """Changes config.json; None removes a field."""
  path = folder / 'config.json'
  config = {**json.loads(path.read_text()), **fields}
  path.write_text(json.dumps(
      {k: v for k, v in config.items() if v is not None}))


def rewrite(folder, change):
  """Changes the tensors of an unsharded folder."""
  path = folder / 'model.safetensors'
  tensors = load_file(path)
  change(tensors)
  save_file(tensors, path)


@pytest.mark.parametrize('family', ['llama', 'qwen3'])
@pytest.mark.parametrize('tied', [True, False])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_ours_to_hub_to_ours_to_hub(tmp_path, family, tied, dtype):
  """Bitwise both ways, sharded on the way; the config survives."""
  model = make(family, tied=tied)
  params = random_params(model)
  if dtype == 'bfloat16':  # what bfloat16 holds
    params = jax.tree.map(lambda x: x.astype(BF16).astype(np.float32), params)
  hub_checkpoint.save(tmp_path / 'a', params, model, dtype=dtype,
                      max_shard_bytes=4000)
  assert len(list((tmp_path / 'a').glob('*.safetensors'))) > 3
  again, back, skipped = load(tmp_path / 'a')
  assert again.config == model.config and not skipped
  assert_same(back, params)
  hub_checkpoint.save(tmp_path / 'b', back, again, dtype=dtype)
  first, second = tensors_of(tmp_path / 'a'), tensors_of(tmp_path / 'b')
  assert first.keys() == second.keys()
  assert ('lm_head.weight' in first) != tied
  assert {x.dtype for x in first.values()} == {
      np.dtype(hub_checkpoint.DTYPES[dtype])}
  assert_same(first, second)
  written = json.loads((tmp_path / 'a/config.json').read_text())
  assert written['dtype'] == dtype


@pytest.mark.parametrize('kind', ['Llama', 'Qwen3'])
@pytest.mark.parametrize('tied', [True, False])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
def test_transformers_to_ours_to_transformers(tmp_path, kind, tied, dtype):
  """Same tensors, same logits; what transformers wrote, old and new."""
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  torch.set_num_threads(1)
  config = getattr(transformers, f'{kind}Config')(
      vocab_size=31, hidden_size=24, intermediate_size=20, num_hidden_layers=2,
      num_attention_heads=3, num_key_value_heads=1, head_dim=8,
      max_position_embeddings=128, tie_word_embeddings=tied)
  transformers.AutoModelForCausalLM.from_config(config).to(
      getattr(torch, dtype)).save_pretrained(
          tmp_path / 'theirs', max_shard_size='5KB')
  model, params, skipped = load(tmp_path / 'theirs')
  assert not skipped and {
      x.dtype for x in jax.tree.leaves(params)} == {np.dtype(np.float32)}
  out = 'bfloat16' if dtype == 'bfloat16' else 'float32'
  hub_checkpoint.save(tmp_path / 'ours', params, model, dtype=out,
                      max_shard_bytes=5000)
  read = transformers.AutoModelForCausalLM.from_pretrained
  written = read(tmp_path / 'ours', dtype='auto')
  assert written.dtype == getattr(torch, out)
  # Not .to(dtype): that would round the rotary frequencies too.
  reference = read(tmp_path / 'theirs', dtype=written.dtype)
  theirs, ours = reference.state_dict(), written.state_dict()
  assert ours.keys() == theirs.keys()
  assert all(torch.equal(ours[n], theirs[n]) for n in theirs)
  tokens = torch.arange(20)[None]
  with torch.no_grad():
    assert torch.equal(written(tokens).logits, reference(tokens).logits)


def test_params_in_bfloat16(folder):
  _, wide, _ = load(folder)
  _, narrow, _ = load(folder, dtype='bfloat16')
  assert_same(narrow, jax.tree.map(lambda x: x.astype(BF16), wide))


@pytest.mark.parametrize('shape', [(1, 8, 1), (1, 2, 2), (2, 1, 2)])
@pytest.mark.parametrize('rules', ['TRAIN_RULES', 'ROLLOUT_RULES'])
def test_sharded_equals_whole(folder, make_mesh, shape, rules):
  """The same values, where the sharding table wants them."""
  model, whole, _ = load(folder)
  shardings = sharding.param_shardings(
      whole, make_mesh(*shape), getattr(sharding, rules))
  _, found, _ = load(folder, shardings)
  assert jax.tree.map(lambda x: x.sharding, found) == shardings
  assert_same(found, whole)


def test_a_shard_reads_its_rows_only(folder, make_mesh):
  """Heads lie in the rows of q, so half the heads are half the rows; width is
  columns there, and half of it needs all rows."""
  source = hub_checkpoint.read(folder)
  model = make()
  name = 'model.layers.1.self_attn.q_proj.weight'
  read = []

  def spy(tensor, start, stop):
    if tensor == name:
      read.append((start, stop))
    return source.read(tensor, start, stop)

  spied = dataclasses.replace(source, read=spy)
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  for shape, want in (((1, 1, 2), {(0, 12), (12, 24)}), ((1, 2, 1), {(0, 24)})):
    read.clear()
    hub_checkpoint.load(spied, model, like(model, sharding.param_shardings(
        shapes, make_mesh(*shape), sharding.TRAIN_RULES)))
    assert set(read) == want


@pytest.mark.parametrize('split', [(4, 6, 16), (24, 4, 4), (48, 8), (2, 192)])
def test_piece_of_any_split(split):
  """Every slice of ours, whatever the split cuts, and never a needless row."""
  data = np.arange(24 * 16, dtype=np.float32).reshape(24, 16)
  leaf = hub_leaf.HubLeaf(
      ('x',), ('t',), (24, 16), split, tuple(reversed(range(len(split)))),
      False)
  rows = []

  def read(name, start, stop):
    rows.append(stop - start)
    return data[start:stop]

  source = hub_checkpoint.HubSource(pathlib.Path('.'), {}, {}, read)
  whole = leaf.to_ours(data)
  for axis, size in enumerate(whole.shape):
    index = [slice(None)] * whole.ndim
    index[axis] = slice(size // 2, size)
    rows.clear()
    got = hub_checkpoint._read_leaf(source, leaf, tuple(index), np.float32)
    np.testing.assert_array_equal(got, whole[tuple(index)])
    if axis == whole.ndim - 1 and 24 % split[0] == 0:
      assert rows == [12]


MEMORY = '''
import pathlib, re, sys, numpy as np
import jax
from zppo_jax.devices import sharding
from zppo_jax.weights import families, hub_checkpoint as hub
source = hub.read(sys.argv[1])
row = families.FAMILIES['qwen3']
model = row.build(row.from_hub(source.config))._replace(family='qwen3')
shapes = jax.eval_shape(model.init, jax.random.key(0))
mesh = sharding.make_mesh(sharding.MeshConfig(1, 4, 1))
shardings = sharding.param_shardings(shapes, mesh, sharding.TRAIN_RULES)
jax.make_array_from_callback(
    (8,), sharding.replicated(mesh), lambda i: np.zeros(8)[i])
# Not ru_maxrss: a child inherits that of the process that started it.
status = pathlib.Path('/proc/self/status')
peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', status.read_text())[1])
before = peak()
params, _ = hub.load(source, model, jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, hub.DTYPES['bfloat16'],
                                      sharding=s), shapes, shardings))
print((peak() - before) * 1024, sum(x.nbytes for x in jax.tree.leaves(params)))
'''


@LONG
@pytest.mark.skipif(not pathlib.Path('/proc/self/status').is_file(),
                    reason='peak memory is read from /proc')
def test_memory_is_the_shards_and_about_one_tensor(tmp_path):
  """200 MB of bfloat16 on four devices. Beyond the shards the peak holds the
  piece on its way to a device (a quarter of a stacked leaf, 12 MiB) and less
  than four hub tensors of 8 MiB: the one read, its check, its cast, slack."""
  model = models.build('qwen3', **{
      **SHAPES, 'width': 1024, 'mlp_width': 4096, 'num_heads': 8,
      'num_kv_heads': 8, 'head_dim': 128, 'num_layers': 6})
  row = families.FAMILIES['qwen3']
  header, offset, largest = {}, 0, 0
  for leaf in row.hub_leaves(model.config):
    for name in leaf.names:
      size = 2 * int(np.prod(leaf.hub_shape))
      header[name] = {'dtype': 'BF16', 'shape': leaf.hub_shape,
                      'data_offsets': [offset, offset + size]}
      offset += size
      largest = max(largest, size)
  assert offset > 200e6 and largest == 8 << 20
  text = json.dumps(header).encode()
  with open(tmp_path / 'model.safetensors', 'wb') as f:
    f.write(len(text).to_bytes(8, 'little') + text)
    f.truncate(8 + len(text) + offset)  # zeros, without writing them
  (tmp_path / 'config.json').write_text(
      json.dumps(row.to_hub(model.config)))
  done = subprocess.run(
      [sys.executable, '-c', MEMORY, str(tmp_path)], capture_output=True,
      text=True, env={
          **os.environ,
          'XLA_FLAGS': '--xla_force_host_platform_device_count=4'})
  assert done.returncode == 0, done.stderr
  growth, ours = map(int, done.stdout.split())
  print(f'peak grew by {growth / 2**20:.0f} MiB; shards {ours / 2**20:.0f}')
  assert ours == offset
  piece = 6 * largest // 4
  assert 0.9 * ours < growth < ours + piece + 4 * largest, (growth, ours)


def test_everything_that_does_not_fit_is_named_at_once(folder):
  def change(tensors):
    del tensors['model.layers.2.mlp.up_proj.weight']
    tensors['model.layers.3.mlp.up_proj.weight'] = np.zeros((2, 2))
    tensors['model.norm.weight'] = np.zeros((15,), np.float32)
  rewrite(folder, change)
  with pytest.raises(ValueError) as e:
    load(folder)
  for text in ("missing tensors ['model.layers.2.mlp.up_proj.weight']",
               "unknown tensors ['model.layers.3.mlp.up_proj.weight']",
               'model.norm.weight (15,), not (16,)'):
    assert text in str(e.value)


def test_skipped_prefixes_are_left_out_and_reported(folder, monkeypatch):
  """By the family's list alone; without it they are unknown."""
  rewrite(folder, lambda t: t.update({
      'mtp.a.weight': np.zeros(2, np.int64), 'mtp.b.weight': np.zeros(3)}))
  with pytest.raises(ValueError, match='unknown tensors.*mtp.a'):
    load(folder)
  monkeypatch.setitem(families.FAMILIES, 'qwen3',
                      families.FAMILIES['qwen3']._replace(skipped=('mtp.',)))
  assert load(folder)[2] == ['mtp.a.weight', 'mtp.b.weight']


def test_head_of_a_tied_checkpoint(tmp_path):
  """Left out if it is the embedding's copy, else an error."""
  model = make(tied=True)
  params = random_params(model)
  hub_checkpoint.save(tmp_path / 'hub', params, model)
  rewrite(tmp_path / 'hub', lambda t: t.update(
      {'lm_head.weight': t['model.embed_tokens.weight'].copy()}))
  _, found, skipped = load(tmp_path / 'hub')
  assert skipped == ['lm_head.weight']
  assert_same(found, params)
  rewrite(tmp_path / 'hub', lambda t: t['lm_head.weight'].__setitem__(
      (31, 15), 7))
  with pytest.raises(ValueError, match='lm_head.weight differs from'):
    load(tmp_path / 'hub')


@pytest.mark.parametrize('value', [np.nan, -np.inf])
@pytest.mark.parametrize('dtype', [np.float32, BF16])
def test_weights_that_are_not_finite(folder, value, dtype):
  def change(tensors):
    x = tensors['model.layers.1.mlp.down_proj.weight'].astype(dtype)
    x[-1, -1] = value
    tensors['model.layers.1.mlp.down_proj.weight'] = x
  rewrite(folder, change)
  with pytest.raises(ValueError, match='layers.1.mlp.down_proj.weight holds'):
    load(folder)


def test_unread_type_is_named(folder):
  rewrite(folder, lambda t: t.update(
      {'model.norm.weight': np.ones(16, np.int32)}))
  with pytest.raises(ValueError, match='model.norm.weight has type I32.*F32'):
    load(folder)


def test_fp8_blocks_by_hand(tmp_path):
  """Each 128 x 128 block has its factor; ragged last blocks; a shard's rows
  need not start at a block."""
  torch = pytest.importorskip('torch')
  from safetensors.torch import save_file as save_torch
  torch.manual_seed(0)
  weight = torch.randn(200, 300).to(torch.float8_e4m3fn)
  scale = torch.tensor([[1.0, 2.0, 4.0], [0.5, 8.0, 0.25]])
  save_torch({'a.weight': weight, 'a.weight_scale_inv': scale,
              'b': torch.ones(2)}, tmp_path / 'model.safetensors')
  config = {'quantization_config': {
      'quant_method': 'fp8', 'fmt': 'e4m3', 'weight_block_size': [128, 128]}}
  (tmp_path / 'config.json').write_text(json.dumps(config))
  source = hub_folder.read(tmp_path)
  assert set(source.tensors) == {'a.weight', 'b'}
  want = weight.float().numpy().copy()
  for i in range(2):
    for j in range(3):
      want[128 * i:128 * (i + 1), 128 * j:128 * (j + 1)] *= scale[i, j].item()
  got = source.read('a.weight', 100, 150)
  assert got.dtype == np.float32
  np.testing.assert_array_equal(got, want[100:150])
  for bad, message in (
      ({'quant_method': 'gptq'}, 'gptq'),
      ({'quant_method': 'fp8'}, 'weight_block_size'),
      ({'quant_method': 'fp8', 'weight_block_size': [64, 128]},
       r'has shape \(2, 3\); blocks of \(64, 128\).*\(4, 3\)'),
      (None, 'FP8 without')):
    (tmp_path / 'config.json').write_text(json.dumps(
        {'quantization_config': bad}))
    with pytest.raises(ValueError, match=message):
      hub_folder.read(tmp_path)


@pytest.mark.parametrize('name', ['pytorch_model.bin', 'model.pt', 'a.pkl'])
def test_pickles_are_refused_by_name(folder, name):
  (folder / 'model.safetensors').rename(folder / name)
  with pytest.raises(FileNotFoundError, match=f'{name} are pickles'):
    load(folder)


def test_remote_code_is_refused(folder):
  edit(folder, auto_map={'AutoModel': 'evil.Model'})
  with pytest.raises(ValueError, match='remote code.*evil.Model'):
    load(folder)


def test_unsupported_model_type_lists_the_supported(folder):
  edit(folder, model_type='mamba')
  with pytest.raises(ValueError, match="'mamba'; supported: llama, qwen3"):
    load(folder)


def test_damaged_files_are_named(folder):
  path = folder / 'model.safetensors'
  whole = path.read_bytes()
  for damaged in (whole[:-4], b'', b'\xff' * 16, whole[:8] + b'x' + whole[9:]):
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match='model.safetensors is not a readable'):
      load(folder)
  (folder / 'config.json').write_text('{')
  with pytest.raises(ValueError, match='config.json is not JSON'):
    load(folder)


def test_index_is_checked(tmp_path):
  model = make()
  hub_checkpoint.save(tmp_path / 'hub', random_params(model), model,
                      max_shard_bytes=4000)
  shards = sorted((tmp_path / 'hub').glob('*.safetensors'))
  shards[1].rename(tmp_path / 'elsewhere')
  with pytest.raises(FileNotFoundError, match=f'lacks {shards[1].name}'):
    load(tmp_path / 'hub')
  index = tmp_path / 'hub/model.safetensors.index.json'
  index.write_text(json.dumps({'weight_map': {'a': '../elsewhere'}}))
  with pytest.raises(ValueError, match='outside the folder.*elsewhere'):
    load(tmp_path / 'hub')
  index.write_text('{}')
  with pytest.raises(ValueError, match='no weight_map'):
    load(tmp_path / 'hub')


def test_a_tensor_in_two_shards(tmp_path):
  model = make()
  hub_checkpoint.save(tmp_path / 'hub', random_params(model), model,
                      max_shard_bytes=4000)
  shards = sorted((tmp_path / 'hub').glob('*.safetensors'))
  shards[1].write_bytes(shards[0].read_bytes())
  with pytest.raises(ValueError, match=f'is in {shards[1].name} and in'):
    load(tmp_path / 'hub')


def test_shards_are_cut_by_size():
  """In order, never above the limit but for a tensor that is."""
  sizes = {'a': 4, 'b': 4, 'c': 1, 'd': 20, 'e': 9}
  assert hub_checkpoint._shards(sizes, 9) == [['a', 'b', 'c'], ['d'], ['e']]
  assert hub_checkpoint._shards(sizes, 100) == [list(sizes)]


def test_nothing_is_overwritten(folder):
  model = make()
  before = sorted(folder.iterdir())
  with pytest.raises(FileExistsError, match='is there already'):
    hub_checkpoint.save(folder, random_params(model), model)
  assert sorted(folder.iterdir()) == before


def test_a_failed_write_leaves_no_folder(tmp_path, monkeypatch):
  model = make()
  def full_disk(*_, **__):
    raise OSError('disk full')
  monkeypatch.setattr(safetensors_file, 'write', full_disk)
  with pytest.raises(OSError):
    hub_checkpoint.save(tmp_path / 'hub', random_params(model), model)
  assert not (tmp_path / 'hub').exists()
  monkeypatch.undo()
  (tmp_path / 'hub').mkdir()  # an empty one may be there
  hub_checkpoint.save(tmp_path / 'hub', random_params(model), model)
  assert [p.name for p in tmp_path.iterdir()] == ['hub']


def test_tokenizer_files_and_token_ids_are_copied(tmp_path, folder):
  (folder / 'tokenizer.json').write_text('{}')
  (folder / 'generation_config.json').write_text('{"eos_token_id": [3, 4]}')
  (folder / 'weird.py').write_text('')
  edit(folder, eos_token_id=3)
  model, params, _ = load(folder)
  files = hub_checkpoint.save(tmp_path / 'new', params, model, tokenizer=folder)
  assert files == ['config.json', 'generation_config.json',
                   'model.safetensors', 'tokenizer.json']
  assert hub_folder.read_config(tmp_path / 'new')['eos_token_id'] == 3
  assert hub_folder.end_ids(tmp_path / 'new') == (3, 4)
  with pytest.raises(FileNotFoundError, match='no tokenizer files'):
    hub_checkpoint.save(tmp_path / 'other', params, model, tokenizer=tmp_path)
  assert not (tmp_path / 'other').exists()


def test_refused_arguments(tmp_path, tiny):
  model = make()
  with pytest.raises(ValueError, match="dtype is 'float16'; allowed: float32"):
    hub_checkpoint.save(tmp_path / 'a', random_params(model), model,
                        dtype='float16')
  with pytest.raises(ValueError, match="'decoder' family has no hub form"):
    hub_checkpoint.save(tmp_path / 'a', tiny[1], tiny[0])
