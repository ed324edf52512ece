#!/usr/bin/env bash
# One would guess: 12\,345, the way the SI brochure and many textbooks group
#   digits, is 12345.
# What happens: the two groups become two numbers. They are added (12 + 345 is
#   357), or multiplied where the second group is 000 (10 * 0 is 0). So the
#   gold 10\,000 accepts 0 and refuses 10000. The comma in braces is read
#   rightly.
# Versions: math-verify 0.9.0, latex2sympy2-extended 1.11.0, sympy 1.14.0.
# Why it matters: every right answer to such a row scores 0, and a student
#   that answers 0 is paid for all the round thousands of a data set.
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
    (r"$10\,000$", "$10000$"),
    (r"$10\,000$", "$0$"),
    (r"$12\,345$", "$12345$"),
    (r"$12\,345$", "$357$"),
    (r"$1\,234\,567$", "$802$"),
    (r"$12{,}345$", "$12345$"),
]
seen = []
for gold, answer in rows:
  read = parse(gold)
  seen.append(verify(read, parse(answer)))
  print(f"gold {gold} is read as {read[0]}; answer {answer}: {seen[-1]}")
expected = [False, True, False, True, True, True]
assert seen == expected, seen
PY
