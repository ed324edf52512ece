"""A run whose teacher is `zppo serve`: the scores of the model in process."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip('openai')
pytest.importorskip('uvicorn')
from tests.builders import small_config  # noqa: E402
from tests.serve.test_serve import config, serving  # noqa: E402
from zppo_jax.algorithms import zppo  # noqa: E402
from zppo_jax.records import TokenSequence, Wanted  # noqa: E402
from zppo_jax.tasks import micro  # noqa: E402
from zppo_jax.train import build  # noqa: E402

pytestmark = pytest.mark.usefixtures('quick_compile')

K = 5


def check_same(got, want):
  """To 1e-5 nats, of log-probs below -1 to 1e-5 of their size: the shapes of
  the two programs differ, and with them the rounding of float32."""
  assert (abs(got - want) <= 1e-5 * np.maximum(1, abs(want))).all()


@pytest.fixture(scope='module')
def url():
  with serving() as (_, found):
    yield found


@pytest.fixture(scope='module')
def own():
  """(teacher in this process, its answers and unlikely ones)."""
  run = build.build(small_config())
  prompts = zppo.plain_prompts(micro.pool(3, 0.5), run.sampler.chat)
  groups, _ = run.teacher.answer(prompts, 0)
  rows = [TokenSequence(prompt=g.prompt.tokens, response=r.tokens)
          for g in groups for r in g.rollouts[:2]]
  return run.teacher, [*rows, dataclasses.replace(
      rows[0], response=rows[0].response[::-1])]


@pytest.mark.parametrize('form', ['echo', 'prompt_logprobs'])
def test_scores_over_a_socket_are_those_in_process(url, own, form):
  """The top K by id; tokens beyond the K likeliest are among the rows."""
  teacher, rows = own
  c = config(url, 'completions')
  c.teacher.endpoint.scores = form
  there = build.build(c).teacher
  assert there.capabilities.top == 20
  got, want = (t.score(rows, Wanted(top=K)) for t in (there, teacher))
  assert not got.calls.failed
  beyond = 0
  for i, row in enumerate(rows):
    check_same(got.logps[i], want.logps[i])
    check_same(got.top_logps[i], want.top_logps[i])
    apart = -np.diff(want.top_logps[i], append=-np.inf) > 1e-4
    apart &= -np.diff(want.top_logps[i], prepend=np.inf) > 1e-4
    np.testing.assert_array_equal(
        got.top_ids[i][apart], want.top_ids[i][apart])
    beyond += sum(t not in ids for t, ids in zip(
        row.response, want.top_ids[i].tolist(), strict=True))
  assert beyond
