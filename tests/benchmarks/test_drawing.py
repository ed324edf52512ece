"""The draw by noise, which the benchmark has beside ours, is the same one."""

import json

import jax
import numpy as np

from benchmarks import drawing
from zppo_jax.rollout import drawing as ours


def test_both_ways_draw_from_one_distribution():
  """8 ids, 4,000 slots: frequencies within four deviations, and the log-prob of
  a token is the same one."""
  logits = np.random.default_rng(0).standard_normal(8).astype(np.float32)
  of_all = np.broadcast_to(logits, (4000, 8))
  p, logps = np.asarray(jax.nn.softmax(logits)), jax.nn.log_softmax(logits)
  keys = np.asarray(jax.random.key_data(
      jax.random.split(jax.random.key(1), 4000)))
  ones, zeros = np.ones(4000, np.float32), np.zeros(4000, np.int32)
  for tokens, of_tokens in (
      drawing.with_noise(of_all, keys, zeros),
      ours.draw(of_all, keys, zeros, ones, ones, zeros, np.ones(8, bool),
                ours.DRAW)):
    counts = np.bincount(tokens, minlength=8)
    assert (abs(counts - 4000 * p) < 4 * np.sqrt(4000 * p * (1 - p))).all()
    np.testing.assert_allclose(of_tokens, logps[np.asarray(tokens)], rtol=1e-5)


def test_a_table_of_what_was_measured(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(drawing, 'SHAPES', ((4, 16), (2, 100)))
  drawing.main([f'--to={tmp_path / "x.json"}', '--repeats=2'])
  found = json.loads((tmp_path / 'x.json').read_text())
  assert [row['vocab'] for row in found['rows']] == [16, 100]
  assert all(0 < s < 1 for row in found['rows']
             for s in row['seconds'].values())
  found['rows'] = [{'slots': 3, 'vocab': 5000, 'seconds': {
      'gumbel': 0.004, 'cdf': 0.001, 'least': 0.0005}}]
  assert '| 3 x 5,000 | 4.00 | 1.00 | 0.50 | 4.0 |' in drawing.table(found)
  assert 'cdf' in capsys.readouterr().out
