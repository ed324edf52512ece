#!/usr/bin/env bash
# One would guess: a judge that replies "B. The response names a different
#   person." has chosen B.
# What happens: verifiers reads the choice A. Where no word such as "verdict" is
#   in front, the last choice of the reply counts, whatever its case, so the
#   article "a" is the letter A. Behind "verdict:" or "answer:" the first one
#   counts, and an article before the letter does the same.
# Versions: verifiers 0.4.0, math-verify 0.9.0.
# Why it matters: graders ask for A (right), B (wrong) or C (no answer), and A,
#   B and C are the default. A judge that gives a reason behind the letter marks
#   wrong answers as right wherever the reason holds an "a".
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
from verifiers.v1.utils.score import parse_judge_choice

print("verifiers", version("verifiers"))
expected = {
    "B": "B",
    "B - wrong year": "B",
    "B. The response names a different person.": "A",
    "**B**\n\nThe reply has a typo.": "A",
    "C. There is not a number in the reply.": "A",
    "Verdict: B": "B",
    "Final verdict: B, because a date is missing": "B",
    "Verdict: the reply is a near miss, so B": "A",
}
seen = {}
for reply in expected:
  seen[reply] = parse_judge_choice(reply)
  print(repr(reply), "is read as", seen[reply])
assert seen == expected, seen
PY
