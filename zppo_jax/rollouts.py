"""From prompts to graded groups: bucket, sample on device, decode, grade."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zppo_jax import packing, randomness, sampling, sharding
from zppo_jax.chat.wording import Chat
from zppo_jax.records import (
  Decoding,
  Grader,
  Group,
  Prompt,
  Purpose,
  Question,
  Rollout,
  StopReason,
  Verdict,
)


@dataclasses.dataclass(frozen=True)
class Sampler:
  """A compiled sampler with its shape table.

  Attributes:
    sample_fn: (params, PromptBatch, key) -> Samples.
    num_axes: A of the model's positions.
    mesh: where it runs.
    chat: decodes responses.
    grader: grades them.
    num_rollouts: G.
    prompt_buckets: allowed prompt lengths.
    patch_buckets: allowed patches of a prompt's images and videos.
    group_buckets: allowed numbers of prompts in a call; more are split.
  """
  sample_fn: Callable[..., Any]
  num_axes: int
  mesh: jax.sharding.Mesh
  chat: Chat
  grader: Grader
  num_rollouts: int
  prompt_buckets: tuple[int, ...]
  patch_buckets: tuple[int, ...]
  group_buckets: tuple[int, ...]


def make_sampler(*, model, mesh, chat: Chat, grader: Grader, decoding: Decoding,
                 num_rollouts: int, prompt_buckets, group_buckets,
                 patch_buckets=()) -> Sampler:
  """Jits the sampling engine for a mesh under the rollout rules.

  Raises:
    ValueError: if a prompt bucket and the response limit exceed the model's
      positions, or a group bucket does not divide over the mesh.
  """
  longest = max(prompt_buckets) + decoding.max_tokens
  if longest > model.config.max_positions:
    raise ValueError(
        f'prompt bucket {max(prompt_buckets)} + max_tokens '
        f'{decoding.max_tokens} = {longest} exceeds the model\'s '
        f'max_positions, {model.config.max_positions}')
  shards = sharding.batch_shards(mesh)
  group_buckets = tuple(sorted({-(-g // shards) * shards
                                for g in group_buckets}))
  codec = chat.codec
  allowed_V = np.isin(np.arange(codec.vocab_size), list(codec.sampled_ids))
  params = jax.eval_shape(model.init, jax.random.key(0))
  shardings = sharding.param_shardings(params, mesh, sharding.ROLLOUT_RULES)
  rows = sharding.batch_sharding(mesh)

  def run(params, prompts, key):
    keys_PG = randomness.rollout_keys(
        key, prompts.uid_P, prompts.kind_P, num_rollouts)
    return sampling.sample(
        params, prompts, keys_PG, model=model, decoding=decoding,
        end_id=codec.end_id, allowed_V=jnp.asarray(allowed_V))

  sample_fn = jax.jit(
      run, in_shardings=(shardings, rows, sharding.replicated(mesh)),
      out_shardings=rows)
  return Sampler(sample_fn, model.num_axes, mesh, chat, grader, num_rollouts,
                 tuple(sorted(prompt_buckets)), tuple(sorted(patch_buckets)),
                 group_buckets)


# Leaves that the network uses in float32: scales of norms (of the form 1 + w
# too) and their biases, and what sets a recurrent layer's decay. Rounding them
# alone moves bf16 log-probs.
EXACT_LEAVES = frozenset({'scale', 'bias', 'offset', 'A_log', 'dt_bias'})


def rollout_copy(params, dtype):
  """Params in the compute type, but for EXACT_LEAVES."""
  return jax.tree_util.tree_map_with_path(
      lambda path, x: x if path[-1].key in EXACT_LEAVES else x.astype(dtype),
      params)


def compile_reshard(model, mesh):
  """Jitted training-sharded params -> rollout-sharded `rollout_copy`."""
  params = jax.eval_shape(model.init, jax.random.key(0))
  of = functools.partial(sharding.param_shardings, params, mesh)
  dtype = jnp.dtype(model.config.dtype)
  return jax.jit(lambda p: rollout_copy(p, dtype),
                 in_shardings=(of(sharding.TRAIN_RULES),),
                 out_shardings=of(sharding.ROLLOUT_RULES))


def grade(text: str, stop: StopReason, question: Question,
          grader: Grader) -> tuple[Verdict, str]:
  """(verdict, parsed answer). A truncated rollout is wrong (papers.md 1.12);
  its answer is parsed all the same, for the NCQ list."""
  answer = grader.parse(text)
  if stop == StopReason.LENGTH:
    return Verdict.TRUNCATED, answer
  if not answer:
    return Verdict.NO_ANSWER, ''
  right = grader.grade(answer, question)
  return (Verdict.CORRECT if right else Verdict.WRONG), answer


def from_text(text: str, stop: StopReason, question: Question, chat: Chat,
              grader: Grader) -> Rollout:
  """Somebody else's words as a graded rollout in this chat's tokens."""
  verdict, answer = grade(text, stop, question, grader)
  tokens = chat.response(text)
  if stop == StopReason.LENGTH:
    tokens = tokens[:-1]  # it never came to its end token
  return Rollout(tokens, (), text, stop, verdict, answer)


def _to_group(prompt: Prompt, g: int, samples, sampler: Sampler) -> Group:
  rollouts = []
  for i in range(sampler.num_rollouts):
    length = int(samples.length_PG[g, i])
    tokens = tuple(samples.tokens_PGR[g, i, :length].tolist())
    stop = StopReason(int(samples.stop_PG[g, i]))
    text = sampler.chat.decode_response(tokens)
    verdict, answer = grade(text, stop, prompt.question, sampler.grader)
    rollouts.append(Rollout(
        tokens, tuple(samples.logp_PGR[g, i, :length].tolist()), text, stop,
        verdict, answer))
  return Group(prompt, tuple(rollouts))


def _chunks(count: int, sizes: Sequence[int]):
  """(start, stop, padded size) of calls that cover `count` prompts."""
  start = 0
  while start < count:
    left = count - start
    size = next((s for s in sizes if s >= left), sizes[-1])
    yield start, min(start + size, count), size
    start += size


def collect(sampler: Sampler, params, prompts: Sequence[Prompt], *, seed: int,
            step: int, purpose: Purpose) -> list[Group]:
  """Graded groups of all prompts, in their order.

  Raises:
    ValueError: if a prompt is longer than every prompt bucket, or its media
      than every patch bucket.
  """
  key = randomness.step_key(seed, step, purpose)
  by_shape: dict[tuple[int, int], list[int]] = {}
  for i, prompt in enumerate(prompts):
    name = f'the prompt of {prompt.question.id!r}'
    length = packing.bucket(len(prompt.tokens), sampler.prompt_buckets,
                            f'{name} in tokens')
    patches = packing.patch_bucket(prompt.media, sampler.patch_buckets, name)
    by_shape.setdefault((length, patches), []).append(i)
  out: list[Group | None] = [None] * len(prompts)
  for (length, patches), found in sorted(by_shape.items()):
    for start, stop, size in _chunks(len(found), sampler.group_buckets):
      rows = found[start:stop]
      batch = packing.pad_prompts(
          [prompts[i] for i in rows], size, length, patches, sampler.num_axes)
      samples = sharding.to_host(sampler.sample_fn(
          params, sharding.put_batch(sampler.mesh, batch), key))
      for p, i in enumerate(rows):
        out[i] = _to_group(prompts[i], p, samples, sampler)
  return out
