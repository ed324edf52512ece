"""The client against servers that fail: causes, retries, budget, the key."""

import contextlib
import itertools
import threading
import time

import pytest

pytest.importorskip('openai')
from tests import fake_endpoint  # noqa: E402
from tests.fake_endpoint import completion, serving  # noqa: E402
from zppo_jax.endpoints import client  # noqa: E402
from zppo_jax.endpoints.client import Endpoint  # noqa: E402
from zppo_jax.records import Cause  # noqa: E402

HELLO = [{'role': 'user', 'content': 'hello'}]
QUICK = dict(model='m', deadline_s=5.0, retries=2, backoff_s=0.01)


def ask(answer, count=1, wanted=1, budget_s=10.0, **fields):
  """(replies, Fake) of `count` equal calls."""
  with serving(answer) as (url, fake):
    of = Endpoint(url=url, **{**QUICK, **fields})
    calls = [client.chat_call(HELLO, wanted=wanted, seed=7)] * count
    return client.ask_all(of, calls, budget_s), fake


def raw(status, content=b'', **headers):
  return lambda *_: (status, {k.replace('_', '-'): v for k, v in
                              headers.items()}, content)


def test_texts_come_in_the_order_of_the_calls():
  def echo(fake, route, body, headers):
    time.sleep(0.02 * (body['seed'] % 3))
    return 200, {}, completion([str(body['seed'])] * body.get('n', 1))
  with serving(echo) as (url, _):
    calls = [client.chat_call(HELLO, wanted=2, seed=s)
             for s in range(12)]
    replies = client.ask_all(Endpoint(url=url, **QUICK), calls, 10)
  assert [[c.text for c in r.results] for r in replies] == [
      [str(s)] * 2 for s in range(12)]
  assert {(r.cause, r.requests, r.error) for r in replies} == {(None, 1, '')}


@pytest.mark.parametrize('answer, cause, requests, said', [
    (raw(500, b'{}'), Cause.SERVER, 3, 'status 500'),
    (raw(429, b'{}'), Cause.BUSY, 3, 'status 429'),
    (raw(401, b'{"error": {"message": "no"}}'), Cause.REFUSED, 1, '401'),
    (raw(400, b'nonsense'), Cause.REFUSED, 1, 'status 400'),
    (raw(200, b'{"choices": [{'), Cause.GARBAGE, 3, 'reply: '),
    (raw(200, b'\xff\xfe\x00garbage'), Cause.GARBAGE, 3, 'reply: '),
    (raw(200, b'<html>', content_type='text/html'), Cause.GARBAGE, 3, ''),
    (raw(200, b'[1, 2]'), Cause.GARBAGE, 3, 'the reply is list'),
    (raw(200, b'{"choices": 3}'), Cause.GARBAGE, 3, 'choices is int'),
    (raw(200, b'{"choices": [null]}'), Cause.GARBAGE, 3, 'NoneType'),
    (raw(200, b'{"choices": [{"finish_reason": "stop", "message": '
              b'{"content": 5}}]}'), Cause.GARBAGE, 3, 'content is int'),
    (raw(200, b'{"choices": []}'), Cause.MISSING, 3, '0 of 1 choices'),
    (raw(200, b'{"choices": [{"finish_reason": "content_filter", "message": '
              b'{"content": "x"}}]}'), Cause.MISSING, 3, '0 of 1 choices'),
])
def test_a_failure_has_its_cause(answer, cause, requests, said):
  ((reply,), fake) = ask(answer)
  assert (reply.results, reply.cause, reply.requests) == ((), cause, requests)
  assert said in reply.error and len(fake.asked) == requests


def test_a_server_that_is_not_there():
  with serving(fake_endpoint.right) as (url, _):
    pass
  (reply,) = client.ask_all(
      Endpoint(url=url, **QUICK), [client.chat_call(HELLO)], 10)
  assert (reply.cause, reply.requests) == (Cause.CONNECTION, 3)


def test_a_failure_that_passes_is_retried():
  def at_third(fake, route, body, headers):
    if len(fake.asked) < 3:
      return 503, {}, b'{}'
    return fake_endpoint.right(fake, route, body, headers)
  ((reply,), _) = ask(at_third)
  assert (reply.cause, reply.requests) == (None, 3)


def test_pauses_grow():
  """At least half of backoff_s, then of twice and four times that."""
  came = []

  def busy(*_):
    came.append(time.monotonic())
    return 503, {}, b'{}'
  ask(busy, retries=3, backoff_s=0.2)
  gaps = [b - a for a, b in itertools.pairwise(came)]
  assert len(gaps) == 3
  assert all(gap >= 0.1 * 2**i for i, gap in enumerate(gaps)), gaps


def test_retry_after_is_waited_for():
  def busy_once(fake, route, body, headers):
    if len(fake.asked) < 2:
      return 429, {'retry-after': '0.6'}, b'{}'
    return fake_endpoint.right(fake, route, body, headers)
  begun = time.monotonic()
  ((reply,), _) = ask(busy_once)
  assert reply.cause is None and 0.6 < time.monotonic() - begun < 3


def test_a_retry_after_beyond_the_budget_is_not_waited_for():
  begun = time.monotonic()
  ((reply,), _) = ask(raw(429, b'{}', retry_after='25'), budget_s=2)
  assert reply.cause == Cause.BUSY and time.monotonic() - begun < 1.5


def test_choices_that_are_missing_are_asked_for_again_under_another_seed():
  half = lambda fake, route, body, headers: (
      200, {}, completion(['x'] * (body.get('n', 1) // 2 or 1)))
  ((reply,), fake) = ask(half, wanted=4)
  assert reply.cause is None and len(reply.results) == 4
  assert [b.get('n') for b in fake.asked] == [4, 2, None]
  assert [b['seed'] for b in fake.asked] == [7, 8, 9]


def test_half_the_choices_never_come():
  def one_of(fake, route, body, headers):
    return 200, {}, completion(['x'] if len(fake.asked) < 3 else [])
  ((reply,), _) = ask(one_of, wanted=4)
  assert len(reply.results) == 2 and reply.cause == Cause.MISSING


def test_the_deadline_of_a_request():
  begun = time.monotonic()
  ((reply,), fake) = ask(fake_endpoint.slow(3), deadline_s=0.3, retries=1)
  assert reply.cause == Cause.DEADLINE and len(fake.asked) == 2
  assert time.monotonic() - begun < 2


def test_a_server_that_drips_is_cut_off_at_the_deadline():
  """The deadline is of the whole request, not of one byte."""
  import socket
  import threading
  listening = socket.create_server(('127.0.0.1', 0))

  def drip():
    talk, _ = listening.accept()
    with talk, contextlib.suppress(OSError):
      talk.recv(65536)
      talk.sendall(b'HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n')
      while True:
        talk.sendall(b' ')
        time.sleep(0.05)
  threading.Thread(target=drip, daemon=True).start()
  of = Endpoint(url=f'http://127.0.0.1:{listening.getsockname()[1]}/v1',
                **{**QUICK, 'deadline_s': 0.5, 'retries': 0})
  begun = time.monotonic()
  (reply,) = client.ask_all(of, [client.chat_call(HELLO)], 10)
  assert reply.cause == Cause.DEADLINE and time.monotonic() - begun < 2
  listening.close()


def test_the_budget_ends_everything():
  """40 slow requests, two at a time: some answered, the rest out of time."""
  begun = time.monotonic()
  replies, _ = ask(fake_endpoint.slow(0.2), count=40, budget_s=1.0,
                   concurrency=2)
  assert time.monotonic() - begun < 2.5
  causes = [r.cause for r in replies]
  assert set(causes) == {None, Cause.BUDGET}
  assert 2 <= causes.count(None) <= 10


def test_the_key_is_sent_and_in_no_text(monkeypatch):
  monkeypatch.setenv('MY_KEY', 'sk-very-secret')
  seen = []

  def telltale(fake, route, body, headers):
    seen.append(headers['authorization'])
    return 401, {}, {'error': {'message':
                               f'wrong: {headers["authorization"]}'}}
  ((reply,), _) = ask(telltale, key_env='MY_KEY')
  assert seen == ['Bearer sk-very-secret']
  assert '***' in reply.error and 'secret' not in reply.error
  with serving(telltale) as (url, _):
    of = Endpoint(url=url, key_env='MY_KEY', **QUICK)
    assert 'secret' not in repr(of)
    with pytest.raises(client.EndpointError) as e:
      client.ask(of, HELLO, budget_s=5)
  assert 'secret' not in str(e.value) and e.value.cause == Cause.REFUSED


def test_one_question():
  with serving(fake_endpoint.right) as (url, fake):
    of = Endpoint(url=url, **QUICK)
    assert client.ask(of, HELLO, budget_s=5, temperature=0,
                             max_tokens=9) == fake_endpoint.RIGHT
    assert client.served(of, 5) == ['m']
  (body,) = fake.asked
  assert body == {'model': 'm', 'messages': HELLO, 'temperature': 0,
                  'max_tokens': 9}


def test_reasoning_that_comes_apart_is_part_of_the_text():
  reply = {'choices': [{'finish_reason': 'length', 'message': {
      'content': None, 'reasoning_content': 'hm'}}]}
  assert client.read_chat(reply) == [
      client.Choice('<think>hm</think>', False)]


@pytest.mark.parametrize('fields, said', [
    (dict(url='ftp://x'), "url is 'ftp://x'"), (dict(model=''), 'model is'),
    (dict(deadline_s=0), 'deadline_s is 0'),
    (dict(concurrency=0), 'concurrency is 0'),
    (dict(retries=-1), 'retries is -1'),
    (dict(key_env='NO_SUCH_KEY'), "key_env is 'NO_SUCH_KEY'; no such"),
])
def test_fields_out_of_range(fields, said):
  with pytest.raises(ValueError, match=said):
    Endpoint(**{**QUICK, 'url': 'http://x', **fields})


def test_threads_share_the_connections_and_the_gate_of_a_session():
  """Replies go to who asked; at most `concurrency` requests are under way."""
  most, now, lock = 0, 0, threading.Lock()

  def counting(fake, route, body, headers):
    nonlocal most, now
    with lock:
      now += 1
      most = max(most, now)
    time.sleep(0.05)
    with lock:
      now -= 1
    return 200, {}, completion([body['messages'][0]['content']])

  with serving(counting) as (url, _):
    session = client.Session(Endpoint(url=url, model='m', concurrency=3))
    call = lambda i, g: client.chat_call(
        [{'role': 'user', 'content': f'{i} {g}'}], max_tokens=9)
    replies = {}

    def ask_all(i):
      replies[i] = session.ask_all([call(i, g) for g in range(3)], 20.0)

    threads = [threading.Thread(target=ask_all, args=(i,)) for i in range(4)]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join(30)
    assert {i: [r.results[0].text for r in its] for i, its in replies.items()
            } == {i: [f'{i} {g}' for g in range(3)] for i in range(4)}
    assert most == 3
    # What does not come within the budget is missing, and the others go on.
    (late,) = session.ask_all([call(0, 0)], 0.0)
    assert late.cause == Cause.BUDGET and not late.requests
    (reply,) = session.ask_all([call(7, 7)], 20.0)
    assert reply.results[0].text == '7 7'
    session.close()
