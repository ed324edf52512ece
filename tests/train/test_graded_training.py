"""Runs whose answers are graded in the sandbox or by a judge: graders that
hang, die, or are not there stop a run; they do not teach it zeros."""

import concurrent.futures
import dataclasses
import json
import re

import pytest

from tests.builders import json_rows, small_config
from tests.long import LONG
from zppo_jax.chat.micro_chat import CHAT
from zppo_jax.records import Grader
from zppo_jax.tasks import Task, micro
from zppo_jax.train import guards, loop, step
from zppo_jax.verdicts import verifier
from zppo_jax.verdicts.sandbox import Sandbox, SandboxLimits

pytestmark = pytest.mark.usefixtures('quick_compile')
ENDLESS_KIND = 'benchmarks.stand_ins:never'
SECRET = 'sk-of-the-judge'


def of_kind(kind: str, slow: int = 0) -> Task:
  """The embedded world graded as `kind`; with `slow` an answer is one number,
  and so many hard questions of the pool have a grader that does not end."""
  parse = micro.parse_answer
  if slow:
    parse = lambda text: micro.parse_answer(text).replace(' ', '')

  def pool(**fields):
    out, left = [], slow
    for q in micro.pool(**fields):
      if left and q.split == 'hard':
        left -= 1
        out.append(dataclasses.replace(q, kind=ENDLESS_KIND))
      else:
        out.append(dataclasses.replace(q, kind=kind))
    return out

  def evaluation(split, size):
    return [dataclasses.replace(q, kind=kind)
            for q in micro.evaluation(split, size)]

  return Task(pool, evaluation,
              Grader(parse, verifier.needs_kind), CHAT)


TEXTS, ENDLESS, JUDGED = of_kind('text'), of_kind('text', 2), of_kind('judge')


def make_config(task: str):
  """Two steps without a teacher; a checkpoint after each."""
  c = small_config(method='grpo')
  c.data.task = task
  c.checkpoint.every = 1
  c.log.tensorboard = False
  return c


def rows_of(path):
  rows = json_rows(path / 'metrics.jsonl')
  return [{k: v for k, v in row.items()
           if not k.startswith(('time/', 'compilations/'))} for row in rows]


def verdicts_of(path):
  return json_rows(path / 'verdicts.jsonl')


class Counted:
  """A sandbox that remembers what it was asked."""

  def __init__(self, **limits):
    self.sandbox, self.jobs = Sandbox(SandboxLimits(workers=1, **limits)), []

  def grade(self, jobs):
    self.jobs += jobs
    return self.sandbox.grade(jobs)


@pytest.fixture
def counted(monkeypatch):
  """limits -> a sandbox, that of this process's verifier from now on."""
  sandboxes = []

  def make(**limits):
    sandboxes.append(Counted(**limits))
    monkeypatch.setattr(verifier, '_SHARED', [verifier.Verifier(sandboxes[-1])])
    return sandboxes[-1]
  yield make
  for sandbox in sandboxes:
    sandbox.sandbox.close()


@pytest.fixture(scope='module')
def own(tmp_path_factory):
  """The run whose task grades by its own function, in this process."""
  path = tmp_path_factory.mktemp('own')
  loop.main(make_config('micro'), path)
  return path


@LONG
def test_the_sandbox_says_the_same_and_says_it_once(
    own, tmp_path, counted, monkeypatch):
  """A run graded by workers, dead in its second update and resumed, is the
  run graded in this process, to the byte; verdicts of the step that is
  repeated come from the journal, though the kill tore its last line."""
  config = make_config('tests.train.test_graded_training:TEXTS')
  real = step.update

  def dying(run, state, minibatches):
    if int(state.updates) >= run.num_updates:
      raise RuntimeError('died')
    return real(run, state, minibatches)

  first = counted()
  with monkeypatch.context() as m:
    m.setattr(step, 'update', dying)
    with pytest.raises(RuntimeError, match='died'):
      loop.main(config, tmp_path)
  assert len(rows_of(tmp_path)) == 1
  with open(tmp_path / 'verdicts.jsonl', 'a') as f:
    f.write('{"key": "of an earlier version", "kind": "text", '
            '"status": "score", "score": 1.0, "reason": ""}\n{"key": "to')
  second = counted()
  loop.main(config, tmp_path)

  asked = {(job.answer, job.reference) for job in first.jobs}
  again = {(job.answer, job.reference) for job in second.jobs}
  assert len(first.jobs) == len(asked) > 32 and not asked & again
  gold = {q.answer for split in ('hard', 'easy')
          for q in micro.evaluation(split, 8)}
  assert {reference for _, reference in again} <= gold  # the last evaluation
  assert len(verdicts_of(tmp_path)) == len(asked | again) + 1
  assert 'verdicts.jsonl: 1 verdicts were made by other rules' in (
      tmp_path / 'attempts/0002/log.txt').read_text()
  rows = rows_of(tmp_path)
  assert rows == rows_of(own)
  for row in rows:
    assert row['verdict/ungraded'] == 0 < row['verdict/wrong']
    assert sum(v for k, v in row.items() if k.startswith('verdict/')) == (
        pytest.approx(1))
  for name in ('samples.jsonl', 'eval.jsonl', 'final.safetensors'):
    assert (tmp_path / name).read_bytes() == (own / name).read_bytes(), name


def test_graders_that_hang_stop_the_run(tmp_path, counted):
  """Two questions of eight whose grading never ends: more than max_ungraded.
  Nothing is trained, logged or saved of that step; the same command meets the
  same verdicts again without grading anything."""
  pytest.importorskip('math_verify')
  config = make_config('tests.train.test_graded_training:ENDLESS')
  config.data.pool.size = config.algorithm.num_new
  said = []
  for _ in range(2):
    sandbox = counted(cpu_s=0.05)
    with pytest.raises(guards.Ungraded) as e:
      loop.main(config, tmp_path)
    said.append(str(e.value))
  assert said[0] == said[1] and not sandbox.jobs
  assert re.match(
      r'stopped at step 0: verdict/ungraded is (0\.2\d*) \(timeout \1\), more '
      r'than guard.max_ungraded = 0.2; last timeout: more than 0.05 s of '
      r'processor time', said[0])
  assert str(tmp_path / 'verdicts.jsonl') in said[0]
  assert not (tmp_path / 'metrics.jsonl').exists()
  assert not any(p.name.isdigit()
                 for p in (tmp_path / 'checkpoints').iterdir())
  late = [v for v in verdicts_of(tmp_path) if v['status'] == 'timeout']
  assert late and {v['kind'] for v in late} == {ENDLESS_KIND}
  assert 'ended: Ungraded: ' in (
      tmp_path / 'attempts/0002/log.txt').read_text()


def judge_words(answer: str, reference: str) -> str:
  """Right by the agreed form; wrong by it, or in words of its own."""
  if answer == reference:
    return '{"verdict": "correct"}'
  return '{"verdict": "wrong"}' if int(answer[-1]) % 2 else 'It is wrong.'


def test_a_judge_that_is_down_and_comes_back(
    own, tmp_path, counted, monkeypatch):
  """Gone in the first step: no verdicts, so the run stops with the cause.
  Back again: what it had said is not asked again, malformed replies are wrong
  and counted, and the run ends as the one that needs no judge."""
  pytest.importorskip('openai')
  from tests.fake_endpoint import completion, serving
  monkeypatch.setenv('JUDGE_KEY', SECRET)
  well_for = [20]  # requests; the first evaluation has 16 answers at most

  def judging(fake, route, body, headers):
    assert headers['authorization'] == f'Bearer {SECRET}'
    if len(fake.asked) > well_for[0]:
      return 500, {}, {'error': {'message': f'no {SECRET}'}}
    asked = json.loads(body['messages'][1]['content'])
    return 200, {}, completion([judge_words(asked['answer'],
                                            asked['reference'])])

  sandbox = counted()
  config = make_config('tests.train.test_graded_training:JUDGED')
  with serving(judging) as (url, fake):
    config.judge.update(url=url, model='m', key_env='JUDGE_KEY', retries=0)
    with pytest.raises(guards.Ungraded, match=r'stopped at step 0: .*crash.*; '
                       'last crash: the judge: server: status 500') as e:
      loop.main(config, tmp_path)
    known = verdicts_of(tmp_path)
    assert 0 < len(known) <= 20 < len(fake.asked)
    assert {v['status'] for v in known} <= {'score', 'malformed'}
    well_for[0], before = 10**9, len(fake.asked)
    loop.main(config, tmp_path)
  assert len(fake.asked) - before == len(verdicts_of(tmp_path)) - len(known)
  assert not sandbox.jobs

  body = fake.asked[0]
  assert set(body) == {'model', 'messages', 'temperature', 'max_tokens'}
  assert (body['model'], body['temperature'], body['max_tokens']) == (
      'm', 0, 512)
  rows = rows_of(tmp_path)
  assert len(rows) == 2
  for row, of_own in zip(rows, rows_of(own), strict=True):
    malformed = row.pop('verdict/judge_malformed')
    wrong, all_wrong = row.pop('verdict/wrong'), of_own.pop('verdict/wrong')
    assert malformed > 0 < wrong
    assert malformed + wrong == pytest.approx(all_wrong)
    assert row == of_own and row['verdict/ungraded'] == 0
  for name in ('eval.jsonl', 'final.safetensors'):
    assert (tmp_path / name).read_bytes() == (own / name).read_bytes(), name
  assert SECRET not in str(e.value)
  for file in tmp_path.rglob('*'):
    assert file.is_dir() or SECRET.encode() not in file.read_bytes(), file


@LONG
def test_two_runs_at_a_time_have_a_judge_each(tmp_path, monkeypatch):
  """fault D6: in two threads of one process, with their steps interleaved. A
  strict judge and a lenient one are each asked by their own run alone, and
  each run ends as it would alone; a run outside of the main thread trains."""
  pytest.importorskip('openai')
  from tests.fake_endpoint import completion, serving
  keys = {'LENIENT': 'sk-of-the-lenient', 'STRICT': 'sk-of-the-strict'}
  for name, key in keys.items():
    monkeypatch.setenv(name, key)

  def judging(name):
    def answer(fake, route, body, headers):
      del fake, route
      assert headers['authorization'] == f'Bearer {keys[name]}'
      asked = json.loads(body['messages'][1]['content'])
      right = name == 'LENIENT' or asked['answer'] == asked['reference']
      return 200, {}, completion([json.dumps(
          {'verdict': 'correct' if right else 'wrong'})])
    return answer

  def train(name, path):
    with serving(judging(name)) as (url, fake):
      config = make_config('tests.train.test_graded_training:JUDGED')
      config.judge.update(url=url, model='m', key_env=name, retries=0)
      loop.main(config, path)
      return len(fake.asked)

  with concurrent.futures.ThreadPoolExecutor(2) as threads:
    started = [threads.submit(train, name, tmp_path / name) for name in keys]
    asked = [future.result() for future in started]
  assert min(asked) > 20
  for name, count in zip(keys, asked, strict=True):
    assert train(name, tmp_path / f'{name}-alone') == count
    for file in ('eval.jsonl', 'final.safetensors', 'samples.jsonl'):
      assert (tmp_path / name / file).read_bytes() == (
          tmp_path / f'{name}-alone' / file).read_bytes(), (name, file)
  last = [json.loads((tmp_path / name / 'eval.jsonl').read_text().splitlines()
                     [-1]) for name in keys]
  assert last[0] != last[1]
