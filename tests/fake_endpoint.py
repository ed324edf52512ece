"""An OpenAI-compatible server of a few lines that fails as it is told."""

import contextlib
import http.server
import json
import math
import threading
import time

from zppo_jax.chat.micro_chat import CHAT
from zppo_jax.tasks import micro

RIGHT = '4 h 9 A 9'


def completion(texts, route='/v1/chat/completions') -> dict:
  """A reply with these texts."""
  if route.endswith('chat/completions'):
    say = lambda t: {'message': {'role': 'assistant', 'content': t}}
  else:
    say = lambda t: {'text': t}
  return {'choices': [{'index': i, 'finish_reason': 'stop', **say(t)}
                      for i, t in enumerate(texts)]}


class Fake:
  """What a server was asked and does.

  Attributes:
    answer: (Fake, route, body, headers) -> (status, headers, bytes or JSON);
      None for these closes the connection.
    asked: bodies of completions, in the order in which they came.
  """

  def __init__(self, answer, models=('m',)):
    self.answer, self.models, self.asked = answer, models, []

  def reply(self, route, body, headers):
    if route == '/v1/models':
      return 200, {}, {'data': [{'id': m} for m in self.models]}
    if body is not None:
      self.asked.append(body)
    return self.answer(self, route, body, headers)


def right(fake, route, body, headers):
  """As many right answers as were asked for."""
  del fake, headers
  return 200, {}, completion([RIGHT] * body.get('n', 1), route)


def truth(fake, route, body, headers):
  """Right answers: the embedded world's questions are worked out."""
  del fake, headers
  family, *ops, digit, _ = body['messages'][0]['content'].split()
  ops = ''.join(ops[::-1] if family == 'V' else ops)
  text, _ = micro.work(family, ops, digit, micro.apply_operator)
  return 200, {}, completion([text] * body.get('n', 1), route)


def hangs_up(*_):
  """Closes the connection without a word."""
  return 0, {}, None


def slow(seconds):
  """Says nothing for so long."""
  def answer(fake, route, body, headers):
    time.sleep(seconds)
    return right(fake, route, body, headers)
  return answer


@contextlib.contextmanager
def serving(answer, **fields):
  """(url, Fake) of a server on a free port."""
  fake = Fake(answer, **fields)

  class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def _do(self):
      length = int(self.headers.get('content-length') or 0)
      raw = self.rfile.read(length)
      status, headers, content = fake.reply(
          self.path, json.loads(raw) if raw else None, self.headers)
      if content is None:
        self.close_connection = True
        return
      if not isinstance(content, bytes):
        content = json.dumps(content).encode()
      with contextlib.suppress(OSError):  # the client left
        self.send_response(status)
        for name, value in {'content-type': 'application/json',
                            'content-length': str(len(content)),
                            **headers}.items():
          self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = _do

    def log_message(self, *_):
      pass

  class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256  # who comes beyond it may be turned away

  server = Server(('127.0.0.1', 0), Handler)
  threading.Thread(target=server.serve_forever, args=(0.05,),
                   daemon=True).start()
  try:
    yield f'http://127.0.0.1:{server.server_port}/v1', fake
  finally:
    server.shutdown()
    server.server_close()


def log_softmax_of(tokens, vocab: int) -> list:
  """Made-up log-probs [T, V]: each place's depend on the tokens before it."""
  rows, state = [], 1
  for token in tokens:
    z = [((state * (i + 3)) % 97) / 24 for i in range(vocab)]
    total = math.log(sum(map(math.exp, z)))
    rows.append([x - total for x in z])
    state = (state * 31 + token + 7) % 1009
  return rows


def scorer(vocab: int, max_logprobs: int = 20, noise=lambda body: 0.0):
  """Answers completions with scores in vLLM's forms, as `log_softmax_of`.

  Args:
    vocab: the ids that it knows.
    max_logprobs: the largest K; beyond it requests are refused.
    noise: body -> nats, by which a server's own log-probs differ.
  """
  def answer(fake, route, body, headers):
    del fake, headers
    if not isinstance(body['prompt'], list):
      return right(None, route, body, {})
    echo, top = body.get('echo'), body.get('logprobs') or 0
    asked = body.get('prompt_logprobs')
    if max(top, asked or 0) > max_logprobs:
      return 400, {}, {'error': {'message': f'Requested {top or asked} '
                                 f'logprobs, max is {max_logprobs}'}}
    tokens, off = [*body['prompt'], 2], noise(body)
    logps = log_softmax_of(tokens, vocab)

    def listed(t, k):
      """{id: log-prob} of the K likeliest and the token itself."""
      order = sorted(range(vocab), key=lambda i: (-logps[t][i], i))[:k]
      return {i: logps[t][i] - off for i in [tokens[t], *order]}
    choice = {'index': 0, 'finish_reason': 'length',
              'text': CHAT.codec.decode(tokens) if echo else ''}
    if echo and 'logprobs' in body:
      name = 'token_id:{}' if body.get('return_tokens_as_token_ids') else 'w{}'
      choice['logprobs'] = {
          'tokens': [name.format(i) for i in tokens],
          'token_logprobs': [None, *(
              logps[t][i] - off for t, i in enumerate(tokens) if t)],
          'top_logprobs': [None, *(
              {name.format(i): x for i, x in listed(t, top).items()}
              for t in range(1, len(tokens)))]}
    if asked is not None:
      choice['prompt_logprobs'] = [None, *(
          {str(i): {'logprob': x, 'rank': 1, 'decoded_token': '?'}
           for i, x in listed(t, asked).items()}
          for t in range(1, len(tokens) - 1))]
    return 200, {}, {'choices': [choice]}
  return answer
