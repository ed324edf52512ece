"""The work that every tool does, and what every launch reports.

Imported in every environment: numpy and the standard library alone.
"""

import argparse
import dataclasses
import json
import pathlib
import resource
import statistics
import sys
import time

import numpy as np

# Qwen3's own base: tunix 0.1.7 turns by 1e6 whatever its config says, which
# the comparison of log-probs found.
ROPE_THETA = 1000000
SHAPE = dict(vocab_size=2048, width=256, num_layers=4, num_heads=8,
             num_kv_heads=4, head_dim=32, mlp_width=768, max_positions=256,
             tied=True, rope_theta=float(ROPE_THETA))
END_ID = SHAPE['vocab_size']  # outside the embedding: no rollout ends early
PROMPTS, PROMPT, GROUP, RESPONSE = 16, 64, 8, 64
ROWS = PROMPTS * GROUP
MICRO_ROWS = 32  # of a forward and backward pass; four make an update
LEARNING_RATE, BETAS, EPS, DECAY, CLIP_NORM = 1e-5, (0.9, 0.999), 1e-8, 0.1, 1.0
RATIO_CLIP = 0.2
STEPS = 3  # measured, after one that compiles and warms up
AS_SHIPPED = '_as_shipped'  # a name's end: malloc as the system has it
MARK = 'RESULT '  # before the JSON line of a launch


@dataclasses.dataclass(frozen=True)
class Fixed:
  """A batch on which all tools must agree.

  Attributes:
    prompts_PT: ids, also what is sampled from.
    responses_BR: ids.
    adv_B: advantages.
  """
  prompts_PT: np.ndarray
  responses_BR: np.ndarray
  adv_B: np.ndarray

  @property
  def rows_BT(self) -> np.ndarray:
    """Prompt and response of every row."""
    return np.concatenate(
        [np.repeat(self.prompts_PT, GROUP, 0), self.responses_BR], 1)


def fixed(seed: int = 0) -> Fixed:
  rng = np.random.default_rng(seed)
  draw = lambda *shape: rng.integers(0, END_ID, shape).astype(np.int32)
  return Fixed(draw(PROMPTS, PROMPT), draw(ROWS, RESPONSE),
               rng.standard_normal(ROWS).astype(np.float32))


def word(token: int) -> str:
  return f'w{token}'


def texts(ids) -> list[str]:
  """Prompts as text; the tokenizer of the folder has a word for each id."""
  return [' '.join(map(word, row)) for row in np.asarray(ids).tolist()]


def reward(index: int) -> float:
  """Of a row: half of every group is right, whatever it says."""
  return float(index % 2)


def arguments(**more):
  """Flags of a launch; `more` are its own, with their defaults."""
  parser = argparse.ArgumentParser()
  parser.add_argument('--work', type=pathlib.Path, required=True)
  parser.add_argument('--threads', type=int, required=True)
  parser.add_argument('--steps', type=int, default=STEPS)
  for name, default in more.items():
    parser.add_argument(f'--{name}', type=type(default), default=default)
  return parser.parse_args()


def peak_rss() -> int:
  """Bytes."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Laps:
  """Seconds between calls, by name."""

  def __init__(self):
    self.seconds: dict[str, list[float]] = {}
    self._last = time.perf_counter()

  def lap(self, name: str) -> None:
    now = time.perf_counter()
    self.seconds.setdefault(name, []).append(now - self._last)
    self._last = now


def report(tool: str, seconds: dict[str, list[float]], peak: int,
           **more) -> None:
  """Prints the result line: the first entry of every list is apart.

  Args:
    tool: its name.
    seconds: of every step, by part.
    peak: bytes of `peak_rss` when the last step ended; what comes later, as the
      check of the fixed batch in one piece, is no part of a step.
    **more: goes into the line as it is.
  """
  out = {'tool': tool, 'python': sys.version.split()[0],
         'first_s': {k: v[0] for k, v in seconds.items()},
         'seconds': {k: v[1:] for k, v in seconds.items()},
         'median_s': {k: statistics.median(v[1:]) for k, v in seconds.items()},
         'peak_rss': peak, **more}
  print(MARK + json.dumps(out), flush=True)


def agreed(work: pathlib.Path, tool: str, logp_BR, loss: float,
           grad_norm: float) -> dict:
  """Writes the log-probs of the fixed batch; returns what is reported."""
  np.save(work / f'logp_{tool}.npy', np.asarray(logp_BR, np.float32))
  return {'loss': float(loss), 'grad_norm': float(grad_norm)}
