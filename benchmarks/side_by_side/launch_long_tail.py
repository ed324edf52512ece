"""Continuous against static batching of ours on long-tailed lengths.

64 requests of 64 tokens, 16 slots, responses log-normal up to 256 tokens.
"""

import dataclasses

import jax
import numpy as np

from benchmarks.side_by_side import work
from benchmarks.side_by_side.engines import engine_of, generate, long_tail
from benchmarks.side_by_side.make_work import MODEL
from zppo_jax import models
from zppo_jax.devices import malloc, sharding
from zppo_jax.rollout import weight_sync
from zppo_jax.weights import pretrained

REQUESTS, SLOTS, MOST = 64, 16, 256


def main() -> None:
  flags = work.arguments()
  assert malloc.keep()  # as `zppo train` does
  found = pretrained.load(str(flags.work / MODEL))
  fields = dataclasses.asdict(found.model.config)
  model = models.build(found.model.family, **{
      **fields, 'max_positions': work.PROMPT + MOST})
  mesh = sharding.make_mesh(sharding.MeshConfig(data=1, fsdp=1, tensor=1))
  params = weight_sync.place_copy(found.params, model, mesh)
  tokens = np.random.default_rng(1).integers(
      0, work.END_ID, (REQUESTS, work.PROMPT))
  limits = long_tail(REQUESTS, MOST)
  seconds, counts, rounds = {}, {}, {}
  for name, continuous in (('continuous', True), ('static', False)):
    engine = engine_of(
        model, mesh, end_id=work.END_ID, max_tokens=MOST, prompt=work.PROMPT,
        rows=SLOTS, slots=SLOTS, continuous=continuous)
    laps = work.Laps()
    for i in range(flags.steps + 1):
      out = generate(engine, params, tokens, limits, seed=i)
      laps.lap('sampling')
      counts.setdefault(name, []).append(sum(len(c.tokens) for c in out))
    seconds[name] = laps.seconds['sampling']
    rounds[name] = engine.statistics.chunks
  assert counts['continuous'] == counts['static'], counts
  work.report('long_tail', seconds, work.peak_rss(), tokens=counts['static'],
              rounds=rounds, lengths=limits.tolist(),
              versions={'jax': jax.__version__})


if __name__ == '__main__':
  main()
