"""`zppo bench`: measures a config or named shapes; writes JSON and a table."""

import gc
import json
import os
import pathlib
import platform
import resource

import jax

from zppo_jax import allowed
from zppo_jax.bench import measurements, roofline, shapes
from zppo_jax.devices import malloc, memory
from zppo_jax.study.launch import machine
from zppo_jax.study.tables import markdown
from zppo_jax.train import build
from zppo_jax.weights import pretrained


def cpu_model() -> str:
  """The CPU's name from /proc/cpuinfo, else what the platform says."""
  info = pathlib.Path('/proc/cpuinfo')
  if info.is_file():
    for line in info.read_text().splitlines():
      if line.startswith('model name'):
        return line.split(':', 1)[1].strip()
  return platform.processor() or platform.machine()


def where() -> dict:
  """The machine, the cores in use, the devices and the versions."""
  cores = sorted(os.sched_getaffinity(0)) if (
      hasattr(os, 'sched_getaffinity')) else []
  return {**machine(), 'cpu': cpu_model(), 'pinned_cores': cores,
          'omp_num_threads': os.environ.get('OMP_NUM_THREADS', ''),
          'platform': jax.default_backend(),
          'device': jax.devices()[0].device_kind,
          'devices': jax.device_count()}


def peak_memory() -> dict:
  """Peak bytes of this process, and of the first device if it reports them."""
  stats = jax.devices()[0].memory_stats() or {}
  return {'rss': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
          'device': stats.get('peak_bytes_in_use')}


def names(text: str, known=measurements.MEASUREMENTS) -> list[str]:
  """The measurements that a flag names; KeyError lists the known ones."""
  return [allowed.one_of('name in --measure', name, known)
          for name in text.split(',') if name] or list(known)


def shares(result: dict, limit: dict) -> dict:
  """Shares of the matmul rate and of the bandwidth measured in this run."""
  seconds = result['median_s']
  out = {}
  if result['flops']:
    out['of_matmul'] = result['flops'] / seconds / limit['flops']
    if result['bytes']:
      out['of_bandwidth'] = result['bytes'] / seconds / limit['bytes']
  return out


def run_shapes(model: str, measure: str, repeats: int, load: str = '',
               dtype: str = '') -> dict:
  """Measures named shapes (shapes.SHAPES), which have random weights.

  A measurement that does not fit in memory is not begun; `missing` lists it.

  Args:
    model: names, separated by commas.
    measure: names, separated by commas; empty: all of shapes.MEASUREMENTS.
    repeats: the number of measured calls after the first.
    load: see shapes.load_of.
    dtype: compute type; empty: float32 on CPUs, bfloat16 elsewhere.

  Raises:
    KeyError: for an unknown name.
    ValueError: for a type, a load or repeats that cannot be.
  """
  allowed.number('--repeats', repeats, '>= 1', whole=True)
  dtype = dtype or (
      'float32' if jax.default_backend() == 'cpu' else 'bfloat16')
  chosen = names(measure, shapes.MEASUREMENTS)
  loads = {name: shapes.load_of(load, name) for name in shapes.names(model)}
  models = {name: shapes.build(name, dtype, 'none') for name in loads}
  limit = roofline.measure(dtype)
  out = {'machine': where(), 'dtype': dtype, 'roofline': limit, 'shapes': {}}
  for name, work in loads.items():
    row = {'load': work._asdict(), 'missing': {}, 'measurements': {}}
    out['shapes'][name] = row
    for what in chosen:
      setting = shapes.ShapeSetting(models[name], work)
      row['parameters'] = setting.counted.params
      wanted, here = shapes.needed(what, setting), shapes.here()
      if here is not None and wanted > 0.9 * here:
        row['missing'][what] = (f'needs more than {memory.size(wanted)} of '
                                f'{memory.size(here)}')
        continue
      try:
        result = measurements.measure(
            shapes.MEASUREMENTS[what], setting, repeats)
      except jax.errors.JaxRuntimeError as e:
        if not str(e).startswith('RESOURCE_EXHAUSTED'):
          raise
        row['missing'][what] = 'out of memory'
      else:
        row['measurements'][what] = {**result, 'shares': shares(result, limit)}
      del setting
      gc.collect()
      malloc.release()
    row['peak_memory'] = peak_memory()
  return out


def shape_table(result: dict) -> str:
  """Markdown of the result of `run_shapes`: one row per shape."""
  asked = [name for name in shapes.MEASUREMENTS if any(
      name in r['measurements'] or name in r['missing']
      for r in result['shapes'].values())]
  head = ['shape', 'parameters', 'prompts x tokens, rollouts x tokens']
  for what in asked:
    head += [f'{what} s', 'of matmul rate']
    head += ['of bandwidth', 'tokens/s'] if what == 'sample' else []
  rows = [[*head, 'peak RSS so far']]
  for name, r in result['shapes'].items():
    w = r['load']
    row = [name, f'{r["parameters"] / 1e6:.1f} M', '{} x {}, {} x {}'.format(
        *(w[k] for k in ('prompts', 'prompt', 'rollouts', 'response')))]
    for what in asked:
      m = r['measurements'].get(what)
      if m is None:
        row += [r['missing'][what], *[''] * (3 if what == 'sample' else 1)]
        continue
      row += [f'{m["median_s"]:.4f}', f'{m["shares"]["of_matmul"]:.1%}']
      if what == 'sample':
        drawn = w['prompts'] * w['rollouts'] * w['response']
        row += [f'{m["shares"]["of_bandwidth"]:.1%}',
                f'{drawn / m["median_s"]:.0f}']
    rows.append([*row, memory.size(r['peak_memory']['rss'])])
  return f'{markdown(rows)}\n\n{_limit(result)}; random weights, no remat'


def run(config, measure: str, repeats: int) -> dict:
  """Makes the named measurements of a config's student.

  Raises:
    ValueError: for an unknown measurement, or fewer than one repeat.
  """
  chosen = names(measure)
  allowed.number('--repeats', repeats, '>= 1', whole=True)
  model = pretrained.load(config.student.weights, dtype=config.student.dtype,
                          remat=config.student.remat,
                          attention=config.student.attention,
                          unroll=config.student.unroll).model
  student_run = build.build(config)
  setting = measurements.Setting(student_run, model)
  limit = roofline.of_mesh(config.student.dtype, student_run.mesh)
  out = {'machine': where(), 'method': config.method,
         'parameters': setting.counted.params, 'roofline': limit,
         'measurements': {}}
  for name in chosen:
    result = measurements.measure(
        measurements.MEASUREMENTS[name], setting, repeats)
    out['measurements'][name] = {**result, 'shares': shares(result, limit),
                                 'peak_memory': peak_memory()}
  return out


def table(result: dict) -> str:
  """Markdown of the result of `run`."""
  rows = [['measurement', 'median s', 'min to max', 'first s', 'GFLOP',
           'of matmul rate', 'of bandwidth', 'peak RSS']]
  more = []
  for name, m in result['measurements'].items():
    if name in MEMORY:
      more.append(f'{name}: {MEMORY[name](m["shapes"])}')
      continue
    share = lambda key, m=m: (
        f'{m["shares"][key]:.1%}' if key in m['shares'] else '')
    rows.append([
        name, f'{m["median_s"]:.4f}', f'{m["min_s"]:.4f} to {m["max_s"]:.4f}',
        f'{m["first_s"]:.2f}', f'{m["flops"] / 1e9:.2f}', share('of_matmul'),
        share('of_bandwidth'), memory.size(m['peak_memory']['rss'])])
  parts = [markdown(rows)] if len(rows) > 1 else []
  return '\n\n'.join([*parts, *more, _limit(result)])


def _gradient_memory(s: dict) -> str:
  return (f'{memory.size(s["temporaries"])} of temporaries for a micro-batch '
          f'of {s["rows"]} x {s["length"]}; all its logits in float32 are '
          f'{memory.size(s["float32_logits"])}')


def _logprob_memory(s: dict) -> str:
  return (f'{memory.size(s["temporaries"])} of temporaries for log-probs, '
          f'entropy and gradient of {s["rows"]} x {s["length"]} positions, V = '
          f'{s["vocab"]:,}, width {s["width"]}, {s["dtype"]}; the plain form '
          f'{memory.size(s["plain_temporaries"])}, a share of '
          f'{s["temporaries"] / s["plain_temporaries"]:.1%}')


# Measurements that take no time: each has a function that states its result.
MEMORY = {'gradient-memory': _gradient_memory,
          'logprob-memory': _logprob_memory}


def _limit(result: dict) -> str:
  limit = result['roofline']
  return (
      f'{result["machine"]["cpu"]}, cores '
      f'{result["machine"]["pinned_cores"]}, {result["machine"]["platform"]}; '
      f'matmul {limit["flops"] / 1e9:.0f} GFLOP/s ({limit["dtype"]}), memory '
      + ', '.join(f'{name} {rate / 1e9:.1f} GB/s'
                  for name, rate in limit['by_access'].items())
      + ' in this run')


def main(config, measure: str, repeats: int, to: str | None,
         model: str = '', load: str = '', dtype: str = '') -> None:
  """Measures, prints a table and writes JSON to `to`.

  Args:
    config: the config whose student is measured; None with `model`.
    measure, repeats: see `run`.
    to: the file, or None.
    model, load, dtype: see `run_shapes`.

  Raises:
    ValueError: see `run` and `run_shapes`; also for both a config and a model,
      or for a load or type without a model.
  """
  if bool(model) == (config is not None):
    raise ValueError('--config and --model are two ways to say what is '
                     'measured; one of them is needed')
  if not model and (load or dtype):
    raise ValueError('--load and --dtype are of --model; a config has its own')
  if model:
    result = run_shapes(model, measure, repeats, load, dtype)
    markdown_of = shape_table
  else:
    result, markdown_of = run(config, measure, repeats), table
  if to is not None:
    path = pathlib.Path(to)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + '\n')
  print(markdown_of(result))
