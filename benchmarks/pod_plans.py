"""Plans of the paper's recipe for five sizes on four kinds of TPU.

  python -m benchmarks.pod_plans --to=benchmarks/results/pod_plans.json

Each plan is `zppo plan --fast` in a process of its own, and what is there
already is not planned again: --again=NAME plans one anew. Sizes with a config
(configs/pod_*.py) are planned on the slices that it names. 27B has none; it is
planned as a student without a teacher in the process (method grpo).
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import NamedTuple

from zppo_jax.devices.memory import size
from zppo_jax.study.launch import machine
from zppo_jax.study.tables import markdown

ROOT = pathlib.Path(__file__).parents[1]


class Row(NamedTuple):
  """A plan: a size, a slice, and the arguments of `zppo plan` besides.

  Attributes:
    config: a file of configs/, and the name of its slice.
    slice_: the topology.
    more: overrides.
  """
  config: str
  slice_: str
  more: tuple[str, ...] = ()


def _large(slice_: str, tensor: int, of: str, slots: int = 1) -> Row:
  """27B as a student; `of` is the slice of configs/pod_9b.py from which the
  buckets are taken."""
  return Row(f'pod_9b.py:{of}', slice_, (
      '--config.method=grpo', '--config.student.weights=Qwen3.5-27B',
      f'--config.mesh.tensor={tensor}', f'--config.shapes.slots={slots}',
      '--config.student.rollout_weights=int8',
      '--config.algorithm.correction.kind=token_truncate',
      '--config.teacher.mesh.data=0', '--config.teacher.mesh.fsdp=0',
      '--config.teacher.mesh.tensor=0'))


_SLICES = {
    '0.8B': ('pod_0_8b.py', ('v5e:4x4', 'v5p:2x2x2', 'v6e:4x4',
                             'tpu7x:2x2x1')),
    '2B': ('pod_2b.py', ('v5e:4x8', 'v5p:2x2x2', 'v6e:4x4', 'tpu7x:2x2x1')),
    '4B': ('pod_4b.py', ('v5e:8x8', 'v5p:2x2x4', 'v6e:4x8', 'tpu7x:2x2x2')),
    '9B': ('pod_9b.py', ('v5e:8x16', 'v5p:4x4x4', 'v6e:8x8', 'tpu7x:2x4x4'))}
_RECIPES = {  # configs/ptd_po.py and configs/uni_opd.py
    'PTD-PO-2B': ('ptd_po_2b.py', ('v5p:2x2x2', 'v5e:4x4')),
    'PTD-PO-4B': ('ptd_po_4b.py', ('v5p:2x2x4', 'v5e:4x8')),
    'PTD-PO-8B': ('ptd_po_8b.py', ('v5p:2x4x4', 'v5e:8x8'))}
ROWS = {
    **{f'{name} {slice_}': Row(f'{file}:{slice_}', slice_)
       for name, (file, slices) in _SLICES.items() for slice_ in slices},
    '27B v5e:16x16': _large('v5e:16x16', 8, 'v5e:8x16'),
    '27B v5p:4x4x8': _large('v5p:4x4x8', 4, 'v5p:4x4x4'),
    '27B v6e:16x16': _large('v6e:16x16', 8, 'v6e:8x8'),
    '27B tpu7x:4x4x4': _large('tpu7x:4x4x4', 4, 'tpu7x:2x4x4'),
    **{f'{name} {slice_}': Row(f'{file}:{slice_}', slice_, (
        '--config.distil.material=',))  # the file of hints is the user's
       for name, (file, slices) in _RECIPES.items() for slice_ in slices},
    'Uni-OPD-1.7B v5p:2x2x2': Row('uni_opd_1_7b.py', 'v5p:2x2x2'),
    'Uni-OPD-4B v5p:2x2x4': Row('uni_opd_4b.py', 'v5p:2x2x4')}


def plan(row: Row, full: bool) -> dict:
  """The JSON of a plan, or {'error': its last words}."""
  with tempfile.TemporaryDirectory() as folder:
    to = pathlib.Path(folder, 'plan.json')
    argv = [f'--config=configs/{row.config}', f'--topology={row.slice_}',
            f'--json={to}', *row.more, *(() if full else ('--fast',))]
    done = subprocess.run(
        [sys.executable, '-m', 'zppo_jax.main', 'plan', *argv], cwd=ROOT,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**os.environ, 'PYTHONPATH': str(ROOT)})
    if not to.exists():
      return {'error': (done.stderr.strip().splitlines() or [''])[-1]}
    return {**json.loads(to.read_text()), 'command': 'zppo plan ' + ' '.join(
        a for a in argv if not a.startswith('--json'))}


def table(result: dict) -> str:
  """Markdown of the results: a row per plan."""
  rows = [['student', 'slice', 'mesh', 'fits', 'fullest phase', 'of usable',
           'update', 'seconds per step', 'tokens/s', 'chip-hours of 200 steps']]
  for name in ROWS:
    found = result['plans'].get(name)
    if found is None:
      continue
    who, slice_ = name.split(' ')
    if 'error' in found:
      rows.append([who, slice_, '', f'not planned: {found["error"]}',
                   *[''] * 6])
      continue
    phase, peak = max(found['phases'].items(), key=lambda x: x[1]['peak'])
    update = next(p for p in found['programs'] if p['name'] == 'update')
    step, chips = found['step'], found['topology']['chips']
    rows.append([
        who, slice_, 'x'.join(map(str, found['mesh'].values())),
        'yes' if found['fits'] else
        f'no: {size(peak["peak"] - peak["usable"])} too much in {phase}, '
        f'by {peak["program"]}',
        f'{phase}, {size(peak["peak"])}',
        f'{peak["peak"] / peak["usable"]:.0%}',
        size(update['buffers']) if update['compiled'] else '-',
        f'{step["seconds"]:,.0f}', f'{step["tokens_per_second"]:,.0f}',
        f'{step["seconds"] / 3600 * 200 * chips:,.0f}'])
  return markdown(rows)


def main(argv: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--to', required=True, type=pathlib.Path)
  parser.add_argument('--again', action='append', default=[],
                      choices=[*ROWS, 'all'])
  parser.add_argument('--only', action='append', default=[], choices=list(ROWS))
  parser.add_argument('--full', action='store_true', help='code is generated')
  args = parser.parse_args(argv)
  result = {'plans': {}}
  if args.to.exists():
    result = json.loads(args.to.read_text())
  for name, row in ROWS.items():
    if args.only and name not in args.only:
      continue
    again = {'all', name} & set(args.again)
    if 'error' in result['plans'].get(name, {'error': ''}) or again:
      found = plan(row, args.full)
      # Another process may have added a plan in the meantime.
      if args.to.exists():
        result = json.loads(args.to.read_text())
      result['machine'] = machine()
      result['plans'][name] = found
      args.to.parent.mkdir(parents=True, exist_ok=True)
      args.to.write_text(json.dumps(result, indent=1) + '\n')
      print(name, found.get('error') or f'fits: {found["fits"]}', flush=True)


if __name__ == '__main__':
  main()
