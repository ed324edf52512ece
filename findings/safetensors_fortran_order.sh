#!/usr/bin/env bash
# One would guess: an array that numpy holds in Fortran order, and itself
#   calls contiguous (F_CONTIGUOUS), is saved as the numbers that it shows.
#   numpy.save does so. The docstring asks for "contiguous and dense" arrays.
# What happens: safetensors.numpy writes the memory as it lies beside the
#   shape as shown, and does not check. [[0, 1, 2], [3, 4, 5]] comes back as
#   [[0, 3, 1], [4, 2, 5]]. Two real ways to meet it: a transposed weight, and
#   a matrix that scipy read from a MATLAB file, which is always in this
#   order.
# Versions: safetensors 0.8.0, numpy 2.4.6, scipy 1.17.1.
# Why it matters: a converter that transposes torch weights for JAX writes a
#   file of the right names, shapes and sizes with scrambled numbers.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'safetensors==0.8.0' 'numpy==2.4.6' \
  'scipy==1.17.1'
"$work/venv/bin/python" - <<'PY'
import io
from importlib.metadata import version
import numpy as np
import scipy.io
from safetensors.numpy import load, save

for name in ("safetensors", "numpy", "scipy"):
  print(name, version(name))
plain = np.arange(6.0).reshape(2, 3)
file = io.BytesIO()
scipy.io.savemat(file, {"w": plain})
file.seek(0)
arrays = {
    "plain": plain,
    "transposed twice by copy": np.ascontiguousarray(plain.T).T,
    "from a MATLAB file": scipy.io.loadmat(file)["w"],
}
seen = {}
for name, array in arrays.items():
  assert np.array_equal(array, plain)
  back = load(save({"w": array}))["w"]
  seen[name] = back.tolist()
  flags = [array.flags.c_contiguous, array.flags.f_contiguous]
  print(f"{name} (C, F contiguous: {flags}): {back.tolist()}")
scrambled = [[0.0, 3.0, 1.0], [4.0, 2.0, 5.0]]
expected = {
    "plain": plain.tolist(),
    "transposed twice by copy": scrambled,
    "from a MATLAB file": scrambled,
}
assert seen == expected, seen
PY
