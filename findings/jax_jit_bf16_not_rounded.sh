#!/usr/bin/env bash
# One would guess: a sum of two bfloat16 arrays is bfloat16, so that a cast to
#   float32 afterwards shows values that bfloat16 can hold, with jit or
#   without.
# What happens: under jit on the CPU the sum (and a product, a softmax, a
#   matrix product) is handed to the cast before it was rounded. The output
#   holds values that no bfloat16 has, and differs from the same function
#   without jit. lax.reduce_precision keeps the rounding. A cast from float32
#   to bfloat16 and back, with nothing between, is kept as well.
# Versions: jax 0.10.2, jaxlib 0.10.2.
# Why it matters: two programs that share a model, such as a sampler and a
#   trainer, round at other places, so their log-probabilities differ although
#   each types every step as bfloat16.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'jax==0.10.2' 'jaxlib==0.10.2'
JAX_PLATFORMS=cpu "$work/venv/bin/python" - <<'PY'
import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

print("jax", jax.__version__, "jaxlib", jaxlib.__version__)
one = jnp.linspace(1, 2, 64).astype(jnp.bfloat16)
two = one * jnp.bfloat16(0.37)


def add(x, y):
  total = x + y
  assert total.dtype == jnp.bfloat16
  return total.astype(jnp.float32)


def multiply(x, y):
  return (x * y).astype(jnp.float32)


def kept(x, y):
  return jax.lax.reduce_precision(x + y, 8, 7).astype(jnp.float32)


def cast(x, y):
  del y
  return (x.astype(jnp.float32) * 1.1).astype(jnp.bfloat16).astype(jnp.float32)


seen = {}
for function in (add, multiply, kept, cast):
  shares = []
  for run in (function, jax.jit(function)):
    out = np.asarray(run(one, two))
    shares.append(float((out == out.astype(jnp.bfloat16)).mean()))
  print(f"{function.__name__}: share of values that bfloat16 can hold: "
        f"{shares[0]:.2f} without jit, {shares[1]:.2f} with it")
  seen[function.__name__] = [share == 1.0 for share in shares]
expected = {
    "add": [True, False],
    "multiply": [True, False],
    "kept": [True, True],
    "cast": [True, True],
}
assert seen == expected, seen
PY
