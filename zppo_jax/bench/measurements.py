"""The measurements by name: what each one runs, and its cost by count.

A measurement is made from a Run. `Work.once` does it once and returns when the
device has finished. The first call does all compilation and is timed apart.
"""

import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zppo_jax.algorithms import zppo
from zppo_jax.algorithms.replay import ReplayBuffer
from zppo_jax.algorithms.targets import TargetContext, Targets
from zppo_jax.bench import counting, roofline
from zppo_jax.learner import layouts, packing
from zppo_jax.objectives import token_logps
from zppo_jax.randomness import Purpose
from zppo_jax.rollout import collect
from zppo_jax.train import minibatches, step as step_lib
from zppo_jax.train.run import Run
from zppo_jax.verdicts import grading


class Work(NamedTuple):
  """One measurement.

  Attributes:
    once: does the measurement; its argument is the number of the call.
    shapes: the shapes that it was done on.
    flops: matmul FLOPs by count; 0 if only the host works.
    bytes: the bytes that must be moved, by count; 0 if they are not counted.
  """
  once: Callable[[int], object]
  shapes: dict
  flops: float = 0.0
  bytes: float = 0.0


class Setting:
  """A Run with a state, and prompts and groups that are drawn once.

  Args:
    run: the run whose student is measured.
    model: the student's network.
  """

  def __init__(self, run: Run, model):
    self.run, self.model = run, model
    self.counted = counting.count(model)
    self.state = run.init_state()
    self.params = run.reshard_fn(self.state.params)
    self.chat = run.sampler.chat

  @functools.cached_property
  def prompts(self):
    return zppo.plain_prompts(self.run.source.draw(0), self.chat)

  @functools.cached_property
  def groups(self):
    return collect.collect(
        self.run.sampler, self.params, self.prompts, seed=self.run.seed,
        step=0, purpose=Purpose.ROLLOUT)

  @functools.cached_property
  def minibatches(self):
    """Mini-batches of all rows; advantages alternate, so that none is 0."""
    shape = (len(self.groups), self.run.num_rollouts)
    adv_PG = np.where(np.arange(shape[1]) % 2, 1.0, -1.0) * np.ones(shape)
    return [minibatches.MiniBatch(
        batches=layouts.micro_batches(
            self.groups, self.targets(adv_PG), self.run.layout),
        tokens=packing.trained_tokens(self.groups),
        count=packing.trained_tokens(self.groups))]

  def targets(self, adv_PG) -> Targets:
    """The targets of all groups by the run's method."""
    return self.run.method.targets(TargetContext(
        groups=self.groups, advantages=adv_PG, step=0, seed=self.run.seed,
        score=lambda sequences: self.run.teacher.score(sequences)))

  @property
  def lengths(self) -> tuple[list[int], list[list[int]]]:
    """(prompt lengths, response lengths by prompt)."""
    return ([len(g.prompt.tokens) for g in self.groups],
            [[len(r.tokens) for r in g.rollouts] for g in self.groups])

  def shapes(self) -> dict:
    prompts, responses = self.lengths
    flat = [r for rs in responses for r in rs]
    return {'prompts': len(prompts), 'rollouts': self.run.num_rollouts,
            'prompt_tokens': sum(prompts), 'response_tokens': sum(flat),
            'longest_response': max(flat)}

  def sample_flops(self) -> int:
    c = self.counted
    return sum(
        counting.forward_flops(c, 1, p, logits=1)
        + sum(counting.forward_flops(c, 1, r - 1, start=p) for r in rs)
        for p, rs in zip(*self.lengths, strict=True))

  def rows_flops(self, train: bool) -> int:
    """FLOPs of all rows; the layout decides whether a prompt is run once."""
    f, shared = counting.forward_flops, self.run.layout.kind == 'shared'
    once = 0
    for p, rs in zip(*self.lengths, strict=True):
      if shared:
        once += f(self.counted, 1, p, logits=0)
      once += sum(f(self.counted, 1, r, start=p, logits=r) if shared else
                  f(self.counted, 1, p + r, logits=r) for r in rs)
    passes = (counting.TRAIN if self.run.adapted is None
              else counting.TRAIN_ADAPTERS)
    return passes * once if train else once

  def decode_bytes(self) -> float:
    """Bytes of decoding. Each step reads the weights, the responses of the
    slots that still draw, and one prompt per slot group in which one draws."""
    width = jnp.dtype(self.model.config.dtype).itemsize
    prompts, responses = self.lengths
    samples = self.run.sampler.engine.shape.samples_per_prompt
    # Bytes of the copy that is read, scales included (student.rollout_weights).
    whole = (self.state.params if self.run.adapted is None
             else self.run.adapted.base)
    weight = sum(x.nbytes for x in jax.tree.leaves(self.params)) / sum(
        x.size for x in jax.tree.leaves(whole))
    slot_groups = [(p, rs[g:g + samples])
                   for p, rs in zip(prompts, responses, strict=True)
                   for g in range(0, len(rs), samples)]
    total = 0.0
    for i in range(1, max(max(rs) for _, rs in slot_groups)):
      slots = sum(r > i for _, rs in slot_groups for r in rs)
      shared = sum(p for p, rs in slot_groups if max(rs) > i)
      total += counting.decode_bytes(
          self.counted, slots, i, weight_bytes=weight, cache_bytes=width)[
              'total'] + shared * self.counted.kv_token * width
    return total


def sample(s: Setting) -> Work:
  """From prompts to graded groups: prefill, decoding and the host's part."""
  def once(i):
    return collect.collect(s.run.sampler, s.params, s.prompts,
                            seed=s.run.seed, step=0, purpose=Purpose.ROLLOUT)
  return Work(once, s.shapes(), s.sample_flops(), s.decode_bytes())


def score(s: Setting) -> Work:
  """Log-probs of all rows."""
  def once(i):
    return jax.block_until_ready([
        s.run.score_fn(s.state.params, b)
        for of in s.minibatches for b in of.batches])
  return Work(once, s.shapes(), s.rows_flops(False))


def update(s: Setting) -> Work:
  """Gradients over all rows in micro-batches, one optimizer step."""
  batches = minibatches.score(s.run, s.state, s.minibatches)

  def once(i):
    s.state = jax.block_until_ready(step_lib.update(s.run, s.state, batches)[0])
  return Work(once, s.shapes(), s.rows_flops(True))


def step(s: Setting) -> Work:
  """A whole training step of the config's method, host work included."""
  def once(i):
    s.state = jax.block_until_ready(step_lib.train_step(
        s.run, s.state, ReplayBuffer(s.run.buffer_capacity), 0).state)
  return Work(once, s.shapes())


def host(s: Setting) -> Work:
  """Prompt building, grading, replay and packing; the device does nothing."""
  texts = [(r.text, r.stop, g.prompt.question)
           for g in s.groups for r in g.rollouts]
  ones = np.ones((len(s.groups), s.run.num_rollouts), np.float32)

  def once(i):
    zppo.plain_prompts([g.prompt.question for g in s.groups], s.chat)
    grading.grade_all(texts, s.run.sampler.grader)
    ReplayBuffer(s.run.buffer_capacity).settle(s.groups, s.run.rules.tau, 0)
    layouts.micro_batches(s.groups, s.targets(ones), s.run.layout)
  return Work(once, s.shapes())


def gradient_memory(s: Setting) -> Work:
  """Temporaries of a micro-batch's gradient, as the compiler reports them."""
  batch = s.minibatches[0][0][0]
  parts = s.run.update_fn.keywords
  grads = parts['zeros_fn'].eval_shape(s.state.params)
  compiled = parts['accumulate_fn'].lower(
      grads, s.state.params, batch, *parts['beside_fn'](s.state)).compile()
  used = compiled.memory_analysis().temp_size_in_bytes
  rows, length = batch.tokens_BT.shape
  naive = rows * length * s.model.config.vocab_size * 4
  return Work(lambda i: None, {
      'rows': rows, 'length': length, 'temporaries': used,
      'float32_logits': naive})


# The vocabulary and width of Qwen3.5-0.8B, with 32k positions.
LOGPROB_SHAPE = {'rows': 16, 'length': 2048, 'width': 1024, 'vocab': 248320}


def _plain_logps(hidden_BTD, head_DV, tokens_BT):
  """As token_logps.token_logps, but with all of [B, T, V] at once."""
  z = jnp.matmul(hidden_BTD[:, :-1], head_DV.astype(hidden_BTD.dtype),
                 preferred_element_type=jnp.float32)
  logp_BTV = jax.nn.log_softmax(z, axis=-1)
  picked = jnp.take_along_axis(logp_BTV, tokens_BT[:, 1:, None], -1)[..., 0]
  return picked, -jnp.sum(jnp.exp(logp_BTV) * logp_BTV, axis=-1)


def logprob_temporaries(fn, dtype: str, shape: dict) -> int:
  """Bytes of temporaries for token log-probs, as the compiler reports them.

  The program computes loss and gradient of log-probs and entropy; it is only
  compiled.

  Args:
    fn: (hidden_BTD, head_DV, tokens_BT) -> (logp, entropy).
    dtype: the type of the hidden states; the head is float32.
    shape: a dict with the keys of LOGPROB_SHAPE.
  """
  B, T, D, V = (shape[k] for k in ('rows', 'length', 'width', 'vocab'))
  of = jax.ShapeDtypeStruct

  def loss(hidden, head, tokens):
    logp, entropy = fn(hidden, head, tokens)
    return logp.sum() + 0.1 * entropy.sum()
  compiled = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(
      of((B, T, D), dtype), of((D, V), jnp.float32),
      of((B, T), jnp.int32)).compile()
  return compiled.memory_analysis().temp_size_in_bytes


def logprob_memory(s: Setting) -> Work:
  """Temporaries of log-probs and their gradient at LOGPROB_SHAPE, chunked and
  plain; only the compute type of the config matters."""
  dtype = s.model.config.dtype
  ours, plain = (logprob_temporaries(fn, dtype, LOGPROB_SHAPE) for fn in (
      token_logps.token_logps, _plain_logps))
  return Work(lambda i: None, {
      **LOGPROB_SHAPE, 'dtype': dtype, 'temporaries': ours,
      'plain_temporaries': plain})


MEASUREMENTS = {
    'sample': sample, 'score': score, 'update': update, 'step': step,
    'gradient-memory': gradient_memory, 'logprob-memory': logprob_memory,
    'host': host}


def measure(make, setting: Setting, repeats: int) -> dict:
  """Times preparation and the first call apart, then `repeats` calls.

  Returns:
    first_s, median_s, min_s, max_s, seconds, shapes, flops, bytes.
  """
  begun = time.perf_counter()
  work = make(setting)
  work.once(0)
  first, seconds = time.perf_counter() - begun, []
  for i in range(repeats):
    begun = time.perf_counter()
    work.once(i + 1)
    seconds.append(time.perf_counter() - begun)
  return {'first_s': first, **roofline.spread(seconds), 'shapes': work.shapes,
          'flops': work.flops, 'bytes': work.bytes}
