#!/usr/bin/env bash
# One would guess: qwix.quantize to int8 with a scale per row is right to about
#   half a percent for weights of usual size, in float32, bfloat16 or float16.
# What happens: float16 weights of usual size all become 0. A scale less than
#   the root of the type's smallest normal number is taken for that of an
#   empty row and replaced by 1. In float16 that root is 0.0078, and in int8
#   each row whose largest weight is below 0.99 has a smaller scale. In int4
#   the bound is 0.058: of two rows up to 0.06 and 0.05 one is kept, the other
#   lost. nf4 keeps both. Nothing warns, and float16 is among the types that
#   qwix takes, while others are refused.
# Versions: qwix 0.1.8, jax 0.10.2, jaxlib 0.10.2, flax 0.12.8.
# Why it matters: a float16 checkpoint that is quantized to be served, or as the
#   frozen base of an adapter, has matrices of zeros. Shapes and types are as
#   they should be, and the same code is right for bfloat16.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'qwix==0.1.8' 'jax==0.10.2' \
  'jaxlib==0.10.2' 'flax==0.12.8'
JAX_PLATFORMS=cpu "$work/venv/bin/python" - <<'PY'
from importlib.metadata import version
import jax
import jax.numpy as jnp
import qwix

print("qwix", version("qwix"), "jax", jax.__version__)
# Two rows of 256 weights, evenly spread over -0.06..0.06 and -0.05..0.05.
ramp = jnp.linspace(-1.0, 1.0, 256)
weights = jnp.stack([0.06 * ramp, 0.05 * ramp])
seen = {}
for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
  for qtype in (jnp.int8, jnp.int4, "nf4"):
    quantized = qwix.quantize(weights.astype(dtype), qtype,
                              channelwise_axes=(0,))
    back = qwix.dequantize(quantized).astype(jnp.float32)
    errors = jnp.linalg.norm(back - weights, axis=1) / jnp.linalg.norm(
        weights, axis=1)
    key = (dtype.__name__, qtype if qtype == "nf4" else qtype.__name__)
    zeros = [int(count) for count in (back == 0).sum(axis=1)]
    print(*key, "zeros per row:", zeros, "relative errors:",
          [round(float(error), 4) for error in errors])
    seen[key] = ["lost" if error == 1 else "kept" if error < 0.2 else "other"
                 for error in errors]
expected = {key: ["kept", "kept"] for key in seen}
expected["float16", "int8"] = ["lost", "lost"]
expected["float16", "int4"] = ["kept", "lost"]
assert seen == expected, seen
PY
