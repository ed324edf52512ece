#!/usr/bin/env bash
# One would guess: convert("RGB") brings a 16-bit grey picture to 8 bits by
#   scaling, so that mid grey stays mid grey, or refuses it.
# What happens: the numbers are clipped at 255. Of the 65,536 levels all but
#   the darkest 255 become white. The Qwen2-VL image processor of transformers
#   converts this way, so the patches it hands to a model are nearly all
#   white.
# Versions: pillow 13.0.0, transformers 5.24.0.
# Why it matters: X-rays, microscopy, depth maps and scans come as 16-bit PNG.
#   A model is asked about a white square, and no message says so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'pillow==13.0.0' 'transformers==5.24.0' \
  'numpy==2.4.6'
TRANSFORMERS_VERBOSITY=error "$work/venv/bin/python" - "$work" <<'PY'
import sys
import numpy as np
import PIL
import transformers
from PIL import Image
from transformers.models.qwen2_vl import image_processing_pil_qwen2_vl as qwen

print("pillow", PIL.__version__, "transformers", transformers.__version__)
levels = np.linspace(0, 65535, 112 * 112).astype(np.uint16).reshape(112, 112)
path = sys.argv[1] + "/ramp.png"
Image.fromarray(levels).save(path)
image = Image.open(path)
rgb = np.asarray(image.convert("RGB"))
white = float((rgb == 255).mean())
print(f"mode {image.mode}: level 32768 becomes "
      f"{np.unique(rgb[levels // 256 == 128]).tolist()}, "
      f"{white:.1%} of a ramp from black to white is white")
eight = Image.fromarray((levels // 257).astype(np.uint8))
processor = qwen.Qwen2VLImageProcessorPil()
means = []
for picture in (image, eight):
  pixels = processor(images=[picture], return_tensors="np")["pixel_values"]
  means.append(float((pixels > pixels.max() - 1).mean()))
print(f"share of bright patch values: {means[0]:.2f} from 16 bits, "
      f"{means[1]:.2f} from 8 bits")
seen = (image.mode, white > 0.99, means[0] > 0.98, means[1] < 0.5)
expected = ("I;16", True, True, True)
assert seen == expected, seen
PY
