#!/usr/bin/env bash
# One would guess: "nvfp4" in qwix is the published format NVFP4: 4 bits per
#   number, a float8 scale per block of 16, and a float32 scale for the whole
#   array, which makes its error the same for large and small arrays.
# What happens: there is no scale for the whole array. The scale of a block is
#   cast to float8_e4m3 as it is, so an array of numbers up to 0.005 comes
#   back as zeros, and numbers above 2688 are cut off there. Dividing the array
#   by its largest number first, and multiplying afterwards, avoids both.
#   "mxfp4", with its powers of two, and int4 in the same blocks keep both
#   arrays. Nothing warns.
# Versions: qwix 0.1.8, jax 0.10.2, jaxlib 0.10.2, flax 0.12.8.
# Why it matters: matrices of adapters and gradients are as small as that, and
#   outliers among activations as large. A study that finds NVFP4 worse than
#   MXFP4 by this code has measured the missing scale.
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
unit = jax.random.uniform(jax.random.key(0), (64, 256), minval=-1, maxval=1)


def there_and_back(array, qtype, block):
  return qwix.dequantize(qwix.quantize(array, qtype, tiled_axes={1: block}))


seen = {}
for size in (1.0, 0.005, 10000.0):
  array = unit * size
  largest = jnp.max(jnp.abs(array))
  ways = {
      "nvfp4": there_and_back(array, "nvfp4", 16),
      "nvfp4, divided first": largest * there_and_back(
          array / largest, "nvfp4", 16),
      "mxfp4": there_and_back(array, "mxfp4", 32),
      "int4": there_and_back(array, jnp.int4, 16),
  }
  for name, back in ways.items():
    error = float(jnp.linalg.norm(back - array) / jnp.linalg.norm(array))
    print(f"numbers up to {size}, {name}: relative error {error:.4f}, "
          f"largest {float(jnp.max(jnp.abs(back))):.4g}")
    seen[size, name] = ("lost" if error == 1 else "kept" if error < 0.15
                        else "cut off")
expected = {key: "kept" for key in seen}
expected[0.005, "nvfp4"] = "lost"
expected[10000.0, "nvfp4"] = "cut off"
assert seen == expected, seen
PY
