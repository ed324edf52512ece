"""The environment of a process that a test starts."""

import os
import pathlib

ROOT = pathlib.Path(__file__).parents[1]
DEVICES = '--xla_force_host_platform_device_count='


def alone(**more: str) -> dict[str, str]:
  """That of this process, but with one CPU device and the package's sources.

  The suite's other flags stay: programs of a process that a test starts are
  compiled as quickly as its own (tests/conftest.py).
  """
  flags = [flag for flag in os.environ.get('XLA_FLAGS', '').split()
           if not flag.startswith(DEVICES)]
  return {**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': ' '.join(flags),
          'PYTHONPATH': str(ROOT), **more}
