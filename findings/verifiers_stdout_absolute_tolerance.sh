#!/usr/bin/env bash
# One would guess: a program that prints 0 fails where 0.0009 is expected, and
#   one that prints 3.001 fails where the whole number 3 is.
# What happens: verifiers takes both for right. Where lines differ, all numbers
#   of the output are compared with an absolute tolerance of 1e-3, whole ones
#   too, and line breaks count no more than blanks. Only above 0.001 it is
#   wrong.
# Versions: verifiers 0.4.0, math-verify 0.9.0.
# Why it matters: tasks of code that ask for probabilities or small errors give
#   the whole reward to a program that prints 0, or a value of the other sign.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'math-verify==0.9.0' 'sympy==1.14.0' \
  'openai==2.54.0'
"$work/venv/bin/pip" install --quiet --no-deps 'verifiers==0.4.0'
"$work/venv/bin/python" - <<'PY'
import importlib.util
from importlib.metadata import version
import sys

# The top of the package would import clients and servers. Nothing of them is
# needed, so both packages are only made known here.
for name in ("verifiers", "verifiers.v1"):
  sys.modules[name] = importlib.util.module_from_spec(
      importlib.util.find_spec(name))
from verifiers.v1.utils.score import compare_stdout_results

print("verifiers", version("verifiers"))
triples = [("0", "0.0009", True), ("-0.0004", "0.0004", True),
           ("1e-9", "0.00083", True), ("3.001", "3", True),
           ("1 2 3", "1\n2\n3", True), ("3.0011", "3", False),
           ("0", "0.0011", False), ("yes", "Yes", False)]
seen = []
for printed, wanted, _ in triples:
  seen.append(compare_stdout_results(printed, wanted))
  print(f"wanted {wanted!r}, printed {printed!r}: {seen[-1]}")
expected = [right for _, _, right in triples]
assert seen == expected, seen
PY
