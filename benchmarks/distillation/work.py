"""The work that every tool does; numpy and the standard library alone.

Prompts, rollouts, optimizer and the student are those of side_by_side.work.
"""

import json
import pathlib
import statistics
import sys
import time
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.side_by_side import work

# Folders of weights. `student` as its own teacher checks the harness: the loss
# is then 0.
STUDENT, TEACHER, WIDE = 'model', 'teacher', 'teacher_wide'
TEACHERS = (TEACHER, WIDE, STUDENT)
WIDE_SHAPE = {**work.SHAPE, 'width': 2 * work.SHAPE['width'],
              'mlp_width': 2 * work.SHAPE['mlp_width']}
# Our name of a divergence -> TRL's beta.
BETAS = {'reverse': 1.0, 'jensen_shannon': 0.5}
CPU = '_cpu'  # a phase's end: processor seconds
TOP = 64  # kept ids of the third task
AGREE = 1e-5  # relative, of losses and gradient norms
ZERO = 1e-6  # nats, the loss of a teacher equal to the student
# The update alone: rows x (prompt + response) at a vocabulary of this size.
UPDATE_ROWS, UPDATE_PROMPT, UPDATE_RESPONSE = 4, 64, 448
UPDATE_VOCAB = 151936
UPDATE_FOLDERS = ('update_student', 'update_teacher')


def update_tokens(seed: int = 0) -> np.ndarray:
  """int32 [4, 512], prompt and response of every row."""
  return np.random.default_rng(seed).integers(
      0, UPDATE_VOCAB, (UPDATE_ROWS, UPDATE_PROMPT + UPDATE_RESPONSE)).astype(
          np.int32)


def report(tool: str, seconds: Mapping[str, Mapping[str, Sequence[float]]],
           **more) -> None:
  """Prints the result line.

  Args:
    tool: the tool.
    seconds: task -> phase -> seconds of each step; the first is apart, because
      it compiles or warms up.
    more: what else the launch reports.
  """
  over = lambda pick: {task: {phase: pick(times) for phase, times in of.items()}
                       for task, of in seconds.items()}
  print(work.MARK + json.dumps({
      'tool': tool, 'python': sys.version.split()[0],
      'first_s': over(lambda t: t[0]), 'seconds': over(lambda t: t[1:]),
      'median_s': over(lambda t: statistics.median(t[1:])),
      'peak_rss': work.peak_rss(), **more}), flush=True)


class Clock:
  """Seconds of each step by phase, and processor seconds of this process.

  Other work on the machine lengthens the first; the second only as far as it
  takes caches and memory bandwidth.
  """

  def __init__(self):
    self.seconds: dict[str, list[float]] = {}
    self._step: dict[str, float] = {}
    self.restart()

  def restart(self) -> None:
    """Leaves out the time since the last lap."""
    self._last = np.array([time.perf_counter(), time.process_time()])

  def add(self, phase: str) -> None:
    """Adds the time since the last lap to a phase of the step."""
    before = self._last
    self.restart()
    for name, seconds in zip((phase, phase + CPU), self._last - before,
                             strict=True):
      self._step[name] = self._step.get(name, 0.0) + float(seconds)

  def close(self) -> None:
    """Ends a step."""
    for unit in ('', CPU):
      phases = [self._step[phase + unit] for phase in ('sampling', 'update')]
      self._step['step' + unit] = sum(phases)
    for name, seconds in self._step.items():
      self.seconds.setdefault(name, []).append(seconds)
    self._step = {}


class Memory:
  """The resident memory of this process, by Linux's own account, in bytes."""

  @staticmethod
  def _of(field: str) -> int:
    lines = pathlib.Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines
                if line.startswith(field + ':'))

  def __enter__(self):
    # 5 sets the high-water mark to what is resident now (proc(5)).
    pathlib.Path('/proc/self/clear_refs').write_text('5')
    self.before = self._of('VmRSS')
    return self

  def __exit__(self, *error):
    self.peak = self._of('VmHWM')
