#!/usr/bin/env bash
# One would guess: Adam forgets. With b2 = 0.999 a gradient of 3,000 steps ago
#   has about 5 % of its weight left in the second moment, and under a
#   constant gradient of 1 the second moment nears 1.
# What happens: with bfloat16 parameters the second moment is made in bfloat16
#   too, without being asked for (mu_dtype governs the first moment alone). A
#   decay by 0.1 % is less than half a unit in the last place, so it rounds to
#   nothing: after 3,000 steps of zero gradient the moment is what it was.
#   Under a constant gradient it sticks at 0.5.
# Versions: optax 0.2.8, jax 0.10.2.
# Why it matters: one early spike shrinks a parameter's steps for the rest of
#   the run, and a settled parameter takes steps about 1.4 times too long.
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
adam = optax.scale_by_adam(b2=0.999, mu_dtype=jnp.float32)
step = jax.jit(adam.update)
seen = {}
for dtype in (jnp.float32, jnp.bfloat16):
  params = jnp.zeros((1,), dtype)
  one, zero = jnp.ones((1,), dtype), jnp.zeros((1,), dtype)
  _, state = step(one, adam.init(params))
  spike = float(state.nu[0])
  for _ in range(3000):
    _, state = step(zero, state)
  left = float(state.nu[0]) / spike
  state = adam.init(params)
  for _ in range(3000):
    _, state = step(one, state)
  level = float(state.nu[0])
  print(f"{state.nu.dtype}: {left:.3f} of the spike is left after 3000 idle "
        f"steps; level under a constant gradient of 1: {level:.3f}")
  seen[state.nu.dtype.name] = (round(left, 2), round(level, 2))
expected = {"float32": (0.05, 0.95), "bfloat16": (1.0, 0.5)}
assert seen == expected, seen
PY
