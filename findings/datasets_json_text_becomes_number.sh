#!/usr/bin/env bash
# One would guess: in JSON lines "007" is a text and 7 is a number, and a
#   reader that takes both in one column keeps them apart.
# What happens: as soon as one row of the column holds a number, the column
#   gets the feature Json, and each text that would parse as JSON is parsed.
#   "007" turns into 7, "1.50" into 1.5, "true" into True, "null" and "NaN"
#   into None, and the text "[1,2]" into a list. Other texts stay. Beside
#   texts alone all of them stay.
# Versions: datasets 5.2.0, pyarrow 26.0.1.
# Why it matters: answer columns mix texts and numbers, and contents of chat
#   messages mix texts and lists of parts. One such row changes what every
#   other row says: codes lose their zeros, an answer "null" is gone.
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
texts = ["007", "1.50", "true", "null", "NaN", "[1,2]", "x + 1"]


def read(name, values):
  path = folder / f"{name}.jsonl"
  path.write_text("".join(json.dumps({"answer": v}) + "\n" for v in values))
  rows = datasets.load_dataset(
      "json", data_files=str(path), split="train", cache_dir=str(folder / name))
  print(f"{name}: {rows.features['answer']}: {rows['answer'][:]}")
  return rows["answer"][:]


seen = {"texts": read("texts", texts), "mixed": read("mixed", texts + [8])}
expected = {
    "texts": texts,
    "mixed": [7, 1.5, True, None, None, [1, 2], "x + 1", 8],
}
assert seen == expected, seen
PY
