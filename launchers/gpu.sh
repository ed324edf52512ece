#!/usr/bin/env bash
# One run on several GPUs: those of this machine, or of several machines that no
# scheduler knows. One process per machine drives all of its GPUs.
#
#   launchers/gpu.sh [--dry-run] [--gpus=0,1,2,3] METHOD SEED WORKDIR
#     [--machines=N --machine=I --coordinator=HOST:PORT] [--config...=VALUE ...]
#
#   launchers/gpu.sh zppo 0 runs/zppo-0 --config=my_config.py
#   launchers/gpu.sh --gpus=0,1 grpo 1 runs/grpo-1 --config.steps=50
#
# --gpus: default CUDA_VISIBLE_DEVICES, else all that nvidia-smi lists.
# --machines: call it on each, with --machine=0, 1, ...; HOST is machine 0,
# which the others reach at PORT, and WORKDIR lies on a disk that all share.
# The mesh is fsdp = all GPUs, unless a flag --config.mesh.... says otherwise.
# Further flags go to `zppo train`; --config=FILE replaces configs/micro.py.
# --dry-run prints the command and runs nothing.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# shellcheck source=launchers/arguments.sh
. "$root/launchers/arguments.sh"

options='gpus machines machine coordinator' switches=''
gpus="${CUDA_VISIBLE_DEVICES-}" machines=1 machine='' coordinator=''
read_arguments "$@"

if [[ -z "$gpus" ]]; then
  count="$( (nvidia-smi -L 2>/dev/null || true) | grep -c '^GPU ' || true)"
  (( count )) || refuse \
    "nvidia-smi lists no GPU here; name them, e.g. --gpus=0,1"
  gpus="$(seq -s, 0 $((count - 1)))"
  gpus="${gpus%,}"  # macOS ends the list so
fi
[[ "$gpus" =~ ^[^,]+(,[^,]+)*$ ]] || refuse \
  "--gpus=$gpus: numbers or ids with commas between them are allowed"
commas="${gpus//[^,]/}"
per_machine=$(( ${#commas} + 1 ))

whole machines 1
together=()
if (( machines > 1 )); then
  need machine "which of the $machines machines this is, from 0"
  need coordinator 'HOST:PORT of machine 0'
  whole machine 0
  (( machine < machines )) || refuse \
    "--machine=$machine: 0 to $((machines - 1)) is allowed"
  [[ "$coordinator" =~ ^.+:[0-9]+$ ]] || refuse \
    "--coordinator=$coordinator: HOST:PORT is allowed"
  together=("JAX_COORDINATOR_ADDRESS=$coordinator"
            "JAX_NUM_PROCESSES=$machines" "JAX_PROCESS_ID=$machine")
elif [[ -n "$machine$coordinator" ]]; then
  refuse '--machine and --coordinator need --machines=N, N > 1'
fi

whole_mesh $((per_machine * machines))
train_command "${config:-$root/configs/micro.py}" "$own_cache" \
  "CUDA_VISIBLE_DEVICES=$gpus" ${together[@]+"${together[@]}"}
become "${train[@]}"
