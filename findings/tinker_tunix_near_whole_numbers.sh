#!/usr/bin/env bash
# One would guess: 9.11e-31 is a wrong answer where 6.63e-34 is asked, and
#   25! + 1 where 25! is.
# What happens: the graders of mathematics of tinker-cookbook and of tunix take
#   a number within 1e-7 of a whole one for that whole number, read as a
#   double. So all numbers below 1e-7 are 0 and right for each other, and
#   whole numbers of more than 16 digits are compared in their first 16 or so.
# Versions: tinker-cookbook 0.6.1, google-tunix 0.1.7, sympy 1.14.0,
#   pylatexenc 2.11.
# Why it matters: questions from physics and chemistry have such golds, and
#   counting has such whole numbers. The answer "0" earns the whole reward for
#   each of the first kind, so that a policy can learn it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'pylatexenc==2.11' 'sympy==1.14.0' \
  'absl-py==2.5.1'
"$work/venv/bin/pip" install --quiet --no-deps 'google-tunix==0.1.7' \
  'tinker-cookbook==0.6.1'
"$work/venv/bin/python" - <<'PY'
import contextlib
import importlib.util
import io
from importlib.metadata import version
import math
import sys

# The top of tunix would import a whole trainer; the reward needs none of it.
spec = importlib.util.find_spec("tunix")
sys.modules["tunix"] = importlib.util.module_from_spec(spec)
from tinker_cookbook.recipes.math_rl import math_grading
from tunix.utils import math_rewards

for package in ("tinker-cookbook", "google-tunix"):
  print(package, version(package))


def paid(answer, gold):
  with contextlib.redirect_stdout(io.StringIO()):
    return math_rewards.math_reward(
        ["?"], [f"The answer is \\boxed{{{answer}}}."], [gold])[0]


large = math.factorial(25)
pairs = [("9.11e-31", "6.63e-34", True), ("0", "6.63e-34", True),
         ("-1.6e-19", "1.6e-19", True), ("0.00000002", "0.00000009", True),
         (str(large + 1), str(large), True), ("2.00000005", "2", True),
         ("2e-7", "3e-7", False), ("2.000001", "2", False),
         (str(large + 10**12), str(large), False)]
seen = []
for answer, gold, _ in pairs:
  seen.append((math_grading.grade_answer(answer, gold), paid(answer, gold)))
  print(f"gold {gold}, answer {answer}: right {seen[-1][0]}, "
        f"reward {seen[-1][1]}")
expected = [(right, float(right)) for _, _, right in pairs]
assert seen == expected, seen
PY
