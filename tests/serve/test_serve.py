"""`zppo serve` in a process of its own, and runs that it teaches."""

import concurrent.futures
import contextlib
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

pytest.importorskip('openai')
pytest.importorskip('uvicorn')
from tests.builders import small_config  # noqa: E402
from tests.environments import ROOT, alone  # noqa: E402
from tests.long import LONG  # noqa: E402
from zppo_jax import main  # noqa: E402
from zppo_jax.algorithms import zppo  # noqa: E402
from zppo_jax.chat.micro_chat import CHAT  # noqa: E402
from zppo_jax.endpoints import client  # noqa: E402
from zppo_jax.endpoints.client import TEXT, Call, Endpoint  # noqa: E402
from zppo_jax.endpoints.replies import read_text  # noqa: E402
from zppo_jax.tasks import micro  # noqa: E402
from zppo_jax.train import build, loop  # noqa: E402


def launch(port: int = 0):
  """(process, url) of a server of the embedded teacher."""
  process = subprocess.Popen(
      [sys.executable, '-m', 'zppo_jax.main', 'serve', '--model=micro/teacher',
       f'--port={port}', '--context=200', '--slots=16'], cwd=ROOT, env=alone(),
      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
  line = process.stdout.readline()
  assert line.startswith('teacher: http://127.0.0.1:'), line
  return process, line.split()[1]


def end(process) -> None:
  process.kill()
  process.wait()
  process.stdout.close()


@contextlib.contextmanager
def serving():
  process, url = launch()
  try:
    yield process, url
  finally:
    end(process)


def config(url, api, steps=2):
  c = small_config(steps=steps)
  c.teacher.kind = 'endpoint'
  c.teacher.endpoint.update(
      url=url, model='teacher', api=api, deadline_s=60.0, budget_s=60.0,
      retries=2)
  return c


@LONG
def test_a_server_answers_teaches_and_ends_well(tmp_path):
  """Greedy answers are those of the teacher in this process (its scores:
  test_as_scorer.py); SIGTERM ends it with 0."""
  own = build.build(small_config())
  prompts = zppo.plain_prompts(micro.pool(6, 0.5), own.sampler.chat)
  with serving() as (process, url):
    run = build.build(config(url, 'completions'))
    assert run.teacher.capabilities.scores
    of = Endpoint(url=url, model='teacher')
    replies = client.ask_all(of, [
        Call(TEXT, {'prompt': list(p.tokens), 'max_tokens': 16,
                    'temperature': 0}, 1, read_text)
        for p in prompts], 120)
    texts = [r.results[0].text for r in replies]
    grade = run.teacher.grader
    assert all(grade.grade(grade.parse(t), p.question)
               for t, p in zip(texts, prompts, strict=True))
    first = run.teacher.answer(prompts, 3).groups
    again = run.teacher.answer(prompts[2:3], 3).groups  # in other company
    assert again[0].rollouts == first[2].rollouts
    summary = loop.main(config(url, 'chat'), tmp_path / 'run')
    assert summary['steps'] == 2
    row = json.loads((tmp_path / 'run' / 'metrics.jsonl').read_text()
                     .splitlines()[-1])
    assert row['teacher/accuracy'] > 0.8 and row['groups/bcq'] > 0
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def ask(url: str, **body) -> dict:
  """The decoded reply of a text completion; HTTPError for another status."""
  request = urllib.request.Request(
      f'{url}/completions', json.dumps({'model': 'teacher', **body}).encode(),
      {'content-type': 'application/json'})
  with urllib.request.urlopen(request, timeout=60) as reply:
    return json.loads(reply.read())


@LONG
def test_sigterm_with_requests_under_way():
  """All of them are answered to the last choice, whoever comes later is
  refused, and the process ends with 0."""
  prompt = list(CHAT.plain('C a b c 4').tokens)
  with (serving() as (process, url),
        concurrent.futures.ThreadPoolExecutor(4) as threads):
    found = [threads.submit(ask, url, prompt=prompt, n=128, max_tokens=16,
                            seed=i)
             for i in range(4)]
    time.sleep(0.2)
    urllib.request.urlopen(url.replace('/v1', '/health'), timeout=60).close()
    assert not any(f.done() for f in found)
    process.send_signal(signal.SIGTERM)
    for reply in found:
      assert len(reply.result(60)['choices']) == 128
    assert process.wait(60) == 0
    with pytest.raises(urllib.error.URLError, match='refused'):
      ask(url, prompt=prompt)


# Signals between the address and uvicorn's own handlers, and after those.
IN_BETWEEN = '''
import signal
import uvicorn
from zppo_jax import main, serve

start, run, workers = serve.start, uvicorn.Server.run, []

def kept(*args):
  workers.append(start(*args))
  return workers[0]

def signalled(self, sockets):
  assert signal.getsignal(signal.SIGTERM) != self.handle_exit
  for number in (signal.SIGINT, signal.SIGTERM):
    self.should_exit = False
    signal.raise_signal(number)
    assert self.should_exit, number
  run(self, sockets)
  signal.raise_signal(signal.SIGTERM)
  assert workers[0].alive

serve.start, uvicorn.Server.run = kept, signalled
main.main(['serve', '--model=micro/teacher', '--port=0', '--context=200',
           '--slots=16'])
print('alive:', workers[0].alive)
'''


@LONG
def test_signals_around_those_that_uvicorn_hears():
  """Each alone ends the server as soon as its address is out; one more at the
  very end changes nothing; the worker stops and the process ends with 0."""
  done = subprocess.run(
      [sys.executable, '-c', IN_BETWEEN], cwd=ROOT, env=alone(),
      capture_output=True, text=True, timeout=60)
  assert done.returncode == 0, done
  address, alive = done.stdout.splitlines()
  assert address.startswith('teacher: http://127.0.0.1:')
  assert alive == 'alive: False'


@LONG
def test_a_teacher_that_is_killed_and_comes_back(tmp_path):
  """The steps without it end with NCQs alone; the run ends well."""
  process, url = launch()
  port = int(url.rpartition(':')[2].partition('/')[0])
  steps, real = 6, loop.train_step
  c = config(url, 'completions', steps)
  c.teacher.endpoint.update(budget_s=5.0, deadline_s=5.0, retries=1,
                            backoff_s=0.05)
  server = [process]

  def step(run, state, buffer, number, *rest):
    if number == 2:
      end(server[0])
    if number == 4:
      server[0], _ = launch(port)
    return real(run, state, buffer, number, *rest)

  try:
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(loop, 'train_step', step)
      summary = loop.main(c, tmp_path / 'run')
  finally:
    end(server[0])
  assert summary['steps'] == steps
  rows = [json.loads(line) for line in (
      tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()]
  lost = [r['teacher/fallbacks'] == r['hard/asked'] for r in rows]
  assert lost == [False, False, True, True, False, False]
  assert [r['groups/bcq'] > 0 for r in rows] == [not x for x in lost]
  assert all(r['groups/ncq'] for r in rows if r['hard/asked'])
  assert rows[2]['teacher/failed/connection'] > 0
  begun = [r['time/teacher'] for r in rows[2:4]]
  assert max(begun) < 7


@pytest.mark.parametrize('argv, said', [
    (['--host=0.0.0.0'], "--host is '0.0.0.0'; without --token-env only"),
    (['--token-env=NO_SUCH_TOKEN'], "'NO_SUCH_TOKEN'; no such environment"),
    (['--context=999'], '--context is 999; it must be a whole number in '
     '[2, 256]'),
    (['--slots=0'], '--slots is 0'),
])
def test_flags_that_do_not_fit(argv, said, monkeypatch):
  monkeypatch.delenv('ZPPO_TRACEBACK', raising=False)
  with pytest.raises(SystemExit) as e:
    main.main(['serve', '--model=micro/teacher', *argv])
  assert said in e.value.code


