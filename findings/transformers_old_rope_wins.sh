#!/usr/bin/env bash
# One would guess: in a config.json that holds rope_parameters (the present
#   field) and rope_scaling (the one it replaced), the present one counts, or
#   the file is refused.
# What happens: rope_scaling replaces rope_parameters whole. Its kind and
#   factor are taken, and the rope_theta that rope_parameters named is gone:
#   the default of the class, 10000, is used. Nothing is printed. A rope_theta
#   at the top level, just as old, loses against rope_parameters.
# Versions: transformers 5.24.0.
# Why it matters: a file that serves old and new readers by holding both
#   fields, or one whose context was extended by hand, loads with other rotary
#   frequencies than it states; the model still talks, only worse.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'transformers==5.24.0'
"$work/venv/bin/python" - "$work" <<'PY' 2> "$work/stderr" \
  || { cat "$work/stderr"; exit 1; }
import json
import pathlib
import sys
import transformers

print("transformers", transformers.__version__)
folder = pathlib.Path(sys.argv[1])
present = {"rope_type": "default", "rope_theta": 500000.0}
old = {"rope_type": "linear", "factor": 4.0}
cases = {
    "present alone": {"rope_parameters": present},
    "present and old scaling": {
        "rope_parameters": present, "rope_scaling": old},
    "present and old theta": {
        "rope_parameters": present, "rope_theta": 1000000.0},
}
seen = {}
for name, fields in cases.items():
  text = json.dumps({"model_type": "llama"} | fields)
  (folder / "config.json").write_text(text)
  rope = transformers.AutoConfig.from_pretrained(folder).rope_parameters
  seen[name] = (rope["rope_type"], rope["rope_theta"])
  print(f"{name}: {rope}")
expected = {
    "present alone": ("default", 500000.0),
    "present and old scaling": ("linear", 10000.0),
    "present and old theta": ("default", 500000.0),
}
assert seen == expected, seen
PY
if grep -i rope "$work/stderr"; then
  echo 'a message about rope is new'
  exit 1
fi
