#!/usr/bin/env bash
# One would guess: the gradient norm that clip_grad_norm_ returns is right to
#   float32's precision, whatever the size of the gradient.
# What happens: on a CPU the norm of a float32 tensor is summed up one number
#   after the other per vector lane, and not in pairs as torch.sum does. For the
#   gradient of an embedding of 151,936 x 256 it is low by more than 1e-3, while
#   the root of the sum of squares is right to 1e-5. A tensor of a million
#   numbers is off by 1e-5 only.
# Versions: torch 2.13.0 (CPU).
# Why it matters: a comparison of two trainers on "loss and gradient norm equal
#   to 1e-5" fails on the embedding alone, although both gradients are right;
#   and gradients are clipped less than the bound says.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'torch==2.13.0' 'numpy==2.4.1'
"$work/venv/bin/python" - <<'PY'
import torch

print("torch", torch.__version__)
torch.set_num_threads(1)
torch.manual_seed(0)


def errors(rows):
  gradient = torch.randn(rows, 256)
  parameter = torch.nn.Parameter(torch.zeros_like(gradient))
  parameter.grad = gradient.clone()
  exact = gradient.double().norm()
  clipped = torch.nn.utils.clip_grad_norm_([parameter], 1e9)
  summed = (gradient * gradient).sum().sqrt()
  found = [float(norm / exact - 1) for norm in (clipped, summed)]
  print(f"{rows} x 256: clip_grad_norm_ {found[0]:+.1e}, sum {found[1]:+.1e}")
  return found


large, small = errors(151936), errors(4096)
assert -1e-2 < large[0] < -1e-3, large
assert abs(large[1]) < 1e-5, large
assert abs(small[0]) < 1e-4, small
PY
