#!/usr/bin/env bash
# One would guess: a notation that the reader does not know leaves the answer
#   unread, so that nothing is paid for it.
# What happens: the unknown part is dropped and the rest is graded. The base
#   of 1101_3 goes, so it equals 1101 and 1101_2. The repeating digits of
#   0.\overline{3} go, so it equals 0 and not 1/3. Of 7 \bmod 3 only 3 is
#   left.
# Versions: math-verify 0.9.0, latex2sympy2-extended 1.11.0, sympy 1.14.0.
# Why it matters: such golds are common in number-theory rows. The right value
#   is refused, a wrong one is paid, and nothing marks the row as unreadable.
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
rows = [
    ("$1101_3$", "$1101$"),
    ("$1101_3$", "$1101_2$"),
    (r"$0.\overline{3}$", "$0$"),
    (r"$0.\overline{3}$", r"$\frac{1}{3}$"),
    (r"$7 \bmod 3$", "$3$"),
    (r"$7 \bmod 3$", "$1$"),
]
seen = []
for gold, answer in rows:
  read = parse(gold)
  seen.append(verify(read, parse(answer)))
  print(f"gold {gold} is read as {read[0]}; answer {answer}: {seen[-1]}")
expected = [True, True, True, False, True, False]
assert seen == expected, seen
PY
