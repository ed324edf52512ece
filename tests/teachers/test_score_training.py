"""A trainer that ends while a server scores for it: no sequence is scored
twice, and the run ends as if nothing had happened."""

import pytest

pytest.importorskip('openai')
from tests import kill_and_resume  # noqa: E402
from tests.builders import small_config  # noqa: E402
from tests.fake_endpoint import scorer, serving  # noqa: E402
from tests.long import long  # noqa: E402
from tests.teachers.test_endpoint_training import FILES, rows_of  # noqa: E402
from zppo_jax.chat import segments  # noqa: E402
from zppo_jax.chat.micro_chat import CHAT  # noqa: E402
from zppo_jax.train import loop  # noqa: E402

pytestmark = pytest.mark.usefixtures('quick_compile')
CHILD = """
import sys
from tests import kill_and_resume
from tests.teachers import test_score_training
from zppo_jax.train import loop
kill_and_resume.arm('update', 2, 0.0)
loop.main(test_score_training.make_config(sys.argv[1]), sys.argv[2])
"""


def make_config(url):
  """Three steps of two updates, a checkpoint after each."""
  c = small_config(method='opd', steps=3)
  c.algorithm.updates = 2
  c.teacher.kind = 'endpoint'
  c.teacher.endpoint.update(
      url=url, model='m', api='completions', scores='prompt_logprobs',
      retries=1, backoff_s=0.01)
  c.checkpoint.every = 1
  c.log.tensorboard = False
  return c


def fickle(asked):
  """Other log-probs whenever the same sequence is sent again."""
  def noise(body):
    asked.append(tuple(body['prompt']))
    return 0.01 * (asked.count(asked[-1]) - 1)
  return scorer(segments.true_vocabulary(CHAT.codec), noise=noise)


@pytest.mark.parametrize('how', ['error', long('kill -9')])
def test_an_end_after_the_teacher_scored(how, tmp_path, monkeypatch):
  """In the second update, whose scores had come: over both attempts the server
  is sent each sequence once, but for the probe of its abilities."""
  whole: list = []
  with serving(fickle(whole)) as (url, _):
    loop.main(make_config(url), tmp_path / 'whole')
  probe = CHAT.plain('1 2 3').tokens
  whole = sorted(x for x in whole if x != probe)
  assert len(whole) == len(set(whole)) >= 6
  asked: list = []
  with serving(fickle(asked)) as (url, _):
    kill_and_resume.end_a_run(
        how, monkeypatch, 2, CHILD, (url, tmp_path / 'run'),
        lambda: loop.main(make_config(url), tmp_path / 'run'))
    before = [x for x in asked if x != probe]
    assert 0 < len(before) < len(whole)
    loop.main(make_config(url), tmp_path / 'run')
  assert sorted(x for x in asked if x != probe) == whole
  log = (tmp_path / 'run/attempts/0002/log.txt').read_text()
  assert 'resumed after 1 steps' in log
  assert rows_of(tmp_path / 'run') == rows_of(tmp_path / 'whole')
  for name in (*FILES, 'teacher_scores.jsonl'):
    if (tmp_path / 'whole' / name).exists():
      lines = [sorted((tmp_path / of / name).read_bytes().splitlines())
               if name.startswith('teacher') else
               (tmp_path / of / name).read_bytes() for of in ('run', 'whole')]
      assert lines[0] == lines[1], name
  assert (tmp_path / 'run/teacher_scores.jsonl').exists()
