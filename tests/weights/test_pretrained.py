"""Models by name: packaged, ours, a run, a hub folder; and their chats."""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

from zppo_jax import assets
from zppo_jax.devices import disk, sharding
from zppo_jax.train import models
from zppo_jax.weights import hub_checkpoint, pretrained, safetensors_file

pytest.importorskip('transformers')
from tests import hub_builders  # noqa: E402


def assert_same(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture
def folder(tmp_path):
  return hub_builders.write(tmp_path / 'Qwen3-4B-tiny')


def test_packaged_model_has_no_tokenizer():
  found = pretrained.load('micro/student', dtype='bfloat16', remat='full')
  assert found.model.family == 'decoder'
  assert (found.model.config.dtype, found.model.config.remat) == (
      'bfloat16', 'full')
  assert found.tokenizer == '' and pretrained.chat(found) is None


def test_hub_folder(folder, capsys):
  """Weights, compute type, the chat of the folder; a preset's difference."""
  found = pretrained.load(folder, dtype='bfloat16', remat='dots')
  model, params = hub_builders.checkpoint()
  assert (found.model.config.dtype, found.model.config.remat) == (
      'bfloat16', 'dots')
  assert_same(found.params, params)
  assert {x.dtype for x in jax.tree.leaves(found.params)} == {
      np.dtype(np.float32)}
  chat = pretrained.chat(found)
  assert chat.codec.vocab_size == hub_builders.ROWS
  assert chat.codec.end_id == 263 and chat.codec.end_ids == (263, 261)
  assert {261, 263} <= chat.codec.sampled_ids
  assert chat.wording.opening == '<|im_start|>user\n'
  assert any('hidden_size is 16; preset Qwen3-4B has 2560' in note
             for note in found.notes)


def test_a_run_and_a_file_find_the_tokenizer_again(folder, tmp_path):
  """By the description; gone from its place, it is named."""
  found = pretrained.load(folder)
  run = tmp_path / 'run'
  safetensors_file.save(run / pretrained.FINAL, found.params, found.description)
  (run / 'config.json').write_text('{"config": {}}')
  for name in (run, run / pretrained.FINAL):
    again = pretrained.load(str(name))
    assert again.model.family == 'qwen3'
    assert again.model.config == found.model.config
    assert_same(again.params, found.params)
    assert pretrained.chat(again).wording == pretrained.chat(found).wording
  shutil.rmtree(folder)
  with pytest.raises(FileNotFoundError, match='no tokenizer at .*tiny'):
    pretrained.chat(again)


@pytest.fixture
def finished(tmp_path):
  """The end of a run: its final weights, and the summary that names them."""
  final = tmp_path / pretrained.FINAL
  shutil.copy(assets.find('micro/student'), final)
  (tmp_path / 'summary.json').write_text(json.dumps({
      'steps': 2, 'files': {final.name: disk.digest_of_start(final)}}))
  return tmp_path, final


def test_final_weights_that_somebody_changed_are_refused(finished):
  """One bit of the last tensor, which is a valid file of other weights."""
  run, final = finished
  for name in (run, final):
    pretrained.load(str(name))
  raw = bytearray(final.read_bytes())
  raw[-1] ^= 1
  final.write_bytes(raw)
  for name in (run, final):
    with pytest.raises(ValueError, match='final.safetensors is not what the '
                       'run wrote: .* summary.json'):
      pretrained.load(str(name))
  copy = run / 'mine.safetensors'  # as the message says
  shutil.copy(final, copy)
  pretrained.load(str(copy))


@pytest.mark.parametrize('summary', ['{"steps": 2}', '{"files": {}}', None])
def test_final_weights_of_earlier_versions_have_no_digest(finished, summary):
  run, _ = finished
  (run / 'summary.json').unlink()
  if summary is not None:
    (run / 'summary.json').write_text(summary)
  assert pretrained.load(str(run)).params


@pytest.mark.parametrize('summary', ['{"fil', '[]', '{"files": 3}',
                                     '{"files": {"final.safetensors": [1]}}'])
def test_a_summary_that_cannot_be_read_is_named(finished, summary):
  run, _ = finished
  (run / 'summary.json').write_text(summary)
  with pytest.raises(ValueError, match='summary.json is not readable'):
    pretrained.load(str(run))


def test_placed_on_a_mesh(folder, make_mesh):
  mesh = make_mesh(1, 2, 2)
  place = lambda like: models.placed(like, mesh, sharding.TRAIN_RULES)
  found = pretrained.load(folder, place=place)
  assert jax.tree.map(lambda x: x.sharding, found.params) == (
      sharding.param_shardings(found.params, mesh, sharding.TRAIN_RULES))
  assert_same(found.params, hub_builders.checkpoint()[1])


def test_what_is_left_out_is_noted(folder):
  path = pathlib.Path(folder) / 'model.safetensors'
  from safetensors.numpy import load_file, save_file
  tensors = load_file(path)
  save_file({**tensors, 'lm_head.weight': tensors['model.embed_tokens.weight']},
            path)
  assert 'left out by name: lm_head.weight' in pretrained.load(folder).notes


def test_folder_without_a_tokenizer(tmp_path):
  """Its chat is the task's."""
  model, params = hub_builders.checkpoint()
  hub_checkpoint.save(tmp_path / 'bare', params, model)
  assert pretrained.chat(pretrained.load(str(tmp_path / 'bare'))) is None


def test_unknown_names(tmp_path):
  with pytest.raises(FileNotFoundError, match='packaged: .*micro/student'):
    pretrained.load('micro/nobody')
  with pytest.raises(FileNotFoundError, match="no weights ''"):
    pretrained.load('')  # configs/base.py names none
  with pytest.raises(FileNotFoundError, match='holds no config.json'):
    pretrained.load(str(tmp_path))
  (tmp_path / 'config.json').write_text(json.dumps({'model_type': 'bert'}))
  (tmp_path / 'model.safetensors').write_bytes(
      (2).to_bytes(8, 'little') + b'{}')
  with pytest.raises(ValueError, match="'bert'; supported: llama, qwen3"):
    pretrained.load(str(tmp_path))
