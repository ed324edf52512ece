"""What a ZPPO step costs beside one of GRPO† (grpo_replay), per student token.

  python -m benchmarks.zppo_cost --to=benchmarks/results/zppo_cost.json

Runs of the embedded world with the same seeds, each a process of its own, the
methods by turns. Student tokens are those prefilled (once a prompt) and
generated. `time/teacher`, which holds the teacher's answers, is apart; the
whole step's ratio stands beside it.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

from zppo_jax.study.launch import machine
from zppo_jax.study.tables import markdown

ROOT = pathlib.Path(__file__).parents[1]
METHODS = ('zppo', 'grpo_replay')
STUDENT = ('time/rollouts', 'time/scoring', 'time/update')
GOAL = 1.05


def run(method: str, seed: int, steps: int, folder) -> list[dict]:
  """Metric rows of a run; one that is complete is read, not run again."""
  home = pathlib.Path(folder) / f'{method}_{seed}'
  rows = home / 'metrics.jsonl'
  if not (home / 'final.safetensors').exists():
    subprocess.run(
        [sys.executable, '-m', 'zppo_jax.main', 'train',
         '--config=configs/micro.py', f'--workdir={home}',
         f'--config.method={method}', f'--config.seed={seed}',
         f'--config.steps={steps}', '--config.eval.every=0',
         '--config.probe.every=0', '--config.samples.every=0',
         '--config.log.tensorboard=False', f'--config.checkpoint.every={steps}',
         '--config.checkpoint.keep=1'],
        cwd=ROOT, check=True, stdout=subprocess.DEVNULL,
        env={**os.environ, 'PYTHONPATH': str(ROOT)})
  return [json.loads(line) for line in rows.read_text().splitlines()]


def costs(rows, warm_up: int) -> dict:
  """Medians over the steps behind `warm_up` of one run's metric rows.

  Returns:
    student: seconds of STUDENT a student token; step: seconds of all phases;
    step_per_token; teacher: seconds; tokens: of the student, a step.

  Raises:
    ValueError: if no step is left.
  """
  steps = [r for r in rows if 'time/update' in r and r['step'] >= warm_up]
  if not steps:
    raise ValueError(f'no step behind --warm-up={warm_up} in {len(rows)} rows')
  tokens = lambda r: (
      r['tokens/student_prompt'] + r['tokens/student_generated'])
  student = lambda r: sum(r[name] for name in STUDENT)
  # Evaluation and checkpoints are no part of a step.
  whole = lambda r: student(r) + r['time/teacher'] + r['time/log']
  over = lambda f: statistics.median(map(f, steps))
  return {'student': over(lambda r: student(r) / tokens(r)),
          'step_per_token': over(lambda r: whole(r) / tokens(r)),
          'step': over(whole), 'teacher': over(lambda r: r['time/teacher']),
          'tokens': over(tokens), 'steps': len(steps)}


def ratios(by_run: dict) -> dict:
  """{what: median, min, max over seeds} of zppo / grpo_replay."""
  seeds = sorted({seed for _, seed in by_run})
  out = {}
  for what in ('student', 'step_per_token', 'step'):
    found = sorted(by_run['zppo', s][what] / by_run['grpo_replay', s][what]
                   for s in seeds)
    out[what] = {'median': statistics.median(found), 'min': found[0],
                 'max': found[-1]}
  return out


def table(found: dict) -> str:
  rows = [['method', 'seed', 'student µs / token', 'student tokens a step',
           'teacher s', 'step s']]
  for r in found['runs']:
    rows.append([r['method'], str(r['seed']), f'{r["student"] * 1e6:.1f}',
                 f'{r["tokens"]:.0f}', f'{r["teacher"]:.3f}',
                 f'{r["step"]:.3f}'])
  named = {'student': f'student time a token (goal {GOAL})',
           'step_per_token': 'whole step a token', 'step': 'whole step'}
  more = [['ZPPO / GRPO†', 'median', 'min to max']]
  more += [[named[k], f'{r["median"]:.3f}', f'{r["min"]:.3f} to '
            f'{r["max"]:.3f}'] for k, r in found['ratios'].items()]
  return markdown(rows) + '\n\n' + markdown(more)


def main(argv=None) -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--seeds', default='0,1,2')
  parser.add_argument('--steps', type=int, default=60)
  parser.add_argument('--warm-up', type=int, default=20)
  parser.add_argument('--to', type=pathlib.Path, required=True)
  parser.add_argument(
      '--runs', type=pathlib.Path, help='where complete runs are kept and read')
  flags = parser.parse_args(argv)
  # Of this revision and length: what another one left is not its cost.
  folder = flags.runs or pathlib.Path(tempfile.gettempdir()) / (
      f'zppo_cost_{machine()["git_revision"]}_{flags.steps}')
  by_run = {}
  for seed in map(int, flags.seeds.split(',')):
    order = METHODS if seed % 2 == 0 else METHODS[::-1]
    for method in order:
      by_run[method, seed] = costs(
          run(method, seed, flags.steps, folder), flags.warm_up)
      print(method, seed, by_run[method, seed], flush=True)
  found = {'machine': machine(), 'steps': flags.steps,
           'warm_up': flags.warm_up,
           'runs': [{'method': m, 'seed': s, **c}
                    for (m, s), c in by_run.items()],
           'ratios': ratios(by_run)}
  flags.to.parent.mkdir(parents=True, exist_ok=True)
  flags.to.write_text(json.dumps(found, indent=1) + '\n')
  print(table(found))


if __name__ == '__main__':
  main()
