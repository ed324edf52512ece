"""Accelerators that a run is planned for and that need not be here.

A topology is a name such as `v5p:4x4x4` (a TPU slice), `gpu:h100:8` or `cpu:8`.
TPU slices are compiled for by libtpu itself. GPUs and CPUs stand on simulated
CPU devices, as many as the topology has.
"""

import functools
import math
import os
import re
from collections.abc import Sequence
from typing import NamedTuple

import jax

from zppo_jax import allowed

GIB = 2**30


class Chip(NamedTuple):
  """A row of TPUS or GPUS, per JAX device.

  Attributes:
    usable: bytes that programs may fill.
    per_chip: JAX devices of a chip; money is paid per chip.
    link: bytes/s that a device sends to its neighbours over all of its links
      at once, one way. The docs of Cloud TPU give twice that per chip
      ("bidirectional"), NVIDIA's data sheets too.
    version: the name in jax.experimental.pallas.tpu, which knows capacity,
      bandwidth and peak rate; '' where it has none.
    cores: TensorCores of a device.
    flops: FLOP/s of dense bfloat16 products, where `version` is ''.
    bandwidth: bytes/s of its memory, where `version` is ''.
  """
  usable: int
  per_chip: int
  link: float
  version: str = ''
  cores: int = 1
  flops: float = 0.0
  bandwidth: float = 0.0


# What libtpu 0.0.52 says that it can fill, from its refusals ("Used ... of
# ... hbm"); reserved memory is not in it.
TPUS = {
    'v4': Chip(int(15.25 * GIB), 2, 150e9, 'TPU_V4'),
    'v5e': Chip(int(15.75 * GIB), 1, 200e9, 'TPU_V5E'),
    'v5p': Chip(int(95.73 * GIB), 1, 600e9, 'TPU_V5P', cores=2),
    'v6e': Chip(int(31.24 * GIB), 1, 400e9, 'TPU_V6E'),
    'tpu7x': Chip(int(94.74 * GIB), 2, 300e9, 'TPU_7X'),
}
# Data sheets of the SXM modules, without sparsity; usable is all that the
# driver reports.
GPUS = {
    'a100': Chip(81920 * 2**20, 1, 300e9, flops=312e12, bandwidth=2.039e12),
    'h100': Chip(81559 * 2**20, 1, 450e9, flops=989.4e12, bandwidth=3.35e12),
    'h200': Chip(143771 * 2**20, 1, 450e9, flops=989.4e12, bandwidth=4.8e12),
}
GPU_SHARE = 0.75  # of a GPU's memory that JAX takes
_FRACTION = 'XLA_PYTHON_CLIENT_MEM_FRACTION'
_SLICE = re.compile(r'\d+(x\d+){1,2}')
EXAMPLES = 'v5p:4x4x4, gpu:h100:8 or cpu:8'


class Topology(NamedTuple):
  """Devices of one kind.

  Attributes:
    name: as the user wrote it.
    platform: 'tpu', 'gpu' or 'cpu'.
    kind: a key of TPUS or GPUS, or 'cpu'.
    count: JAX devices.
    chips: what is paid for.
    usable: bytes per device.
    flops, bandwidth, link: FLOP/s of bfloat16, bytes/s of memory and of links,
      per device; 0 where nobody knows them ahead of time (CPUs).
  """
  name: str
  platform: str
  kind: str
  count: int
  chips: int
  usable: int
  flops: float = 0.0
  bandwidth: float = 0.0
  link: float = 0.0


def _refusal(name: str) -> ValueError:
  return ValueError(
      f'--topology is {name!r}; it must be a kind and a size, such as '
      f'{EXAMPLES}. Kinds: {", ".join(TPUS)}, gpu:KIND with '
      f'{", ".join(GPUS)}, cpu')


def _count(name: str, text: str) -> int:
  if not text.isdecimal():
    raise _refusal(name)
  return allowed.number(f'--topology is {name!r}: the number of devices',
                        int(text), '>= 1')


def _tpu(name: str, kind: str, sizes: str) -> Topology:
  row = TPUS[kind]
  if not _SLICE.fullmatch(sizes):
    raise _refusal(name)
  chips = math.prod(map(int, sizes.split('x')))
  # Pallas is imported here, because other kinds do without it.
  from jax.experimental.pallas import tpu
  info = tpu.get_tpu_info_for_chip(tpu.ChipVersion[row.version], row.cores)
  # The table of JAX is per TensorCore.
  return Topology(
      name, 'tpu', kind, chips * row.per_chip, chips, row.usable,
      info.bf16_ops_per_second * row.cores,
      info.mem_bw_bytes_per_second * row.cores, row.link)


def _gpu(name: str, kind: str, size: str) -> Topology:
  row = allowed.known('kind of GPU in --topology', kind, GPUS)
  count = _count(name, size)
  share = float(os.environ.get(_FRACTION) or GPU_SHARE)
  return Topology(name, 'gpu', kind, count, count, int(row.usable * share),
                  row.flops, row.bandwidth, row.link)


def _cpu(name: str, size: str) -> Topology:
  count = _count(name, size)
  whole = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
  return Topology(name, 'cpu', 'cpu', count, 1, whole // count)


def parse(name: str) -> Topology:
  """The topology of a name.

  Raises:
    ValueError: for a name of another form, or a size below 1.
    KeyError: for an unknown kind of GPU.
  """
  kind, *sizes = name.split(':')
  if kind in TPUS and len(sizes) == 1:
    return _tpu(name, kind, *sizes)
  if kind == 'gpu' and len(sizes) == 2:
    return _gpu(name, *sizes)
  if kind == 'cpu' and len(sizes) == 1:
    return _cpu(name, *sizes)
  raise _refusal(name)


def prepare(topology: Topology) -> None:
  """Sets JAX up for compiling on a CPU; call it before JAX starts.

  A laptop with libtpu and no TPU must not look for one, and programs of a
  topology without libtpu are compiled for as many simulated CPU devices.

  Raises:
    ValueError: if JAX has started with fewer CPU devices.
  """
  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
  os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')
  jax.config.update('jax_platforms', 'cpu')
  if topology.platform == 'tpu':
    return
  flags = os.environ.get('XLA_FLAGS', '')
  if 'xla_force_host_platform_device_count' not in flags:
    try:
      jax.config.update('jax_num_cpu_devices', topology.count)
    except RuntimeError:
      pass  # JAX has started; the number of its devices is checked here
  if len(jax.devices('cpu')) < topology.count:
    raise ValueError(
        f'--topology is {topology.name!r}; JAX has started with '
        f'{len(jax.devices("cpu"))} CPU devices (XLA_FLAGS is {flags!r})')


@functools.cache
def devices(topology: Topology) -> Sequence[jax.Device]:
  """What a mesh of the topology is made of.

  Raises:
    ValueError: for a slice that does not exist; without libtpu for a TPU.
  """
  if topology.platform != 'tpu':
    return tuple(jax.devices('cpu')[:topology.count])
  from jax.experimental import topologies
  try:
    found = topologies.get_topology_desc(
        platform='tpu', topology_name=topology.name).devices
  except ImportError as e:
    raise ValueError(
        f'--topology is {topology.name!r}; plans for TPUs need libtpu: '
        "pip install 'zppo-jax[aot]'") from e
  except Exception as e:  # libtpu's own errors have no common type
    raise ValueError(
        f'--topology is {topology.name!r}; libtpu has no such slice: '
        f'{str(e).splitlines()[0]}') from e
  return tuple(found)
