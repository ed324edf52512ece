"""What compiling the update for TPUs costs, on a machine without one.

  taskset -c 0 python -m benchmarks.compile_time \\
      --to=benchmarks/results/compile_time.json

The program is the gradient of one micro-batch, as training compiles it, from
abstract arguments: bfloat16, remat full, prompts shared. Seconds are those of
the processor (user and system) in this process, because other work on the
machine lengthens the others; tracing and lowering are apart from compiling. The
file holds a list, to which each run adds its record, so that revisions can be
measured by turns. --effort=O1 is JAX_OPTIMIZATION_LEVEL=O1 of a run: the
compiler tries less. Needs the package libtpu.
"""

import argparse
import functools
import json
import os
import pathlib
import re
import resource
import sys
import time

import jax
import numpy as np

from zppo_jax import allowed, models
from zppo_jax.devices import sharding
from zppo_jax.learner import layouts, optimizers, states, update
from zppo_jax.objectives import losses
from zppo_jax.study.launch import machine
from zppo_jax.weights import families, presets

# What the compiler of TPUs itself expects of an operation.
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')


def model_of(preset: str, mesh, layers: int = 0) -> models.Model:
  """A published model on a mesh, as training builds it.

  Args:
    preset: a key of presets.PRESETS.
    mesh: the mesh.
    layers: the number of layers; 0: its own.

  Raises:
    KeyError: for an unknown preset.
  """
  config = allowed.known('--model', preset, presets.PRESETS).config
  found = families.FAMILIES[config['model_type']].from_hub(config)
  fields = {**vars(found), 'dtype': 'bfloat16', 'remat': 'full'}
  if layers:
    fields['num_layers'] = layers
  return models.on_mesh(models.build(config['model_type'], **fields), mesh)


def lowering(model, mesh, rows: int, prompt: int, response: int):
  """A function that lowers the gradient of one prompt per batch shard, with
  `rows` responses behind it."""
  tx = optimizers.adamw(optimizers.AdamWConfig())
  shardings = states.state_shardings(model, tx, mesh)
  parts = update.compile_update(
      loss_fn=functools.partial(
          update.policy_loss, model=model, temperature=1.0, chunk=1024,
          old_logps=update.own_old_logps, loss=functools.partial(
              losses.clipped_surrogate, clip=losses.ClipBounds())),
      tx=tx, mesh=mesh, shardings=shardings).keywords
  params = states.abstract_state(model, tx, shardings).params
  batch = layouts.fill(
      [], layouts.BatchShape(sharding.batch_shards(mesh), rows, prompt,
                             response, 0), model.num_axes,
      {'advantage': np.zeros(0, np.float32)})
  return lambda: parts['accumulate_fn'].lower(
      parts['zeros_fn'].eval_shape(params), params, batch)


def timed(f):
  """(the result of f, its seconds of processor time, of wall time)."""
  used = lambda: sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
  start, begun = used(), time.perf_counter()
  out = f()
  return out, used() - start, time.perf_counter() - begun


def measure(flags) -> dict:
  """The record of a program: seconds, lines of the program before and after
  compilation, bytes per device, and the cycles that the compiler expects of its
  operations, each counted once, also where a loop repeats it."""
  from jax.experimental import topologies
  mesh = sharding.make_mesh(
      sharding.MeshConfig(*(int(n) for n in flags.mesh.split('x'))),
      topologies.get_topology_desc(
          platform='tpu', topology_name=flags.topology).devices)
  model = model_of(flags.model, mesh, flags.layers)
  program, lower_s, _ = timed(
      lowering(model, mesh, flags.rows, flags.prompt, flags.response))
  compiled, compile_s, wall_s = timed(program.compile)
  memory, text = compiled.memory_analysis(), compiled.as_text()
  return {
      'lower_s': lower_s, 'compile_s': compile_s, 'compile_wall_s': wall_s,
      'stablehlo_lines': program.as_text().count('\n'),
      'hlo_lines': text.count('\n'),
      'estimated_cycles': sum(map(int, _CYCLES.findall(text))),
      'arguments': memory.argument_size_in_bytes,
      'temporaries': memory.temp_size_in_bytes}


def main(argv=None) -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--model', default='Qwen3.5-0.8B')
  parser.add_argument('--topology', default='v5e:4x4')
  parser.add_argument('--mesh', default='1x16x1')
  parser.add_argument('--rows', type=int, default=1)
  parser.add_argument('--prompt', type=int, default=8704)
  parser.add_argument('--response', type=int, default=12288)
  parser.add_argument('--layers', type=int, default=0)
  parser.add_argument('--effort', default='UNKNOWN',
                      choices=('UNKNOWN', 'O0', 'O1', 'O2', 'O3'))
  parser.add_argument('--to', type=pathlib.Path, required=True)
  flags = parser.parse_args(argv)
  for name in ('rows', 'prompt', 'response'):
    allowed.number(f'--{name}', getattr(flags, name), '>= 1')
  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
  given = sys.argv[1:] if argv is None else argv
  before = jax.config.jax_optimization_level
  jax.config.update('jax_optimization_level', flags.effort)
  try:
    measured = measure(flags)
  finally:
    jax.config.update('jax_optimization_level', before)
  found = {'command': ' '.join(['python -m benchmarks.compile_time', *given]),
           'machine': machine(), **measured}
  print(json.dumps(found))
  flags.to.parent.mkdir(parents=True, exist_ok=True)
  earlier = json.loads(flags.to.read_text()) if flags.to.exists() else []
  flags.to.write_text(json.dumps([*earlier, found], indent=1) + '\n')


if __name__ == '__main__':
  main()
