#!/usr/bin/env bash
# One would guess: safetensors' load and load_file read the same files; the one
#   takes the bytes, the other the path.
# What happens: bfloat16 weights come back from load_file, while load of the
#   very same bytes raises KeyError with the bare name of the type, in
#   safetensors.numpy and in safetensors.flax, and although save of the same
#   module wrote those bytes. So a save and load in memory fails there, and
#   works in float32.
# Versions: safetensors 0.8.0, ml_dtypes 0.6.0, numpy 2.4.6, jax 0.10.2.
# Why it matters: code that gets its weights from an archive, a bucket or a
#   socket has bytes, not a path. Its test in float32 passes, and the first
#   real checkpoint, which is in bfloat16, cannot be opened.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'safetensors==0.8.0' 'numpy==2.4.6' \
  'ml_dtypes==0.6.0' 'jax==0.10.2' 'jaxlib==0.10.2'
JAX_PLATFORMS=cpu "$work/venv/bin/python" - "$work/w.safetensors" <<'PY'
from importlib.metadata import version
import pathlib
import sys
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import safetensors.flax
import safetensors.numpy

for name in ("safetensors", "ml_dtypes", "numpy", "jax"):
  print(name, version(name))
path = pathlib.Path(sys.argv[1])
modules = {
    "numpy": (safetensors.numpy, np.arange(4).astype),
    "flax": (safetensors.flax, jnp.arange(4).astype),
}
seen = {}
for name, (module, weights) in modules.items():
  for dtype in (np.float32, ml_dtypes.bfloat16):
    data = module.save({"w": weights(dtype)})
    path.write_bytes(data)
    try:
      loaded = str(module.load(data)["w"].dtype)
    except KeyError as error:
      loaded = repr(error)
    from_file = str(module.load_file(path)["w"].dtype)
    print(f"safetensors.{name}, {np.dtype(dtype)}: load gives {loaded}, "
          f"load_file {from_file}")
    seen[name, np.dtype(dtype).name] = (loaded, from_file)
expected = {
    ("numpy", "float32"): ("float32", "float32"),
    ("numpy", "bfloat16"): ("KeyError('BF16')", "bfloat16"),
    ("flax", "float32"): ("float32", "float32"),
    ("flax", "bfloat16"): ("KeyError('BF16')", "bfloat16"),
}
assert seen == expected, seen
PY
