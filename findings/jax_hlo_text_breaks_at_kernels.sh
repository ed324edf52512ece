#!/usr/bin/env bash
# One would guess: in the text of a compiled program (compiled.as_text()) each
#   instruction stands on a line of its own, indented, and the first line that
#   begins with a brace ends the computation, as it does in every program
#   without a kernel.
# What happens: the metadata of a Pallas kernel for TPUs is printed with line
#   breaks. Its custom-call and the instructions that take its results stand on
#   three lines each; the second begins with a quotation mark and the third with
#   "}}". The attributes behind it, such as the name of the operation, are on
#   the third.
# Versions: jax 0.10.2, jaxlib 0.10.2, libtpu 0.0.52.
# Why it matters: what is read off such texts (collectives, bytes, loops) is cut
#   off behind the first kernel of a computation, without an error. The splash
#   attention of JAX has such metadata. A count of what the chips of a pod
#   exchange in an update of a 0.8 B model lost two fifths of the bytes of its
#   all-gathers and all collective-permutes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/lines.py" <<'PY'
import re
from importlib import metadata

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl, topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

for name in ("jax", "jaxlib", "libtpu"):
  print(name, metadata.version(name))
devices = topologies.get_topology_desc(
    platform="tpu", topology_name="v5e:2x2").devices[:1]
place = NamedSharding(Mesh(np.array(devices), ("x",)), P())
like = jax.ShapeDtypeStruct((256, 256), jnp.float32, sharding=place)


def double(x_ref, y_ref):
  y_ref[...] = 2 * x_ref[...]


def lines(**more):
  """(lines that begin with a brace, lines inside computations that are not
  indented) of a program with a kernel."""
  def f(x):
    call = pl.pallas_call(double, out_shape=jax.ShapeDtypeStruct(
        x.shape, x.dtype), **more)
    return jnp.sin(call(jnp.cos(x)))
  text = jax.jit(f).lower(like).compile().as_text().splitlines()
  braces = sorted({line.split()[0] for line in text if line.startswith("}")})
  loose = [line for line in text
           if line and not re.match(r"\s|%|ENTRY|HloModule|\}$|[A-Z]|\d+ ", line)]
  print(more, "lines that begin with a brace:", braces)
  for line in loose:
    print("  not indented:", line[:60])
  return braces, len(loose)


plain, told = lines(), lines(metadata={"tiles": "one"})
assert plain == (["}"], 0), plain
assert told[0] == ["}", "}},"] and told[1] >= 2, told
print("as the comment says")
PY
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'jax==0.10.2' 'jaxlib==0.10.2' \
  'libtpu==0.0.52'
JAX_PLATFORMS=cpu JAX_ENABLE_COMPILATION_CACHE=false TPU_SKIP_MDS_QUERY=1 \
  ALLOW_MULTIPLE_LIBTPU_LOAD=1 "$work/venv/bin/python" "$work/lines.py" \
  2> "$work/log" || { tail -5 "$work/log"; exit 1; }
