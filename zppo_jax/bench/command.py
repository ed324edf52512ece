"""`zppo bench`: measurements of a config, JSON and a table."""

import json
import os
import pathlib
import platform
import resource

import jax

from zppo_jax import build, dry_run, pretrained
from zppo_jax.arms import markdown
from zppo_jax.bench import measurements, roofline
from zppo_jax.study import machine


def cpu_model() -> str:
  """Of /proc/cpuinfo, else what the platform says."""
  info = pathlib.Path('/proc/cpuinfo')
  if info.is_file():
    for line in info.read_text().splitlines():
      if line.startswith('model name'):
        return line.split(':', 1)[1].strip()
  return platform.processor() or platform.machine()


def where() -> dict:
  """Machine, cores in use, devices, versions."""
  cores = sorted(os.sched_getaffinity(0)) if (
      hasattr(os, 'sched_getaffinity')) else []
  return {**machine(), 'cpu': cpu_model(), 'pinned_cores': cores,
          'omp_num_threads': os.environ.get('OMP_NUM_THREADS', ''),
          'platform': jax.default_backend(),
          'device': jax.devices()[0].device_kind,
          'devices': jax.device_count()}


def peak_memory() -> dict:
  """Bytes: of this process, and of the first device where it says."""
  stats = jax.devices()[0].memory_stats() or {}
  return {'rss': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
          'device': stats.get('peak_bytes_in_use')}


def names(text: str) -> list[str]:
  """Measurements of a flag; ValueError names the known ones."""
  found = [n for n in text.split(',') if n]
  known = measurements.MEASUREMENTS
  for name in found:
    if name not in known:
      raise ValueError(f'--measure holds {name!r}; known: {", ".join(known)}')
  return found or list(known)


def shares(found: dict, limit: dict) -> dict:
  """Share of the matmul rate and of the bandwidth of this run."""
  seconds = found['median_s']
  out = {}
  if found['flops']:
    out['of_matmul'] = found['flops'] / seconds / limit['flops']
    if found['bytes']:
      out['of_bandwidth'] = found['bytes'] / seconds / limit['bytes']
  return out


def run(config, measure: str, repeats: int) -> dict:
  """All asked measurements of a config's student.

  Raises:
    ValueError: for an unknown measurement, or fewer than one repeat.
  """
  chosen = names(measure)
  if repeats < 1:
    raise ValueError(f'--repeats is {repeats}; it must be >= 1')
  model = pretrained.load(config.student.weights, dtype=config.student.dtype,
                          remat=config.student.remat,
                          attention=config.student.attention).model
  setting = measurements.Setting(build.build(config), model)
  limit = roofline.measure(config.student.dtype)
  out = {'machine': where(), 'method': config.method,
         'parameters': setting.counted.params, 'roofline': limit,
         'measurements': {}}
  for name in chosen:
    found = measurements.measure(
        measurements.MEASUREMENTS[name], setting, repeats)
    out['measurements'][name] = {**found, 'shares': shares(found, limit),
                                 'peak_memory': peak_memory()}
  return out


def table(found: dict) -> str:
  """Markdown of `run`'s result."""
  rows = [['measurement', 'median s', 'min to max', 'first s', 'GFLOP',
           'of matmul rate', 'of bandwidth', 'peak RSS']]
  for name, m in found['measurements'].items():
    share = lambda key, m=m: (
        f'{m["shares"][key]:.1%}' if key in m['shares'] else '')
    rows.append([
        name, f'{m["median_s"]:.4f}', f'{m["min_s"]:.4f} to {m["max_s"]:.4f}',
        f'{m["first_s"]:.2f}', f'{m["flops"] / 1e9:.2f}', share('of_matmul'),
        share('of_bandwidth'), dry_run.size(m['peak_memory']['rss'])])
  limit = found['roofline']
  return markdown(rows) + (
      f'\n\n{found["machine"]["cpu"]}, cores '
      f'{found["machine"]["pinned_cores"]}, {found["machine"]["platform"]}; '
      f'matmul {limit["flops"] / 1e9:.0f} GFLOP/s ({limit["dtype"]}), triad '
      f'{limit["bytes"] / 1e9:.1f} GB/s in this run')


def main(config, measure: str, repeats: int, to: str | None) -> None:
  """Measures, prints a table and writes JSON to `to`."""
  found = run(config, measure, repeats)
  if to is not None:
    path = pathlib.Path(to)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + '\n')
  print(table(found))
