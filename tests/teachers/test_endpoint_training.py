"""A trainer that ends while its teacher is a server: what the teacher said once
is not asked again, and the run ends as if nothing had happened."""

import pytest

from tests.builders import json_rows

pytest.importorskip('openai')
from tests import kill_and_resume  # noqa: E402
from tests.builders import small_config  # noqa: E402
from tests.fake_endpoint import RIGHT, completion, serving, truth  # noqa: E402
from tests.long import long  # noqa: E402
from zppo_jax.train import loop  # noqa: E402

pytestmark = pytest.mark.usefixtures('quick_compile')
SECRET = 'sk-of-the-teacher'
# What runs in a process of its own, to be killed in its second update.
CHILD = """
import sys
from tests import kill_and_resume
from tests.teachers import test_endpoint_training
from zppo_jax.train import loop
kill_and_resume.arm('update', 2, 0.0)
loop.main(test_endpoint_training.make_config(sys.argv[1]), sys.argv[2])
"""
FILES = ('samples.jsonl', 'buffer.jsonl', 'eval.jsonl', 'final.safetensors')


def make_config(url):
  """Three steps, a checkpoint after each."""
  c = small_config(steps=3)
  c.teacher.kind = 'endpoint'
  c.teacher.endpoint.update(url=url, model='m', key_env='TEACHER_KEY',
                            retries=1, backoff_s=0.01)
  c.checkpoint.every = 1
  c.log.tensorboard = False
  return c


def fickle(fake, route, body, headers):
  """The truth once; another answer whenever the same is asked again."""
  assert headers['authorization'] == f'Bearer {SECRET}'
  if body['messages'][0]['content'] == '1':  # whether anybody is there
    return 200, {}, completion(['A 1'])
  if [b['seed'] for b in fake.asked].count(body['seed']) > 1:
    return 200, {}, completion([RIGHT] * body['n'])
  return truth(fake, route, body, headers)


def asked(fake) -> list[tuple[int, str]]:
  """What was asked about questions, sorted."""
  found = [(b['seed'], b['messages'][0]['content']) for b in fake.asked]
  return sorted(f for f in found if f[1] != '1')


def rows_of(path):
  """metrics.jsonl without clocks and what an attempt sent."""
  return [{k: v for k, v in row.items() if not k.startswith(
      ('time/', 'compilations/', 'teacher/wanted', 'teacher/requests',
       'teacher/retries', 'teacher/fallbacks'))}
          for row in json_rows(path / 'metrics.jsonl')]


@pytest.mark.parametrize('how', ['error', long('kill -9')])
def test_an_end_after_the_teacher_spoke(how, tmp_path, monkeypatch):
  """In the second update. The server would say something else the second time,
  and is asked each question once over both attempts; the end is that of a run
  that was left alone. The key is in no file."""
  monkeypatch.setenv('TEACHER_KEY', SECRET)
  with serving(fickle) as (url, fake):
    loop.main(make_config(url), tmp_path / 'whole')
    whole = asked(fake)
  assert len(whole) == len(set(whole)) >= 6
  with serving(fickle) as (url, fake):
    kill_and_resume.end_a_run(
        how, monkeypatch, 2, CHILD, (url, tmp_path / 'run'),
        lambda: loop.main(make_config(url), tmp_path / 'run'))
    before = asked(fake)
    assert len(rows_of(tmp_path / 'run')) == 1
    assert 0 < len(before) < len(whole)
    loop.main(make_config(url), tmp_path / 'run')
    assert asked(fake) == whole and set(before) < set(whole)
  log = (tmp_path / 'run/attempts/0002/log.txt').read_text()
  assert 'resumed after 1 steps' in log
  rows = json_rows(tmp_path / 'run/metrics.jsonl')
  assert ['teacher/requests' in row for row in rows] == [True, False, True]
  assert rows_of(tmp_path / 'run') == rows_of(tmp_path / 'whole')
  assert all(row['teacher/accuracy'] == 1 for row in rows)
  for name in FILES:
    assert (tmp_path / 'run' / name).read_bytes() == (
        tmp_path / 'whole' / name).read_bytes(), name
  for file in tmp_path.rglob('*'):
    assert file.is_dir() or SECRET.encode() not in file.read_bytes(), file
