#!/usr/bin/env bash
# One would guess: a checkpoint of float32, loaded with param_dtype=float32, has
#   its weights.
# What happens: they come by way of float16 unless `torch_dtype` is given too:
#   1.0001 becomes 1, 70000 becomes infinite and 1e-8 becomes 0. What is loaded
#   says float32.
# Versions: easydel 0.3.0, torch 2.13.0, transformers 5.5.4.
# Why it matters: log-probs differ from those of the checkpoint by some thousandths
#   of a nat, more than a comparison of two trainers allows, and a weight of
#   bfloat16's range may be lost altogether.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
# easydel imports Pillow and does not ask for it.
"$work/venv/bin/pip" install --quiet 'easydel==0.3.0' 'transformers==5.5.4' \
  'torch==2.13.0' 'pillow'
JAX_PLATFORMS=cpu HF_HUB_OFFLINE=1 "$work/venv/bin/python" - "$work" <<'PY'
import importlib.metadata
import pathlib
import sys

import easydel as ed
import jax.numpy as jnp
import numpy as np
import torch
import transformers

print(*(f"{name} {importlib.metadata.version(name)}"
        for name in ("easydel", "torch", "transformers")))
folder = pathlib.Path(sys.argv[1]) / "model"
config = transformers.Qwen3Config(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
    num_attention_heads=2, num_key_value_heads=2, head_dim=16,
    max_position_embeddings=32, dtype="float32")
model = transformers.Qwen3ForCausalLM(config)
values = [1.0001, 70000.0, 1e-8, 3e-5]
with torch.no_grad():
  model.model.norm.weight[:4] = torch.tensor(values)
model.save_pretrained(folder)


def loaded(**more):
  model = ed.AutoEasyDeLModelForCausalLM.from_pretrained(
      str(folder), from_torch=True, dtype=jnp.float32, param_dtype=jnp.float32,
      sharding_axis_dims=(1, 1, 1, 1, 1), **more)
  return np.asarray(model.model.norm.kernel[...])[:4]


seen = loaded()
told = loaded(torch_dtype=torch.float32)
print("file      ", values)
print("loaded    ", seen.dtype, seen.tolist())
print("torch_dtype", told.dtype, told.tolist())
with np.errstate(over="ignore"):
  half = np.float32(values).astype(np.float16).astype(np.float32)
np.testing.assert_array_equal(seen, half)
np.testing.assert_array_equal(told, np.float32(values))
assert seen[0] == 1 and np.isinf(seen[1]) and seen[2] == 0
PY
