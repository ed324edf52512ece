#!/usr/bin/env bash
# One would guess: jax.random.categorical over equal logits draws each index
#   equally often, whatever float type the logits have.
# What happens: with bfloat16 logits the low indices win. Of 1,000 equal
#   logits the first 100 take more than half of the draws, and hundreds of
#   indices never come up in 20,000 draws. The Gumbel noise is drawn in the
#   type of the logits: few distinct values exist, the maximum is tied, and
#   the first index of a tie is taken. float16 leans the same way, by less.
# Versions: jax 0.10.2, jaxlib 0.10.2. The docstring speaks of float32 alone.
# Why it matters: a language model that computes in bfloat16 hands such logits
#   to its sampler. Draws then favour tokens with small ids, and the recorded
#   probabilities are not those that were drawn from.
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
seen = {}
for dtype in (jnp.float32, jnp.float16, jnp.bfloat16):
  logits = jnp.zeros((1000,), dtype)
  drawn = np.asarray(
      jax.random.categorical(jax.random.key(0), logits, shape=(20000,)))
  low, unseen = (drawn < 100).mean(), 1000 - len(np.unique(drawn))
  print(f"{logits.dtype}: {low:.3f} of the draws in the first 100 of 1000, "
        f"{unseen} indices never drawn")
  seen[logits.dtype.name] = (bool(low > 0.12), bool(low > 0.5), unseen > 100)
expected = {
    "float32": (False, False, False),
    "float16": (True, False, False),
    "bfloat16": (True, True, True),
}
assert seen == expected, seen
PY
