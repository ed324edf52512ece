#!/usr/bin/env bash
# One would guess: the scorer named exact, which is said to normalize text and
#   then compare exactly, tells -5 from 5 and (1,2) from 12.
# What happens: all punctuation is dropped before the comparison, and a hyphen
#   splits words. -5 passes for 5, (1,2) for 12, (-1,4) for (1,4), [1,2] for
#   (1,2), 2^3 for 23 and x<3 for x3. A decimal point is kept: 1.5 is not 15.
# Versions: inspect-ai 0.3.285.
# Why it matters: the name invites its use on short mathematical answers,
#   where signs and brackets are the answer.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'inspect-ai==0.3.285'
"$work/venv/bin/python" - <<'PY'
import asyncio
from importlib.metadata import version
from inspect_ai.model import ModelOutput
from inspect_ai.scorer import Target, exact
from inspect_ai.solver import TaskState

print("inspect-ai", version("inspect-ai"))
pairs = [("-5", "5"), ("(1,2)", "12"), ("(-1,4)", "(1,4)"), ("[1,2]", "(1,2)"),
         ("2^3", "23"), ("x<3", "x3"), ("1.5", "15"), ("6", "5")]


async def score(answer, target):
  state = TaskState(
      model="none/none", sample_id=1, epoch=1, input="?", messages=[],
      output=ModelOutput.from_content("none", answer))
  return (await exact()(state, Target(target))).value


seen = []
for answer, target in pairs:
  seen.append(asyncio.run(score(answer, target)))
  print(f"answer {answer}, target {target}: {seen[-1]}")
expected = ["C"] * 6 + ["I"] * 2
assert seen == expected, seen
PY
