#!/usr/bin/env bash
# One would guess: a text in a JSON file is loaded as a text.
# What happens: a column whose texts all look like ISO dates is loaded as
#   timestamps, also deep inside a chat message, and each row is a datetime. A
#   single text of another form in the column, even one with a blank at its
#   end, keeps them all texts. Times alone ("10:00:00") stay texts.
# Versions: datasets 5.2.0, pyarrow 26.0.1.
# Why it matters: "On which day ...? Answer as YYYY-MM-DD" is a usual
#   question. Its gold then prints as "2024-01-02 00:00:00", which no right
#   answer equals, and whether that happens hangs on the other rows of the
#   file.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'datasets==5.2.0' 'pyarrow==26.0.1'
HF_HUB_OFFLINE=1 HF_HOME="$work/home" HF_DATASETS_DISABLE_PROGRESS_BARS=1 \
  "$work/venv/bin/python" - "$work" <<'PY'
import json
import pathlib
import sys
import datasets
import pyarrow

print("datasets", datasets.__version__, "pyarrow", pyarrow.__version__)
folder = pathlib.Path(sys.argv[1])


def read(name, values):
  path = folder / f"{name}.jsonl"
  path.write_text("".join(json.dumps({"x": v}) + "\n" for v in values))
  rows = datasets.load_dataset(
      "json", data_files=str(path), split="train", cache_dir=str(folder / name))
  print(f"{name}: {rows.features['x']}: {rows[0]['x']!r}")
  return rows[0]["x"]


day = "2024-01-02"
chat = [{"role": "user", "content": day}]
seen = {
    "dates": str(read("dates", [day, "2024-03-04"])),
    "chat": str(read("chat", [chat])[0]["content"]),
    "blank": read("blank", [day, "2024-03-04 "]),
    "times": read("times", ["10:00:00", "12:30:00"]),
}
expected = {
    "dates": "2024-01-02 00:00:00",
    "chat": "2024-01-02 00:00:00",
    "blank": day,
    "times": "10:00:00",
}
assert seen == expected, seen
PY
