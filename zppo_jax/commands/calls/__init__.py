"""The commands as functions of Python: zppo_jax.train, zppo_jax.evaluate.

They do what `zppo train` and `zppo eval` do, with the same files, messages and
errors, and return what is in the files (docs/python.md).
"""

import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from zppo_jax import configs
from zppo_jax.chat import dates
from zppo_jax.commands.calls import running
from zppo_jax.devices import launched


class Trained(NamedTuple):
  """A complete run.

  Attributes:
    workdir: its directory, which holds all of it (docs/metrics.md).
    summary: the content of summary.json, e.g. summary['eval'][split]['final'],
      the accuracy after the last step.
    metrics: the last line of metrics.jsonl: the numbers of the last step.
    weights: the file of the final weights, which `zppo sample`, `zppo serve`
      and `zppo export` take.
    report: the page of the run; None on all processes but the first.
  """
  workdir: pathlib.Path
  summary: dict[str, Any]
  metrics: dict[str, Any]
  weights: pathlib.Path
  report: pathlib.Path | None


class Evaluated(NamedTuple):
  """An evaluation.

  Attributes:
    path: its directory, with samples.jsonl and summary.json.
    summary: the content of summary.json.
  """
  path: pathlib.Path
  summary: dict[str, Any]


def load_config(name: str) -> ConfigDict:
  """A config to change and to train by.

  Args:
    name: as --config of the commands: a packaged config, a file, or
      `package.module`, with an argument behind a colon.

  Returns:
    The config, locked: a misspelt field is an error and no new field.

  Raises:
    ValueError: if there is none, with those that are known.
  """
  return configs.load(name).unlock().lock()  # sections that were open, too


def _config(config: ConfigDict | str) -> ConfigDict:
  if isinstance(config, str):
    return load_config(config)
  if not isinstance(config, ConfigDict):
    raise ValueError(f'config is of type {type(config).__name__}; allowed: a '
                     'ConfigDict, or the name of one')
  return config.copy_and_resolve_references()


def _last_line(path: pathlib.Path) -> dict[str, Any]:
  lines = path.read_text().splitlines()
  return json.loads(lines[-1]) if lines else {}


def train(config: ConfigDict | str, workdir: str | pathlib.Path, *,
          fork_from: str | pathlib.Path | None = None) -> Trained:
  """Trains by a config in a directory, as `zppo train` and `zppo sft` do.

  A new directory starts a run; the same call goes on with a run that was
  stopped, and returns a complete one at once. Call it before JAX starts if the
  mesh has several devices of a CPU.

  Args:
    config: a ConfigDict, which is not changed, or a name (`load_config`).
    workdir: the run's directory.
    fork_from: a workdir or checkpoint from whose state a new run starts.

  Raises:
    zppo_jax.train.guards.Interrupted: after Ctrl-C or SIGTERM, once the state
      is saved; of its siblings, Diverged, Idle, Ungraded and TeacherFailed are
      what stops a run.
    ValueError, KeyError, FileNotFoundError, FileExistsError: naming the field
      or the file that does not fit.
    RuntimeError: if JAX has started with other devices of a CPU.
  """
  c = _config(config)
  path = pathlib.Path(workdir)
  running.start_together(c, launched.settings())
  if c.get('method') == 'sft':
    from zppo_jax.sft import command
    name, main, shown = 'sft', command.main, {'what': 'validation'}
  else:
    from zppo_jax.train import loop
    name, main, shown = 'train', loop.main, {}
  from zppo_jax.weights import safetensors_file
  summary, page = running.completed(
      name, c, str(path), None if fork_from is None else str(fork_from), main,
      **shown)
  return Trained(
      workdir=path, summary=summary,
      metrics=_last_line(path / 'metrics.jsonl'),
      weights=path / safetensors_file.FINAL,
      report=pathlib.Path(page) if page else None)


def evaluate(checkpoint: str | pathlib.Path, to: str | pathlib.Path, *,
             config: ConfigDict | str | None = None,
             splits: Sequence[str] = (), rollouts: int = 1,
             ks: Sequence[int] = (1,), temperature: float = 0.0) -> Evaluated:
  """Answers questions with a checkpoint, as `zppo eval` does.

  Args:
    checkpoint: a run, one checkpoint of it, or weights.
    to: a new directory.
    config: a ConfigDict or a name; None takes that of the run.
    splits: evaluation splits; () means the config's eval.splits.
    rollouts: n, the rollouts per question.
    ks: each k of pass@k.
    temperature: 0 takes the argmax.

  Raises:
    ValueError, KeyError, FileNotFoundError, FileExistsError: naming what does
      not fit; without a config, also if the checkpoint is of no run.
  """
  if config is None:
    found = dates.run_of(pathlib.Path(checkpoint).resolve())
    if found is None:
      raise ValueError(f'checkpoint is {str(checkpoint)!r}, which belongs to '
                       'no run; it needs a config')
    c = configs.of_values(found[1]['config'])
  else:
    c = _config(config)
  running.start(c)
  from zppo_jax.commands import evaluate as command
  summary = command.main(
      c, str(checkpoint), str(to), splits=splits, num_rollouts=rollouts, ks=ks,
      temperature=temperature)
  print(command.table(summary))
  return Evaluated(pathlib.Path(to), summary)
