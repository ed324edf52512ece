"""One environment a tool, made where it is missing.

  python -m benchmarks.side_by_side.environments --envs=DIR

Ours is the one that runs this. The versions are those that were compared.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

PACKAGES = {
    'trl': ('torch==2.13.0', 'trl==1.16.0', 'datasets'),
    'tunix': ('jax==0.10.2', 'google-tunix==0.1.7'),
    # pillow: easydel imports it and does not ask for it
    'easydel': ('torch==2.13.0', 'jax==0.9.2', 'easydel==0.3.0', 'pillow'),
}
DEFAULT = pathlib.Path(tempfile.gettempdir()) / 'zppo_side_by_side' / 'envs'


def python(envs: pathlib.Path, name: str) -> pathlib.Path:
  """An environment's interpreter, installed if it is not there."""
  folder = pathlib.Path(envs) / name
  done = folder / 'installed'
  if not done.exists() or done.read_text() != '\n'.join(PACKAGES[name]):
    subprocess.run([sys.executable, '-m', 'venv', str(folder)], check=True)
    subprocess.run([str(folder / 'bin' / 'python'), '-m', 'pip', 'install',
                    '--quiet', *PACKAGES[name]], check=True)
    done.write_text('\n'.join(PACKAGES[name]))
  return folder / 'bin' / 'python'


if __name__ == '__main__':
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--envs', type=pathlib.Path, default=DEFAULT)
  folder = parser.parse_args().envs
  for tool in PACKAGES:
    print(tool, python(folder, tool))
