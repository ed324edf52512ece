"""A teacher behind a server that fails: the step ends, NCQ remains."""

import base64
import io
import json
import time

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('openai')
from tests.builders import question, small_config  # noqa: E402
from tests.fake_endpoint import (  # noqa: E402
  RIGHT,
  completion,
  hangs_up,
  right,
  serving,
  slow,
  truth,
)
from tests.long import LONG
from tests.processes import as_processes  # noqa: E402
from zppo_jax.algorithms.replay import ReplayBuffer  # noqa: E402
from zppo_jax.chat.micro_chat import CHAT  # noqa: E402
from zppo_jax.endpoints.client import EndpointError  # noqa: E402
from zppo_jax.records import (  # noqa: E402
  CallStats,
  Cause,
  Decoding,
  Picture,
  Prompt,
  PromptKind,
  Question,
)
from zppo_jax.runs.same_config import check_same_config, config_values  # noqa: E402
from zppo_jax.tasks import TASKS  # noqa: E402
from zppo_jax.teachers import endpoint  # noqa: E402
from zppo_jax.train import build, guards, loop, resume, step  # noqa: E402

pytestmark = pytest.mark.usefixtures('quick_compile')


def config(url, **fields):
  c = small_config()
  c.teacher.kind = 'endpoint'
  c.teacher.endpoint.update({
      'url': url, 'model': 'm', 'budget_s': 1.0, 'deadline_s': 0.6,
      'retries': 1, 'backoff_s': 0.01, **fields})
  return c


@pytest.fixture(scope='module')
def one_step():
  """(answer, **endpoint fields) -> the outcome of a step and its seconds.

  The run is built and compiled once; the teacher is connected while the
  server is well.
  """
  built = []

  def run(answer, **fields):
    well = [True]

    def server(fake, route, body, headers):
      return (right if well[0] else answer)(fake, route, body, headers)

    with serving(server) as (url, fake):
      c = config(url, **fields)
      if not built:
        built.append(build.build(c))
        state = built[0].init_state()
        built.append(state)
        step.train_step(built[0], state, ReplayBuffer(192), 0)  # compiles
      teacher = built[0].teacher
      teacher = endpoint.connect(
          c.teacher.endpoint, chat=teacher.words.chat, words=None,
          grader=teacher.grader, decoding=teacher.decoding, num_answers=4,
          compress=teacher.compress, max_prompt=184, seed=0)
      one = build.dataclasses.replace(built[0], teacher=teacher)
      well[0] = False
      fake.asked.clear()
      begun = time.monotonic()
      made = step.train_step(one, built[0].init_state(), ReplayBuffer(192), 0)
      seconds = time.monotonic() - begun
      return step.metrics_row(one, made), seconds, fake
  return run


def test_a_teacher_that_answers(one_step):
  row, _, fake = one_step(truth)
  assert row['teacher/accuracy'] == row['teacher/answered'] == 1.0
  assert row['groups/bcq'] >= 1 and row['teacher/fallbacks'] == 0
  assert row['teacher/requests'] == len(fake.asked) == row['hard/asked']
  assert row['teacher/wanted'] == 4 * row['hard/asked']
  assert not [k for k in row if k.startswith('teacher/failed')]
  body = fake.asked[0]
  assert (body['n'], body['max_tokens'], body['temperature']) == (4, 16, 1.0)
  assert set(body) == {'model', 'messages', 'n', 'max_tokens', 'temperature',
                       'seed'}
  assert len({b['seed'] for b in fake.asked}) == len(fake.asked)


@pytest.mark.parametrize('answer, cause, fields', [
    (lambda *_: (500, {}, b'{}'), 'server', {}),
    (lambda *_: (429, {}, b'{}'), 'busy', {}),
    (lambda *_: (401, {}, b'{}'), 'refused', {}),
    (lambda *_: (200, {}, b'{"choi'), 'garbage', {}),
    (lambda *_: (200, {}, {'choices': [{'message': 7}]}), 'garbage', {}),
    (lambda *_: (200, {}, {'choices': []}), 'missing', {}),
    (hangs_up, 'connection', {}),
    (slow(5), 'deadline', dict(deadline_s=0.2, retries=0)),
    (slow(5), 'budget', {}),
])
def test_without_answers_the_ncqs_remain(one_step, answer, cause, fields):
  row, seconds, _ = one_step(answer, **fields)
  assert row['groups/bcq'] == 0 and row['groups/ncq'] == 2
  assert row['teacher/fallbacks'] == row['hard/asked'] >= 2
  failed = {k: v for k, v in row.items() if k.startswith('teacher/failed/')}
  assert sum(failed.values()) == row['teacher/wanted']
  assert f'teacher/failed/{cause}' in failed
  assert 'teacher/accuracy' not in row and row['teacher/answered'] == 0
  assert np.isfinite(row['update/loss'])
  assert seconds < 6  # budget 1 s, and the step's own work
  if cause == 'budget':
    assert row['time/teacher'] < 2.5


def test_nonsense_is_wrong_but_came(one_step):
  text = 'lorem \x00 ipsum <candidate> BCQ \ud83d' * 50
  row, _, _ = one_step(lambda f, r, body, h: (
      200, {}, completion([text] * body['n'], r)))
  assert row['teacher/answered'] == row['teacher/accuracy'] == 0
  assert row['teacher/fallbacks'] == 0
  assert row['groups/bcq'] == 0 and row['groups/ncq'] == 2


def test_half_of_each_questions_answers_are_missing(one_step):
  """Two of four came: BCQs of these, no fallback; the rest is counted."""
  def few(fake, route, body, headers):
    if body['n'] < 4:  # asked for the rest
      return 200, {}, {'choices': []}
    return truth(fake, route, {**body, 'n': 2}, headers)
  row = one_step(few)[0]
  assert row['hard/asked'] == 2 and row['teacher/wanted'] == 8
  assert row['teacher/failed/missing'] == 4
  assert row['teacher/answered'] == row['teacher/accuracy'] == 1
  assert row['teacher/fallbacks'] == 0 < row['groups/bcq']


def test_half_the_answers_are_missing(one_step):
  """One of two questions is answered: its BCQ, then NCQs, all as capped."""
  known: dict = {}

  def half(fake, route, body, headers):
    words = body['messages'][0]['content']
    if known.setdefault(words, len(known)) % 2:
      return 500, {}, b'{}'
    return truth(fake, route, body, headers)
  row, _, _ = one_step(half)
  assert row['hard/asked'] == len(known) == 2
  assert (row['teacher/fallbacks'], row['teacher/answered']) == (1, 0.5)
  assert row['teacher/failed/server'] == 4 and row['teacher/wanted'] == 8
  assert row['teacher/accuracy'] == 1.0  # of what came
  assert row['groups/bcq'] + row['groups/ncq'] == 2


def test_it_is_checked_at_the_start():
  with serving(right) as (url, _):
    with pytest.raises(ValueError, match="model is 'other'; .* serves m"):
      connect(url, model='other')
    with pytest.raises(
        KeyError, match="teacher.endpoint.api 'smoke'; known: chat, compl"):
      connect(url, api='smoke')
    with pytest.raises(ValueError, match='budget_s is 0'):
      connect(url, budget_s=0.0)
  with pytest.raises(EndpointError, match=url):
    connect(url)  # it is gone
  denied = lambda *_: (401, {}, {'error': {'message': 'no'}})
  with serving(denied) as (url, _), pytest.raises(
      EndpointError, match='401'):
    connect(url)


def connect(url, **fields):
  c = config(url)
  c.teacher.endpoint.update(**fields)
  return endpoint.connect(
      c.teacher.endpoint, chat=TASKS['micro'].chat, words=None,
      grader=TASKS['micro'].grader, decoding=Decoding(8), num_answers=2,
      compress=build.compression.CompressionConfig(8, 0), max_prompt=99,
      seed=0)


def test_another_vocabulary_is_refused_where_ids_are_sent():
  def other(fake, route, body, headers):
    return 200, {}, {'choices': [{
        'text': 'Once upon a time', 'finish_reason': 'length',
        'logprobs': {'token_logprobs': [None, -1.0, -1.0, -1.0, -1.0]}}]}
  with serving(other) as (url, _), pytest.raises(
      ValueError, match="reads '1 2 3 :' as 'Once upon a time': another"):
    connect(url, api='completions')


def test_summaries_are_asked_for_and_may_be_missing():
  def short(fake, route, body, headers):
    if 'sad' in json.dumps(body):
      return 500, {}, b'{}'
    return 200, {}, completion(['A 9'], route)
  with serving(short) as (url, fake):
    teacher = connect(url, summary_extra={'thinking': 'off'})
    fake.asked.clear()
    prompts = [Prompt(Question(i, 'C h 4', '9', 'hard'), PromptKind.PLAIN,
                      teacher.words.chat.compression(RIGHT).tokens)
               for i in ('a#1', 'b#1')]
    found, asked = teacher.summarise(prompts, [RIGHT, RIGHT], 0)
    assert [r.text for r in found] == ['A 9', 'A 9']
    assert fake.asked[0]['thinking'] == 'off'
    assert (fake.asked[0]['max_tokens'], fake.asked[0]['temperature']) == (
        9, 0.0)
    assert (asked.answers, asked.requests, asked.failed) == (2, 2, {})
  found, asked = teacher.summarise(prompts, [RIGHT, RIGHT], 1)
  assert found == (None, None) and asked.failed == {Cause.CONNECTION: 2}


def test_hints_are_asked_for_in_the_users_words():
  """Question and trace without their delimiters, no template of the student's;
  what comes back is not graded."""
  def hinting(fake, route, body, headers):
    return 200, {}, completion(['try h 4'], route)
  with serving(hinting) as (url, fake):
    teacher = connect(url, summary_extra={'thinking': 'off'})
    teacher = build.dataclasses.replace(
        teacher, words=endpoint.Words(build.BOXED, teacher.words.chat))
    fake.asked.clear()
    prompts = [Prompt(Question('a#hint1', 'C <hint> 4', '9', 'hard'),
                      PromptKind.PLAIN, (1, 2))]
    found, asked = teacher.hint(prompts, ['4 h 9 </response> A 9'], 0)
  assert found[0].text == 'try h 4' and found[0].answer == ''
  (body,) = fake.asked
  before, between, after = build.BOXED.hint_request
  assert body['messages'] == [{
      'role': 'user',
      'content': f'{before}C   4{between}4 h 9   A 9{after}'}]
  assert (body['max_tokens'], body['temperature'], body['thinking']) == (
      513, 0.0, 'off')
  assert (asked.answers, asked.requests, asked.failed) == (1, 1, {})
  found, asked = teacher.hint(prompts, ['x'], 1)
  assert found == (None,) and asked.failed == {Cause.CONNECTION: 1}


def test_pictures_are_sent_as_data_urls():
  out = io.BytesIO()
  Image.new('RGB', (3, 2), (255, 0, 0)).save(out, 'BMP')
  raw = base64.b64encode(out.getvalue()).decode()
  words = endpoint.Words(build.BOXED, None)
  question = Question('q', 'What <candidate> colour?', '', '',
                      (Picture(base64=raw),))
  (message,) = words.question(Prompt(question, PromptKind.PLAIN, ()))
  shown, text = message['content']
  url = shown['image_url']['url']
  assert url.startswith('data:image/png;base64,')
  image = Image.open(io.BytesIO(base64.b64decode(url.partition(',')[2])))
  assert image.size == (3, 2) and image.getpixel((0, 0)) == (255, 0, 0)
  assert text['text'].startswith('What   colour?\n\nReason in private')


def test_patience_by_hand():
  """Judged over the last steps that asked, not before there are enough."""
  bad = CallStats(10, 10, 0, {Cause.SERVER: 4, Cause.BUSY: 2}, 'status 500')
  good = CallStats(10, 10, 0)
  patience = guards.FailureBudget(0.3, 2)
  assert patience.ended([bad]) is None  # one step is no window
  assert patience.ended([bad, bad, good]) is None  # 6 of 20
  said = patience.ended([good, bad, bad])
  assert said == (
      '12 of 20 answers of the teacher are missing in the last 2 steps, more '
      'than teacher.max_failures = 0.3: 8 server, 4 busy; last error: status '
      '500')
  assert guards.FailureBudget(1.0, 1).ended(
      [CallStats(5, 5, 0, {Cause.BUSY: 5})]) is None
  with pytest.raises(ValueError, match='max_failures is 2'):
    guards.FailureBudget(2, 1)


@LONG
def test_too_many_failures_stop_the_run_with_the_cause(tmp_path):
  """The step is saved; the same command goes on, also at another address."""
  well = [True]

  def answer(fake, route, body, headers):
    return right(fake, route, body, headers) if well[0] else (500, {}, b'{}')

  with serving(answer) as (url, _):
    c = config(url)
    c.steps = 4
    c.teacher.update(window=2, max_failures=0.5)
    well[0] = True
    real = resume.resume

    def resumed(*args):
      well[0] = False  # from here on it fails
      return real(*args)
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(resume, 'resume', resumed)
      with pytest.raises(guards.TeacherFailed, match='stopped after step 1, '
                         'which is saved: .* server; last error: status 500'):
        loop.main(c, tmp_path / 'run')
  well[0] = True
  with serving(answer) as (url, _):
    c.teacher.endpoint.url = url
    c.teacher.endpoint.retries = 0
    summary = loop.main(c, tmp_path / 'run')
  assert summary['steps'] == 4
  rows = [json.loads(line) for line in (
      tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()]
  assert [r['step'] for r in rows] == [0, 1, 2, 3]
  assert [r['teacher/fallbacks'] > 0 for r in rows] == [True] * 2 + [False] * 2
  c.teacher.endpoint.api = 'completions'
  with pytest.raises(ValueError, match='teacher.endpoint.api is'):
    check_same_config(tmp_path, {'config': config_values(config(url))}, c)


def test_each_process_asks_for_its_own_rows():
  """Together they hold as many requests open as the config says, and each gets
  all answers; what the server can do is found out once."""
  asked = [Prompt(question(str(i)), PromptKind.PLAIN,
                  CHAT.plain('C h 4').tokens) for i in range(5)]
  with serving(right) as (url, fake):
    def work(index):
      teacher = connect(url, concurrency=6)
      return teacher.endpoint.concurrency, teacher.answer(asked, 1)
    results = as_processes(2, work)
    assert len(fake.asked) == 1 + len(asked)
  (first, answers), (second, same) = results
  assert (first, second) == (3, 3)
  assert [[r.text for r in g.rollouts] for g in answers.groups] == (
      [[RIGHT] * 2] * 5)
  assert answers == same and answers.calls.requests == 5


def test_a_server_that_cannot_be_reached_is_the_error_of_all_processes():
  with serving(right) as (url, _):
    pass
  errors = as_processes(2, lambda index: connect(url, retries=0, budget_s=2.0))
  assert [type(e) for e in errors] == [EndpointError] * 2
  assert str(errors[0]) == str(errors[1])
  assert errors[0].cause == errors[1].cause == Cause.CONNECTION
