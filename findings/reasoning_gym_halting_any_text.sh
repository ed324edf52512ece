#!/usr/bin/env bash
# One would guess: in game_of_life_halting, whose answers are the words True
#   and False, the scorer pays the right word and not the other one.
# What happens: every text that is not empty scores 1.0, whatever the gold is.
#   The scorer compares bool(answer) with bool(gold), and both are texts, so
#   bool("False") is true on either side.
# Versions: reasoning_gym 0.1.25.
# Why it matters: the task gives the full reward to any reply. A mixture that
#   holds it trains on a constant, and its accuracy reads 100 %.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'reasoning-gym==0.1.25'
"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version
import reasoning_gym

print("reasoning-gym", version("reasoning-gym"))
rows = reasoning_gym.create_dataset("game_of_life_halting", size=6, seed=1)
replies = ("True", "False", "I cannot tell.", "")
seen = {}
for row in rows:
  scores = tuple(rows.score_answer(reply, row) for reply in replies)
  print("gold", repr(row["answer"]), dict(zip(replies, scores)))
  seen.setdefault(row["answer"], set()).add(scores)
constant = {(1.0, 1.0, 1.0, 0.0)}
expected = {"True": constant, "False": constant}
assert seen == expected, seen
PY
