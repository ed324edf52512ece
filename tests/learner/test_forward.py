"""A frozen model on the policy's tokens, from its rollout copy."""

import jax
import numpy as np
import pytest

from benchmarks import random_models
from tests.long import long
from zppo_jax.learner import forward, layouts
from zppo_jax.records import (
  Group,
  Prompt,
  PromptKind,
  Question,
  Rollout,
  StopReason,
  Verdict,
)
from zppo_jax.rollout import weight_sync

pytestmark = pytest.mark.usefixtures('quick_compile')


@pytest.mark.parametrize('family', ['qwen3', long('qwen3_5')])
def test_hidden_states_are_the_same_in_every_layout(family):
  """Of a copy by block, recurrent states included: the hidden states that
  predict each response token, behind shared prompts and in rows of their
  own."""
  model, params = random_models.build(family)
  copy = weight_sync.rollout_copy(params, np.float32)
  rng = np.random.default_rng(0)
  draw = lambda n: tuple(rng.integers(2, 40, n).tolist())
  groups = [Group(
      Prompt(Question(str(p), '', '', ''), PromptKind.PLAIN, draw(3 + p)),
      tuple(Rollout(draw(n), (-1.0,) * n, '', StopReason.END, Verdict.WRONG, '')
            for n in (2 + p, 5))) for p in range(3)]
  # A target tells the response tokens apart, wherever they lie.
  name = iter(range(1, 1000))
  targets = {(p, g): {'name': np.float32([next(name) for _ in r.tokens])}
             for p, group in enumerate(groups)
             for g, r in enumerate(group.rollouts)}
  found = {}
  for kind in layouts.LAYOUTS:
    of = layouts.Layout(
        kind=kind, max_tokens=96, multiple=1, rollouts=2, row_buckets=(16,),
        prompt_buckets=(8,), response_buckets=(8,), patch_buckets=(),
        num_axes=model.num_axes)
    for batch in layouts.micro_batches(groups, targets, of):
      hidden = jax.jit(lambda params, batch: forward.frozen_output(
          params, batch, model=model).hidden_BTD)(copy, batch)
      for b, t in zip(*np.nonzero(batch.mask_BT), strict=True):
        found.setdefault(float(batch.targets['name'][b, t]), []).append(
            np.asarray(hidden[b, t]))
  assert len(found) == sum(len(x['name']) for x in targets.values())
  for padded, *others in found.values():
    assert len(others) == 2 and np.linalg.norm(padded) > 0
    for other in others:
      np.testing.assert_allclose(other, padded, atol=2e-5)
