"""Mutated replies of a server through the real client.

A target of benchmarks/fuzz.py. A server on this machine answers every request
with bytes that were made from a good reply by seeded mutations: of the JSON
(types, nesting, names, numbers, strings), of the bytes (cut, changed, other
charsets), of the packing, of the head (status, lengths, redirects, Retry-After)
and of the connection. Each request must end as a reply with results or with a
cause; nothing may raise, and all of it stays within its seconds.
"""

import asyncio
import collections
import contextlib
import copy
import gzip
import json
import random
import threading
import time
import zlib

from zppo_jax.endpoints import client, scored
from zppo_jax.endpoints.client import CHAT, MODELS, TEXT, Call, Endpoint
from zppo_jax.endpoints.replies import Choice, read_chat, read_models, read_text
from zppo_jax.endpoints.scored import Scored, Sent

PROMPT = (5, 6, 7, 8)  # of the requests for scores
SENT = Sent(tokens=PROMPT, start=1, top=2, vocab=99)
DEADLINE_S = 2.0
CONCURRENCY = 16
MAX_REPLY_MB = 0.25

GOOD = {
    'chat': {'id': 'x', 'object': 'chat.completion', 'choices': [
        {'index': 0, 'finish_reason': 'stop', 'logprobs': None, 'message': {
            'role': 'assistant', 'content': 'yes \U0001f600',
            'refusal': None}}], 'usage': {'total_tokens': 3}},
    'text': {'id': 'x', 'choices': [
        {'index': 0, 'finish_reason': 'length', 'text': 'yes'}]},
    'echo': {'choices': [{'finish_reason': 'length', 'text': 'a b c d e',
                          'logprobs': {'token_logprobs': [
                              None, -1.0, -0.5, -2.0, -0.1]}}]},
    'spelt': {'choices': [{'logprobs': {
        'tokens': [f'token_id:{i}' for i in (*PROMPT, 3)],
        'token_logprobs': [None, -1.0, -0.5, -2.0, -0.1],
        'top_logprobs': [None, *[
            {f'token_id:{i}': -2.0, 'token_id:9': -1.5, 'token_id:3': -3.0}
            for i in (*PROMPT[1:], 4)]]}}]},
    'prompt_logprobs': {'choices': [{'prompt_logprobs': [None, *[
        {str(i): {'logprob': -1.0, 'rank': 2, 'decoded_token': 'x'},
         '9': {'logprob': -0.9, 'rank': 1, 'decoded_token': 'x'}}
        for i in PROMPT[1:]]]}]},
    'models': {'object': 'list', 'data': [{'id': 'm'}, {'id': 'n'}]}}
KINDS = tuple(GOOD)
_ODD = (None, True, False, 0, -1, 1e308, -1e308, 10**40, 0.1, '', 'stop',
        'x' * 3000, [], {}, [[]], {'': None}, [None], '\ud83d', '\ude00',
        '\x00\x1b[2J', 'a\u202eb', '<|im_end|>', float('nan'), float('inf'),
        -float('inf'), [1, 'a', None], {'content': {'content': []}})


def _places(tree, path=()):
  """Paths of all values in a tree, its root among them."""
  yield path
  inner = (tree.items() if isinstance(tree, dict) else
           enumerate(tree) if isinstance(tree, list) else ())
  for name, value in inner:
    yield from _places(value, (*path, name))


def mutated(tree, rng: random.Random):
  """A copy with one place replaced, removed, doubled, wrapped or renamed."""
  path = rng.choice(list(_places(tree)))
  if not path:
    return rng.choice((*_ODD, [tree], {'choices': tree}))
  tree = copy.deepcopy(tree)
  holder = tree
  for name in path[:-1]:
    holder = holder[name]
  name, way = path[-1], rng.randrange(5)
  if way == 0:
    del holder[name]
  elif way == 1:
    holder[name] = [holder[name]] * rng.randrange(3)
  elif way == 2:
    holder[name] = {'value': holder[name]}
  elif way == 3 and isinstance(holder, dict):
    holder[rng.choice(('refusal', 'Content', '', 'reasoning'))] = holder.pop(
        name)
  else:
    holder[name] = rng.choice(_ODD)
  return tree


def _text(tree, rng: random.Random) -> str:
  """JSON, or nearly so."""
  text = json.dumps(tree, ensure_ascii=rng.random() < 0.8)
  way = rng.randrange(24)
  if way == 0:
    return text[:rng.randrange(len(text) + 1)]
  if way == 1:
    deep = rng.choice((3, 200, 5000))
    return text.replace('null', '[' * deep + ']' * deep)
  if way == 2:
    return text.replace('0', '9' * rng.choice((30, 400, 5000)))
  if way == 3:
    return text + rng.choice(('\n', ' {}', '\x00', 'data: [DONE]', text))
  if way == 4:
    return rng.choice(('', '<html>busy</html>', 'null', 'data: ' + text))
  return text


def _bytes(text: str, rng: random.Random) -> bytes:
  charset = rng.choice(('utf-8',) * 24 + ('utf-16', 'latin-1', 'utf-32'))
  raw = text.encode(charset, 'surrogatepass' if charset != 'latin-1' else
                    'replace')
  if raw and rng.random() < 0.05:
    raw = bytearray(raw)
    for _ in range(rng.randrange(1, 6)):
      raw[rng.randrange(len(raw))] = rng.randrange(256)
  return bytes(raw)


def _packed(raw: bytes, rng: random.Random) -> tuple[bytes, dict]:
  way = rng.randrange(40)
  if way == 0:
    return gzip.compress(raw), {'content-encoding': 'gzip'}
  if way == 1:
    return zlib.compress(raw), {'content-encoding': 'deflate'}
  if way == 2:  # far more than may come, in a few hundred bytes
    return gzip.compress(bytes(2**20)), {'content-encoding': 'gzip'}
  if way == 3:
    return gzip.compress(raw)[:-rng.randrange(1, 12)], {
        'content-encoding': 'gzip'}
  if way == 4:
    return raw, {'content-encoding': rng.choice((
        'gzip', 'br', 'zstd', 'deflate', 'nonsense', 'gzip, gzip'))}
  if way == 5:
    return raw + b' ' * 2**19, {}
  return raw, {}


_STATUS = (200,) * 40 + (204, 301, 307, 400, 401, 404, 429, 500, 503, 418)


def reply(kind: str, seed: str) -> tuple[bytes, bool]:
  """The bytes that answer a request, and whether they come slowly.

  Args:
    kind: one of KINDS.
    seed: of the mutations; the same reply for the same seed.
  """
  rng = random.Random(f'{kind}/{seed}')
  tree = GOOD[kind]
  for _ in range(rng.choice((0, 1, 1, 1, 2, 4))):
    tree = mutated(tree, rng)
  raw, headers = _packed(_bytes(_text(tree, rng), rng), rng)
  status = rng.choice(_STATUS)
  headers['content-type'] = rng.choice((
      'application/json',) * 5 + ('text/html', 'application/json; charset=x',
                                  'text/event-stream', ''))
  headers['content-length'] = str(len(raw))
  if status in (301, 307):
    headers['location'] = rng.choice((
        'http://another.invalid/v1', '/v1/elsewhere', '//another.invalid',
        'http://[', '', 'ftp://x', 'http://127.0.0.1:1/v1'))
  if rng.random() < 0.2:
    headers['retry-after'] = rng.choice((
        '0', '-5', 'nan', 'inf', '1e400', 'soon', '99',
        'Wed, 21 Oct 2015 07:28:00 GMT', 'Wed, 99 Foo 20155 07:28:00 GMT'))
  way = rng.randrange(60)
  if way == 0:
    headers['content-length'] = str(len(raw) + rng.randrange(1, 50))
  elif way == 1:
    headers['content-length'] = str(rng.randrange(len(raw) + 1))
  elif way == 2:
    del headers['content-length']
  elif way == 3:
    headers['content-length'] = rng.choice(('-1', 'many', '9' * 30))
  elif way == 4:
    headers['transfer-encoding'] = 'chunked'  # which it is not
  head = f'HTTP/1.1 {status} Said\r\n' + ''.join(
      f'{name}: {value}\r\n' for name, value in headers.items())
  whole = head.encode() + b'connection: close\r\n\r\n' + raw
  if way == 5:
    whole = whole[:rng.randrange(len(whole) + 1)]
  elif way == 6:
    whole = _bytes(head, rng)[:-1] + whole
  return whole, way == 7 and rng.random() < 0.5


async def _answer(reader, writer, counter: collections.Counter, seed: int):
  with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError,
                           asyncio.CancelledError):  # at the very end
    head = (await reader.readuntil(b'\r\n\r\n')).decode('latin-1').lower()
    length = head.partition('content-length:')[2].split('\r\n')[0].strip()
    body = await reader.readexactly(int(length or 0))
    kind = ('models' if '/models' in head else 'chat' if '/chat/' in head else
            'spelt' if b'"return_tokens_as_token_ids"' in body else
            'echo' if b'"echo"' in body else
            'prompt_logprobs' if b'"prompt_logprobs"' in body else 'text')
    counter[kind] += 1
    raw, slow = reply(kind, f'{seed}/{counter[kind]}')
    for piece in ([raw[i:i + 1] for i in range(len(raw))] if slow else [raw]):
      writer.write(piece)
      await writer.drain()
      if slow:
        await asyncio.sleep(0.05)
  with contextlib.suppress(OSError):
    writer.close()


@contextlib.contextmanager
def serving(seed: int):
  """Address of such a server; it lives as long as the context."""
  loop, ready, address = [], threading.Event(), []
  counter: collections.Counter = collections.Counter()

  async def run():
    server = await asyncio.start_server(
        lambda r, w: _answer(r, w, counter, seed), '127.0.0.1', 0)
    port = server.sockets[0].getsockname()[1]
    address.append(f'http://127.0.0.1:{port}/v1')
    address.append(asyncio.Event())
    loop.append(asyncio.get_running_loop())
    ready.set()
    await address[1].wait()
    server.close()

  thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
  thread.start()
  ready.wait()
  try:
    yield address[0]
  finally:
    loop[0].call_soon_threadsafe(address[1].set)
    thread.join(10)


def calls(count: int) -> list[Call]:
  """Requests of all kinds by turns."""
  hello = [{'role': 'user', 'content': 'hello'}]
  each = {
      'chat': Call(CHAT, {'messages': hello, 'seed': 1}, 1, read_chat),
      'text': Call(TEXT, {'prompt': 'hello'}, 1, read_text),
      'echo': Call(TEXT, {'prompt': list(PROMPT), 'echo': True}, 1,
                   scored.echoed(SENT._replace(top=0), ids=False)),
      'spelt': Call(TEXT, {
          'prompt': list(PROMPT), 'echo': True,
          'return_tokens_as_token_ids': True}, 1, scored.echoed(SENT)),
      'prompt_logprobs': Call(
          TEXT, {'prompt': list(PROMPT), 'prompt_logprobs': 2}, 1,
          scored.prompt_logprobs(SENT)),
      'models': Call(MODELS, {}, 1, lambda r: [read_models(r)])}
  return [each[KINDS[i % len(KINDS)]] for i in range(count)]


def sound(result) -> bool:
  """Whether a result is what the rest of the program may rely on."""
  if isinstance(result, Choice):
    return type(result.complete) is bool and result.text == (
        result.text.encode().decode())
  if isinstance(result, Scored):
    ids = [i for place in result.top_ids for i in place]
    logps = [x for place in (result.logps, *result.top_logps) for x in place]
    return len(result.logps) == len(PROMPT) - 1 and len(ids) in (0, 6) and all(
        isinstance(i, int) and 0 <= i < SENT.vocab for i in ids) and all(
            isinstance(x, float) and scored.NO_MASS < x <= 0 for x in logps)
  return all(isinstance(x, str) for x in result)


def main(count: int, seed: int) -> dict:
  """Sends `count` requests.

  Returns:
    `outcomes`: how many ended in each way, `answered` or the name of a
    records.Cause, in lower case.

  Raises:
    RuntimeError: if a reply has a result that is not sound, or all of it took
      longer than its deadlines allow. What the client itself raises is left
      alone.
  """
  found: collections.Counter = collections.Counter()
  most = count / CONCURRENCY * DEADLINE_S + 60
  with serving(seed) as url:
    of = Endpoint(url=url, model='m', concurrency=CONCURRENCY,
                  deadline_s=DEADLINE_S, retries=0, backoff_s=0,
                  max_reply_mb=MAX_REPLY_MB)
    begun = time.monotonic()
    replies = client.ask_all(of, calls(count), most)
    seconds = time.monotonic() - begun
  for got in replies:
    found['answered' if got.cause is None else got.cause.name.lower()] += 1
    if not all(map(sound, got.results)):
      raise RuntimeError(f'not sound: {got}')
  if seconds > most:
    raise RuntimeError(f'{count} requests took {seconds:.0f} s; at most '
                       f'{most:.0f} are allowed')
  return {'outcomes': dict(sorted(found.items()))}
