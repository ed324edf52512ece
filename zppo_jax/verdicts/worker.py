"""A worker: grades one answer after the other until it is killed.

  python -m zppo_jax.verdicts.worker '{"cpu_s": 2, ...}'

One JSON line in, {"kind", "answer", "reference"}; lines out: {"loaded": kind}
once for each kind, then {"score": x} or {"unreadable": why} or {"crash": why}.
Timers whose signal is left to the kernel end it at its deadlines, whatever
Python is doing; it also ends with its parent.
"""

import json
import os
import resource
import select
import signal
import sys

from zppo_jax.verdicts import kinds
from zppo_jax.verdicts.plain import Unreadable

PARENT_CHECK_S = 5.0


def _lines(stdin: int, parent: int):
  """Lines from a pipe until it closes or the parent is gone."""
  kept = b''
  while True:
    ready, _, _ = select.select([stdin], [], [], PARENT_CHECK_S)
    if not ready:
      if os.getppid() != parent:
        return
      continue
    read = os.read(stdin, 1 << 16)
    if not read:
      return
    *whole, kept = (kept + read).split(b'\n')
    yield from whole


def _limit(memory: int) -> None:
  """No files, no core dumps, bounded memory (where the system can)."""
  limits = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0)]
  if sys.platform == 'linux':
    limits.append((resource.RLIMIT_AS, memory))
  for name, value in limits:
    resource.setrlimit(name, (value, value))


def _timers(cpu_s: float, wall_s: float) -> None:
  signal.setitimer(signal.ITIMER_PROF, cpu_s)
  signal.setitimer(signal.ITIMER_REAL, wall_s)


def answer(job: dict, cpu_s: float, wall_s: float) -> dict:
  """Grades one job under its timers."""
  mark = kinds.get(job['kind']).mark
  _timers(cpu_s, wall_s)
  try:
    score = mark(job['answer'], job['reference'])
    return {'score': min(max(float(score), 0.0), 1.0)}
  except Unreadable as e:
    return {'unreadable': str(e)[:300]}
  except MemoryError:
    return {'crash': 'MemoryError'}
  except Exception as e:  # whatever a library throws is the answer's doing
    return {'crash': f'{type(e).__name__}: {e}'[:300]}
  finally:
    _timers(0, 0)


def main() -> None:
  settings = json.loads(sys.argv[1])
  for number in (signal.SIGPROF, signal.SIGALRM):
    signal.signal(number, signal.SIG_DFL)
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the trainer
  stdin, out = os.dup(0), os.dup(1)
  nothing = os.open(os.devnull, os.O_RDWR)
  for fd in (0, 1, 2):  # what a library prints is not a verdict
    os.dup2(nothing, fd)

  def reply(value: dict) -> None:
    os.write(out, json.dumps(value).encode() + b'\n')

  _limit(settings['memory'])
  loaded: set[str] = set()
  for line in _lines(stdin, settings['parent']):
    job = json.loads(line)
    if job['kind'] not in loaded:
      try:
        kinds.get(job['kind']).load()
      except Exception as e:
        reply({'cannot': f'{type(e).__name__}: {e}'})
        return
      loaded.add(job['kind'])
      reply({'loaded': job['kind']})
    reply(answer(job, settings['cpu_s'], settings['wall_s']))


if __name__ == '__main__':
  main()
