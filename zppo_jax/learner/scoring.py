"""Log-probs of recorded rollouts, computed by the trainer's own graph."""

import functools
from collections.abc import Sequence

import jax

from zppo_jax.devices import sharding
from zppo_jax.learner import forward, packing
from zppo_jax.objectives import top_logps
from zppo_jax.records import TokenSequence


def compile_scorer(*, model, mesh, shardings, temperature: float, chunk: int):
  """(params, MicroBatch) -> (logp_BT, entropy_BT), float32 nats.

  Log-probs are the same function of hidden states as in the update, under the
  training sharding, so that old and new log-probs come from one graph.
  """
  rows = sharding.batch_sharding(mesh)
  return jax.jit(
      functools.partial(forward.token_logps, model=model,
                        temperature=temperature, chunk=chunk),
      in_shardings=(shardings.params, rows), out_shardings=(rows, rows))


def compile_frozen_scorer(*, model, mesh, chunk: int):
  """`compile_scorer` at temperature 1 for a model that is never trained.

  Its params are a rollout copy and keep the sharding that they have.
  """
  rows = sharding.batch_sharding(mesh)
  return jax.jit(
      functools.partial(forward.token_logps, model=model, temperature=1.0,
                        chunk=chunk),
      in_shardings=(None, rows),
      out_shardings=(rows, rows))


def compile_ranker(*, model, mesh, chunk: int, top: int):
  """(rollout copy of params, MicroBatch) -> the results of
  top_logps.top_logps, ranks included."""
  rows = sharding.batch_sharding(mesh)

  def run(params, batch):
    hidden_BTD, _ = model.apply(
        params, batch.tokens_BT, batch.positions_BTA, batch.segment_BT,
        media=batch.prompts.media)
    return top_logps.top_logps(hidden_BTD, model.head(params), batch.tokens_BT,
                             top=top, chunk=chunk, ranks=True)

  return jax.jit(run, in_shardings=(None, rows),
                 out_shardings=(rows, rows, rows, rows))


def by_row(score_fn, params, sequences: Sequence[TokenSequence], *, mesh,
           max_tokens: int, buckets: Sequence[int],
           patch_buckets: Sequence[int] = (), num_axes: int = 1) -> list[tuple]:
  """Runs a scorer on sequences of any lengths; results keep their order.

  Args:
    score_fn: a function of `compile_scorer` or `compile_ranker`.
    params: its parameters.
    sequences: prompts and responses.
    mesh: the mesh on which it runs.
    max_tokens, buckets, patch_buckets, num_axes: see packing.bucketed_rows.

  Returns:
    What the scorer returned for each sequence, as numpy arrays over its own
    tokens.

  Raises:
    ValueError: if a sequence or its media fit no bucket.
  """
  by_shape: dict[tuple[int, int], list[int]] = {}
  for i, sequence in enumerate(sequences):
    what = 'a row (prompt + response tokens)'
    length = packing.bucket(len(sequence), buckets, what)
    patches = packing.patch_bucket(sequence.media, patch_buckets, what)
    by_shape.setdefault((length, patches), []).append(i)
  out: list[tuple] = [()] * len(sequences)
  for (length, patches), places in sorted(by_shape.items()):
    shards = sharding.batch_shards(mesh)
    most = packing.rows_per_micro_batch(length + patches, max_tokens, shards)
    for start in range(0, len(places), most):
      chosen = places[start:start + most]
      size = shards  # it grows by a factor of 4, so that programs are few
      while size < min(len(chosen), most):
        size = min(4 * size, most)
      batch = packing.pad_rows([packing.to_score(sequences[i]) for i in chosen],
                               size, length, patches, num_axes)
      arrays = sharding.to_host(
          score_fn(params, sharding.put_batch(mesh, batch)))
      for b, i in enumerate(chosen):
        out[i] = tuple(a[b, :len(sequences[i])] for a in arrays)
  return out
