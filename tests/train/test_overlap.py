"""A run whose teacher answers beside the draws comes to what it comes to
without."""

import time

import pytest

pytest.importorskip('openai')
from benchmarks.overlap import differences  # noqa: E402
from tests.builders import json_rows, small_config  # noqa: E402
from tests.fake_endpoint import right, serving, truth  # noqa: E402
from zppo_jax.teachers.ahead import AheadTeacher  # noqa: E402
from zppo_jax.train import loop  # noqa: E402

pytestmark = pytest.mark.usefixtures('quick_compile')


def test_the_order_of_arrival_changes_nothing(tmp_path, monkeypatch):
  """Answers come after times that have nothing to do with their order; few
  slots are refilled, so that NCQs join the plain prompts."""
  asked, ask_ahead = [], AheadTeacher.ask_ahead

  def noting(self, prompts, step):
    asked.append(len(prompts))
    ask_ahead(self, prompts, step)

  def uneven(fake, route, body, headers):
    if body['messages'][0]['content'] == '1':  # whether anybody is there
      return right(fake, route, body, headers)
    time.sleep(body['seed'] % 7 * 0.05)
    return truth(fake, route, body, headers)

  monkeypatch.setattr(AheadTeacher, 'ask_ahead', noting)
  with serving(uneven) as (url, _):
    for name, overlap in (('serial', False), ('overlapped', True)):
      c = small_config(overlap=overlap)
      c.algorithm.update(ties='name', rho_aug=1.0)
      c.shapes.slots = 16
      c.teacher.kind, c.log.tensorboard = 'endpoint', False
      c.teacher.endpoint.update(url=url, model='m')
      loop.main(c, tmp_path / name)
      assert bool(asked) == overlap
  found = differences(tmp_path / 'serial', tmp_path / 'overlapped')
  assert not found['metrics'] and not found['weights']
  assert found['last_bits'] < 1e-5
  # It was asked in several parts, the first of them during the draws.
  assert sum(map(bool, asked)) > 4
  rows = json_rows(tmp_path / 'overlapped/metrics.jsonl')
  assert all(row['groups/ncq'] >= 2 for row in rows)
