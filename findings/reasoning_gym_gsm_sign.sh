#!/usr/bin/env bash
# One would guess: for the gold 288 the scorer of gsm_symbolic refuses -288.
# What happens: -288 scores 1.0, and so do "288 or 999" and "288/7". The
#   pattern that looks for the number asks for a word boundary before the
#   minus sign, and there is none at the start of a text or behind a blank.
#   The sign is thus skipped, and the first digits found decide alone.
# Versions: reasoning_gym 0.1.25.
# Why it matters: a sign error earns the whole reward, and a reply that lists
#   guesses is judged by its first one.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'reasoning-gym==0.1.25'
"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version
import reasoning_gym

print("reasoning-gym", version("reasoning-gym"))
rows = reasoning_gym.create_dataset("gsm_symbolic", size=1, seed=1)
row = rows[0]
gold = row["answer"]
print("gold", gold)
replies = ["{}", "-{}", "It is -{}", "{} or 999", "999 or {}", "{}/7"]
seen = {}
for reply in replies:
  seen[reply] = rows.score_answer(reply.format(gold), row)
  print(repr(reply.format(gold)), seen[reply])
expected = dict.fromkeys(replies, 1.0) | {"999 or {}": 0.01}
assert seen == expected, seen
PY
