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

usage() {
  sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
}

dry_run=false
if [[ "${1-}" == --dry-run ]]; then
  dry_run=true
  shift
fi
if [[ "${1-}" == -h || "${1-}" == --help ]]; then
  usage
  exit
fi
if (( $# < 3 )) || [[ "$1" == -* || "$2" == -* || "$3" == -* ]]; then
  usage >&2
  exit 2
fi
method="$1" seed="$2" workdir="$3"
shift 3

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
config="--config=$root/configs/micro.py"
flags=()
for flag in "$@"; do
  case "$flag" in
    --config=*) config="$flag" ;;
    --*) flags+=("$flag") ;;
    *) echo "$0: unexpected argument '$flag'" >&2; exit 2 ;;
  esac
done

cache="${JAX_COMPILATION_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/zppo_jax}"
command=(
  env "CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-0}"
  "JAX_COMPILATION_CACHE_DIR=$cache"
  zppo train "$config" "--workdir=$workdir" "--config.method=$method"
  "--config.seed=$seed" ${flags[@]+"${flags[@]}"}
)
if $dry_run; then
  printf '%q ' "${command[@]}"
  echo
else
  exec "${command[@]}"
fi
