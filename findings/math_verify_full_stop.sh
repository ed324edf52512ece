#!/usr/bin/env bash
# One would guess: a full stop at the end of a formula changes nothing, as it
#   changes nothing behind 7.
# What happens: it depends on what stands before it. 7. is 7, but behind a
#   pair, a set, a fraction or a sum the formula is no longer read at all and
#   stays text, which equals nothing but itself. The list "1,2." becomes the
#   decimal number 1.2.
# Versions: math-verify 0.9.0, latex2sympy2-extended 1.11.0, sympy 1.14.0.
# Why it matters: displayed formulas and boxes in worked solutions close with
#   their sentence's full stop. Numbers survive that, everything else turns
#   into a wrong answer, so the loss hides in the harder rows.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'math-verify[antlr4-13-2]==0.9.0' \
  'latex2sympy2-extended==1.11.0' 'sympy==1.14.0'
"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version
from math_verify import parse, verify

for name in ("math-verify", "latex2sympy2-extended", "sympy"):
  print(name, version(name))
golds = ["$7$", "$(3,4)$", r"$\{1,2\}$", r"$\frac{1}{2}$", "$x+1$", "$1,2$"]
seen = {}
for gold in golds:
  stopped = gold[:-1] + ".$"
  read = parse(stopped)
  seen[stopped] = verify(parse(gold), read)
  print(f"{stopped} is read as {read[0]!r}; equal to {gold}: {seen[stopped]}")
boxed = r"$$\boxed{(3,4).}$$"
seen[boxed] = verify(parse("$(3,4)$"), parse(boxed))
print(f"{boxed}; equal to $(3,4)$: {seen[boxed]}")
seen["1,2. as a number"] = verify(parse("$1.2$"), parse("$1,2.$"))
print("$1,2.$ equal to $1.2$:", seen["1,2. as a number"])
expected = dict.fromkeys(seen, False)
expected |= {"$7.$": True, "1,2. as a number": True}
assert seen == expected, seen
PY
