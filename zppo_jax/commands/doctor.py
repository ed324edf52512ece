"""`zppo doctor`: what this machine can do, and what is wrong with it.

Each check is a row of CHECKS. One that raises is what is wrong; the others are
made all the same.
"""

import importlib.util
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np

from zppo_jax.commands import failures
from zppo_jax.devices import compile_cache, memory
from zppo_jax.models import attention
from zppo_jax.runs import same_config, workdir
from zppo_jax.verdicts.sandbox import GradingJob, Sandbox


class Check(NamedTuple):
  """A row of CHECKS.

  Attributes:
    name: what is looked at.
    lines: makes its lines; an exception is what is wrong.
    remedy: what to do about an exception.
  """
  name: str
  lines: Callable[[], Iterator[str]]
  remedy: str


def _versions() -> Iterator[str]:
  yield (f'Python {platform.python_version()}, {platform.system()} '
         f'{platform.machine()}')
  yield ', '.join(f'{name} {version}' for name, version in
                  same_config.versions().items())


def _machine() -> Iterator[str]:
  yield (f'{workdir.usable_cores()} of {os.cpu_count()} cores may be used, '
         f'{memory.size(memory.of_machine())} of memory, '
         f'{memory.size(shutil.disk_usage(os.curdir).free)} free on the disk '
         'of this folder')


def _devices() -> Iterator[str]:
  devices = jax.devices()
  kinds: dict[str, int] = {}
  for device in devices:
    kinds[device.device_kind] = kinds.get(device.device_kind, 0) + 1
  yield (f'{len(devices)} ({jax.default_backend()}): ' + ', '.join(
      f'{count} x {kind}' for kind, count in kinds.items()))
  numbers = devices[0].memory_stats() or {}
  if 'bytes_limit' in numbers:
    yield f'{memory.size(numbers["bytes_limit"])} of memory each'
  for device in devices:  # something must come back from each
    row = jax.device_put(np.ones((8, 8), np.float32), device)
    if float(jax.jit(lambda x: (x @ x).sum())(row)) != 512:
      raise RuntimeError(f'{device} computes 8 x 8 ones wrongly')
  yield 'each compiled and ran a product'


def _kernels() -> Iterator[str]:
  best = attention.best(jax.default_backend())
  yield (f'attention {best} where the shapes fit it, xla elsewhere'
         if best != 'xla' else
         'attention xla; splash runs on TPUs and cudnn on GPUs')


def _extras() -> Iterator[str]:
  for package, remedy in failures.EXTRAS.items():
    if importlib.util.find_spec(package) is None:
      yield f'{package} is not here: {remedy}'
    else:
      yield f'{package} is here'


def _cache() -> Iterator[str]:
  folder = compile_cache.folder()
  if not jax.config.jax_enable_compilation_cache:
    yield 'off, by JAX_ENABLE_COMPILATION_CACHE'
    return
  above = next(p for p in (folder, *folder.parents) if p.is_dir())
  with tempfile.TemporaryFile(dir=above):  # it can be written
    pass
  sizes = [p.stat().st_size for p in folder.rglob('*') if p.is_file()]
  yield (f'{folder}: {memory.size(sum(sizes))} in {len(sizes)} files'
         if sizes else f'{folder}: empty yet')


def _sandbox() -> Iterator[str]:
  sandbox = Sandbox()
  try:
    right, wrong = sandbox.grade([
        GradingJob('number', answer, '7') for answer in ('7', '8')])
  finally:
    sandbox.close()
  if (right.score, wrong.score) != (1.0, 0.0):
    raise RuntimeError(f'7 and 8 for 7 were graded {right} and {wrong}')
  yield f'answers are graded in {sandbox.limits.workers} process(es) at most'


CHECKS = (
    Check('versions', _versions, 'install zppo_jax again'),
    Check('machine', _machine, 'run it in a folder that is there'),
    Check('devices', _devices, 'the extras cuda12, cuda13 and tpu bring the '
          'JAX of an accelerator; JAX_PLATFORMS=cpu leaves it out'),
    Check('kernels', _kernels, "student.attention = 'xla' runs everywhere"),
    Check('extras', _extras, 'install the package again'),
    Check('compiled programs', _cache, 'JAX_COMPILATION_CACHE_DIR names '
          'another folder'),
    Check('verdicts', _sandbox, 'docs/verdicts.md says what workers need'))


def main(checks: tuple[Check, ...] = CHECKS) -> bool:
  """Prints what each check says.

  Returns:
    Whether nothing is wrong.
  """
  wrong = []
  for check in checks:
    print(check.name)
    try:
      for line in check.lines():
        print(f'  {line}', flush=True)
    except BrokenPipeError:  # nobody reads on
      raise
    except Exception as e:  # of any library: it is what is looked for
      wrong.append(check.name)
      text = ' '.join(str(e).split())
      print(f'  WRONG: {type(e).__name__}: {text}\n  {check.remedy}')
  print('\nwrong: ' + ', '.join(wrong) if wrong else '\nnothing is wrong')
  return not wrong
