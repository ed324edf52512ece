"""Supervised pre-training of the embedded models."""

import pathlib
import runpy

import numpy as np
import pytest

from tests.long import LONG
from zppo_jax.commands import pretrain
from zppo_jax.weights import safetensors_file

CONFIG = (pathlib.Path(__file__).parents[2] / 'configs' /
          'micro_pretrain.py')


def small_config(**changes):
  c = runpy.run_path(str(CONFIG))['get_config']('teacher')
  c.steps = 30
  c.model.update(width=16, num_layers=1, num_heads=2, num_kv_heads=1,
                 head_dim=8, mlp_width=16)
  c.rows.update(plain=32, bcq=0, ncq=0, compression=8)
  c.shapes.row_buckets = (40,)
  for name, value in changes.items():
    c[name] = value
  return c


@LONG
def test_loss_falls_and_weights_carry_their_shape(tmp_path):
  """The loss starts near ln 40, the uniform guess, and falls."""
  rows = []
  plan = pretrain.build(small_config())
  params = pretrain.run(plan, rows.append)
  assert rows[0]['loss'] == pytest.approx(np.log(40), abs=0.8)
  assert rows[-1]['loss'] < rows[0]['loss'] - 0.8
  pretrain.save(tmp_path / 'a.safetensors', params, plan, {'role': 'x'})
  stored = safetensors_file.description(tmp_path / 'a.safetensors')
  assert stored['model']['width'] == 16
  assert stored['config'] == {'role': 'x'}


@LONG
def test_packed_rows_teach_the_same():
  """The losses of the first steps are those of padded rows."""
  def losses(layout):
    rows, c = [], small_config(steps=5)
    c.shapes.layout = layout
    pretrain.run(pretrain.build(c), rows.append)
    return [row['loss'] for row in rows]
  packed, padded = losses('packed'), losses('padded')
  assert packed == pytest.approx(padded, rel=1e-4) and len(packed) == 2


def test_other_seeds_see_another_corpus():
  drawn = lambda config, step: [
      (training.sequence.prompt, training.sequence.response)
      for training in pretrain.corpus_batch(pretrain.build(config), step)]
  a = drawn(small_config(), 0)
  assert a != drawn(small_config(seed=1), 0) and a != drawn(small_config(), 1)
  assert a == drawn(small_config(), 0)


@pytest.mark.parametrize('change, text', [
    (lambda c: c.belief.update(kind='nothing'), 'misconceived'),
    (lambda c: c.shapes.update(layout='shared'), "layout is 'shared'"),
    (lambda c: c.update(steps=0), 'steps is 0'),
    (lambda c: c.belief.update(kind='misconceived'), 'rows.compression is 8'),
    (lambda c: c.model.update(family='rnn'), 'decoder'),
    (lambda c: c.model.update(num_kv_heads=3), 'num_kv_heads'),
])
def test_bad_plans_name_field_and_what_is_known(change, text):
  c = small_config()
  change(c)
  with pytest.raises((KeyError, ValueError), match=text):
    pretrain.build(c)
