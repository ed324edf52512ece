#!/usr/bin/env bash
# One would guess: the global norm of 1,000 gradient leaves, each a single 1,
#   is the root of 1,000 (31.6), and clipping a gradient of 300s to norm 1
#   leaves a vector of norm 1.
# What happens: the squares are added up in the type of the leaves. In
#   bfloat16 256 + 1 is 256, so the norm stops at 16 from the 256th leaf on.
#   In float16 the square of 300 overflows, the norm is inf, and the clipped
#   gradient is all zeros. Neither gives a warning or a NaN.
# Versions: optax 0.2.8, jax 0.10.2.
# Why it matters: a deep model has hundreds of leaves. In bfloat16 a logged
#   norm is too small and the clip too weak; in float16 a step is silently
#   lost.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'optax==0.2.8' 'jax==0.10.2' \
  'jaxlib==0.10.2'
JAX_PLATFORMS=cpu "$work/venv/bin/python" - <<'PY'
import jax
import jax.numpy as jnp
import optax

print("optax", optax.__version__, "jax", jax.__version__)
seen = {}
for dtype in (jnp.float32, jnp.bfloat16):
  leaves = {f"leaf_{i}": jnp.ones((1,), dtype) for i in range(1000)}
  norm = optax.tree.norm(leaves)
  print(f"norm of 1000 leaves in {norm.dtype}: {float(norm):.2f}")
  seen[norm.dtype.name] = round(float(norm), 1)
clip = optax.clip_by_global_norm(1.0)
for dtype in (jnp.float32, jnp.float16):
  grads = jnp.full((4,), 300.0, dtype)
  clipped, _ = clip.update(grads, clip.init(grads))
  print(f"clipped in {grads.dtype}: {clipped}")
  seen["clipped " + grads.dtype.name] = clipped.tolist()
expected = {
    "float32": 31.6,
    "bfloat16": 16.0,
    "clipped float32": [0.5] * 4,
    "clipped float16": [0.0] * 4,
}
assert seen == expected, seen
PY
