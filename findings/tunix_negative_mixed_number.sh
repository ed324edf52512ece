#!/usr/bin/env bash
# One would guess: -3\frac{1}{2} is the number -3.5, as 3\frac{1}{2} is 3.5.
# What happens: tunix's reward for mathematics reads a whole number before a
#   fraction as a sum and leaves the sign with the whole number alone. For the
#   gold -3\frac{1}{2} it pays -2.5 and -\frac{5}{2}, and refuses -3.5 and
#   -\frac{7}{2}. A student who writes -3\frac{1}{2} is paid for the gold
#   -\frac{5}{2} and not for the gold -\frac{7}{2}. Positive ones are right.
# Versions: google-tunix 0.1.7, pylatexenc 2.10, sympy 1.14.0.
# Why it matters: the policy is taught a wrong value for each negative mixed
#   number, in the gold or in its own answer, and the log shows nothing odd.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'pylatexenc==2.10' 'sympy==1.14.0' \
  'absl-py==2.5.1'
"$work/venv/bin/pip" install --quiet --no-deps 'google-tunix==0.1.7'
"$work/venv/bin/python" - <<'PY'
import contextlib
import importlib.util
import io
from importlib.metadata import version
import sys

# The top of the package would import a whole trainer. The reward needs none
# of it, so the package is only made known here and its top is not run.
spec = importlib.util.find_spec("tunix")
sys.modules["tunix"] = importlib.util.module_from_spec(spec)
from tunix.utils import math_rewards

print("google-tunix", version("google-tunix"))


def reward(answer, gold):
  with contextlib.redirect_stdout(io.StringIO()):
    return math_rewards.math_reward(
        ["?"], [f"The answer is \\boxed{{{answer}}}."], [gold])[0]


pairs = [
    (r"-3.5", r"-3\frac{1}{2}", 0.0),
    (r"-\frac{7}{2}", r"-3\frac{1}{2}", 0.0),
    (r"-2.5", r"-3\frac{1}{2}", 1.0),
    (r"-\frac{5}{2}", r"-3\frac{1}{2}", 1.0),
    (r"-3\frac{1}{2}", r"-\frac{7}{2}", 0.0),
    (r"-3\frac{1}{2}", r"-\frac{5}{2}", 1.0),
    (r"3.5", r"3\frac{1}{2}", 1.0),
    (r"3\frac{1}{2}", r"\frac{7}{2}", 1.0),
    (r"2.5", r"3\frac{1}{2}", 0.0),
]
seen = []
for answer, gold, _ in pairs:
  seen.append(reward(answer, gold))
  print(f"gold {gold}, answer {answer}: reward {seen[-1]}")
expected = [value for _, _, value in pairs]
assert seen == expected, seen
PY
