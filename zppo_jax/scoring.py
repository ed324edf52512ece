"""Re-scoring of recorded rollouts by the trainer's own graph."""

import functools

import jax

from zppo_jax import sharding, update


def compile_scorer(*, model, mesh, shardings, temperature: float, chunk: int):
  """(params, MicroBatch) -> (logp_BT, entropy_BT), float32 nats.

  The same function of hidden states as the update's, under the training
  sharding, so that old and new log-probs come from one graph.
  """
  rows = sharding.batch_sharding(mesh)
  return jax.jit(
      functools.partial(update.token_logps, model=model,
                        temperature=temperature, chunk=chunk),
      in_shardings=(shardings.params, rows), out_shardings=(rows, rows))
