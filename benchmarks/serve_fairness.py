"""How long small requests wait beside large ones at `zppo serve`.

    python -m benchmarks.serve_fairness --model=micro/teacher --to=FILE

A server of its own is started on this machine and ended again. Two numbers:
the worst wait of 20 small requests that come while a prompt of 20 MB is being
taken in, and the wait of a request for 2 tokens that comes while 64 clients
draw choices as long as the context allows. Waits are seconds until the whole
reply is there.
"""

import argparse
import concurrent.futures
import contextlib
import http.client
import json
import os
import platform
import subprocess
import sys
import threading
import time

START_S = 300  # most seconds until the server listens
ASK_S = 120  # most seconds for one request


@contextlib.contextmanager
def server(model: str, context: int, slots: int):
  """Port of a `zppo serve` that lives as long as the context."""
  process = subprocess.Popen(
      [sys.executable, '-m', 'zppo_jax.main', 'serve', f'--model={model}',
       '--name=m', '--port=0', f'--context={context}', f'--slots={slots}'],
      stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
      env={**os.environ, 'XLA_FLAGS': ''})
  late = threading.Timer(START_S, process.kill)
  late.start()
  try:
    for line in process.stdout:
      if line.startswith('m: http://'):
        late.cancel()
        yield int(line.rpartition(':')[2].partition('/')[0])
        return
    raise RuntimeError('the server ended before it listened')
  finally:
    late.cancel()
    process.kill()
    process.wait()


def ask(port: int, raw: bytes) -> tuple[float, int, dict]:
  """(seconds, status, reply) of a chat with this body."""
  begun = time.monotonic()
  talk = http.client.HTTPConnection('127.0.0.1', port, timeout=ASK_S)
  with contextlib.closing(talk):
    talk.request('POST', '/v1/chat/completions', raw,
                 {'content-type': 'application/json'})
    reply = talk.getresponse()
    content = reply.read()
  return time.monotonic() - begun, reply.status, json.loads(content)


def body(text: str, **fields) -> bytes:
  """A chat of one message."""
  return json.dumps({'messages': [{'role': 'user', 'content': text}],
                     'temperature': 0, **fields}).encode()


def beside_a_large_prompt(port: int, text: str, size: int,
                          clients: int) -> dict:
  """Waits of `clients` small requests that come with one of `size` bytes."""
  large = body((text + ' ') * (size // (len(text) + 1)), max_tokens=2)
  small = body(text, max_tokens=2)
  alone = ask(port, small)[0]
  with concurrent.futures.ThreadPoolExecutor(clients + 1) as threads:
    heavy = threads.submit(ask, port, large)
    waits = []
    while not heavy.done() or not waits:
      waits += [f.result()[:2] for f in [
          threads.submit(ask, port, small) for _ in range(clients)]]
    took, status, reply = heavy.result()
  assert all(status == 200 for _, status in waits), waits
  return {'bytes': len(large), 'clients': clients, 'small_requests': len(waits),
          'alone_s': alone, 'worst_small_s': max(s for s, _ in waits),
          'large_s': took, 'large_status': status,
          'large_said': reply.get('error', {}).get('code')}


def beside_long_ones(port: int, text: str, clients: int, tokens: int,
                     tries: int) -> dict:
  """Waits of requests for 2 tokens while `clients` draw `tokens` each."""
  # Drawn at a high temperature, so that few end by themselves at once.
  long = [body(text, max_tokens=tokens, temperature=5, n=4, seed=i)
          for i in range(clients)]
  small, waits, busy = body(text, max_tokens=2), [], []
  ask(port, small)
  with concurrent.futures.ThreadPoolExecutor(clients) as threads:
    heavy = [threads.submit(ask, port, raw) for raw in long]
    time.sleep(0.3)
    for _ in range(tries):
      busy.append(sum(not f.done() for f in heavy))
      waits.append(ask(port, small)[0])
      if busy[-1] == 0:
        break
    found = [f.result() for f in heavy]
  assert all(status == 200 for _, status, _ in found)
  beside = [w for w, b in zip(waits, busy, strict=True) if b > 0]
  return {'clients': clients, 'tokens': tokens, 'choices': 4,
          'tries_beside': len(beside), 'busy_at_first': busy[0],
          'worst_small_s': max(beside) if beside else None,
          'long_s': max(s for s, _, _ in found),
          'long_tokens': sum(r['usage']['completion_tokens']
                             for _, _, r in found)}


def main(model: str = 'micro/teacher', text: str = 'C a b c 4',
         context: int = 256, slots: int = 32, megabytes: int = 20) -> dict:
  """Both measurements of one server."""
  with server(model, context, slots) as port:
    large = beside_a_large_prompt(port, text, megabytes * 10**6, 20)
    long = beside_long_ones(port, text, 64, context - 64, 5)
  return {'model': model.rpartition('/')[2], 'context': context,
          'slots': slots, 'machine': platform.processor() or (
              platform.machine()), 'cores': os.cpu_count(),
          'beside_a_large_prompt': large, 'beside_long_ones': long}


if __name__ == '__main__':
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--model', default='micro/teacher')
  parser.add_argument('--text', default='C a b c 4')
  parser.add_argument('--context', type=int, default=256)
  parser.add_argument('--slots', type=int, default=32)
  parser.add_argument('--megabytes', type=int, default=20)
  parser.add_argument('--to')
  found = vars(parser.parse_args())
  to = found.pop('to')
  result = json.dumps(main(**found), indent=1) + '\n'
  if to:
    with open(to, 'w') as f:
      f.write(result)
  print(result, end='')
