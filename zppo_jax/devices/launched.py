"""Which process of a run this is, by flags, environment and launchers.

JAX finds out by itself on TPUs and under SLURM, Open MPI and Kubernetes. This
module decides whether JAX is asked, because a single process must not wait for
others.
"""

import dataclasses
import os
from importlib import util

from zppo_jax import allowed


@dataclasses.dataclass(frozen=True)
class Settings:
  """Which process of how many this one is; None lets JAX find it out.

  Attributes:
    coordinator: HOST:PORT of the first process.
    processes: their number.
    process: the number of this one, from 0.
  """
  coordinator: str | None = None
  processes: int | None = None
  process: int | None = None

  def __post_init__(self):
    if self.processes is not None:
      allowed.number('processes', self.processes, '>= 1', whole=True)
    if self.process is not None:
      most = '' if self.processes is None else f'{self.processes}'
      allowed.number('process', self.process,
                     f'[0, {most})' if most else '>= 0', whole=True)

  def check_whole(self) -> None:
    """ValueError if a part is missing and no launcher gives it."""
    fields = dataclasses.asdict(self)
    given = [name for name, value in fields.items() if value is not None]
    if given and len(given) < len(fields):
      missing = [name for name in fields if name not in given]
      raise ValueError(
          f'{", ".join(given)} given without {", ".join(missing)}, and no '
          'launcher is known here; several processes need --coordinator='
          'HOST:PORT, --processes and --process, or JAX_COORDINATOR_ADDRESS, '
          'JAX_NUM_PROCESSES and JAX_PROCESS_ID')


def whole(name: str) -> int | None:
  """The whole number in an environment variable; None if it is not set."""
  text = os.environ.get(name, '')
  if not text:
    return None
  try:
    return int(text)
  except ValueError:
    raise ValueError(f'{name} is {text!r}; a whole number is allowed') from None


def settings(coordinator: str | None = None, processes: int | None = None,
             process: int | None = None) -> Settings:
  """Settings of flags; where a flag is missing, the environment's."""
  return Settings(
      coordinator=coordinator or os.environ.get('JAX_COORDINATOR_ADDRESS'),
      processes=whole('JAX_NUM_PROCESSES') if processes is None else (
          processes),
      process=whole('JAX_PROCESS_ID') if process is None else process)


def _of_tpu_vm() -> bool:
  """Whether this is a TPU VM, whose metadata JAX asks for the other hosts."""
  platforms = os.environ.get('JAX_PLATFORMS', 'tpu')
  chips = os.path.exists('/dev/accel0') or os.path.exists('/dev/vfio/0')
  return (chips and 'tpu' in platforms and util.find_spec('libtpu') is not None
          and 'TPU_SKIP_MDS_QUERY' not in os.environ)


def expected() -> int | None:
  """The number of processes that the environment of a launcher names.

  It is 1 without a launcher, and None where JAX must ask for it: on a TPU VM,
  and in an indexed job of Kubernetes.
  """
  workers = os.environ.get('TPU_PROCESS_ADDRESSES') or os.environ.get(
      'TPU_WORKER_HOSTNAMES')
  if workers:
    return len(workers.split(',')) * (whole('MEGASCALE_NUM_SLICES') or 1)
  if 'SLURM_PROCID' in os.environ and 'SLURM_STEP_NODELIST' in os.environ:
    return whole('SLURM_STEP_NUM_TASKS') or whole('SLURM_NTASKS') or 1
  if 'OMPI_MCA_orte_hnp_uri' in os.environ:
    return whole('OMPI_COMM_WORLD_SIZE') or 1
  if _of_tpu_vm():
    return None
  if 'JOB_COMPLETION_INDEX' in os.environ and (
      'KUBERNETES_SERVICE_HOST' in os.environ
      and util.find_spec('kubernetes') is not None):
    return None
  return 1
