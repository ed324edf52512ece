"""Who asks a teacher's endpoint, if a run has several processes.

  python -m benchmarks.endpoint_hosts --to=FILE.json

Either the first process asks for all rows and broadcasts the replies, or each
asks for its own and all gather them. A simulated endpoint replies after a fixed
delay, with texts or with the scores of long sequences. Measured are CPU seconds
of the busiest process and wall-clock seconds, medians of some repeats; all
processes and the endpoint share the cores of one machine.
"""

import argparse
import http.server
import json
import multiprocessing
import pathlib
import secrets
import statistics
import time
from multiprocessing import connection

from zppo_jax.devices import hosts
from zppo_jax.endpoints import client
from zppo_jax.records import TokenSequence
from zppo_jax.study.launch import machine
from zppo_jax.teachers import endpoint_scores

DELAY_S = 0.5
TEXTS, WORDS = 8, 200  # of a reply of texts
TOKENS, TOP, VOCAB = 1000, 20, 50_000  # of a reply of scores
CALLS, CONCURRENCY, REPEATS = 64, 64, 3
KINDS, WAYS = ('texts', 'scores'), ('first', 'each')


def _bodies() -> dict[str, bytes]:
  texts = {'choices': [
      {'index': i, 'finish_reason': 'stop',
       'message': {'role': 'assistant', 'content': 'word ' * WORDS}}
      for i in range(TEXTS)]}
  place = lambda t: {str(i): {'logprob': -k - 1.0, 'rank': k + 1,
                              'decoded_token': 'word'}
                     for k, i in enumerate(range(t % VOCAB, t % VOCAB + TOP))}
  scores = {'choices': [{
      'index': 0, 'finish_reason': 'length', 'text': '',
      'prompt_logprobs': [None, *(place(t) for t in range(1, TOKENS))]}]}
  return {'texts': json.dumps(texts).encode(),
          'scores': json.dumps(scores).encode()}


def serve(port) -> None:
  """Serves for ever; sends its port first."""
  bodies = _bodies()

  class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_POST(self):
      self.rfile.read(int(self.headers['Content-Length']))
      time.sleep(DELAY_S)
      body = bodies['texts' if 'chat' in self.path else 'scores']
      self.send_response(200)
      self.send_header('Content-Type', 'application/json')
      self.send_header('Content-Length', str(len(body)))
      self.end_headers()
      self.wfile.write(body)

    def log_message(self, *_):
      pass

  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
  server.daemon_threads, server.request_queue_size = True, 2 * CALLS
  port.send(server.server_address[1])
  server.serve_forever()


def _calls(kind: str) -> list[client.Call]:
  if kind == 'texts':
    return [client.chat_call([{'role': 'user', 'content': f'{i}'}],
                             wanted=TEXTS) for i in range(CALLS)]
  form = endpoint_scores.Form(kind='prompt_logprobs', ids=True, vocab=VOCAB,
                              entries=10**9)
  sequence = TokenSequence(prompt=(0,), response=tuple(range(1, TOKENS)))
  return [form.call(sequence, TOP - 1)] * CALLS


def work(index: int, count: int, port: int, key: bytes, url: str, kind: str,
         way: str, results) -> None:
  """One process of a run; sends [(CPU seconds, wall-clock seconds)] of the
  repeats."""
  if count > 1 and index:
    hosts._GROUP = hosts._Group(index, count, {
        0: hosts._reached(['127.0.0.1'], port, key, index)})
  elif count > 1:
    with connection.Listener(('127.0.0.1', port), backlog=count,
                             authkey=key) as listener:
      hosts._GROUP = hosts._Group(0, count, hosts._accepted(listener, count))
  of = client.share_of(client.Endpoint(
      url=url, model='m', concurrency=CONCURRENCY, deadline_s=300)) if (
          way == 'each') else client.Endpoint(
              url=url, model='m', concurrency=CONCURRENCY, deadline_s=300)
  calls = _calls(kind)
  ask = lambda some: client.ask_all(of, some, 600)
  ask(calls[:1])  # what is imported and opened once
  seconds = []
  for _ in range(REPEATS):
    hosts.wait('begin')
    cpu, wall = time.process_time(), time.perf_counter()
    replies = (hosts.shared(ask, calls) if way == 'each' else
               hosts.from_first(lambda: ask(calls)))
    seconds.append((time.process_time() - cpu, time.perf_counter() - wall))
    if any(reply.cause is not None for reply in replies):
      raise RuntimeError(f'{replies[0].cause}: {replies[0].error}')
  hosts.wait('end')
  results.put(seconds)


def measure(count: int, url: str, kind: str, way: str) -> dict[str, float]:
  """Medians over the repeats: {'cpu_s', 'wall_s'}."""
  context = multiprocessing.get_context('spawn')
  with connection.Listener(('127.0.0.1', 0)) as probe:
    port = probe.address[1]
  key, results = secrets.token_bytes(32), context.Queue()
  started = [context.Process(target=work, args=(
      i, count, port, key, url, kind, way, results)) for i in range(count)]
  for process in started:
    process.start()
  seconds = [results.get(timeout=600) for _ in started]
  for process in started:
    process.join()
  busiest = [[max(column) for column in zip(*of_repeat, strict=True)]
             for of_repeat in zip(*seconds, strict=True)]
  cpu, wall = (statistics.median(column)
               for column in zip(*busiest, strict=True))
  return {'cpu_s': round(cpu, 3), 'wall_s': round(wall, 3)}


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--to', type=pathlib.Path, required=True)
  parser.add_argument('--processes', default='1,2,4')
  args = parser.parse_args()
  context = multiprocessing.get_context('spawn')
  ours, theirs = context.Pipe()
  server = context.Process(target=serve, args=(theirs,), daemon=True)
  server.start()
  url = f'http://127.0.0.1:{ours.recv()}/v1'
  found = {}
  for kind in KINDS:
    for count in map(int, args.processes.split(',')):
      for way in WAYS[:1] if count == 1 else WAYS:
        name = f'{kind}, {count} processes, {way}'
        found[name] = measure(count, url, kind, way)
        print(name, found[name], flush=True)
  server.terminate()
  args.to.write_text(json.dumps({
      'command': 'python -m benchmarks.endpoint_hosts --processes='
                 + args.processes, 'seed': None,
      'calls': CALLS, 'concurrency': CONCURRENCY, 'delay_s': DELAY_S,
      'texts': [TEXTS, WORDS], 'scores': [TOKENS, TOP],
      'repeats': REPEATS, 'machine': machine(), 'results': found},
      indent=1) + '\n')


if __name__ == '__main__':
  main()
