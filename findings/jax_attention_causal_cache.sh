#!/usr/bin/env bash
# One would guess: with a cache of keys, the newest token's query asked alone
#   with is_causal=True gives what it gives as the last of all queries. Causal
#   means that it sees the tokens up to itself, and it is the newest one.
# What happens: jax.nn.dot_product_attention counts queries and keys both from
#   the front. A lone query is taken for the first token, sees the first key
#   alone, and its output is the first value, whatever the query is. The last
#   three queries get the first one, two and three keys. With
#   local_window_size=(2, 0) a lone query sees the first key alone as well. The
#   docstring names neither alignment and allows T and S to differ; nothing
#   warns.
# Versions: jax 0.10.2, jaxlib 0.10.2.
# Why it matters: a sampler that shares the attention call with the trainer is
#   right for the prompt and wrong for each token that it draws, without an
#   error or a NaN. The recorded log-probabilities are those of another model.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'jax==0.10.2' 'jaxlib==0.10.2'
JAX_PLATFORMS=cpu "$work/venv/bin/python" - <<'PY'
import jax
import jax.numpy as jnp

print("jax", jax.__version__)
length = 6
query, key, value = jax.random.normal(
    jax.random.key(0), (3, 1, length, 2, 8))


def close(left, right):
  return bool(jnp.allclose(left, right, atol=1e-5))


seen = {}
for name, options in (("causal", {"is_causal": True}),
                      ("window", {"local_window_size": (2, 0)})):
  whole = jax.nn.dot_product_attention(query, key, value, **options)
  for count in (1, 3, length):
    last = jax.nn.dot_product_attention(
        query[:, -count:], key, value, **options)
    as_whole = close(last, whole[:, -count:])
    first_value = close(last[:, 0], value[:, 0])
    print(f"{name}: the last {count} of {length} queries are as in the whole: "
          f"{as_whole}; the first of them gives the first value: "
          f"{first_value}")
    seen[name, count] = (as_whole, first_value)
# Without a mask the lone newest query is right: it may see every key.
unmasked = jax.nn.dot_product_attention(query[:, -1:], key, value)
whole = jax.nn.dot_product_attention(query, key, value, is_causal=True)
assert close(unmasked, whole[:, -1:])
expected = {
    ("causal", 1): (False, True),
    ("causal", 3): (False, True),
    ("causal", length): (True, True),
    ("window", 1): (False, True),
    ("window", 3): (False, True),
    ("window", length): (True, True),
}
assert seen == expected, seen
PY
