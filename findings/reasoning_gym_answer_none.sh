#!/usr/bin/env bash
# One would guess: each row has an answer, and the row's own answer scores
#   1.0. The first example of the package's description asserts just that.
# What happens: five of its tasks have None for an answer, and their scorers
#   give None 0.0. str(None), which is what a writer of JSON lines or a prompt
#   builder makes of it, scores next to nothing as well.
# Versions: reasoning_gym 0.1.25.
# Why it matters: code that goes over all tasks by the documented loop stops
#   or, worse, stores the word None as the reference that a teacher is shown.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'reasoning-gym==0.1.25'
"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version
import reasoning_gym

print("reasoning-gym", version("reasoning-gym"))
names = ["boxnet", "graph_color", "propositional_logic", "rubiks_cube",
         "rush_hour", "leg_counting"]
seen = {}
for name in names:
  rows = reasoning_gym.create_dataset(name, size=3, seed=1)
  own = [rows.score_answer(row["answer"], row) for row in rows]
  word = [rows.score_answer(str(row["answer"]), row) for row in rows]
  golds = [row["answer"] for row in rows]
  print(f"{name}: answers {golds}, own score {own}, as text {word}")
  seen[name] = (golds == [None] * 3, max(own), max(word) <= 0.01)
expected = dict.fromkeys(names[:5], (True, 0.0, True))
expected["leg_counting"] = (False, 1.0, False)
assert seen == expected, seen
PY
