"""Weak scaling of the compiled update on simulated devices.

  python -m benchmarks.weak_scaling --to=benchmarks/results/weak_scaling.json
  python -m benchmarks.weak_scaling --table=benchmarks/results/weak_scaling.json

The gradient of a micro-batch with the same rows for each of 1, 2, 4 and 8
devices, compiled on the CPU. FLOPs and exchanged bytes of a device are counted
from the HLO; `predicted` is what sharding over fsdp needs (ZeRO, Rajbhandari et
al. 2020, section 7). It takes two minutes on a core; the second command prints
the table of docs/performance.md.
"""

import argparse
import functools
import json
import math
import pathlib
import platform
from typing import Any

import jax
import numpy as np

from benchmarks import random_models
from zppo_jax import models
from zppo_jax.devices import cpu_devices, sharding
from zppo_jax.learner import layouts, optimizers, states, update
from zppo_jax.objectives import losses
from zppo_jax.plan import hlo

DEVICES = (1, 2, 4, 8)
FAMILIES = ('qwen3', 'qwen3_5')
ROWS = 2  # responses behind each device's prompt
PROMPT, RESPONSE = 64, 64  # tokens
CHUNK = 64  # positions whose logits exist at a time: one block
PASSES = 2  # a model runs over prompts, and over responses behind them
TARGETS = {'advantage': np.zeros(0, np.float32)}


def compiled(family: str, devices: int) -> tuple[Any, models.Model]:
  """(the compiled gradient of one prompt per device, the model)."""
  mesh = sharding.make_mesh(
      sharding.MeshConfig(fsdp=devices), jax.devices()[:devices])
  fields = {**random_models.FIELDS[family], 'remat': 'full'}
  if 'vision' in fields:
    fields['vision'] = None
  model = models.on_mesh(models.build(family, **fields), mesh)
  tx = optimizers.adamw(optimizers.AdamWConfig())
  shardings = states.state_shardings(model, tx, mesh)
  programs = update.compile_update(
      loss_fn=functools.partial(
          update.policy_loss, model=model, temperature=1.0, chunk=CHUNK,
          loss=losses.negative_log_likelihood),
      tx=tx, mesh=mesh, shardings=shardings).keywords
  params = states.abstract_state(model, tx, shardings).params
  batch = layouts.fill(
      [], layouts.BatchShape(devices, ROWS, PROMPT, RESPONSE, 0),
      model.num_axes, TARGETS)
  return programs['accumulate_fn'].lower(
      programs['zeros_fn'].eval_shape(params), params, batch
  ).compile(), model


def predicted(model: models.Model, devices: int) -> dict[str, float]:
  """Bytes that a device must receive, from the parameters alone.

  Matrices with a width are gathered once in every pass and once more to
  recompute it in the backward pass, which uses them too. The table of
  embeddings is gathered in every pass, the head for log-probs and for their
  gradient. The gradient of each parameter is summed over the devices once per
  pass, that of the head once; here by an all-reduce, because XLA has no
  reduce-scatter of them on CPUs. That of the table is not: a device receives
  its columns of the gradients of all tokens, and the tokens.
  """
  params = jax.eval_shape(model.init, jax.random.key(0))
  size = lambda leaf: leaf.size * leaf.dtype.itemsize
  whole = gathered = 0
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    names = [key.key for key in path]
    if names[0] == 'head':
      continue
    runs = PASSES
    whole += 0 if names[0] == 'embed' else PASSES * size(leaf)
    if 'width' in sharding.param_axes(path):
      gathered += runs * (2 if names[0] == 'blocks' else 1) * size(leaf)
  head = 4 * model.config.width * model.config.vocab_size
  share = (devices - 1) / devices
  tokens = 4 * (PROMPT + ROWS * RESPONSE)
  return {'all-gather': share * (gathered + 2 * head + devices * tokens),
          'all-reduce': 2 * share * (whole + head),
          'all-to-all': share * tokens * model.config.width}


def measure(family: str, devices: int) -> dict:
  """A record of a family on so many devices."""
  program, model = compiled(family, devices)
  text = program.as_text()
  found = hlo.totals(hlo.collectives(text, devices))
  return {'family': family, 'devices': devices, 'flops': hlo.flops(text),
          'temporaries': program.memory_analysis().temp_size_in_bytes,
          'received': {kind: of['moved'] for kind, of in found.items()},
          'predicted': predicted(model, devices)}


def table(data: dict) -> str:
  """Markdown of the results: a line per family and number of devices."""
  lines = ['| family | devices | FLOPs of a device | its temporaries | '
           'gathered: counted, predicted | summed: counted, predicted | '
           'swapped: counted, predicted | moved otherwise |',
           '|---|---|---|---|---|---|---|---|']
  for one in data['records']:
    kib = lambda of, kind: f'{of.get(kind, 0) / 1024:,.0f}'  # noqa: B023
    other = math.fsum(x for kind, x in one['received'].items()
                      if kind not in one['predicted'])
    cells = [one['family'], str(one['devices']), f'{one["flops"] / 1e6:,.1f} M',
             f'{one["temporaries"] / 2**20:.1f} MiB']
    cells += [f'{kib(one["received"], kind)}, {kib(one["predicted"], kind)} KiB'
              for kind in one['predicted']]
    lines.append('| ' + ' | '.join([*cells, f'{other / 1024:,.0f} KiB']) + ' |')
  return '\n'.join(lines)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--to', type=pathlib.Path)
  parser.add_argument('--table', type=pathlib.Path)
  asked = parser.parse_args()
  if asked.table:
    print(table(json.loads(asked.table.read_text())))
    return
  cpu_devices.ensure(sharding.MeshConfig(fsdp=max(DEVICES)))
  # Nothing runs, so LLVM need not optimize.
  jax.config.update('jax_disable_most_optimizations', True)
  data = {
      'command': 'python -m benchmarks.weak_scaling',
      'seed': None,  # shapes alone count
      'machine': f'{platform.machine()} CPU, simulated devices, '
                 f'jax {jax.__version__}',
      'rows': ROWS, 'prompt': PROMPT, 'response': RESPONSE,
      'records': [measure(family, devices)
                  for family in FAMILIES for devices in DEVICES]}
  if asked.to:
    asked.to.write_text(json.dumps(data, indent=1) + '\n')
  print(table(data))


if __name__ == '__main__':
  main()
