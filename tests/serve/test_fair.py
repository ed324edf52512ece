"""Who waits for whom: lanes, owners and places that fall free; large bodies
beside small ones."""

import concurrent.futures
import contextlib
import http.client
import json
import threading
import time

import pytest

pytest.importorskip('uvicorn')
from tests.long import LONG
from tests.serve.test_app import running  # noqa: E402
from zppo_jax import serve  # noqa: E402
from zppo_jax.chat.micro_chat import CHAT  # noqa: E402
from zppo_jax.records import (
  Decoding,  # noqa: E402
  TokenSequence,  # noqa: E402
)
from zppo_jax.serve import app, desk, prepared  # noqa: E402
from zppo_jax.serve.worker import Generate, Score, Worker, _Scoring  # noqa: E402
from zppo_jax.weights import pretrained  # noqa: E402

PROMPT = CHAT.plain('C a b c 4').tokens


@pytest.fixture(scope='module')
def worker():
  """Four slots and one beside them, for the packaged teacher."""
  made = serve.start(pretrained.load('micro/teacher'), CHAT, context=200,
                     slots=4, top=3)
  yield made
  made.close()


def job(most, n=1, seed=0, owner=None, temperature=5.0, **fields):
  return Generate(PROMPT, None, Decoding(most, temperature), n, seed,
                  fields.pop('stop', ()), owner=owner, **fields)


@LONG
def test_a_short_one_beside_many_long_ones(worker):
  """fault E3: 2 tokens while 64 clients want as many as there are; most of
  these still wait when it has its answer."""
  worker.submit(job(2)).result(120)
  long = [worker.submit(job(150, n=4, seed=i)) for i in range(64)]
  time.sleep(0.2)
  (short,) = worker.submit(job(2)).result(60)
  assert sum(not f.done() for f in long) > 48 and len(short.tokens) <= 2
  for future in long:
    future.cancel()


@LONG
def test_owners_share_a_lane(worker):
  """fault E3: one request of very many choices, then one of a single one in
  the same lane: the second does not wait for the first."""
  many = worker.submit(job(180, n=128, owner='a'))
  time.sleep(0.2)
  one = worker.submit(job(180, n=1, owner='b'))
  one.result(120)
  assert not many.done()
  many.cancel()


def test_a_share_is_of_a_request_not_of_its_prompts(worker):
  """fault E3: 100 prompts of one owner are one owner's turn."""
  many = [worker.submit(job(180, n=2, seed=i, owner='a')) for i in range(100)]
  one = worker.submit(job(180, owner='b'))
  one.result(120)
  assert sum(not f.done() for f in many) > 50
  for future in many:
    future.cancel()


@LONG
def test_choices_are_the_same_in_every_company(worker):
  """fault E3: neither lanes nor turns change what is drawn."""
  alone = worker.submit(job(40, n=3, seed=5, temperature=1.0)).result(120)
  others = [worker.submit(job(150, n=3, seed=i)) for i in range(8)]
  beside = worker.submit(job(40, n=3, seed=5, temperature=1.0)).result(120)
  long = worker.submit(job(190, n=3, seed=5, temperature=1.0)).result(120)
  for future in others:
    future.cancel()
  strip = lambda found: [(c.rollout, c.tokens, c.text, c.stop) for c in found]
  assert strip(alone) == strip(beside)
  for a, b in zip(alone, long, strict=True):
    assert a.tokens == b.tokens[:40]


def test_places_of_who_left_fall_free(worker):
  """fault E3: cancelled choices give up their slots, drawing or waiting."""
  gone = [worker.submit(job(180, n=128, seed=i)) for i in range(3)]
  time.sleep(0.3)
  for future in gone:
    future.cancel()
  begun = time.process_time()
  worker.submit(job(180, n=2)).result(120)
  assert time.process_time() - begun < 60
  assert all(lane.wait(0) == 0 for _, lane in worker._lanes)


def test_a_stop_token_ends_a_choice(worker):
  """fault E4: it is the last id, not part of the text, and told."""
  (free,) = worker.submit(job(60, temperature=0.0)).result(120)
  assert len(free.tokens) > 3
  at = free.tokens[2]
  first = free.tokens.index(at)
  (cut,) = worker.submit(job(60, temperature=0.0, stop_ids=(at,))).result(120)
  assert cut.tokens == free.tokens[:first + 1] and cut.matched == at
  assert cut.text == CHAT.decode_response(free.tokens[:first])
  word = CHAT.codec.decode([free.tokens[1]])
  (said,) = worker.submit(job(60, temperature=0.0, stop=(word,),
                              stop_ids=(at,))).result(120)
  assert said.matched == word and word not in said.text


def test_scores_of_all_owners_by_turns():
  """fault E3: one owner's 100 rows do not stand before another's one; a row
  that fits no shape fails alone."""
  seen: list = []
  free = threading.Event()

  def score(rows):
    free.wait(10)
    seen.append([r.prompt for r in rows])
    if any(r.prompt == (9,) for r in rows):
      raise ValueError('fits no bucket')
    return [r.prompt for r in rows]
  lane = _Scoring(score)
  lane.start()
  row = lambda i: TokenSequence(prompt=(i,), response=())
  many = [concurrent.futures.Future() for _ in range(100)]
  for future in many:
    lane.put(Score(row(1), 'a'), future)
  bad, good = concurrent.futures.Future(), concurrent.futures.Future()
  lane.put(Score(row(9), 'b'), bad)
  lane.put(Score(row(2), 'c'), good)
  many[50].cancel()
  free.set()
  assert good.result(10) == (2,)
  assert [x for rows in seen for x in rows].index((2,)) < 40
  with pytest.raises(ValueError, match='fits no bucket'):
    bad.result(10)
  assert [f.result(10) for f in many if not f.cancelled()] == [(1,)] * 99
  lane.close()


# Bodies.

def post(ask, text, **fields):
  return ask('/v1/chat/completions', {
      'messages': [{'role': 'user', 'content': text}], **fields})


def test_a_very_long_prompt_beside_small_ones():
  """fault E3: 20 MB are refused by their length, and 20 clients that come
  meanwhile are answered. The bound has room for a loaded machine: without the
  mend the same takes tens of seconds."""
  with (running(max_bytes=2**25) as (ask, *_),
        concurrent.futures.ThreadPoolExecutor(21) as threads):
    large = threads.submit(post, ask, 'C a 4 ' * 3_400_000)
    waits = []

    def small():
      begun = time.monotonic()
      status, _ = post(ask, 'C a 4')
      waits.append(time.monotonic() - begun)
      return status
    while not large.done():
      assert [f.result() for f in [
          threads.submit(small) for _ in range(20)]] == [200] * 20
    status, reply = large.result()
    assert status == 400 and max(waits) < 5
    assert reply['error']['code'] == 'context_length_exceeded'
    assert 'characters; the 40 tokens of the context hold at most' in (
        reply['error']['message'])


def test_slow_work_of_large_requests_is_beside_the_loop(monkeypatch):
  """fault E3: tokenisation that takes seconds holds up nobody, however many
  large ones there are."""
  real, go = prepared.turns.encode, threading.Event()

  def slow(messages, chat, thinking):
    if len(messages[0].parts[0]) > 30:
      assert go.wait(30)
    return real(messages, chat, thinking)
  monkeypatch.setattr(prepared.turns, 'encode', slow)
  monkeypatch.setattr(desk, 'LARGE', 200)
  with (running() as (ask, *_),
        concurrent.futures.ThreadPoolExecutor(8) as threads):
    large = [threads.submit(post, ask, 'C a 4' + ' ' * 200) for _ in range(8)]
    try:
      for _ in range(5):
        assert post(ask, 'C a 4')[0] == 200
      assert ask('/health')[0] == 200
      assert not any(f.done() for f in large)
    finally:
      go.set()
    assert [f.result()[0] for f in large] == [200] * 8


def test_a_length_that_cannot_fit_is_not_tokenised(monkeypatch):
  """fault E3: chat, text and each of several prompts; what may fit is
  tokenised."""
  seen: list[int] = []
  codec = CHAT.codec
  kept = lambda real: lambda text: (seen.append(len(text)), real(text))[1]
  for name in ('encode_content', 'encode_template'):
    monkeypatch.setattr(codec, name, kept(getattr(codec, name)))
  long = 40 * prepared.longest_token(codec)
  assert long == 40 * (1 + len('</candidate>'))
  with running() as (ask, *_):
    for path, body in (
        ('/v1/chat/completions', {'messages': [
            {'role': 'user', 'content': ' ' * (long + 1)}]}),
        ('/v1/completions', {'prompt': ' ' * (long + 1)}),
        ('/v1/completions', {'prompt': ['C a 4 :', 'C' * (long + 1)]})):
      status, reply = ask(path, body)
      assert (status, reply['error']['code']) == (
          400, 'context_length_exceeded')
    assert max(seen, default=0) < 50
    assert ask('/v1/completions', {
        'prompt': 'C a 4 :' + ' ' * (long - 7)})[0] == 200


def test_ids_that_cannot_fit_are_not_looked_at():
  """fault E3: by number, before each is checked."""
  with running(max_bytes=2**24) as (ask, *_):
    status, reply = ask('/v1/completions', {'prompt': [10**6] * 500_000})
    assert status == 400 and '500000 tokens' in reply['error']['message']
    status, reply = ask('/v1/chat/completions', {
        'messages': [{'role': 'user', 'content': ''}] * 100_000})
    assert status == 400 and '100000 parts' in reply['error']['message']
    status, reply = ask('/v1/completions', raw=b'[' + b'[],' * 1_500_000)
    assert status == 400 and 'brackets' in reply['error']['message']


def test_a_body_that_drips_is_cut_off(monkeypatch):
  """fault E3: whoever sends slowly is told so, and holds nothing."""
  monkeypatch.setattr(app, 'BODY_S', 0.3)
  with running() as (ask, _, port, *_):
    talk = http.client.HTTPConnection('127.0.0.1', port, timeout=20)
    with contextlib.closing(talk):
      talk.putrequest('POST', '/v1/completions')
      for name, value in (('content-type', 'application/json'),
                          ('content-length', '4000')):
        talk.putheader(name, value)
      talk.endheaders(b'{"prompt"')
      reply = talk.getresponse()
      assert reply.status == 408
      assert 'within 0.3 s' in json.loads(reply.read())['error']['message']
    assert post(ask, 'C a 4')[0] == 200


def test_bodies_together_are_bounded(monkeypatch):
  """fault E3: beyond eight bodies of the longest kind the next large one is
  put off, a small one never."""
  monkeypatch.setattr(desk, 'LARGE', 10)
  held = desk.Desk(100)
  with held.hold() as first:
    first(700)
    with held.hold() as second:
      second(100)
      with pytest.raises(desk.Refused, match='as many requests') as e:
        second(1)
      assert e.value.status == 503
      with held.hold() as small:
        small(10)
    first(100)
  with held.hold() as again:
    again(800)


def test_a_worker_without_its_thread_is_not_alive():
  """fault E3: every lane counts, and what it held is told."""
  class Broken:
    class shapes:
      slots = (1,)

    def submit(self, request):
      pass

    def poll(self):
      raise RuntimeError('the device is gone')

    def cancel(self, name):
      pass
  hooks = threading.excepthook
  threading.excepthook = lambda args: None
  try:
    worker = Worker([(64, Broken())], lambda rows: rows)
    assert worker.alive
    with pytest.raises(RuntimeError, match='device is gone'):
      worker.submit(job(2)).result(10)
    deadline = time.monotonic() + 10
    while worker.alive and time.monotonic() < deadline:
      time.sleep(0.01)
    assert not worker.alive
  finally:
    threading.excepthook = hooks


