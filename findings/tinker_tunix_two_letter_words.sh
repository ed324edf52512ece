#!/usr/bin/env bash
# One would guess: where the gold answer is "no", the answer "on" is wrong.
# What happens: the graders of mathematics of tinker-cookbook and of tunix read
#   a text with at most two different letters as a product of unknowns, which
#   does not depend on their order. So "on" is right for "no", "it" for "ti",
#   "dad" for "add", and the segment BA for AB. A third letter ends this: "saw"
#   is wrong for "was".
# Versions: tinker-cookbook 0.6.1, google-tunix 0.1.7, sympy 1.14.0,
#   pylatexenc 2.11.
# Why it matters: in a pool with words, letters of several choices or names of
#   points among its answers, an anagram earns the whole reward.
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


pairs = [("on", "no", True), ("it", "ti", True), ("dad", "add", True),
         ("BA", "AB", True), ("DC", "CD", True), ("no", "no", True),
         ("up", "no", False), ("saw", "was", False), ("ABC", "CBA", False)]
seen = []
for answer, gold, _ in pairs:
  seen.append((math_grading.grade_answer(answer, gold), paid(answer, gold)))
  print(f"gold {gold}, answer {answer}: right {seen[-1][0]}, "
        f"reward {seen[-1][1]}")
expected = [(right, float(right)) for _, _, right in pairs]
assert seen == expected, seen
PY
