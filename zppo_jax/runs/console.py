"""What a person sees during a run: a bar in a terminal, otherwise few lines."""

import json
import pathlib
import sys
import textwrap
import time
from collections.abc import Callable
from typing import NamedTuple

from rich.console import Console
from rich.progress import (
  BarColumn,
  MofNCompleteColumn,
  Progress,
  TextColumn,
  TimeElapsedColumn,
  TimeRemainingColumn,
)
from rich.table import Table

from zppo_jax import configs
from zppo_jax.runs import same_config

_WIDTH = 96  # characters of a line of a dry run
QUIET_S = 30.0  # without a bar, a step says a line after so long a silence
# What is shown beside the bar: (label, name in metrics.jsonl).
SHOWN = (('acc', 'accuracy/plain'), ('reward', 'reward/total'),
         ('bcq', 'accuracy/bcq'),
         ('buffer', 'buffer/size'), ('len', 'rollouts/length'))


class ProgressView(NamedTuple):
  """Attributes:
    step: a function that shows a step's metrics.
    note: a function that shows a line.
    close: a function that leaves the terminal as it was.
  """
  step: Callable[[dict], None]
  note: Callable[[str], None]
  close: Callable[[], None]


def _numbers(row: dict) -> str:
  return '  '.join(f'{label} {row[name]:.3g}' for label, name in SHOWN
                   if name in row)


def _bar(steps: int, start: int) -> ProgressView:
  """A bar with step, ETA and the most important numbers."""
  bar = Progress(
      TextColumn('step'), BarColumn(), MofNCompleteColumn(),
      TimeElapsedColumn(), TextColumn('eta'), TimeRemainingColumn(),
      TextColumn('{task.fields[numbers]}', markup=False))
  task = bar.add_task('step', total=steps, completed=start, numbers='')
  bar.start()

  def step(row):
    bar.update(task, completed=row['step'] + 1, numbers=_numbers(row))

  def note(text):
    bar.console.print(text, markup=False, highlight=False)

  return ProgressView(step, note, bar.stop)


def _plain(steps: int) -> ProgressView:
  """No bar: a line for every note, and for a step after QUIET_S without one."""
  last = time.monotonic()

  def note(text):
    nonlocal last
    last = time.monotonic()
    print(text, flush=True)

  def step(row):
    if time.monotonic() - last >= QUIET_S:
      note(f'step {row["step"] + 1} of {steps}: {_numbers(row)}'.rstrip(': '))

  return ProgressView(step, note, lambda: None)


def progress(steps: int, start: int) -> ProgressView:
  """Shows the steps from `start` on; only a terminal gets a bar."""
  return _bar(steps, start) if sys.stdout.isatty() else _plain(steps)


def evaluation(step: int, accuracy: dict[str, float]) -> str:
  """One line for an evaluation after `step` steps."""
  splits = '  '.join(f'{s} {a:.3f}' for s, a in accuracy.items())
  return f'after {step:4d} steps: {splits}'


def rewards_table(path) -> Table | None:
  """The mean graded rewards of the first and the last tenth of a run's steps;
  None for a run without weights of components.

  Args:
    path: the directory of the run.
  """
  file = pathlib.Path(path) / 'metrics.jsonl'
  rows = [json.loads(line) for line in file.read_text().splitlines()
          ] if file.is_file() else []
  rows = [row for row in rows if 'reward/total' in row]
  if not rows:
    return None
  count = max(len(rows) // 10, 1)
  steps = f'{count} steps' if count > 1 else 'step'
  table = Table(title='mean reward of the rollouts of plain prompts',
                title_justify='left')
  for name in ('component', f'first {steps}', f'last {steps}'):
    table.add_column(name, justify='left' if name == 'component' else 'right')
  names = [name for name in rows[-1] if name.startswith('reward/')]
  for name in sorted(names, key=lambda name: name != 'reward/total'):
    means = [sum(values) / len(values) for part in (rows[:count], rows[-count:])
             if (values := [row[name] for row in part if name in row])]
    table.add_row(name.removeprefix('reward/'), *(f'{m:.3f}' for m in means))
  return table


def show_summary(summary: dict, path, what: str = 'greedy accuracy') -> None:
  """Prints a small table at the end, the graded rewards of a run that has
  them, and the folder of all files.

  Args:
    summary: of the run.
    path: its directory.
    what: the name of the numbers of its evaluations.
  """
  table = Table(title=f'{summary["method"]}, seed {summary["seed"]}: {what}',
                title_justify='left')
  for name in ('split', 'before', 'after'):
    table.add_column(name, justify='left' if name == 'split' else 'right')
  for split, result in summary['eval'].items():
    table.add_row(split, f'{result["base"]:.3f}', f'{result["final"]:.3f}')
  console = Console()
  console.print(table)
  if (rewards := rewards_table(path)) is not None:
    console.print(rewards)
  graduated = (f'{summary["graduated"]} of {summary["admitted"]} buffered '
               'questions graduated; ' if summary['admitted'] else '')
  rollouts = summary['student_rollouts']
  spent = (f'{rollouts} student rollouts' if rollouts or not summary['tokens']
           else f'{sum(summary["tokens"].values())} tokens')
  console.print(f'{graduated}{spent} in {summary["wall_s"]:.0f} s',
                highlight=False, soft_wrap=True)
  console.print(f'results: {path}', markup=False, highlight=False,
                soft_wrap=True)


def differing(values: dict, base: str) -> dict:
  """The fields of a config, by dotted name, that are not as in its base.

  Args:
    values: the config's, by dotted name.
    base: the name of the packaged config that it starts from.
  """
  usual = same_config.flat(same_config.config_values(configs.load(base)))
  return {name: value for name, value in values.items()
          if usual.get(name, usual) != value}


def show_config(config, base: str, details: bool) -> None:
  """Prints the fields of a config that differ from its base; with details all
  of them, one a line."""
  values = same_config.flat(same_config.config_values(config))
  if details:
    print('\n'.join(f'  {name} = {value!r}' for name, value in values.items()))
    return
  shown = differing(values, base)
  words = ', '.join(f'{name}={value!r}' for name, value in shown.items())
  print(textwrap.fill(
      f'{words}; {len(values) - len(shown)} more as in configs/{base}.py '
      '(--details shows all)', width=_WIDTH, initial_indent='  ',
      subsequent_indent='  ', break_long_words=False, break_on_hyphens=False))
