#!/usr/bin/env bash
# One run on this machine: its CPU, or one GPU where jax[cuda12] is installed.
#
#   launchers/local.sh [--dry-run] METHOD SEED WORKDIR [--config...=VALUE ...]
#
#   launchers/local.sh zppo 0 runs/zppo-0
#   launchers/local.sh grpo_replay 1 runs/grpo-1 --config.steps=50
#
# Further flags go to `zppo train`; --config=FILE replaces configs/micro.py.
# --dry-run prints the command, ready to be pasted, and runs nothing.
# CUDA_VISIBLE_DEVICES picks the GPU (default: the first), JAX_PLATFORMS=cpu
# none; JAX_COMPILATION_CACHE_DIR says where compiled programs are kept.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# shellcheck source=launchers/arguments.sh
. "$root/launchers/arguments.sh"

options='' switches=''
read_arguments "$@"
train_command "${config:-$root/configs/micro.py}" "$own_cache" \
  "CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-0}"
become "${train[@]}"
