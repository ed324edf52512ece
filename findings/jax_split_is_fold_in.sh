#!/usr/bin/env bash
# One would guess: the keys that split makes of a key and those that fold_in
#   makes of it by a number are apart, because they are two ways of deriving
#   keys that are documented side by side.
# What happens: split(key, n)[i] is fold_in(key, i), bit for bit, with the
#   default generator, philox4x32 and rbg. With jax 0.4.35, whose default was
#   another (jax_threefry_partitionable was off), the same lines gave other
#   keys.
# Versions: jax 0.10.2 and 0.4.35.
# Why it matters: `init, data = split(key)` before a loop that takes
#   fold_in(key, step) gives step 0 the numbers of the initial weights and step
#   1 those of the data's order. Nothing warns, and code that was in order
#   with an old jax is not with a new one.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/keys.py" <<'PY'
import sys

import jax

print("jax", jax.__version__)
same = {}
for name in ("threefry2x32", "philox4x32", "rbg", "unsafe_rbg"):
  try:
    key = jax.random.key(7, impl=name)
  except ValueError:
    continue  # not in the older version
  parts = jax.random.split(key, 3)
  same[name] = [bool((jax.random.key_data(parts[i]) == jax.random.key_data(
      jax.random.fold_in(key, i))).all()) for i in range(3)]
  print(f"{name}: split(key, 3)[i] is fold_in(key, i):", same[name])
key = jax.random.key(0)
init, data = jax.random.split(key)
weights = jax.random.normal(init, (3,))
noise = jax.random.normal(jax.random.fold_in(key, 0), (3,))
print("initial weights:", weights.tolist())
print("noise of step 0:", noise.tolist())
equal = weights.tolist() == noise.tolist()
if sys.argv[1] == "new":
  expected = {"threefry2x32": [True] * 3, "philox4x32": [True] * 3,
              "rbg": [True] * 3, "unsafe_rbg": [False] * 3}
  assert same == expected and equal, same
else:
  assert same["threefry2x32"] == [False] * 3 and not equal, same
PY
python3 -m venv "$work/new"
"$work/new/bin/pip" install --quiet 'jax==0.10.2' 'jaxlib==0.10.2'
JAX_PLATFORMS=cpu "$work/new/bin/python" "$work/keys.py" new
python3 -m venv "$work/old"
"$work/old/bin/pip" install --quiet 'jax==0.4.35' 'jaxlib==0.4.35'
JAX_PLATFORMS=cpu "$work/old/bin/python" "$work/keys.py" old
