"""The thread that owns the device: requests of all clients, in batches.

Requests of one shape that wait at the same time run together. What is drawn
depends on the prompt, its seed and the number of the choice alone, so a
request is answered alike in every company.
"""

import dataclasses
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

import numpy as np

from zppo_jax import packing, randomness, scoring, sharding
from zppo_jax.records import (
  Decoding,
  Prompt,
  PromptKind,
  PromptMedia,
  Question,
  StopReason,
)
from zppo_jax.rollouts import Sampler


class Generated(NamedTuple):
  """One choice's tokens, its end token included, and why it ended."""
  tokens: tuple[int, ...]
  stop: StopReason


@dataclasses.dataclass(frozen=True, eq=False)
class Generate:
  """Choices for one prompt.

  Attributes:
    tokens: of the prompt.
    media: of the prompt.
    decoding: of every choice.
    n: choices.
    seed: choice i is drawn by (seed, i).
  """
  tokens: tuple[int, ...]
  media: PromptMedia | None
  decoding: Decoding
  n: int
  seed: int


@dataclasses.dataclass(frozen=True, eq=False)
class Score:
  """Log-probs of every token of a row; token 0 has none."""
  row: packing.Row


@dataclasses.dataclass(frozen=True)
class Shapes:
  """What is compiled.

  Attributes:
    prompt_buckets: lengths to which prompts are padded.
    row_buckets: the same of prompt and response together, for scoring.
    token_buckets: response limits; a smaller limit runs under the next one.
    patch_buckets: patches of a prompt's images.
    batch_buckets: rows of a generating call, the last one most.
    micro_tokens: positions of a scoring call.
  """
  prompt_buckets: tuple[int, ...]
  row_buckets: tuple[int, ...]
  token_buckets: tuple[int, ...]
  patch_buckets: tuple[int, ...]
  batch_buckets: tuple[int, ...]
  micro_tokens: int


class SamplerBackend:
  """Generation by the rollout sampler, a program a shape and decoding.

  Args:
    make_sampler: Decoding -> Sampler of one rollout a prompt; its prompt,
      patch and group buckets are those of `shapes`.
    rank_fn: scoring.compile_ranker's.
    params: in the rollout sharding.
    shapes: what is compiled.
  """

  def __init__(self, make_sampler: Callable[[Decoding], Sampler], rank_fn,
               params, shapes: Shapes):
    self._make, self._rank, self._params = make_sampler, rank_fn, params
    self._shapes = shapes
    self._samplers: dict[Decoding, Sampler] = {}

  def company(self, job: Generate) -> Any:
    """Jobs of one company run together."""
    shapes = self._shapes
    limit = packing.bucket(job.decoding.max_tokens, shapes.token_buckets,
                           'max_tokens')
    return (packing.bucket(len(job.tokens), shapes.prompt_buckets,
                           'the prompt in tokens'),
            packing.patch_bucket(job.media, shapes.patch_buckets,
                                 'the prompt'),
            dataclasses.replace(job.decoding, max_tokens=limit))

  def generate(self, jobs: Sequence[Generate]) -> list[list[Generated]]:
    """Choices of jobs of one company."""
    _, _, decoding = self.company(jobs[0])
    if decoding not in self._samplers:
      self._samplers[decoding] = self._make(decoding)
    sampler = self._samplers[decoding]
    rows = [(job, i) for job in jobs for i in range(job.n)]
    drawn: list[Generated] = []
    most = self._shapes.batch_buckets[-1]
    for start in range(0, len(rows), most):
      drawn += self._draw(sampler, rows[start:start + most])
    out, at = [], 0
    for job in jobs:
      out.append(drawn[at:at + job.n])
      at += job.n
    return out

  def _draw(self, sampler: Sampler, rows) -> list[Generated]:
    job = rows[0][0]
    length, patches, _ = self.company(job)
    size = packing.bucket(len(rows), sampler.group_buckets, 'rows')
    prompts = [Prompt(Question(f'{j.seed}/{i}', '', '', ''), PromptKind.PLAIN,
                      j.tokens, j.media) for j, i in rows]
    batch = packing.pad_prompts(prompts, size, length, patches,
                                sampler.num_axes)
    samples = sharding.to_host(sampler.sample_fn(
        self._params, sharding.put_batch(sampler.mesh, batch), _KEY()))
    out = []
    for p, (j, _) in enumerate(rows):
      limit = min(int(samples.length_PG[p, 0]), j.decoding.max_tokens)
      ended = limit == samples.length_PG[p, 0] and (
          samples.stop_PG[p, 0] == StopReason.END)
      out.append(Generated(
          tuple(samples.tokens_PGR[p, 0, :limit].tolist()),
          StopReason.END if ended else StopReason.LENGTH))
    return out

  def score(self, rows: Sequence[packing.Row], mesh,
            num_axes: int) -> list[tuple[np.ndarray, ...]]:
    """(logp_T, top_logp_TK, top_id_TK) of every row."""
    return scoring.by_row(
        self._rank, self._params, rows, mesh=mesh,
        max_tokens=self._shapes.micro_tokens,
        buckets=self._shapes.row_buckets,
        patch_buckets=self._shapes.patch_buckets, num_axes=num_axes)


def _KEY():
  return randomness.step_key(0, 0, randomness.Purpose.ROLLOUT)


class Worker:
  """Runs jobs of any thread one batch after the other.

  Args:
    company: Generate -> what must be equal for jobs to run together;
      ValueError for a job that does not fit.
    generate: jobs of one company -> choices of each.
    score: rows -> (logp_T, top_logp_TK, top_id_TK) of each.
  """

  def __init__(self, company, generate, score):
    self._company, self._generate, self._score = company, generate, score
    self._jobs: queue.Queue = queue.Queue()
    self._thread = threading.Thread(target=self._run, daemon=True)
    self._thread.start()

  @property
  def alive(self) -> bool:
    return self._thread.is_alive()

  def submit(self, job: Generate | Score) -> Future:
    """The result to come; it can be cancelled while the job waits.

    Raises:
      ValueError: for a job that fits no shape.
    """
    kind = Score if isinstance(job, Score) else self._company(job)
    future: Future = Future()
    self._jobs.put((kind, job, future))
    return future

  def close(self) -> None:
    """Ends after the jobs that are here."""
    self._jobs.put(None)
    self._thread.join()

  def _waiting(self):
    """All that waits, at least one; None at the end."""
    found = [self._jobs.get()]
    while True:
      try:
        found.append(self._jobs.get_nowait())
      except queue.Empty:
        return found

  def _run(self) -> None:
    closing = False
    while not closing:
      found = self._waiting()
      closing = None in found
      by_kind: dict[Any, list] = {}
      for kind, job, future in (f for f in found if f is not None):
        if future.set_running_or_notify_cancel():
          by_kind.setdefault(kind, []).append((job, future))
      for kind, several in by_kind.items():
        jobs, futures = zip(*several, strict=True)
        try:
          results = (self._score([j.row for j in jobs]) if kind is Score
                     else self._generate(jobs))
        except Exception as e:
          for future in futures:
            future.set_exception(e)
          continue
        for future, result in zip(futures, results, strict=True):
          future.set_result(result)
