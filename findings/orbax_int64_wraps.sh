#!/usr/bin/env bash
# One would guess: a counter that was saved as int64, and that is restored by a
#   ShapeDtypeStruct of int64, has the value that was saved; or orbax says that
#   the device has no such type.
# What happens: with jax's default types the restored array is int32, and its
#   number is the saved one modulo 2**32: 5,000,000,000 tokens come back as
#   705,032,704, and 3,000,000,000 as a negative number. Neither an error nor a
#   warning tells. Restored as numpy arrays the same checkpoint is right.
# Versions: orbax-checkpoint 0.12.8, jax 0.10.2.
# Why it matters: host-side counters (tokens seen, samples drawn) pass 2**31 in
#   an ordinary run. One tree of shapes for all leaves, made with a sharding so
#   that weights are restored to devices, breaks them on resume.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'orbax-checkpoint==0.12.8' 'jax==0.10.2' \
  'jaxlib==0.10.2'
JAX_PLATFORMS=cpu "$work/venv/bin/python" - "$work/state" <<'PY'
import sys
import warnings
from importlib.metadata import version

import jax
import numpy as np
import orbax.checkpoint as ocp

print("orbax-checkpoint", version("orbax-checkpoint"), "jax", jax.__version__)
state = {"tokens": np.array([5_000_000_000, 3_000_000_000, 7], np.int64)}
on_device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
wanted = {"tokens": jax.ShapeDtypeStruct((3,), np.int64, sharding=on_device)}
print("asked for:", wanted["tokens"].dtype)
with ocp.StandardCheckpointer() as checkpointer:
  checkpointer.save(sys.argv[1], state)
  checkpointer.wait_until_finished()
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    found = checkpointer.restore(sys.argv[1], wanted)["tokens"]
  as_saved = checkpointer.restore(sys.argv[1], state)["tokens"]
said = [str(w.message) for w in caught
        if "overflow" in str(w.message) or "int64" in str(w.message)]
print("restored to a device:", found.dtype, found.tolist(), "warnings:", said)
print("restored to numpy:", as_saved.dtype, as_saved.tolist())
assert wanted["tokens"].dtype == np.int64
assert found.dtype == np.int32, found.dtype
assert found.tolist() == [705_032_704, -1_294_967_296, 7], found
assert as_saved.tolist() == state["tokens"].tolist() and said == [], said
PY
