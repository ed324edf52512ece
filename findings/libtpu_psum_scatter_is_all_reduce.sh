#!/usr/bin/env bash
# One would guess: jax.lax.psum_scatter is a reduce-scatter of the TPU compiler,
#   so that a chip receives each byte once and holds its part of the sum alone.
# What happens: compiled ahead for 16 chips or more (v5e:4x4, v6e:4x4,
#   v5p:2x2x4) its text has an all-reduce of the whole array, of which each chip
#   then cuts its part, and temporaries of the whole array: 512 MiB for a result
#   of 32 MiB. The order of the devices does not matter. For four chips (v5e:2x2)
#   8 MiB are a reduce-scatter, and of 512 MiB pieces go from neighbour to
#   neighbour, with temporaries of about half of the array.
# Versions: jax 0.10.2, libtpu 0.0.52. Nothing ran on a TPU.
# Why it matters: who sums gradients of sharded parameters (FSDP, ZeRO) counts on
#   half the bytes of an all-reduce and on no memory for the whole gradient. A
#   large one, such as that of a table of embeddings, may be the largest
#   temporary of the step.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'jax==0.10.2' 'jaxlib==0.10.2' \
  'libtpu==0.0.52'
JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 TPU_LOG_DIR="$work" \
  ALLOW_MULTIPLE_LIBTPU_LOAD=1 "$work/venv/bin/python" - 2>"$work/log" <<'PY' ||
import importlib.metadata
import re

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import mesh_utils, topologies

print(*(f"{name} {importlib.metadata.version(name)}"
        for name in ("jax", "libtpu")))
WIDTH = 2048


def compiled(name, rows, ordered):
  """({collectives of the text}, (MiB of temporaries, MiB of the result))."""
  devices = topologies.get_topology_desc(name, "tpu").devices
  count = len(devices)
  order = (mesh_utils.create_device_mesh((count,), devices) if ordered
           else np.array(devices))
  mesh = jax.sharding.Mesh(order, ("x",))
  spec = jax.P("x", None, None)
  scattered = jax.shard_map(
      lambda w: jax.lax.psum_scatter(w[0], "x", tiled=True),
      mesh=mesh, in_specs=spec, out_specs=jax.P("x", None))
  program = jax.jit(scattered).lower(jax.ShapeDtypeStruct(
      (count, rows, WIDTH), jnp.float32,
      sharding=jax.NamedSharding(mesh, spec))).compile()
  found = re.findall(
      r" (all-reduce|reduce-scatter|collective-permute)(?:-start)?\(",
      program.as_text())
  memory = program.memory_analysis()
  mib = (memory.temp_size_in_bytes >> 20, memory.output_size_in_bytes >> 20)
  print(f"{name}, {count} chips, {rows * WIDTH * 4 >> 20} MiB each: "
        f"{sorted(set(found))}, temporaries {mib[0]} MiB, result {mib[1]} MiB")
  return set(found), mib


for name in ("v5e:4x4", "v6e:4x4", "v5p:2x2x4"):
  for ordered in (False, True):
    found, mib = compiled(name, 65536, ordered)
    assert found == {"all-reduce"}, found
    assert mib == (512, 32), mib
found, _ = compiled("v5e:2x2", 1024, False)
assert found == {"reduce-scatter"}, found
found, mib = compiled("v5e:2x2", 65536, False)
assert "collective-permute" in found and mib[0] < 512, (found, mib)
PY
  { tail -n 3 "$work/log" >&2; exit 1; }
