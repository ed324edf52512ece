"""Whatever a server sends: a reply with its cause, bounded, without the key."""

import email.utils
import gzip
import json
import random
import resource
import socket
import threading
import time
import zlib

import pytest

pytest.importorskip('openai')
from benchmarks import fuzz_replies  # noqa: E402
from tests import fake_endpoint  # noqa: E402
from tests.endpoints.test_client import HELLO, QUICK, ask, raw  # noqa: E402
from tests.fake_endpoint import completion, serving  # noqa: E402
from tests.long import LONG
from zppo_jax.endpoints import client, replies, scored, wire  # noqa: E402
from zppo_jax.endpoints.client import Endpoint, EndpointError  # noqa: E402
from zppo_jax.endpoints.replies import Choice, Declined, Garbage  # noqa: E402
from zppo_jax.records import Cause  # noqa: E402

READERS = {
    'chat': replies.read_chat, 'text': replies.read_text,
    'models': replies.read_models,
    'echo': scored.echoed(fuzz_replies.SENT._replace(top=0), ids=False),
    'spelt': scored.echoed(fuzz_replies.SENT),
    'prompt_logprobs': scored.prompt_logprobs(fuzz_replies.SENT)}


def chat_reply(**choice) -> bytes:
  """Bytes of a chat completion of one choice with other fields."""
  return json.dumps({'choices': [{
      'index': 0, 'finish_reason': 'stop',
      'message': {'role': 'assistant', 'content': 'yes'}, **choice}]}).encode()


@pytest.mark.parametrize('content, cause', [
    (chat_reply(finish_reason=['stop']), Cause.GARBAGE),
    (chat_reply(finish_reason={'stop': 1}), Cause.GARBAGE),
    (chat_reply(finish_reason=True), Cause.GARBAGE),
    (chat_reply(message=[]), Cause.GARBAGE),
    (chat_reply(message={'content': ['yes']}), Cause.GARBAGE),
    (chat_reply(message={'content': 'x', 'reasoning': 7}), Cause.GARBAGE),
    (chat_reply(message={'content': 'x', 'refusal': []}), Cause.GARBAGE),
    (b'[' * 100_000 + b']' * 100_000, Cause.GARBAGE),
    (b'{"choices": [' + b'{"a":' * 100_000, Cause.GARBAGE),
    (b'{"choices": ' + b'9' * 10_000 + b'}', Cause.GARBAGE),
    (b'', Cause.GARBAGE), (b'null', Cause.GARBAGE), (b'NaN', Cause.GARBAGE),
    ('{"choices": []}'.encode('utf-16'), Cause.MISSING),
    ('{"choices": ["é"]}'.encode('latin-1'), Cause.GARBAGE),
])
def test_a_reply_of_any_form_is_counted(content, cause):
  """fault E1: types, nesting, numbers and charsets that end a run."""
  ((reply,), _) = ask(raw(200, content), retries=0)
  assert (reply.results, reply.cause) == ((), cause)


@pytest.mark.parametrize('told', [
    b'{"choices": []}', b'{"choices": [{}]}', b'{"choices": [{"logprobs": 0}]}',
    *(json.dumps({'choices': [{'logprobs': {'token_logprobs': x}}]}).encode()
      for x in (None, [], [None, -1.0], [None, -1, 'x', -1, -1],
                [None, True, -1, -1, -1], [None, float('nan'), -1, -1, -1],
                [None, float('-inf'), -1, -1, -1], [None, 10**400, -1, -1, -1],
                [None, 5.0, -1, -1, -1], [None, -1.0, None, -1, -1]))])
def test_an_echo_of_any_form_is_counted(told):
  """fault E1: an empty `choices`, and log-probs that are none."""
  with serving(raw(200, told)) as (url, _):
    (reply,) = client.ask_all(
        Endpoint(url=url, **{**QUICK, 'retries': 0}),
        [client.Call('completions', {'prompt': [1, 2, 3, 4]}, 1,
                            READERS['echo'])], 10)
  assert reply.results == () and reply.cause in (Cause.GARBAGE, Cause.MISSING)


def test_a_lone_surrogate_becomes_a_replacement_character():
  """fault E1: it is text that no tokenizer and no file can take."""
  ((reply,), _) = ask(raw(200, chat_reply(message={
      'content': 'a\ud83d b \ude00\ud83d\ude00', 'reasoning': '\udfff'})))
  (choice,) = reply.results
  assert choice.text == '<think>\ufffd</think>a\ufffd b \ufffd\U0001f600'
  with serving(fake_endpoint.right, models=('m\ud800',)) as (url, _):
    assert client.served(Endpoint(url=url, **QUICK), 5) == ['m\ufffd']


def test_the_list_of_models_of_any_form():
  """fault E1: what /models sends is a cause too, and never long."""
  class Listing(fake_endpoint.Fake):
    content: bytes = b''

    def reply(self, route, body, headers):
      return 200, {}, self.content

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(fake_endpoint, 'Fake', Listing)
    with serving(None) as (url, fake):
      of = Endpoint(url=url, **{**QUICK, 'retries': 0})
      for content in (b'{}', b'[]', b'{"data": [1]}', b'{"data": [{"id": []}]}',
                      b'[' * 99_999, b'{"data": {"id": "m"}}'):
        fake.content = content
        with pytest.raises(EndpointError) as e:
          client.served(of, 5)
        assert e.value.cause == Cause.GARBAGE
      fake.content = json.dumps({'data': [{'id': 'x' * 9999}] * 999}).encode()
      assert len(client.listed(client.served(of, 5), '')) < 5000


def test_readers_are_total():
  """fault E1: a property: any mutation of a good reply is read, or Garbage.

  2,000 mutations of each of six replies; what is read is sound.
  """
  rng = random.Random(0)
  read = 0
  for kind, reader in READERS.items():
    for _ in range(2000):
      tree = fuzz_replies.GOOD[kind]
      for _ in range(rng.choice((1, 2, 3))):
        tree = fuzz_replies.mutated(tree, rng)
      try:
        found = reader(json.loads(json.dumps(tree)))
      except Garbage:
        continue
      assert isinstance(found, list)
      for result in found:
        if isinstance(result, Declined):
          assert result.why and isinstance(result.why, str)
        else:
          assert fuzz_replies.sound(result), tree
      read += 1
  assert 600 < read < 11400


@LONG
def test_mutated_replies_through_the_client():
  """fault E1: nothing raises past the client, and every cause is met."""
  found = fuzz_replies.main(400, 1)['outcomes']
  assert sum(found.values()) == 400
  assert {'answered', 'garbage', 'connection', 'refused', 'server'} <= (
      set(found))


def test_a_failure_of_our_own_reading_is_counted_too():
  """fault E1: whatever a reader raises ends in a reply."""
  def broken(reply):
    raise RecursionError('deep')
  with serving(fake_endpoint.right) as (url, _):
    (reply,) = client.ask_all(
        Endpoint(url=url, **{**QUICK, 'retries': 0}),
        [client.Call('completions', {'prompt': 'x'}, 1, broken)], 10)
  assert reply.cause == Cause.GARBAGE and 'RecursionError' in reply.error


# Sizes.

MB = 2**20


@pytest.mark.parametrize('coding, pack', [
    ('', lambda x: x), ('gzip', gzip.compress), ('deflate', zlib.compress),
    ('deflate', lambda x: zlib.compress(x, wbits=-15)),
    ('x-gzip', gzip.compress)])
def test_a_reply_that_is_longer_than_the_cap(coding, pack):
  """fault E2: plain and packed, for answers and for errors."""
  headers = {'content_encoding': coding} if coding else {}
  for status, cause in ((200, Cause.GARBAGE), (500, Cause.GARBAGE)):
    ((reply,), _) = ask(
        raw(status, pack(b' ' * (2 * MB)), **headers), retries=0,
        max_reply_mb=1.0)
    assert reply.cause == cause
    assert 'longer than max_reply_mb = 1 MiB' in reply.error
  ((reply,), _) = ask(raw(200, pack(chat_reply()), **headers), retries=0,
                      max_reply_mb=1.0)
  assert reply.results == (Choice('yes', True),)


def test_a_small_packed_reply_does_not_fill_the_memory():
  """fault E2: 300 MB in 300 kB cost some tens of MB at most."""
  packed = zlib.compressobj(9, wbits=31)
  small = b''.join([packed.compress(bytes(MB)) for _ in range(300)]
                   + [packed.flush()])
  peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
  before = peak()
  ((reply,), _) = ask(raw(200, small, content_encoding='gzip'), retries=0)
  assert reply.cause == Cause.GARBAGE and peak() - before < 150


def test_a_packed_reply_of_several_members():
  """gzip's are joined (RFC 1952, 2.2) and bounded together; zeros behind them
  fill a block; what else follows is no gzip."""
  whole = chat_reply()
  parts = gzip.compress(whole[:20]) + gzip.compress(whole[20:])
  for body in (parts, gzip.compress(whole) + bytes(100), parts + bytes(3)):
    ((reply,), _) = ask(raw(200, body, content_encoding='gzip'), retries=0)
    assert reply.results == (Choice('yes', True),)
  flood = gzip.compress(b' ' * (MB // 2)) * 3
  for body, said in ((flood, 'longer than max_reply_mb = 1 MiB'),
                     (parts + b'more', 'is no gzip'),
                     (parts[:-4], 'is torn gzip')):
    ((reply,), _) = ask(raw(200, body, content_encoding='gzip'), retries=0,
                        max_reply_mb=1.0)
    assert reply.cause == Cause.GARBAGE and said in reply.error
  many = gzip.compress(b' ') * 400_000  # 8 MB of members
  begun = time.process_time()
  assert len(wire.unpacked(many, 'gzip', MB)) == 400_000
  assert time.process_time() - begun < 10


@pytest.mark.parametrize('coding, body, said', [
    ('br', b'xx', "content-encoding is 'br'; allowed: gzip, deflate"),
    ('gzip', b'xx', 'is no gzip'),
    ('gzip', gzip.compress(b'{}', mtime=0)[:-4], 'is torn gzip'),
    ('gzip, gzip', gzip.compress(b'{}', mtime=0), "is 'gzip, gzip'"),
])
def test_packing_that_is_none(coding, body, said):
  """fault E2: other encodings and torn ones are garbage by name."""
  ((reply,), _) = ask(raw(200, body, content_encoding=coding), retries=0)
  assert reply.cause == Cause.GARBAGE and said in reply.error


def test_a_text_that_did_not_heed_its_limit():
  """fault E2: far more words than max_tokens allows are garbage, before they
  are tokenised and graded."""
  said = lambda size: chat_reply(message={'content': 'x' * size})
  for size, cause in ((256 * 10, None), (256 * 16, Cause.GARBAGE)):
    with serving(raw(200, said(size))) as (url, _):
      (reply,) = client.ask_all(
          Endpoint(url=url, **{**QUICK, 'retries': 0}),
          [client.chat_call(HELLO, max_tokens=7)], 10)
    assert reply.cause == cause
  assert reply.error == (
      'reply: a text of 4096 characters where max_tokens was 7')


# Times.

def dripping(head: bytes):
  """(port, closes it): a server that sends `head`, then a byte at a time."""
  listening = socket.create_server(('127.0.0.1', 0))

  def drip():
    for _ in range(8):
      try:
        talk, _ = listening.accept()
        with talk:
          talk.recv(65536)
          talk.sendall(head)
          for _ in range(400):
            talk.sendall(b' ')
            time.sleep(0.05)
      except OSError:
        return
  threading.Thread(target=drip, daemon=True).start()
  return listening.getsockname()[1], listening.close


@pytest.mark.parametrize('head', [
    b'HTTP/1.1 200 OK\r\nx-', b'HTTP/1.1 500 No\r\n\r\n',
    b'HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n'])
def test_a_list_of_models_that_drips(head):
  """fault E2: head and body are bounded by the budget."""
  port, close = dripping(head)
  of = Endpoint(url=f'http://127.0.0.1:{port}/v1', model='m', retries=3)
  begun = time.monotonic()
  with pytest.raises(EndpointError) as e:
    client.served(of, 0.5)
  assert e.value.cause == Cause.BUDGET and time.monotonic() - begun < 5
  close()


def test_retry_after_is_waited_for_as_long_as_it_says(monkeypatch):
  """fault E2b: 90 seconds within the budget are one pause of 90 seconds."""
  paused = []
  real = client.asyncio.sleep

  async def sleep(seconds):
    paused.append(seconds)
    await real(0)
  monkeypatch.setattr(client.asyncio, 'sleep', sleep)

  def busy_once(fake, route, body, headers):
    if len(fake.asked) < 2:
      return 429, {'retry-after': '90'}, b'{}'
    return fake_endpoint.right(fake, route, body, headers)
  ((reply,), fake) = ask(busy_once, budget_s=200.0, retries=1)
  assert reply.cause is None and len(fake.asked) == 2
  assert [p for p in paused if p >= 1] == [90.0]


@pytest.mark.parametrize('said, date, seconds', [
    ('90', '', 90.0), ('0.5', '', 0.5), (' 7 ', '', 7.0), ('-3', '', 0.0),
    ('1e400', '', float('inf')), ('nan', '', None), ('soon', '', None),
    ('', '', None),
    ('Sat, 28 Nov 2026 10:02:00 GMT', 'Sat, 28 Nov 2026 10:00:30 GMT', 90.0),
    ('Sat, 28 Nov 2026 10:00:00 GMT', 'Sat, 28 Nov 2026 10:00:30 GMT', 0.0),
    ('Sat, 99 Nov 20266 10:00:00 GMT', '', None),
])
def test_retry_after_by_hand(said, date, seconds):
  """fault E2b: seconds and dates; a date by the clock of the server."""
  assert wire.retry_after(
      {'retry-after': said, 'date': date}) == seconds
  ours = email.utils.formatdate(time.time() + 60, usegmt=True)
  assert 50 < wire.retry_after({'retry-after': ours}) < 65


def test_a_date_beyond_the_budget_is_not_waited_for():
  """fault E2b: it ends at once, with the cause of the server."""
  later = email.utils.formatdate(time.time() + 3600, usegmt=True)
  begun = time.monotonic()
  ((reply,), fake) = ask(raw(503, b'{}', retry_after=later), budget_s=20)
  assert reply.cause == Cause.SERVER and len(fake.asked) == 1
  assert time.monotonic() - begun < 5


# Where what is sent goes, and what is told of it.

def test_a_redirect_to_another_host_is_not_followed(monkeypatch):
  """fault E2: the prompts stay here; the error names the host alone."""
  monkeypatch.setenv('MY_KEY', 'sk-very-secret')
  with serving(fake_endpoint.right) as (other, strange):
    for status in (301, 302, 303, 307, 308):
      ((reply,), _) = ask(
          raw(status, b'', location=f'{other}/chat/completions?k=sk-very'),
          key_env='MY_KEY')
      assert reply.cause == Cause.REFUSED and reply.requests == 1
      assert other.removesuffix('/v1') in reply.error
      assert 'sk-very' not in reply.error and 'hello' not in reply.error
    assert strange.asked == []


def test_a_redirect_within_the_host_is_followed():
  """fault E2: with its body and key; a circle ends."""
  def moved(fake, route, body, headers):
    if route.endswith('there'):
      return fake_endpoint.right(fake, '/v1/chat/completions', body, headers)
    return 307, {'location': f'{route}/there'}, b''
  ((reply,), fake) = ask(moved)
  assert reply.results[0].text == fake_endpoint.RIGHT
  assert fake.asked[1]['messages'] == HELLO
  circle = lambda fake, route, body, headers: (307, {'location': route}, b'')
  ((reply,), fake) = ask(circle)
  assert reply.cause == Cause.REFUSED and 'redirects' in reply.error
  assert len(fake.asked) <= wire.MOST_REDIRECTS + 1


@pytest.mark.parametrize('location', [
    '', 'http://[', 'ftp://x', '//elsewhere.invalid', 'http://u:p@x.invalid/'])
def test_redirects_that_lead_nowhere(location):
  """fault E2: whatever Location holds, the request ends with a cause."""
  ((reply,), _) = ask(raw(307, b'{}', location=location), retries=0)
  assert reply.cause is not None and reply.results == ()


def test_a_refusal_is_no_answer():
  """fault E2: message.refusal has a cause of its own."""
  ((reply,), _) = ask(raw(200, chat_reply(message={
      'content': None, 'refusal': 'I cannot\nhelp'})), retries=0)
  assert (reply.results, reply.cause) == ((), Cause.DECLINED)
  assert reply.error == 'the model declined: I cannot help'

  def half(fake, route, body, headers):
    said = completion(['a', 'b'])
    if len(fake.asked) == 1:
      said['choices'][0]['message'] = {'content': None, 'refusal': 'no'}
    return 200, {}, said
  ((reply,), fake) = ask(half, wanted=2)
  assert reply.cause is None
  assert [c.text for c in reply.results] == ['b', 'a']
  assert [b.get('n') for b in fake.asked] == [2, None]
  for refusal in (None, ''):
    ((reply,), _) = ask(raw(200, chat_reply(message={
        'content': 'yes', 'refusal': refusal})))
    assert reply.results == (Choice('yes', True),)


@pytest.mark.parametrize('key', [
    'sk-secret-1\n', 'sk-secret-1\r\nx: y', ' sk-secret-1',
    'sk-sécret-1', 'sk-secret-\ud800'.encode(
        'utf-8', 'surrogatepass').decode('utf-8', 'surrogateescape'), '\t'])
def test_a_key_that_no_header_can_hold(key, monkeypatch):
  """fault E2: it is refused at the door, and not shown."""
  monkeypatch.setenv('MY_KEY', key)
  with pytest.raises(ValueError, match="key_env is 'MY_KEY'") as e:
    Endpoint(url='http://x', key_env='MY_KEY', **QUICK)
  assert 'sk-' not in str(e.value) and 'ecret' not in str(e.value)


@pytest.mark.parametrize('key', [
    'sk-very-secret', "sk-'very\"secret\\", 'sk%20very/secret+', 'k' * 300])
@pytest.mark.parametrize('shape', [
    '{}', "{!r}", 'Bearer {} is wrong', 'wrong:\n{}\n', '{}{}', '<{}>'])
def test_a_key_is_in_no_message(key, shape, monkeypatch):
  """fault E2: whatever way a server repeats it: errors, models, answers."""
  monkeypatch.setenv('MY_KEY', key)
  said = shape.format(key, key)
  parts = {key[i:i + 8] for i in range(len(key) - 7)}
  for answer in (raw(401, json.dumps({'error': {'message': said}}).encode()),
                 raw(500, said.encode()), raw(307, b'', location='/' + key),
                 raw(200, chat_reply(message={'refusal': said}))):
    ((reply,), _) = ask(answer, key_env='MY_KEY', retries=0)
    assert reply.cause is not None
    assert not any(p in reply.error for p in parts), reply.error
  ((reply,), _) = ask(raw(200, chat_reply(message={'content': key})),
                      key_env='MY_KEY')
  assert reply.results == (Choice('***', True),)
  assert not any(p in client.listed([said], key) for p in parts)


def test_the_spellings_of_a_key():
  """fault E2: percent-encoded, in base64, in part."""
  import base64
  import urllib.parse
  key = 'sk-a/b+c d?'.replace(' ', '') + 'longer'
  for spelt in (key, urllib.parse.quote(key, safe=''), key[3:], key[:-2],
                base64.b64encode(key.encode()).decode()):
    shown = client.clean(f'before {spelt} after', key)
    assert shown.startswith('before ***') and shown.endswith(' after'), shown
  assert client.clean('none of it', '') == 'none of it'
  assert client.clean('a\x1b[2Jb\u202ec', '') == 'a [2Jb c'


@pytest.mark.parametrize('fields, said', [
    (dict(url='http://'), 'must name a host'),
    (dict(url='http://x:99999999/'), 'url is'),
    (dict(url='http://[x/'), 'url is'), (dict(url=7), 'url is 7'),
    (dict(url='http://x y/'), 'visible ASCII'),
    (dict(url='http://me:hidden@x/v1'), 'holds a user or a password'),
    (dict(max_reply_mb=0), 'max_reply_mb is 0; it must be > 0'),
    (dict(max_reply_mb=float('inf')), 'max_reply_mb is inf'),
    (dict(deadline_s=float('nan')), 'deadline_s is nan'),
    (dict(deadline_s='5'), "deadline_s is '5'"),
    (dict(concurrency=1.5), 'concurrency is 1.5; it must be a whole number'),
    (dict(concurrency=True), 'concurrency is True'),
    (dict(retries=None), 'retries is None'),
    (dict(extra={'a': {1, 2}}), 'extra cannot be sent as JSON'),
])
def test_more_fields_out_of_range(fields, said):
  """fault E2: limits are checked at the door, of their type too."""
  with pytest.raises(ValueError, match=said) as e:
    Endpoint(**{**QUICK, 'url': 'http://x', **fields})
  assert 'hidden' not in str(e.value)
