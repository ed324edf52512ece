#!/usr/bin/env bash
# One run on TPUs of a GKE cluster, by xpk (pip install xpk==1.16.0): a JobSet,
# which starts all processes again when one is preempted.
#
#   launchers/gke.sh [--dry-run] --cluster=NAME --tpu-type=v5p-128 --image=IMAGE
#     METHOD SEED WORKDIR --config=FILE [--config...=VALUE ...]
#     [--name=NAME] [--project=ID] [--zone=ZONE] [--slices=1] [--cache=FOLDER]
#     [--spot | --flex | --reservation=NAME] [--storage=NAME] [--restarts=100]
#     [--grace=120] [--manifest=FILE] [--env=NAME=VALUE ...]
#
#   launchers/gke.sh --cluster=pods --tpu-type=v5p-128 --image=IMAGE --spot \
#     --storage=runs zppo 0 /runs/a --config=configs/pod_9b.py:v5p:4x4x4
#
# IMAGE: launchers/Dockerfile, built and pushed. FILE: of this repository.
# WORKDIR: an absolute path on a storage of the cluster, best a Filestore, that
# `xpk storage attach` made known; --storage names it, unless all workloads have
# it. --cache: for compiled programs, default compiled_programs/ beside WORKDIR.
# --name: default METHOD-SEED. --restarts: how often the JobSet may start again;
# it does so for the exit codes that a signal or a lost host leaves (128 and
# more), and ends with any other. --grace: seconds from a deletion to the kill.
# --manifest: also writes the JobSet there. --dry-run prints the command and
# runs none.
#
# xpk workload list --cluster=NAME shows it, xpk workload delete ends it; see
# docs/pods.md.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# shellcheck source=launchers/arguments.sh
. "$root/launchers/arguments.sh"

options='cluster tpu-type image name project zone slices reservation storage
  restarts grace manifest cache'
switches='spot flex'
cluster='' tpu_type='' image='' name='' project='' zone='' slices=1
reservation='' storage='' restarts=100 grace=120 manifest='' cache=''
spot='' flex=''
read_arguments "$@"

need cluster "the GKE cluster, which 'xpk cluster create' made"
need tpu-type 'TensorCores or chips as xpk counts them, e.g. v5p-128, v6e-64'
need image 'the image of launchers/Dockerfile in your registry'
whole slices 1
whole restarts 0
whole grace 1
capacity=()
[[ -z "$spot" ]] || capacity+=(--spot)
[[ -z "$flex" ]] || capacity+=(--flex)
[[ -z "$reservation" ]] || capacity+=("--reservation=$reservation")
(( ${#capacity[@]} <= 1 )) || refuse "one of --spot, --flex and\
 --reservation=... is allowed, not ${capacity[*]}"
for_other_machines "$root"

name="${name:-${method//_/-}-$seed}"
[[ "$name" =~ ^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$ ]] || refuse \
  "--name=$name: a letter, then letters, digits and '-', at most 40, is allowed"

# xpk pastes the command into `(COMMAND) &` of a shell and sends a SIGTERM to
# that process alone: exec makes it zppo, which then saves. It also pastes it
# into YAML, line by line.
train_command "$config" "$cache"
command="exec $(quoted "${train[@]}")"
[[ "$command" != *$'\n'* ]] || refuse \
  'a flag with a line break does not reach the pod'
command -v xpk >/dev/null || $dry_run || refuse \
  'xpk is not installed: pip install xpk==1.16.0'
become xpk workload create "--workload=$name" "--cluster=$cluster" \
  ${project:+"--project=$project"} ${zone:+"--zone=$zone"} \
  "--tpu-type=$tpu_type" "--num-slices=$slices" \
  ${capacity[@]+"${capacity[@]}"} ${storage:+"--storage=$storage"} \
  "--docker-image=$image" "--max-restarts=$restarts" \
  "--termination-grace-period-seconds=$grace" \
  ${manifest:+"--output-manifest-file=$manifest"} "--command=$command"
