#!/usr/bin/env bash
# One would guess: jax_exec_time_optimization_effort, from -1.0 to 1.0 and
#   described as the effort for minimizing execution time, shortens or lengthens
#   compilation for TPUs; and the optimization level O3 tries more than O2.
# What happens: compiled for a v5e slice, efforts of -1.0, 0.0 and 1.0 give the
#   same program, byte for byte, and so do the levels O2, O3 and none. Only
#   jax_optimization_level O0 and O1 give others. Nothing says that a setting
#   was not read.
# Versions: jax 0.10.2, jaxlib 0.10.2, libtpu 0.0.52.
# Why it matters: who sets the effort to -1.0 to try a large program sooner
#   waits as long as before, and may take the time for that of a fast build.
#   With the level O1 the update of a model of 0.8 B parameters compiled in less
#   than half of the time.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/effort.py" <<'PY'
import hashlib
from importlib import metadata

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

for name in ("jax", "jaxlib", "libtpu"):
  print(name, metadata.version(name))
devices = topologies.get_topology_desc(
    platform="tpu", topology_name="v5e:2x2").devices
mesh = Mesh(np.array(devices).reshape(4), ("x",))
on = lambda *axes: NamedSharding(mesh, P(*axes))
weights = jax.ShapeDtypeStruct((8, 1024, 1024), jnp.bfloat16,
                               sharding=on(None, "x", None))
inputs = jax.ShapeDtypeStruct((512, 1024), jnp.bfloat16, sharding=on("x", None))


def loss(weights, x):
  def layer(x, w):
    w = jax.lax.with_sharding_constraint(w, on(None, None))
    return jax.nn.gelu(x @ w) @ w.T, None
  return jax.lax.scan(layer, x, weights)[0].sum()


def program(level="UNKNOWN", effort=0.0):
  jax.config.update("jax_optimization_level", level)
  jax.config.update("jax_exec_time_optimization_effort", effort)
  text = jax.jit(jax.grad(loss)).lower(weights, inputs).compile().as_text()
  found = hashlib.sha256(text.encode()).hexdigest()[:12]
  print(f"level {level}, effort {effort:+.1f}: {text.count(chr(10))} lines, "
        f"sha256 {found}")
  return found


# In one loop, because a program holds the lines from which it was called.
settings = [("UNKNOWN", 0.0), ("UNKNOWN", -1.0), ("UNKNOWN", 1.0),
            *((level, 0.0) for level in ("O0", "O1", "O2", "O3"))]
default, *others = [program(*setting) for setting in settings]
same = [found == default for found in others]
efforts = dict(zip((-1.0, 1.0), same))
levels = dict(zip(("O0", "O1", "O2", "O3"), same[2:]))
print("the program of no effort and no level:", efforts, levels)
assert efforts == {-1.0: True, 1.0: True}, efforts
assert levels == {"O0": False, "O1": False, "O2": True, "O3": True}, levels
PY
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'jax==0.10.2' 'jaxlib==0.10.2' \
  'libtpu==0.0.52'
JAX_PLATFORMS=cpu JAX_ENABLE_COMPILATION_CACHE=false TPU_SKIP_MDS_QUERY=1 \
  ALLOW_MULTIPLE_LIBTPU_LOAD=1 "$work/venv/bin/python" "$work/effort.py" \
  2> "$work/log" || { tail -5 "$work/log"; exit 1; }
