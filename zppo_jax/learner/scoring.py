"""Log-probs of recorded rollouts, computed by the trainer's own graph."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zppo_jax.devices import sharding
from zppo_jax.devices.shared_jit import shared_jit
from zppo_jax.learner import forward, packing
from zppo_jax.models import layers
from zppo_jax.objectives import top_logps
from zppo_jax.records import TokenSequence


def _scored(params, batch, *, model, temperature: float, chunk: int,
            vocab: int | None):
  logp_BT, entropy_BT = forward.token_logps(
      params, batch, model=model, temperature=temperature, chunk=chunk,
      vocab=vocab)
  sampled = batch.targets.get('sampler_logp')
  return logp_BT, entropy_BT, None if sampled is None else jnp.max(
      jnp.abs(logp_BT - sampled) * batch.mask_BT, initial=0)


def compile_scorer(*, model, mesh, shardings, temperature: float, chunk: int,
                   vocab: int | None = None):
  """(params, MicroBatch) -> (logp_BT, entropy_BT, gap), float32 nats.

  The gap is the largest |log-prob - target 'sampler_logp'| of a trained token,
  and None where a batch has no such target. Log-probs are the same function of
  hidden states as in the update, under the training sharding, so that old and
  new log-probs come from one graph.
  `shardings` is None for params that are never trained: they are a rollout copy
  and keep the sharding that they have.
  """
  rows = sharding.batch_sharding(mesh)
  return shared_jit(
      functools.partial(_scored, model=model, temperature=temperature,
                        chunk=chunk, vocab=vocab),
      in_shardings=(None if shardings is None else shardings.params, rows),
      out_shardings=(rows, rows, sharding.replicated(mesh)))


class Form(NamedTuple):
  """What a program of `compile_describer` returns besides log-probs.

  Attributes:
    top: K, the number of likeliest tokens; 0 for none.
    given: whether batches have the target GIVEN, the ids to gather.
    entropy: whether entropies are returned.
    temperature: logits are divided by it.
    ranks: whether ranks are returned.
    prompts: whether prompts are described too, and not responses alone.
  """
  top: int = 0
  given: bool = False
  entropy: bool = False
  temperature: float = 1.0
  ranks: bool = False
  prompts: bool = False


GIVEN = 'given_ids'  # target: int32 [B, T, N], -1 where no id stands


def _description(params, batch, *, model, chunk: int, form: Form,
                 vocab: int | None) -> top_logps.Description:
  hidden_BTD, _ = model.apply(
      params, batch.tokens_BT, batch.positions_BTA, batch.segment_BT,
      media=batch.prompts.media, compact=True)
  return top_logps.describe(
      hidden_BTD, layers.weight(model.head(params), hidden_BTD),
      batch.tokens_BT,
      None if form.prompts else batch.mask_BT > 0,
      batch.targets[GIVEN] if form.given else None, top=form.top,
      entropy=form.entropy, ranks=form.ranks, chunk=chunk, vocab=vocab,
      temperature=form.temperature, mesh=model.mesh)


def compile_describer(*, model, mesh, chunk: int, form: Form,
                      vocab: int | None = None):
  """(params, MicroBatch) -> top_logps.Description, by one pass of the model.

  It is for a model that is not trained: its params are a rollout copy and keep
  the sharding that they have. Rows hold their own prompts.

  Args:
    model, mesh: the model and where it runs.
    chunk: positions whose logits exist at a time.
    form: what is returned.
    vocab: the true vocabulary, in ids; None: all columns of the head are ids.
  """
  rows = sharding.batch_sharding(mesh)
  return shared_jit(
      functools.partial(_description, model=model, chunk=chunk, form=form,
                        vocab=vocab),
      in_shardings=(None, rows), out_shardings=rows)


def by_row(score_fn, params, sequences: Sequence[TokenSequence], *, mesh,
           max_tokens: int, buckets: Sequence[int],
           patch_buckets: Sequence[int] = (), num_axes: int = 1,
           given: Sequence[np.ndarray] = (),
           between: Callable[[], None] = lambda: None,
           prompts: bool = False) -> list:
  """Runs a scorer on sequences of any lengths; results keep their order.

  Args:
    score_fn: a function of `compile_scorer` or `compile_describer`.
    params: its parameters.
    sequences: prompts and responses.
    mesh: the mesh on which it runs.
    max_tokens, buckets, patch_buckets, num_axes: see packing.bucketed_rows.
    given: per sequence int32 [R, N], the target GIVEN; () for none.
    between: is called after each batch; what it raises ends the scoring.
    prompts: whether the results hold the tokens of the prompt too.

  Returns:
    What the scorer returned for each sequence, as numpy arrays over the tokens
    of its response. They are copies: a slice would keep its whole padded batch
    as long as the step needs the scores.

  Raises:
    ValueError: if a sequence or its media fit no bucket.
  """
  by_shape: dict[tuple[int, int], list[int]] = {}
  for i, sequence in enumerate(sequences):
    what = 'a row (prompt + response tokens)'
    length = packing.bucket(len(sequence), buckets, what)
    patches = packing.patch_bucket(sequence.media, patch_buckets, what)
    by_shape.setdefault((length, patches), []).append(i)
  out: list = [None] * len(sequences)
  ready = lambda i: packing.weighted(
      sequences[i], **({GIVEN: np.int32(given[i])} if len(given) else {}))
  for (length, patches), places in sorted(by_shape.items()):
    shards = sharding.batch_shards(mesh)
    most = packing.rows_per_micro_batch(length + patches, max_tokens, shards)
    for start in range(0, len(places), most):
      chosen = places[start:start + most]
      size = shards  # it grows by a factor of 4, so that programs are few
      while size < min(len(chosen), most):
        size = min(4 * size, most)
      batch = packing.pad_rows([ready(i) for i in chosen], size, length,
                               patches, num_axes)
      arrays = sharding.to_host(
          score_fn(params, sharding.put_batch(mesh, batch)))
      for b, i in enumerate(chosen):
        begin = 0 if prompts else len(sequences[i].prompt)
        own = slice(begin, len(sequences[i]))
        out[i] = jax.tree.map(lambda a, b=b, own=own: np.array(a[b, own]),
                              arrays)
      between()
  return out
