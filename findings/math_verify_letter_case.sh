#!/usr/bin/env bash
# One would guess: M and m are two letters, so M/m is not 1.
# What happens: every letter is read as its small form before the comparison.
#   M/m equals 1, \pi(R^2 - r^2) equals 0, \Delta equals \delta, A_1 equals
#   a_1. A prime is lost too, so f'(0) equals f(0).
# Versions: math-verify 0.9.0, latex2sympy2-extended 1.11.0, sympy 1.14.0.
# Why it matters: a reward built on verify() pays a student for the answer 0
#   to the area of a ring, and for a ratio of two masses that "cancels" to 1.
#   The reference answer collapses in the same way, so no log shows it.
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
pairs = {
    r"$\frac{M}{m}$": "$1$",
    r"$\pi(R^2-r^2)$": "$0$",
    r"$\Delta$": r"$\delta$",
    "$A_1$": "$a_1$",
    "$f'(0)$": "$f(0)$",
    "$M$": "$n$",
}
seen = {}
for gold, answer in pairs.items():
  read = parse(gold)
  seen[gold] = verify(read, parse(answer))
  print(f"gold {gold} is read as {read[0]}; answer {answer}: {seen[gold]}")
expected = dict.fromkeys(pairs, True) | {"$M$": False}
assert seen == expected, seen
PY
