"""The HTTP side over a fake engine: form, errors, who may ask, how much."""

import concurrent.futures
import contextlib
import http.client
import json
import socket
import threading
import time

import numpy as np
import pytest

pytest.importorskip('starlette')
uvicorn = pytest.importorskip('uvicorn')
from zppo_jax.chat.micro_chat import CHAT  # noqa: E402
from zppo_jax.objectives.top_logps import Description  # noqa: E402
from zppo_jax.records import StopReason  # noqa: E402
from zppo_jax.rollout.requests import Completion  # noqa: E402
from zppo_jax.serve import app  # noqa: E402
from zppo_jax.serve.worker import Score  # noqa: E402

QUESTION = [{'role': 'user', 'content': 'C a 4'}]


class FakeWorker:
  """Says 'A 9' to everything; a token's log-prob is minus its id."""
  alive = True

  def __init__(self):
    self.jobs, self.stuck = [], []

  def submit(self, job):
    self.jobs.append(job)
    future = concurrent.futures.Future()
    if isinstance(job, Score):
      tokens = np.array((*job.row.prompt, *job.row.response))
      top = np.stack([tokens, tokens + 1], 1) % CHAT.codec.vocab_size
      future.set_result(Description(
          logp_BT=-1.0 * tokens, top_logp_BTK=-1.0 * top, top_id_BTK=top))
    elif job.seed == 666:
      future.set_exception(ValueError('the prompt in tokens is 9; the largest '
                                      'of the configured buckets is 8'))
    elif job.seed == 13:
      future.set_exception(RuntimeError('a secret of the house'))
    elif job.seed == 99:
      self.stuck.append(future)
    else:
      future.set_result([Completion(
          0, i, CHAT.response('A 9'), (), 'A 9', StopReason.END)
          for i in range(job.n)])
    return future


@contextlib.contextmanager
def running(grace=None, protocol='auto', **fields):
  """(ask, worker, port, server, its thread) of an app over a FakeWorker.

  ask: (path, body, raw, **headers) -> (status, decoded reply). `grace`: seconds
  for what is under way at the end; `protocol`: uvicorn's http; `fields` of
  app.Server.
  """
  worker = FakeWorker()
  made = app.make(app.Server(**{
      'name': 'm', 'chat': CHAT, 'worker': worker, 'context': 40, 'token': '',
      'max_bytes': 5000, **fields}))
  listening = socket.create_server(('127.0.0.1', 0))
  port = listening.getsockname()[1]
  server = uvicorn.Server(uvicorn.Config(made, log_level='critical',
                                         lifespan='off', http=protocol,
                                         timeout_graceful_shutdown=grace))
  thread = threading.Thread(target=server.run, args=([listening],),
                            daemon=True)
  thread.start()

  def ask(path, body=None, raw=None, **headers):
    talk = http.client.HTTPConnection('127.0.0.1', port, timeout=20)
    headers = {k.replace('_', '-'): v for k, v in headers.items()}
    data = json.dumps(body) if raw is None else raw
    if body is None and raw is None:
      talk.request('GET', path, headers=headers)
    else:
      talk.request('POST', path, data,
                   {'content-type': 'application/json', **headers})
    reply = talk.getresponse()
    content = reply.read()
    talk.close()
    kind = reply.headers.get('content-type', '')
    return reply.status, (json.loads(content) if 'json' in kind else
                          content.decode())

  try:
    yield ask, worker, port, server, thread
  finally:
    server.should_exit = True
    thread.join(10)


@contextlib.contextmanager
def serving(**fields):
  """(ask, worker, port) of `running`."""
  with running(**fields) as (ask, worker, port, _, _):
    yield ask, worker, port


@pytest.fixture(scope='module')
def local():
  with serving() as found:
    yield found


def test_models_and_health(local):
  ask, _, _ = local
  assert ask('/health') == (200, {'status': 'ok'})
  status, reply = ask('/v1/models')
  assert status == 200 and [m['id'] for m in reply['data']] == ['m']


def test_a_chat(local):
  ask, worker, _ = local
  status, reply = ask('/v1/chat/completions', {
      'model': 'm', 'messages': QUESTION, 'n': 2, 'max_tokens': 7, 'seed': 3,
      'temperature': 0.5, 'stop': 'x', 'logprobs': True, 'top_logprobs': 1})
  assert status == 200 and reply['object'] == 'chat.completion'
  assert [c['message'] for c in reply['choices']] == [
      {'role': 'assistant', 'content': 'A 9'}] * 2
  assert [c['finish_reason'] for c in reply['choices']] == ['stop'] * 2
  assert reply['usage'] == {'prompt_tokens': 4, 'completion_tokens': 6,
                            'total_tokens': 10}
  job = next(j for j in worker.jobs if not isinstance(j, Score))
  assert job.tokens == CHAT.plain('C a 4').tokens
  assert (job.n, job.seed, job.stop) == (2, 3, ('x',))
  assert (job.decoding.max_tokens, job.decoding.temperature) == (7, 0.5)
  told = reply['choices'][0]['logprobs']['content']
  assert [t['token'] for t in told] == ['A', '9', '<end>']
  assert told[0]['logprob'] == -CHAT.codec.ids['A']
  assert told[0]['top_logprobs'][0]['token'] == 'A'
  assert told[0]['bytes'] == [65]


def test_an_echoed_prompt_with_its_log_probs(local):
  """In the form that lm-eval reads."""
  ask, _, _ = local
  prompt = list(CHAT.plain('C a 4').tokens)
  status, reply = ask('/v1/completions', {
      'model': 'm', 'prompt': [prompt, prompt[:2]], 'max_tokens': 0,
      'echo': True, 'logprobs': 1})
  assert status == 200
  first, second = reply['choices']
  assert (first['index'], second['index']) == (0, 1)
  assert first['text'] == 'C a 4 :' and second['text'] == 'C a'
  told = first['logprobs']
  assert told['tokens'] == ['C', 'a', '4', ':']
  assert told['token_logprobs'] == [None, *(-t for t in prompt[1:])]
  assert told['top_logprobs'][0] is None
  assert told['top_logprobs'][2] == {'4': -prompt[2]}
  assert told['text_offset'] == [0, 1, 2, 3]
  assert reply['usage']['completion_tokens'] == 0


def test_a_text_completion_without_echo(local):
  ask, _, _ = local
  status, reply = ask('/v1/completions', {
      'model': 'm', 'prompt': 'C a 4 :', 'logprobs': 0})
  (choice,) = reply['choices']
  assert status == 200 and choice['text'] == 'A 9'
  assert choice['logprobs']['tokens'] == ['A', '9', '<end>']
  assert choice['logprobs']['top_logprobs'] == [None] * 3


def test_events(local):
  ask, _, _ = local
  status, reply = ask('/v1/chat/completions', {
      'model': 'm', 'messages': QUESTION, 'n': 2, 'stream': True})
  lines = [x for x in reply.split('\n') if x]
  assert status == 200 and lines[-1] == 'data: [DONE]'
  found = [json.loads(x.removeprefix('data: ')) for x in lines[:-1]]
  assert [c['choices'][0]['index'] for c in found] == [0, 1]
  assert {c['choices'][0]['delta']['content'] for c in found} == {'A 9'}
  assert not any('usage' in c for c in found)


@pytest.mark.parametrize('path, body', [
    ('/v1/chat/completions', {'messages': QUESTION}),
    ('/v1/completions', {'prompt': 'C a 4 :'})])
def test_events_with_counts(local, path, body):
  """As without events: the last one has them and no choice."""
  ask, _, _ = local
  body = {'model': 'm', 'n': 2, **body}
  _, whole = ask(path, body)
  status, reply = ask(path, {**body, 'stream': True,
                             'stream_options': {'include_usage': True}})
  lines = [x for x in reply.split('\n') if x]
  *found, last = [json.loads(x.removeprefix('data: ')) for x in lines[:-1]]
  assert status == 200 and lines[-1] == 'data: [DONE]'
  assert [c['usage'] for c in found] == [None, None]
  assert last['choices'] == [] and last['usage'] == whole['usage']


@pytest.mark.parametrize('path, body, status, said', [
    ('/v1/chat/completions', {'model': 'm', 'messages': []}, 400, 'missing'),
    ('/v1/chat/completions', {'model': 'x', 'messages': QUESTION}, 404,
     "model is 'x'"),
    ('/v1/chat/completions', {'model': 'm', 'messages': QUESTION,
                              'max_tokens': 39}, 400,
     'messages has 4 tokens and max_tokens is 39; allowed: 40 together'),
    ('/v1/chat/completions', {'model': 'm', 'messages': [
        {'role': 'system', 'content': 'x'}]}, 400, 'one user message'),
    ('/v1/chat/completions', {'model': 'm', 'messages': [
        {'role': 'user', 'content': [{'type': 'image_url', 'image_url': {
            'url': 'data:image/png;base64,AAAA'}}]}]}, 400,
     'no chat template; it takes one user message of text'),
    ('/v1/completions', {'model': 'm', 'prompt': [1, 40]}, 400,
     'prompt holds token 40; allowed: 0 to 39'),
    ('/v1/completions', {'model': 'm', 'prompt': 'hello'}, 400, "'hello'"),
    ('/v1/completions', {'model': 'm', 'prompt': ''}, 400, 'prompt is empty'),
    ('/v1/completions', {'model': 'm', 'prompt': [1], 'seed': 666}, 400,
     'buckets is 8'),
    ('/v1/embeddings', {'model': 'm'}, 404, 'allowed: /health, /v1/models'),
    ('/v1/models', {'model': 'm'}, 405, 'Method Not Allowed'),
])
def test_errors_have_openais_form(local, path, body, status, said):
  ask, _, _ = local
  found, reply = ask(path, body)
  assert found == status and said in reply['error']['message']
  assert set(reply['error']) == {'message', 'type', 'param', 'code'}


def test_an_error_of_ours_tells_nothing_of_the_house(local):
  ask, _, _ = local
  status, reply = ask('/v1/completions', {
      'model': 'm', 'prompt': [1], 'seed': 13})
  assert status == 500 and reply['error']['type'] == 'server_error'
  assert 'secret' not in json.dumps(reply)


@pytest.mark.parametrize('raw', [
    b'', b'{', b'\xff\xfe', b'nope', b'[' * 4000, b'"x"'])
def test_bodies_that_are_no_request(local, raw):
  ask, _, _ = local
  status, reply = ask('/v1/completions', raw=raw)
  assert status == 400 and 'JSON' in reply['error']['message']


def test_a_body_that_is_too_long(local):
  ask, _, _ = local
  status, reply = ask('/v1/completions', {'model': 'm', 'prompt': 'C ' * 4000})
  assert status == 413 and 'longer than 5000 bytes' in (
      reply['error']['message'])


def test_web_pages_cannot_ask(local):
  """Neither by a form (no JSON) nor by a name that points here."""
  ask, _, _ = local
  body = json.dumps({'model': 'm', 'prompt': [1]})
  status, _ = ask('/v1/completions', raw=body, content_type='text/plain')
  assert status == 415
  status, reply = ask('/v1/completions', raw=body, host='evil.example:80')
  assert status == 403 and 'evil.example' in reply['error']['message']


def test_a_token():
  with serving(token='t0p') as (ask, _, _):
    body = {'model': 'm', 'prompt': [1]}
    for headers in ({}, {'authorization': 'Bearer t0'},
                    {'authorization': 't0p'}, {'authorization': 'Bearer t0pp'}):
      status, reply = ask('/v1/completions', body, **headers)
      assert status == 401 and 't0p' not in json.dumps(reply)
    assert ask('/v1/models')[0] == 401
    good = {'authorization': 'Bearer t0p'}
    assert ask('/v1/completions', body, **good)[0] == 200
    assert ask('/v1/models', **good, host='any.example')[0] == 200
    assert ask('/health')[0] == 200


def test_a_client_that_leaves_frees_its_place():
  with serving() as (_, worker, port):
    talk = http.client.HTTPConnection('127.0.0.1', port)
    talk.request('POST', '/v1/completions', json.dumps(
        {'model': 'm', 'prompt': [1], 'seed': 99}),
        {'content-type': 'application/json'})
    wait_for(lambda: worker.stuck)
    talk.sock.shutdown(socket.SHUT_RDWR)
    talk.close()
    wait_for(worker.stuck[0].cancelled)


def wait_for(condition):
  """Until it holds; 10 seconds at most."""
  deadline = time.monotonic() + 10
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.02)


def refuses(port) -> bool:
  try:
    socket.create_connection(('127.0.0.1', port), 1).close()
  except ConnectionRefusedError:
    return True
  return False


def test_what_is_under_way_at_the_end_is_answered():
  """New clients are refused meanwhile; then the server's thread ends."""
  with (running() as (ask, worker, port, server, thread),
        concurrent.futures.ThreadPoolExecutor(1) as threads):
    reply = threads.submit(ask, '/v1/completions', {
        'model': 'm', 'prompt': [1], 'seed': 99})
    wait_for(lambda: worker.stuck)
    server.should_exit = True
    wait_for(lambda: refuses(port))
    assert thread.is_alive() and not reply.done()
    worker.stuck[0].set_result([Completion(
        0, 0, CHAT.response('A 9'), (), 'A 9', StopReason.END)])
    status, said = reply.result(10)
    assert status == 200 and said['choices'][0]['text'] == 'A 9'
    thread.join(5)
    assert not thread.is_alive()


def test_what_needs_more_than_the_grace_is_dropped():
  """Its client is told, its place is free, and the server's thread ends."""
  with (running(grace=1) as (ask, worker, port, server, thread),
        concurrent.futures.ThreadPoolExecutor(1) as threads):
    reply = threads.submit(ask, '/v1/completions', {
        'model': 'm', 'prompt': [1], 'seed': 99})
    wait_for(lambda: worker.stuck)
    server.should_exit = True
    status, said = reply.result(10)
    assert status == 503 and said['error']['code'] == 'server_ends'
    thread.join(5)
    assert not thread.is_alive() and worker.stuck[0].cancelled()


def test_an_engine_that_ended(local):
  with serving() as (ask, worker, _):
    worker.alive = False
    assert ask('/health')[0] == 503
    status, _ = ask('/v1/completions', {'model': 'm', 'prompt': [1],
                                        'seed': 99})
    assert status == 503
