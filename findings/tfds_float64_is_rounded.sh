#!/usr/bin/env bash
# One would guess: a feature declared np.float64 comes back with the number
#   that was put in; int64 does, to the last digit.
# What happens: it is written in 32 bits. 0.3 reads 0.30000001192092896, and
#   in a tensor the array that holds it still says float64. The folder's own
#   features.json says float64 too, and nothing warns.
# Versions: tensorflow-datasets 4.9.10 without TensorFlow, array_record 0.8.6
#   (importlib_resources has to be installed beside them).
# Why it matters: a row filter such as rate == 0.3 or rate <= 0.1 drops rows
#   that the same data as JSON lines keeps; a time stamp is off by up to a
#   minute.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'tensorflow-datasets==4.9.10' \
  'array_record==0.8.6' 'importlib_resources==7.1.0'
mkdir "$work/rates"
touch "$work/rates/__init__.py"
cat > "$work/rates/rates.py" <<'PY'
import numpy as np
import tensorflow_datasets as tfds


class Rates(tfds.core.GeneratorBasedBuilder):
  VERSION = tfds.core.Version("1.0.0")

  def _info(self):
    return self.dataset_info_from_configs(
        features=tfds.features.FeaturesDict({
            "rate": np.float64,
            "time": np.float64,
            "pair": tfds.features.Tensor(shape=(2,), dtype=np.float64),
            "count": np.int64,
        }))

  def _split_generators(self, manager):
    return {"train": self._generate_examples()}

  def _generate_examples(self):
    yield 0, {"rate": 0.3, "time": 1700000000.5,
              "pair": np.array([0.1, 0.3]), "count": 2**53 + 1}
PY
cd "$work"
"$work/venv/bin/python" - "$work" <<'PY' 2> "$work/stderr" \
  || { cat "$work/stderr"; exit 1; }
import sys
from importlib.metadata import version

sys.path.insert(0, sys.argv[1])
from rates.rates import Rates

for name in ("tensorflow-datasets", "array_record"):
  print(name, version(name))
builder = Rates(data_dir=sys.argv[1] + "/data", file_format="array_record")
builder.download_and_prepare()
print("declared:", builder.info.features["rate"])
row = builder.as_data_source(split="train")[0]
print(row)
seen = {
    "rate": float(row["rate"]),
    "rate == 0.3": bool(row["rate"] == 0.3),
    "time": float(row["time"]),
    "pair": (row["pair"].dtype.name, float(row["pair"][1])),
    "count": int(row["count"]),
}
expected = {
    "rate": 0.30000001192092896,
    "rate == 0.3": False,
    "time": 1700000000.0,
    "pair": ("float64", 0.30000001192092896),
    "count": 2**53 + 1,
}
assert seen == expected, seen
PY
