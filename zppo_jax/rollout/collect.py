"""From prompts to graded groups: engines, rollout weights and grading."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from zppo_jax import randomness
from zppo_jax.chat import segments
from zppo_jax.chat.wording import Chat
from zppo_jax.devices import sharding
from zppo_jax.models import layers
from zppo_jax.records import (
  Decoding,
  Grader,
  Group,
  Prompt,
  Purpose,
  Question,
  Rollout,
  StopReason,
)
from zppo_jax.rollout import programs, quantize
from zppo_jax.rollout.engine import Engine, Request
from zppo_jax.verdicts.grading import grade_all

_FIRST_OWN = 64  # the response slots that a pool has at first


@dataclasses.dataclass(frozen=True)
class Sampler:
  """An engine and what it is used with.

  Attributes:
    engine: draws the rollouts; several samplers may share one.
    chat: the chat of the prompts.
    grader: grades responses.
    decoding: how tokens are drawn.
    num_rollouts: G.
  """
  engine: Engine
  chat: Chat
  grader: Grader
  decoding: Decoding
  num_rollouts: int


def slots_of(limit: int | None, group_buckets,
             num_rollouts: int) -> int | None:
  """make_engine's `slots`; None if no batch has more rows than the limit."""
  asked = max(group_buckets) * num_rollouts
  return None if limit is None or limit >= asked else limit


def make_engine(*, model, mesh, chat: Chat, max_tokens: int,
                num_rollouts: Sequence[int], prompt_buckets, group_buckets,
                patch_buckets=(), slots: int | None = None,
                **options) -> Engine:
  """An engine for a model on a mesh; nothing is compiled yet.

  Args:
    model: the network.
    mesh: the mesh on which it runs.
    chat: its codec decodes tokens and says which tokens may be drawn.
    max_tokens: tokens of the longest response.
    num_rollouts: the numbers of rollouts per prompt that will be requested.
    prompt_buckets: allowed prompt lengths.
    group_buckets: allowed numbers of prompts in a prefill; larger numbers are
      split. A pool has the rows that one prefill brings, or a size between two
      such sizes that are far apart.
    patch_buckets: allowed patches of a prompt's images and videos.
    slots: the most rows that decode at once. It is rounded down to whole groups
      on all devices, with at least one group per device. None: all rows that
      the largest group bucket brings.
    options: keyword arguments of engine.Engine.

  Raises:
    ValueError: if a prompt bucket and the response limit exceed the model's
      positions.
  """
  longest = max(prompt_buckets) + max_tokens
  if longest > model.config.max_positions:
    raise ValueError(
        f'prompt bucket {max(prompt_buckets)} + max_tokens {max_tokens} = '
        f'{longest} exceeds the model\'s max_positions, '
        f'{model.config.max_positions}')
  shards, most = sharding.batch_shards(mesh), max(num_rollouts)
  round_up = lambda n, unit: -(-n // unit) * unit
  groups = tuple(round_up(g, shards) for g in group_buckets)
  shares = (1, *(n for n in num_rollouts if n > 1))
  unit = math.lcm(*shares) * shards
  largest = (round_up(max(groups) * most, unit) if slots is None
             else max(slots // unit, 1) * unit)
  brought = sorted({min(round_up(g * most, unit), largest) for g in groups})
  rows = {brought[0]}.union(*(
      (n * unit for n in programs.table_of(more // unit, fewer // unit))
      for fewer, more in itertools.pairwise(brought)))
  shapes = programs.Shapes(
      rows=tuple(rows), shares=shares,
      prompts=prompt_buckets, patches=patch_buckets, groups=groups,
      owns=programs.table_of(max_tokens, min(_FIRST_OWN, max_tokens)))
  codec = chat.codec
  return Engine(
      programs.Programs(model, mesh, shapes), decode=chat.decode_response,
      end_id=segments.end_ids(codec), allowed_V=np.isin(
          np.arange(codec.vocab_size), list(codec.sampled_ids)), **options)


def make_sampler(*, model, mesh, chat: Chat, grader: Grader, decoding: Decoding,
                 num_rollouts: int, **options) -> Sampler:
  """A sampler with an engine of its own; `options` are make_engine's."""
  engine = make_engine(
      model=model, mesh=mesh, chat=chat, max_tokens=decoding.max_tokens,
      num_rollouts=(num_rollouts,), **options)
  return Sampler(engine, chat, grader, decoding, num_rollouts)


# Leaves that the network uses in float32: scales of norms (of the form 1 + w
# too), their biases, and leaves that set a recurrent layer's decay. They are
# exact because rounding them alone moves bf16 log-probs.
EXACT_LEAVES = frozenset({'scale', 'bias', 'offset', 'A_log', 'dt_bias'})


def cast(params, dtype):
  """Params in the compute type, except EXACT_LEAVES."""
  return jax.tree_util.tree_map_with_path(
      lambda path, x: x if path[-1].key in EXACT_LEAVES else x.astype(dtype),
      params)


def _int8(params, dtype):
  return jax.tree.map(
      lambda small, x: small if isinstance(small, quantize.Int8) else x,
      quantize.int8_leaves(params), cast(params, dtype),
      is_leaf=lambda x: isinstance(x, quantize.Int8))


# student.rollout_weights -> (params by block, compute type) -> rollout weights.
WEIGHTS = {
    'same': cast,
    'bfloat16': lambda params, dtype: cast(params, jnp.bfloat16),
    'int8': _int8,
}


def rollout_copy(params, dtype, weights: str = 'same'):
  """The weights that decoding reads, by block, in a form of WEIGHTS.

  Args:
    params: stacked or by block (layers.unstack).
    dtype: the compute type.
    weights: a key of WEIGHTS.
  """
  return WEIGHTS[weights](layers.unstack(params), dtype)


def compile_reshard(model, mesh, weights: str = 'same'):
  """A jitted function: training-sharded params -> sharded `rollout_copy`."""
  params = jax.eval_shape(model.init, jax.random.key(0))
  copy = functools.partial(rollout_copy, dtype=jnp.dtype(model.config.dtype),
                           weights=weights)
  of = lambda tree, rules: sharding.param_shardings(tree, mesh, rules)
  return jax.jit(
      copy, in_shardings=(of(params, sharding.TRAIN_RULES),),
      out_shardings=of(jax.eval_shape(copy, params), sharding.ROLLOUT_RULES))


def place_copy(params, model, mesh, weights: str = 'same'):
  """`rollout_copy` of host or device params, in the rollout sharding."""
  copy = rollout_copy(params, jnp.dtype(model.config.dtype), weights)
  return jax.device_put(
      copy, sharding.param_shardings(copy, mesh, sharding.ROLLOUT_RULES))


def _text(prompt: Prompt, done, chat: Chat) -> str:
  """The whole response: what was forced, then what was drawn. Both are decoded
  together, because a character may have tokens on both sides."""
  if not prompt.forced:
    return done.text
  return chat.decode_response((*prompt.beginning, *done.tokens))


def _to_groups(prompts: Sequence[Prompt], found, sampler: Sampler) -> list[
    Group]:
  """Grades all rollouts at once, so that slow gradings run side by side."""
  texts = [[_text(prompt, done, sampler.chat) for done in completions]
           for prompt, completions in zip(prompts, found, strict=True)]
  marks = iter(grade_all(
      [(text, done.stop, prompt.question)
       for prompt, completions, of in zip(prompts, found, texts, strict=True)
       for done, text in zip(completions, of, strict=True)], sampler.grader))
  return [Group(prompt, tuple(
      Rollout(done.tokens, done.logps, text, done.stop, *next(marks))
      for done, text in zip(completions, of, strict=True)))
          for prompt, completions, of in zip(
              prompts, found, texts, strict=True)]


def from_texts(questions: Sequence[Question], said, chat: Chat,
               grader: Grader) -> list[tuple[Rollout, ...]]:
  """Texts that somebody else wrote, as graded rollouts in this chat's tokens.

  Args:
    questions: the questions.
    said: for each question the (text, stop reason) pairs that answer it.
    chat: encodes the texts.
    grader: grades them, all at once.
  """
  marks = iter(grade_all(
      [(text, stop, question)
       for question, pairs in zip(questions, said, strict=True)
       for text, stop in pairs], grader))

  def one(text, stop):
    tokens = chat.response(text)
    if stop == StopReason.LENGTH:
      tokens = tokens[:-1]  # the text stopped before its end token
    return Rollout(tokens, (), text, stop, *next(marks))

  return [tuple(one(text, stop) for text, stop in pairs) for pairs in said]


def collect(sampler: Sampler, params, prompts: Sequence[Prompt], *, seed: int,
            step: int, purpose: Purpose) -> list[Group]:
  """Samples and grades the groups of all prompts, in their order.

  Args:
    sampler: draws and grades.
    params: a `rollout_copy`, in the rollout sharding.
    prompts: the prompts.
    seed, step, purpose: with each question and prompt kind, they key the draws.

  Raises:
    ValueError: if a prompt is longer than every prompt bucket, or its media
      than every patch bucket.
  """
  if not prompts:
    return []
  keys_PG2 = randomness.rollout_key_data(
      randomness.step_key(seed, step, purpose),
      [randomness.question_uid(p.question.id) for p in prompts],
      [int(p.kind) for p in prompts], sampler.num_rollouts)
  found = sampler.engine.generate(params, [
      Request(p.question.id, p.tokens, keys_G2, sampler.decoding, p.media)
      for p, keys_G2 in zip(prompts, keys_PG2, strict=True)])
  return _to_groups(prompts, found, sampler)
