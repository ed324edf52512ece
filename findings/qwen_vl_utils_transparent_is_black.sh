#!/usr/bin/env bash
# One would guess: qwen-vl-utils lays a transparent picture on white, as its
#   code does since a fix in 2025, so a black line on a transparent ground
#   stays visible however the PNG file stores its transparency.
# What happens: only RGBA is laid on white. The same drawing stored as gray with
#   alpha (LA), or with a palette that has a transparent entry (P), is converted
#   without its transparency. The colour below it, black as a rule, comes out,
#   and the picture is black all over. For LA nothing warns; for P Pillow may
#   warn, in words that do not speak of a lost picture.
# Versions: qwen-vl-utils 0.0.14, pillow 13.0.0, numpy 2.4.6.
# Why it matters: drawings of formulas, graphs and circuits are often such PNG
#   files, as tools that shrink PNG files turn RGBA into LA or P. The model is
#   asked about a black square, is marked wrong, or learns to guess, and the
#   file looks right in every viewer.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'qwen-vl-utils==0.0.14' \
  'pillow==13.0.0' 'numpy==2.4.6'
"$work/venv/bin/python" -W ignore - <<'PY'
import io
from importlib.metadata import version
import sys
from unittest import mock
import numpy as np
from PIL import Image, ImageDraw

# The package imports torch and torchvision for its videos. Pictures need
# neither of them, so empty stand-ins spare their large download.
for name in ("torch", "torchvision", "torchvision.io",
             "torchvision.transforms"):
  sys.modules[name] = mock.MagicMock()
from qwen_vl_utils import fetch_image

print("qwen-vl-utils", version("qwen-vl-utils"), "pillow", version("pillow"))
drawing = Image.new("RGBA", (112, 112), (0, 0, 0, 0))
ImageDraw.Draw(drawing).line((10, 10, 100, 100), fill=(0, 0, 0, 255), width=6)


def through_png(image):
  file = io.BytesIO()
  image.save(file, "PNG")
  return Image.open(file)


seen = {}
for stored in (drawing, drawing.convert("LA"), drawing.quantize(4)):
  opened = through_png(stored)
  same = np.array_equal(np.asarray(opened.convert("RGBA")),
                        np.asarray(drawing))
  pixels = np.asarray(fetch_image({"image": opened}))
  levels = np.unique(pixels).tolist()
  print(f"stored as {opened.mode}, the same as RGBA: {same}, "
        f"levels that the model sees: {levels}")
  assert same
  seen[opened.mode] = levels
expected = {"RGBA": [0, 255], "LA": [0], "P": [0]}
assert seen == expected, seen
PY
