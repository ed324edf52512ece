"""What one draw of a token per slot costs, beside Gumbel noise of every id.

  taskset -c 0 python -m benchmarks.drawing --to=benchmarks/results/drawing.json

Both give a token and its log-prob under the whole vocabulary, from the same
random logits (seed 0). They take turns with a maximum and a log-sum-exp, which
the log-prob needs in any case, and each is the least of its calls.
"""

import argparse
import json
import pathlib
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from zppo_jax.bench import command
from zppo_jax.rollout import drawing
from zppo_jax.study.tables import markdown

SHAPES = ((512, 64), (128, 2048), (8, 49_152), (16, 248_320))
NAMES = {'gumbel': 'Gumbel noise', 'cdf': 'inverse CDF',
         'least': 'maximum and log-sum-exp alone'}


def with_noise(logits_BV, key_B2, position_B):
  """A draw by the largest of logits and Gumbel noise (Gumbel-max)."""
  def noise(key, position):
    key = jax.random.fold_in(jax.random.wrap_key_data(key), position)
    return jax.random.gumbel(key, logits_BV.shape[1:])
  noisy_BV = logits_BV + jax.vmap(noise)(key_B2, position_B)
  # Of an argmax in two passes, which a CPU runs faster.
  ids = jnp.arange(logits_BV.shape[1], dtype=jnp.int32)
  top_B1 = noisy_BV.max(-1, keepdims=True)
  token_B = jnp.where(noisy_BV == top_B1, ids, ids.size).min(-1)
  logp_BV = jax.nn.log_softmax(logits_BV)
  return token_B, jnp.take_along_axis(logp_BV, token_B[:, None], -1)[:, 0]


def programs(slots: int, vocab: int) -> dict:
  """{name: a call without arguments}, all on the same logits."""
  logits = jnp.asarray(3 * np.random.default_rng(0).standard_normal(
      (slots, vocab), np.float32))
  key_B2 = np.asarray(jax.random.key_data(
      jax.random.split(jax.random.key(0), slots)))
  position_B = np.arange(slots, dtype=np.int32)
  full = lambda value: np.full(slots, value, np.asarray(value).dtype)
  jitted = {
      'gumbel': jax.jit(lambda x: with_noise(x, key_B2, position_B)),
      'cdf': jax.jit(lambda x: drawing.draw(
          x, key_B2, position_B, full(np.float32(1)), full(np.float32(1)),
          full(np.int32(0)), np.ones(vocab, bool), drawing.DRAW)),
      'least': jax.jit(lambda x: (
          x.max(-1), jax.scipy.special.logsumexp(x, axis=-1)))}
  return {name: lambda f=f: jax.block_until_ready(f(logits))
          for name, f in jitted.items()}


def measure(slots: int, vocab: int, repeats: int) -> dict:
  """{name: seconds}, of calls by turns."""
  calls = programs(slots, vocab)
  least = {name: float('inf') for name in calls if calls[name]()}
  for _ in range(repeats):
    for name, call in calls.items():
      begun = time.perf_counter()
      call()
      least[name] = min(least[name], time.perf_counter() - begun)
  return least


def table(result: dict) -> str:
  """Milliseconds per shape."""
  return markdown(
      [['slots x ids', *NAMES.values(), 'noise / CDF'],
       *([f'{row["slots"]} x {row["vocab"]:,}',
          *(f'{1e3 * row["seconds"][name]:.2f}' for name in NAMES),
          f'{row["seconds"]["gumbel"] / row["seconds"]["cdf"]:.1f}']
         for row in result['rows'])]) + (
           f'\n\n{result["machine"]["cpu"]}, cores '
           f'{result["machine"]["pinned_cores"]}, milliseconds, the least of '
           f'{result["repeats"]} calls')


def main(argv: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--repeats', type=int, default=40)
  parser.add_argument('--to', type=pathlib.Path, required=True)
  flags = parser.parse_args(argv)
  rows = []
  for slots, vocab in SHAPES:
    rows.append({'slots': slots, 'vocab': vocab,
                 'seconds': measure(slots, vocab, flags.repeats)})
    print(rows[-1], flush=True)
  flags.to.write_text(json.dumps({
      'machine': command.where(), 'repeats': flags.repeats, 'rows': rows},
                                 indent=1) + '\n')


if __name__ == '__main__':
  main()
