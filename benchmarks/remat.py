"""What recomputing in the backward pass costs and saves, by policy.

  python -m benchmarks.remat --to=benchmarks/results/remat.json

A step is the gradient of one micro-batch and AdamW. The policies of
student.remat take turns, so that the machine's mood falls on all of them.
Memory is what the compiler says of the gradient's temporaries, before anything
runs. Two models: the side-by-side Qwen3, and one of Qwen3.5's blocks, three
DeltaNet layers and one of gated attention.
"""

import argparse
import functools
import json
import pathlib
import sys
import time

import jax
import numpy as np

from benchmarks.side_by_side import work
from zppo_jax import models
from zppo_jax.bench import command, roofline
from zppo_jax.devices import malloc, sharding
from zppo_jax.devices.memory import size
from zppo_jax.learner import optimizers, packing, states, update
from zppo_jax.models.decoder import REMAT
from zppo_jax.objectives import losses
from zppo_jax.records import TokenSequence
from zppo_jax.study.tables import markdown

MODELS = {
    'qwen3': ('qwen3', {**work.SHAPE, 'max_positions': 4096}),
    'qwen3_5': ('qwen3_5', dict(
        vocab_size=2048, width=256, num_layers=8, num_heads=4, num_kv_heads=2,
        head_dim=64, mlp_width=768, max_positions=4096, delta_key_heads=4,
        delta_value_heads=8, delta_key_dim=32, delta_value_dim=32,
        rotary_share=0.5, rope_sections=(6, 5, 5), tied=True)),
}


class Step:
  """Training steps of a model under a policy, on one batch.

  Attributes:
    temporaries: bytes of the gradient's program.
    compile_s: seconds of that.
  """

  def __init__(self, family: str, fields: dict, remat: str, rows: int,
               length: int):
    mesh = sharding.make_mesh(sharding.MeshConfig(data=1, fsdp=1, tensor=1))
    model = models.on_mesh(models.build(family, **fields, remat=remat), mesh)
    tx = optimizers.adamw(optimizers.AdamWConfig())
    shardings = states.state_shardings(model, tx, mesh)
    self._update = update.compile_update(
        loss_fn=functools.partial(
            update.policy_loss, model=model, temperature=1.0, chunk=1024,
            old_logps=update.own_old_logps, loss=functools.partial(
                losses.clipped_surrogate, clip=losses.ClipBounds())),
        tx=tx, mesh=mesh, shardings=shardings)
    self._state = states.new_state(
        jax.jit(model.init)(jax.random.key(0)), tx, shardings)
    rng, half = np.random.default_rng(0), length // 2
    ids = rng.integers(0, model.config.vocab_size, (rows, length))
    self._tokens = float(rows * (length - half))
    self._batch = sharding.put_batch(mesh, packing.pad_rows(
        [packing.weighted(TokenSequence(prompt=r[:half], response=r[half:]),
                          advantage=a)
         for r, a in zip(ids, rng.standard_normal(rows), strict=True)],
        rows, length, num_axes=model.num_axes))
    parts = self._update.keywords
    begun = time.perf_counter()
    compiled = parts['accumulate_fn'].lower(
        parts['zeros_fn'].eval_shape(self._state.params), self._state.params,
        self._batch).compile()
    self.compile_s = time.perf_counter() - begun
    self._update = functools.partial(self._update, accumulate_fn=compiled)
    self.temporaries = compiled.memory_analysis().temp_size_in_bytes

  def seconds(self) -> float:
    """Of one step."""
    begun = time.perf_counter()
    self._state = jax.block_until_ready(
        self._update(self._state, [self._batch], self._tokens)[0])
    return time.perf_counter() - begun

  @property
  def parameters(self) -> int:
    return sum(x.size for x in jax.tree.leaves(self._state.params))


def measure(family: str, fields: dict, rows: int, length: int,
            rounds: int) -> dict:
  """{policy: spread of seconds, temporaries, compile_s} of one model."""
  steps = {policy: Step(family, fields, policy, rows, length)
           for policy in REMAT}
  for step in steps.values():
    step.seconds()  # compiles and warms up
  seconds = {policy: [] for policy in steps}
  for _ in range(rounds):
    for policy, step in steps.items():
      seconds[policy].append(step.seconds())
  return {
      'family': family, 'rows': rows, 'length': length,
      'parameters': next(iter(steps.values())).parameters,
      'policies': {policy: {
          **roofline.spread(seconds[policy]), 'compile_s': step.compile_s,
          'temporaries': step.temporaries} for policy, step in steps.items()}}


def table(found: dict) -> str:
  """Markdown of what `main` writes."""
  rows = [['model', 'student.remat', 'step s', 'min to max', 'of none',
           'temporaries', 'of none']]
  for name, m in found['models'].items():
    base = m['policies']['none']
    for policy, p in m['policies'].items():
      rows.append([
          f'{name}, {m["parameters"] / 1e6:.1f} M, {m["rows"]} x '
          f'{m["length"]}', policy, f'{p["median_s"]:.3f}',
          f'{p["min_s"]:.3f} to {p["max_s"]:.3f}',
          f'{p["median_s"] / base["median_s"]:.2f}', size(p['temporaries']),
          f'{p["temporaries"] / base["temporaries"]:.2f}'])
  return markdown(rows)


def main(argv=None) -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--models', default=','.join(MODELS))
  parser.add_argument('--rows', type=int, default=8)
  parser.add_argument('--length', type=int, default=512)
  parser.add_argument('--rounds', type=int, default=7)
  parser.add_argument('--to', type=pathlib.Path, required=True)
  flags = parser.parse_args(argv)
  names = flags.models.split(',')
  for name in names:
    if name not in MODELS:
      raise SystemExit(f'--models holds {name!r}; known: {", ".join(MODELS)}')
  if flags.rounds < 1:
    raise SystemExit(f'--rounds is {flags.rounds}; it must be >= 1')
  malloc.keep()  # as training does
  given = sys.argv[1:] if argv is None else argv
  found = {'command': ' '.join(['python -m benchmarks.remat', *given]),
           'machine': command.where(), 'models': {}}
  for name in names:
    found['models'][name] = measure(
        *MODELS[name], flags.rows, flags.length, flags.rounds)
    print(name, 'done', flush=True)
  flags.to.parent.mkdir(parents=True, exist_ok=True)
  flags.to.write_text(json.dumps(found, indent=1) + '\n')
  print(table(found))


if __name__ == '__main__':
  main()
