"""Steps per second with a slow teacher: beside the draws, or after them.

  python -m benchmarks.overlap --to=FOLDER > benchmarks/results/overlap.json

A server answers every question after 2 seconds. The student is that of the
embedded world. A rollout answers as ever and then goes on with a word that
nobody reads, up to a length that is drawn from a log-normal by its key, so that
a few rollouts are many times longer than most. A decoding step takes
as long as that of a larger model (`--step_ms`), and `--slots` rollouts draw at
once.

The two orders make the same steps by turns, each in a process of its own:
`overlap` on (the teacher is asked as soon as a question is surely hard, NCQs
are drawn beside plain prompts and while the teacher answers, rollouts are
graded beside the draws) and off (draw, grade, ask, draw). It exits with 1 if a
number differs beyond the last bits of the sampler's log-probs, or a weight.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import runpy
import statistics
import subprocess
import sys
import time

import jax
import jax.numpy as jnp

ROOT = pathlib.Path(__file__).parents[1]
ORDERS = ('serial', 'overlapped')
LEAST, MOST = 14, 72  # tokens of a rollout; its answer has LEAST with the end
MEDIAN, SIGMA = 8, 1.0  # of the log-normal number of tokens behind the answer
SECONDS = 2.0  # until the teacher answers
FIRST = 2  # steps that are not counted, because they compile
# Metrics of the sampler's log-probs, whose last bits depend on the shapes with
# which a rollout was drawn.
LAST_BITS = ('sampler_trainer/', 'rollouts/surprise')


def lengths(key_B2: jax.Array) -> jax.Array:
  """int32 [B]: at which length the rollout of each key ends."""
  def one(key):
    z = jax.random.normal(jax.random.fold_in(
        jax.random.wrap_key_data(key), MOST))
    return LEAST + MEDIAN * jnp.exp(SIGMA * z)
  return jnp.clip(jax.vmap(one)(key_B2), LEAST, MOST).astype(jnp.int32)


def with_long_tails(end_id: int, filler: int, step_s: float) -> None:
  """Makes rollouts as long as `lengths` says, and decoding steps take time."""
  from zppo_jax.rollout import drawing, programs
  draw, run = drawing.draw, programs.Programs.decode

  def drawn(logits_BV, key_B2, position_B, temperature_B, top_p_B, top_k_B,
            allowed_V, *more):
    others_V = allowed_V & (jnp.arange(len(allowed_V)) != end_id)
    token_B, logp_B = draw(logits_BV, key_B2, position_B, temperature_B,
                           top_p_B, top_k_B, others_V, *more)
    token_B = jnp.where(position_B >= LEAST - 1, filler, token_B)
    ends_B = position_B + 1 >= lengths(key_B2)
    return jnp.where(ends_B, end_id, token_B), logp_B

  def slow(self, *args):
    begun = time.perf_counter()
    state, output = run(self, *args)
    taken = int(output.steps) * step_s - (time.perf_counter() - begun)
    time.sleep(max(0.0, taken))
    return state, output

  drawing.draw, programs.Programs.decode = drawn, slow


def config(url: str, steps: int, seed: int, overlap: bool, slots: int):
  """ZPPO of the embedded world behind a slow teacher."""
  c = runpy.run_path(str(ROOT / 'configs/micro.py'))['get_config']()
  c.steps, c.seed, c.overlap = steps, seed, overlap
  c.algorithm.update(ties='name', rho_aug=1.0, max_tokens=MOST)
  c.shapes.update(prompt_buckets=(8, 184), row_buckets=(8 + MOST, 184 + MOST),
                  response_buckets=(24, MOST), slots=slots, micro_tokens=4000,
                  group_buckets=(8,))
  c.compression.update(cap=LEAST, identity_below=0)
  c.teacher.kind = 'endpoint'
  c.teacher.endpoint.update(url=url, model='m', concurrency=64)
  c.probe.every = c.samples.every = c.eval.every = 0
  c.guard.max_idle = 0
  c.log.tensorboard = False
  return c


def train(url: str, path: pathlib.Path, steps: int, seed: int, overlap: bool,
          step_s: float, slots: int) -> None:
  """Runs one order and writes when each of its steps began."""
  from zppo_jax.chat.micro_chat import CHAT
  from zppo_jax.train import loop
  with_long_tails(CHAT.codec.end_id, CHAT.codec.ids['L'], step_s)
  begun, step, build = [], loop.train_step, loop.build

  def timed(*args):
    begun.append(time.perf_counter())
    return step(*args)

  def without_summaries(*args):
    run = build(*args)
    able = dataclasses.replace(
        run.teacher.capabilities, max_compression_prompt=0)
    return dataclasses.replace(run, teacher=dataclasses.replace(
        run.teacher, capabilities=able))

  loop.train_step, loop.build = timed, without_summaries
  loop.main(config(url, steps, seed, overlap, slots), path)
  (path / 'begun.json').write_text(json.dumps(begun))


def numbers(path: pathlib.Path) -> list[dict]:
  """metrics.jsonl without clocks."""
  return [{k: v for k, v in json.loads(line).items()
           if not k.startswith(('time/', 'compilations/'))}
          for line in (path / 'metrics.jsonl').read_text().splitlines()]


def differences(one: pathlib.Path, other: pathlib.Path) -> dict:
  """{'metrics': names that differ, 'last_bits': the largest difference of the
  sampler's, 'weights': whether they differ}."""
  names, last = set(), 0.0
  for a, b in zip(numbers(one), numbers(other), strict=True):
    for name in {*a, *b}:
      if name.startswith(LAST_BITS):
        last = max(last, abs(a[name] - b[name]))
      elif a.get(name) != b.get(name):
        names.add(name)
  weights = [(p / 'final.safetensors').read_bytes() for p in (one, other)]
  return {'metrics': sorted(names), 'last_bits': last,
          'weights': weights[0] != weights[1]}


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--to', type=pathlib.Path, required=True)
  parser.add_argument('--steps', type=int, default=8)
  parser.add_argument('--turns', type=int, default=2)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--step_ms', type=float, default=20.0)
  parser.add_argument('--slots', type=int, default=128)
  parser.add_argument('--url', help=argparse.SUPPRESS)
  parser.add_argument('--order', help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.url:
    train(args.url, args.to, args.steps, args.seed,
          args.order == 'overlapped', args.step_ms / 1e3, args.slots)
    return
  from tests.fake_endpoint import right, serving, truth
  from zppo_jax.study.launch import machine

  def slow(fake, route, body, headers):
    if body['messages'][0]['content'] == '1':  # whether anybody is there
      return right(fake, route, body, headers)
    time.sleep(SECONDS)
    return truth(fake, route, body, headers)

  env = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': '',
         'PYTHONPATH': str(ROOT)}
  seconds: dict[str, list[float]] = {order: [] for order in ORDERS}
  differ = []
  with serving(slow) as (url, _):
    for turn in range(args.turns):
      for order in ORDERS:
        path = args.to / f'{order}_{turn}'
        subprocess.run(
            [sys.executable, '-m', 'benchmarks.overlap', '--url', url,
             '--order', order, '--to', str(path), '--steps', str(args.steps),
             '--seed', str(args.seed), '--step_ms', str(args.step_ms),
             '--slots', str(args.slots)],
            cwd=ROOT, env=env, check=True, stdout=subprocess.DEVNULL)
        begun = json.loads((path / 'begun.json').read_text())
        seconds[order] += [b - a for a, b in zip(
            begun[FIRST:], begun[FIRST + 1:], strict=False)]
      differ.append(differences(*(args.to / f'{order}_{turn}'
                                  for order in ORDERS)))
  medians = {order: statistics.median(seconds[order]) for order in ORDERS}
  print(json.dumps({
      'command': f'python -m benchmarks.overlap --steps={args.steps} '
                 f'--turns={args.turns} --seed={args.seed} '
                 f'--step_ms={args.step_ms:g} --slots={args.slots}',
      'seed': args.seed, 'machine': machine(), 'teacher_s': SECONDS,
      'step_ms': args.step_ms, 'slots': args.slots,
      'lengths': {'least': LEAST, 'median_behind': MEDIAN, 'sigma': SIGMA,
                  'most': MOST},
      'step_s': seconds, 'median_step_s': medians,
      'ratio': medians['serial'] / medians['overlapped'],
      'differences': differ}, indent=1))
  sys.exit(any(d['metrics'] or d['weights'] for d in differ))


if __name__ == '__main__':
  main()
