"""Log-probs of given tokens by the teacher on the mesh."""

import numpy as np

from tests.builders import small_config
from zppo_jax.algorithms import zppo
from zppo_jax.records import TokenSequence
from zppo_jax.tasks import micro
from zppo_jax.train import build


def test_scores_are_the_samplers_own_log_probs():
  """Of its answers, rows of several lengths, in their order."""
  run = build.build(small_config())
  prompts = zppo.plain_prompts(micro.pool(3, 0.5), run.sampler.chat)
  groups, asked = run.teacher.answer(prompts, 0)
  assert asked.answers == 12 and not asked.failed
  rows = [TokenSequence(prompt=g.prompt.tokens, response=r.tokens)
          for g in groups for r in g.rollouts]
  rows.insert(1, TokenSequence(
      prompt=prompts[0].tokens, response=rows[0].response[:2]))
  logps, asked = run.teacher.score(rows)
  assert asked.answers == len(rows) and run.teacher.capabilities.scores
  wanted = [r.logps for g in groups for r in g.rollouts]
  wanted.insert(1, wanted[0][:2])
  assert [len(x) for x in logps] == [len(x) for x in wanted]
  for found, want in zip(logps, wanted, strict=True):
    np.testing.assert_allclose(found, want, atol=2e-5)
