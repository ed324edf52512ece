"""`zppo sft`: a supervised run in a directory, by the loop of `zppo train`."""

from zppo_jax.chat import dates
from zppo_jax.devices import memory
from zppo_jax.runs import console, workdir
from zppo_jax.runs.workdir import Workdir
from zppo_jax.sft import build, dataset, shapes, step
from zppo_jax.sft.run import SftRun
from zppo_jax.sft.step import Outcome
from zppo_jax.train import loop, models as loading
from zppo_jax.train.run import Procedure


def _opened(run: SftRun, config, out: Workdir, add, say) -> SftRun:
  """The run; data.json of its directory says what was read and left out."""
  del config, add, say
  out.record('data.json', {
      'counts': {what: dict(of) for what, of in
                 run.source.pool.counts.items()},
      'trained': len(run.source.pool),
      'splits': {name: len(data) for name, data in run.splits.items()}})
  return run


def _check(run: SftRun, out: Workdir, outcome: Outcome, row: dict) -> None:
  """Diverged for a loss or a gradient that is not finite."""
  why = step.check(run, row)
  if why is not None:
    loop.stop_diverged(out, outcome, why)


SFT = Procedure(
    of_workdir=shapes.of_workdir, proposed=shapes.proposed,
    build=build.build, opened=_opened, kernels=build.kernels,
    step=step.sft_step, row=step.metrics_row,
    samples=lambda run, outcome: [], check=_check, evaluate=step.evaluate,
    numbers=step.numbers)


def main(config, path, fork_from=None) -> dict:
  """Fine-tunes by a config in a directory and returns the summary.

  Arguments and errors are those of loop.main; a config of another method raises
  a ValueError.
  """
  build.check_method(config)
  return loop.main(config, path, fork_from, SFT)


def _shares(run: SftRun) -> tuple[int, int, float]:
  """(tokens, trained tokens, padding share) of the first step."""
  sequences = run.source.draw(0)
  batches = step.micro_batches(run, sequences)
  positions = sum(b.segment_BT.size for b in batches)
  empty = sum(int((b.segment_BT == 0).sum()) for b in batches)
  return (sum(len(s.sequence) for s in sequences),
          step.trained_tokens(sequences), empty / positions)


def dry_run(config, path, details: bool = False) -> None:
  """Prints what `main` would do in directory `path`; writes nothing.

  Args:
    config: the config.
    path: the workdir.
    details: whether it shows all fields, and the kernel of every shape.

  Raises:
    As main for a config or a directory that does not fit.
  """
  build.check_method(config)
  config = shapes.of_workdir(config, path)
  stored = workdir.read_same(path, config)
  if not workdir.goes_on(path, config):
    loading.check_start(config)
  run = build.build(config, dates.choose(config, path if stored else None))
  print('config')
  console.show_config(run.config or config, 'sft', details)
  data = run.source.pool
  tokens, trained, _ = map(sum, zip(*data.sizes, strict=True))
  print(f'\n{run.steps} steps of {run.source.batch} conversations, '
        f'{run.steps * run.source.batch / len(data):.3g} pass(es); '
        f'{run.mesh.devices.size} device(s); '
        + ('a new directory' if stored is None else 'goes on in') + f' {path}')
  print(f'\nconversations\n  to train on {len(data)}: {tokens} tokens, '
        f'{trained} of them trained, the longest has '
        f'{max(size for size, *_ in data.sizes)}')
  for name, split in run.splits.items():
    print(f'  {name} {len(split)}')
  print('  first step: {} tokens, {} trained, padding share {:.3f}'.format(
      *_shares(run)))
  state = run.abstract_state
  print(f'\nparameters\n  student {memory.count(state.params):,}')
  frozen = []
  if run.adapted is not None:
    print(f'  frozen below them {memory.count(run.adapted.base):,}')
    frozen = [('frozen weights', run.adapted.base)]
  print('\nmemory per device')
  for part, tree in (('parameters', state.params), *frozen,
                     ('gradient', state.params),
                     ('optimizer state', state.opt_state)):
    print(f'  {part:28s} {memory.size(memory.device_bytes(tree)):>11s}')
  rows = dataset.shapes(run.room)
  print(f'\nprograms to compile, at most\n  gradient {len(rows)}, '
        f'validation {len(rows) if run.splits else 0}, the rest 3\n')
  for line in build.kernels(run) if details else ():
    print(line)
