"""Calls launchers in an environment that holds only what a test gives."""

import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / 'launchers'
LAUNCHERS = ('local.sh', 'gpu.sh', 'slurm.sbatch', 'tpu_queued.sh', 'gke.sh')


def launch(name, *argv, folder=FOLDER, cwd=ROOT, timeout=60, **env):
  """The finished process of FOLDER/NAME; env adds to PATH and HOME."""
  return subprocess.run(
      ['bash', str(folder / name), *map(str, argv)], cwd=cwd, text=True,
      capture_output=True, timeout=timeout, stdin=subprocess.DEVNULL,
      env={'PATH': os.environ['PATH'], 'HOME': '/home/me', **env})


def executable(path: pathlib.Path, text: str) -> pathlib.Path:
  path.write_text(text)
  path.chmod(0o755)
  return path
