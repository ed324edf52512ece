"""What comes before and after a run, whoever calls for it."""

from collections.abc import Callable
from typing import Any

from zppo_jax.devices.launched import Settings


def start(config, processes: int | None = 1) -> None:
  """Sets a CPU up before JAX starts: it gets the devices of the mesh, and
  malloc keeps freed memory.

  Args:
    config: the config, or None for a command without a mesh.
    processes: those that share the mesh; None where JAX counts them, which is
      not on CPUs.

  Raises:
    RuntimeError: if JAX has started with another number of CPU devices.
    ValueError: for a mesh that does not fit the processes.
  """
  from zppo_jax.devices import cpu_devices, malloc, sharding
  if config is not None and processes is not None:
    cpu_devices.ensure(sharding.MeshConfig(**config.mesh), processes)
  malloc.keep()


def start_together(config, of: Settings) -> None:
  """`start` for what several processes may run as one.

  Raises:
    HostsError: if the processes do not come together.
    RuntimeError, ValueError: as `start`.
  """
  from zppo_jax.devices import hosts
  start(config, hosts.start(of))
  hosts.connect()


def together(name: str, do: Callable[[], Any]) -> Any:
  """What `do` returns, as the work of all processes of a run: an error here
  ends the others, too.

  Args:
    name: the command's, for its errors.
    do: the work.
  """
  from zppo_jax.commands import failures
  from zppo_jax.devices import compile_cache, hosts, notice
  from zppo_jax.train import guards
  compile_cache.enable()
  notice.heed()
  say = lambda e: f'zppo {name}: {failures.said(e)}'
  with hosts.together(say, guards.Interrupted):
    return do()


def completed(name: str, config, workdir, fork_from, main: Callable,
              **shown) -> tuple[dict, str]:
  """Runs `main` of a config in a directory, shows what came out and writes the
  report.

  Args:
    name: the command's.
    config: the config.
    workdir: the directory of the run.
    fork_from: as of train.loop.main.
    main: (config, workdir, fork_from) -> summary.
    **shown: arguments of console.show_summary.

  Returns:
    (summary, path of the report); the report's is '' on all processes but the
    first.
  """
  from zppo_jax import report
  from zppo_jax.devices import hosts
  from zppo_jax.runs import console

  def run() -> tuple[dict, str]:
    summary, page = main(config, workdir, fork_from), ''
    if hosts.first():
      console.show_summary(summary, workdir, **shown)
      page = str(report.main([workdir]))
      print(f'report: {page}')
    return summary, page

  return together(name, run)
