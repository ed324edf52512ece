"""What rounding does to AdamW's second moment, and what the options mend.

  python -m benchmarks.bf16_moments --to=benchmarks/results/bf16_moments.json

Gradients are drawn, not computed: each of `size` parameters has a scale of its
own over four decades, and gradients normal at that scale. 'stationary' has
3,000 updates of them; 'spike' has ten updates of tenfold gradients first.
Every option sees the same gradients. Numbers are ratios to float32 moments:
of the second moment, and of the size of the last step, means over parameters
and, for the second moment, the deviation between parameters too.
"""

import argparse
import json
import pathlib
import time

import jax
import numpy as np

from zppo_jax.learner import optimizers
from zppo_jax.study.launch import machine

OPTIONS = {
    'float32': dict(state_dtype='float32'),
    'nearest': dict(state_dtype='bfloat16'),
    'stochastic': dict(state_dtype='bfloat16', state_rounding='stochastic'),
    'float32_second': dict(state_dtype='bfloat16',
                           second_moment_dtype='float32'),
}
SPIKE, SPIKED = 10.0, 10  # factor, updates
CASES = {'stationary': 1.0, 'spike': SPIKE}


def run(option: str, spike: float, updates: int, size: int, seed: int):
  """(second moments, sizes of the last step) of `size` parameters."""
  tx = optimizers.adamw(optimizers.AdamWConfig(
      learning_rate=1.0, weight_decay=0.0, clip_norm=np.inf, eps=1e-30,
      **OPTIONS[option]), seed=seed)
  key = jax.random.key(seed)
  params = {'w': np.zeros(size, np.float32)}
  scale = np.float32(10.0 ** np.linspace(-4, 0, size))

  def one(carry, i):
    state, _ = carry
    noise = jax.random.normal(jax.random.fold_in(key, i), (size,))
    grad = noise * scale * jax.numpy.where(i < SPIKED, spike, 1.0)
    step, state = tx.update({'w': grad}, state, params)
    return (state, step['w']), None

  begin = tx.init(params), jax.numpy.zeros(size)
  (state, step), _ = jax.jit(lambda c: jax.lax.scan(
      one, c, np.arange(updates)))(begin)
  second = [x for path, x in jax.tree_util.tree_flatten_with_path(state)[0]
            if '.nu' in jax.tree_util.keystr(path)][0]
  return (np.asarray(second).astype(np.float64),
          np.abs(np.asarray(step)).astype(np.float64))


def measure(updates: int = 3000, size: int = 8192, seed: int = 0) -> dict:
  """case -> option -> ratios to float32 moments.

  Args:
    updates: of each case.
    size: parameters.
    seed: of gradients and rounding.
  """
  out = {}
  for case, spike in CASES.items():
    exact = run('float32', spike, updates, size, seed)
    out[case] = {}
    for option in OPTIONS:
      second, step = run(option, spike, updates, size, seed)
      ratio = second / exact[0]
      out[case][option] = {
          'second_moment': float(ratio.mean()),
          'second_moment_deviation': float(ratio.std()),
          'step': float(step.mean() / exact[1].mean())}
  return out


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--updates', type=int, default=3000)
  parser.add_argument('--size', type=int, default=8192)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--to', type=pathlib.Path, required=True)
  args = parser.parse_args()
  begun = time.perf_counter()
  found = measure(args.updates, args.size, args.seed)
  args.to.write_text(json.dumps({
      'command': 'python -m benchmarks.bf16_moments '
                 f'--updates={args.updates} --size={args.size} '
                 f'--seed={args.seed} --to={args.to}',
      'seed': args.seed, 'updates': args.updates, 'size': args.size,
      'spike': {'factor': SPIKE, 'updates': SPIKED}, 'ratios': found,
      'machine': machine(), 'seconds': time.perf_counter() - begun},
      indent=1, sort_keys=True) + '\n')
  for case, options in found.items():
    for option, ratios in options.items():
      print(f'{case:10} {option:14} ' + '  '.join(
          f'{name} {value:.4f}' for name, value in ratios.items()))


if __name__ == '__main__':
  main()
