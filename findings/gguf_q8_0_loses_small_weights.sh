#!/usr/bin/env bash
# One would guess: gguf's Q8_0 keeps 8 bits per weight relative to the largest
#   weight of its block of 32, so its error is about half a percent whatever
#   the size of the weights, and never more than that of Q4_0 with 4 bits.
# What happens: the block's scale is stored as float16. Q8_0 divides the
#   largest weight by 127, Q4_0 by 8 only, so Q8_0's scale is the first to sink
#   below what float16 can hold. For weights up to 3e-5 the error of Q8_0 is
#   ten times as large, for weights up to 3e-6 each comes back as 0, and Q4_0
#   still keeps them. F16 and BF16 keep them too. Nothing warns.
# Versions: gguf 0.19.0, numpy 2.4.6.
# Why it matters: the B matrix of a LoRA adapter starts at 0 and holds such
#   numbers after a short run at a learning rate of 1e-6, and so does a
#   difference of two checkpoints. The file type with the most bits is the one
#   that drops all that was learned.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'gguf==0.19.0' 'numpy==2.4.6'
"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import quants

print("gguf", version("gguf"), "numpy", np.__version__)
rng = np.random.default_rng(0)
unit = rng.uniform(-1.0, 1.0, (64, 256)).astype(np.float32)
seen = {}
for size in (1.0, 3e-5, 3e-6):
  weights = unit * np.float32(size)
  for kind in (Type.Q8_0, Type.Q4_0, Type.F16, Type.BF16):
    back = quants.dequantize(quants.quantize(weights, kind), kind)
    error = np.linalg.norm(back - weights) / np.linalg.norm(weights)
    print(f"weights up to {size}, {kind.name}: relative error {error:.4f}, "
          f"{np.count_nonzero(back)} of {back.size} not zero")
    seen[size, kind.name] = error
assert seen[1.0, "Q8_0"] < 0.01 and seen[1.0, "Q4_0"] > 0.05, seen
assert seen[3e-5, "Q8_0"] > 5 * seen[1.0, "Q8_0"], seen
assert seen[3e-6, "Q8_0"] == 1, seen
assert seen[3e-6, "Q4_0"] < 0.15, seen
assert max(seen[3e-6, "F16"], seen[3e-6, "BF16"]) < 0.02, seen
PY
