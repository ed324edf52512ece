"""An OpenAI-compatible server of a few lines that fails as it is told."""

import contextlib
import http.server
import json
import threading
import time

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
