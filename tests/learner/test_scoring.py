"""Scores of rows in buckets against a dense softmax, on meshes, with media."""

import functools

import jax
import numpy as np
import pytest

from tests.long import long
from tests.train.test_media import CHAT, CODEC, FAMILIES, QUESTIONS, TEXT
from zppo_jax import models
from zppo_jax.algorithms import zppo
from zppo_jax.chat import segments
from zppo_jax.learner import packing, scoring
from zppo_jax.records import TokenSequence
from zppo_jax.rollout import weight_sync

pytestmark = pytest.mark.usefixtures('quick_compile')
VOCAB, K = segments.true_vocabulary(CODEC), 4
RNG = np.random.default_rng(0)


@pytest.fixture(scope='module')
def model():
  return models.build('qwen3_vl', **TEXT, **FAMILIES['qwen3_vl'])


@pytest.fixture(scope='module')
def params(model):
  return jax.device_get(jax.jit(model.init)(jax.random.key(0)))


@pytest.fixture(scope='module')
def rows():
  """With pictures, clips and text alone; responses of several lengths."""
  return [TokenSequence(
      prompt=p.tokens, media=p.media,
      response=tuple(RNG.integers(6, VOCAB, n).tolist()))
      for p, n in zip(zppo.plain_prompts(QUESTIONS, CHAT), (3, 9, 1, 16),
                      strict=True)]


def dense(model, params, row):
  """Log-probs [R, V] of one row alone, in its own shape."""
  patches = 0 if row.media is None else len(row.media.patches_IC)
  batch = packing.pad_rows([packing.to_score(row)], 1, len(row), patches,
                           model.num_axes)
  hidden, _ = model.apply(
      params, batch.tokens_BT, batch.positions_BTA, batch.segment_BT,
      media=batch.prompts.media)
  z = np.float64(hidden[0]) @ np.float64(model.head(params))[:, :VOCAB]
  z = z[len(row.prompt) - 1:-1] / 0.8
  return z - np.logaddexp.reduce(z, axis=-1, keepdims=True)


@pytest.mark.parametrize('buckets', [(96,), long((64, 96))])
def test_everything_on_a_mesh_with_media(
    model, params, rows, make_mesh, buckets):
  """A head cut over the vocabulary gives the same; a picture that is left out
  does not."""
  mesh = make_mesh(2, 2, 2)
  given = [RNG.integers(-1, VOCAB, (len(r.response), 3)) for r in rows]
  on_mesh = models.on_mesh(model, mesh)
  run = functools.partial(
      scoring.by_row, scoring.compile_describer(
          model=on_mesh, mesh=mesh, chunk=5, vocab=VOCAB, form=scoring.Form(
              top=K, given=True, entropy=True, temperature=0.8)),
      weight_sync.place_copy(params, model, mesh), mesh=mesh, max_tokens=400,
      buckets=buckets, patch_buckets=(64,), num_axes=model.num_axes,
      prompts=True)
  found = run(rows, given=given)
  for row, ids, one in zip(rows, given, found, strict=True):
    start = len(row.prompt)
    logps = dense(model, params, row)
    take = lambda i, x=logps: np.take_along_axis(x, np.int64(i), 1)
    near = functools.partial(np.testing.assert_allclose, atol=2e-5)
    near(one.logp_BT[start:], take(np.array(row.response)[:, None])[:, 0])
    near(one.entropy_BT[start:], -np.sum(np.exp(logps) * logps, -1))
    near(one.top_logp_BTK[start:], -np.sort(-logps, -1)[:, :K])
    near(take(one.top_id_BTK[start:]), one.top_logp_BTK[start:])
    near(one.given_logp_BTN[start:], np.where(
        ids < 0, -np.inf, take(np.maximum(ids, 0))))
    assert not one.logp_BT[:start].any()  # prompts are not described
  shown = [i for i, r in enumerate(rows) if r.media is not None]
  blind = run([TokenSequence(rows[i].prompt, rows[i].response) for i in shown],
              given=[given[i] for i in shown])
  for i, one in zip(shown, blind, strict=True):
    assert abs(one.logp_BT - found[i].logp_BT).max() > 1e-3
