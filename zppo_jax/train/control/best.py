"""WORKDIR/best: the weights with the best evaluation so far.

  final.safetensors     the weights, those of adapters merged
  adapters.safetensors  of a run with lora.rank above 0
  best.json             metric, mode, step, value; written last

The folder is weights like those of a finished run: --checkpoint=WORKDIR/best of
eval, export, serve and sample, and student.weights of another run. The
checkpoint of its step stays in checkpoints/ beside the newest ones.
"""

import json
import pathlib

from zppo_jax.devices import disk
from zppo_jax.devices.disk import write_json
from zppo_jax.runs.checkpoints import BEST
from zppo_jax.train.control.evaluations import Best
from zppo_jax.weights import safetensors_file

FOLDER, RECORD = 'best', BEST


def write(workdir: pathlib.Path, best: Best, files: dict) -> None:
  """Writes the weights of the best evaluation in place of the former ones.

  Args:
    workdir: the directory of the run.
    best: the evaluation.
    files: name -> (params on the host, description).

  Raises:
    OSError: for a file that cannot be written; it names the file.
  """
  folder = workdir / FOLDER
  with disk.naming(folder):
    folder.mkdir(exist_ok=True)
    # A kill between two files must leave no record of other weights.
    (folder / RECORD).unlink(missing_ok=True)
    for name, (tree, description) in files.items():
      safetensors_file.save(folder / name, tree, description)
  write_json(folder / RECORD, {
      **best._asdict(), 'files': {
          name: list(disk.digest_of_start(folder / name)) for name in files}})


def step_of(workdir: pathlib.Path) -> int | None:
  """The step whose weights WORKDIR/best holds whole; None without any."""
  try:
    return json.loads((workdir / FOLDER / RECORD).read_text())['step']
  except (OSError, ValueError, KeyError, TypeError):
    return None
