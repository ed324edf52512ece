"""A grader that misbehaves as it is told: what a library might do, by code of
our own.

Kind `benchmarks.stand_ins:mark`. An answer is the name of a deed, and anything
behind it; `DEEDS` says what the sandbox must make of it. Nothing here harms
anybody outside of a worker's child.
"""

import itertools
import mmap
import os
import signal
import sys
import time

from zppo_jax.verdicts.kinds.plain import Unreadable

KIND = 'benchmarks.stand_ins:mark'


def _spin() -> float:
  while True:
    pass


def _spin_in_c() -> float:
  """Never comes back to the interpreter, which could hear a signal."""
  return sum(itertools.repeat(0))


def _deaf() -> float:
  """Blocks the signals that it can, then spins."""
  signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.valid_signals()))
  return _spin_in_c()


def _sleep() -> float:
  while True:
    time.sleep(1)


def _work() -> float:
  """Longer than the first patience of the sandbox, and done."""
  until = time.process_time() + 0.15
  while time.process_time() < until:
    pass
  return 0.0


def _allocate() -> float:
  held = []
  try:
    while True:  # untouched pages: addresses end, not the machine's memory
      held.append(mmap.mmap(-1, 1 << 28))
  except OSError as e:
    raise MemoryError(str(e)) from e


def _recurse() -> float:
  return _recurse()


def _die(number: int) -> float:
  os.kill(os.getpid(), number)
  return _spin()


def _forge() -> float:
  """Says on every pipe that the answer was right."""
  for fd in (1, 2):
    os.write(fd, b'{"score": 1.0}\n')
  print('{"score": 1.0}', file=sys.__stdout__)
  return 0.0


def _write_file() -> float:
  """A file may be made, and nothing written into it."""
  path = f'/tmp/zppo_stand_in_{os.getpid()}'
  try:
    with open(path, 'w') as f:
      f.write('1')
  finally:
    os.unlink(path)
  return 1.0


def _raise(of: BaseException) -> float:
  raise of


# deed -> (what is done, the status it must have; a score of 0 with 'score')
DEEDS = {
    'spin': (_spin, 'timeout'), 'spin_in_c': (_spin_in_c, 'timeout'),
    'deaf': (_deaf, 'timeout'), 'sleep': (_sleep, 'timeout'),
    'work': (_work, 'score'), 'allocate': (_allocate, 'crash'),
    'recurse': (_recurse, 'crash'),
    'exit': (lambda: os._exit(0), 'crash'),
    'exit_3': (lambda: os._exit(3), 'crash'),
    'kill': (lambda: _die(signal.SIGKILL), 'crash'),
    'fault': (lambda: _die(signal.SIGSEGV), 'crash'),
    'forge': (_forge, 'score'), 'write_file': (_write_file, 'crash'),
    'raise': (lambda: _raise(ValueError('no' * 10**5)), 'crash'),
    'unreadable': (lambda: _raise(Unreadable('no gold')), 'unreadable'),
    'none': (lambda: None, 'crash'), 'words': (lambda: 'right', 'crash'),
    'negative': (lambda: -5.0, 'score'),
}


def mark(answer: str, gold: str) -> float:
  """Does what the answer's first word names; else whether both are equal."""
  deed, _, _ = answer.partition(' ')
  if deed in DEEDS:
    return DEEDS[deed][0]()
  return float(answer == gold)


def never(answer: str, gold: str) -> float:
  """A kind of its own: no answer is ever graded."""
  del answer, gold
  return _spin()
