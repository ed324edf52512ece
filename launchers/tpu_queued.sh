#!/usr/bin/env bash
# One run on TPU VMs: asks for a queued resource, waits until it is active,
# installs this repository on all workers, runs, asks again after a preemption,
# and deletes the resource at the end. The same command goes on where the run
# was: also after the launcher was stopped, from any machine.
#
#   launchers/tpu_queued.sh [--dry-run] --name=NAME --type=v5p-128 --zone=ZONE
#     METHOD SEED WORKDIR --config=FILE [--config...=VALUE ...]
#     [--project=ID] [--slices=1] [--spot | --reserved] [--runtime=VERSION]
#     [--extras=pod] [--setup=COMMAND] [--create=FLAG] [--cache=FOLDER]
#     [--restarts=100] [--poll=30] [--keep] [--env=NAME=VALUE ...]
#
#   launchers/tpu_queued.sh --name=zppo-0 --type=v5p-128 --zone=us-east5-a \
#     --spot --setup='sudo mkdir -p /runs; mountpoint -q /runs ||
#       sudo mount -t nfs 10.0.0.2:/runs /runs' \
#     zppo 0 /runs/zppo-0 --config=configs/pod_9b.py:v5p:4x4x4
#
# --type: TensorCores for v4 and v5p (v5p-128 has 64 chips), chips for v5litepod
# and v6e. --slices: how many of them. TPU7x is on GKE alone: launchers/gke.sh.
# WORKDIR: an absolute path on storage that --setup mounts on every worker, best
# a Filestore; --setup runs before each installation, also where it is mounted.
# --cache: for compiled programs, default compiled_programs/ beside WORKDIR.
# FILE is a file of this repository, of which the workers get the last commit.
# --create: one more flag for the creation, e.g. --create=--network=tpu-net.
# --restarts: of the run, after preemptions and signals; after any other exit
# code, and after three failures within ten minutes each, the launcher ends.
# --keep: the resource stays at the end, and costs money. --poll: seconds
# between two looks at the state. --dry-run prints every command and runs none.
# gcloud needs your ssh key in an agent: ssh-add ~/.ssh/google_compute_engine.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# shellcheck source=launchers/arguments.sh
. "$root/launchers/arguments.sh"

options='name type zone project slices runtime extras setup create cache
  restarts poll'
switches='spot reserved keep'
name='' type='' zone='' project='' slices=1 runtime='' extras=pod setup=''
create='' cache='' restarts=100 poll=30 spot='' reserved='' keep=''
read_arguments "$@"

need name 'the name of the queued resource'
need type 'the accelerator type, e.g. v5p-128, v5litepod-16, v6e-64'
need zone 'the zone of the TPUs, e.g. us-east5-a'
whole slices 1
whole restarts 0
[[ -z "$spot" || -z "$reserved" ]] || refuse \
  'one of --spot and --reserved is allowed'
if [[ -z "$runtime" ]]; then
  case "$type" in
    v4-*) runtime=tpu-ubuntu2204-base ;;
    v5litepod-*) runtime=v2-alpha-tpuv5-lite ;;
    v5p-*) runtime=v2-alpha-tpuv5 ;;
    v6e-*) runtime=v2-alpha-tpuv6e ;;
    tpu7x* | v7x*) refuse 'TPU7x is on GKE alone: launchers/gke.sh' ;;
    *) refuse "--type=$type: v4-N, v5litepod-N, v5p-N and v6e-N are known;\
 others need --runtime=VERSION" ;;
  esac
fi
for_other_machines "$root"
train_command "$config" "$cache"
scratch=/tmp/zppo
if ! $dry_run; then
  command -v gcloud >/dev/null || refuse 'gcloud is not installed'
  scratch="$(mktemp -d)"
  trap 'rm -rf "$scratch"' EXIT
  trap 'stays; exit 130' INT
  trap 'stays; exit 143' TERM
fi

where=("--zone=$zone" ${project:+"--project=$project"})
queued=(gcloud compute tpus queued-resources)
# All at once: gcloud takes 64 workers at a time by itself, and the processes of
# a run wait for each other.
all=(--node=all --worker=all --batch-size=all)
# A worker that vanished closes no connection.
alive=(--ssh-flag=-oServerAliveInterval=30 --ssh-flag=-oServerAliveCountMax=4)

say() {
  echo "$0: $1" >&2
}

stays() {
  say "$name and its run stay and cost money. The same command follows the run;\
 this ends both: $(quoted "${queued[@]}" delete "$name" "${where[@]}" --force)"
}

on_workers() {  # COMMAND: on all, with the first exit code that is not 0
  run "${queued[@]}" ssh "$name" "${where[@]}" "${all[@]}" "${alive[@]}" \
    "--command=$1"
}

worker() {  # ARGUMENTS of tpu_worker.sh, as one command
  printf 'bash zppo/source/launchers/tpu_worker.sh %s' "$(quoted "$@")"
}

# Prints the state of the resource, and nothing if there is none. A network that
# fails for a moment is no answer.
state_now() {
  local answer failures=0
  until answer="$("${queued[@]}" describe "$name" "${where[@]}" \
                  '--format=value(state.state)' 2>"$scratch/error")"; do
    ! grep -q NOT_FOUND "$scratch/error" || return 0
    (( ++failures < 10 )) || { cat "$scratch/error" >&2; return 1; }
    sleep "$poll"
  done
  printf '%s' "$answer"
}

ask() {
  local nodes=("--node-id=$name")
  (( slices == 1 )) || nodes=("--node-count=$slices" "--node-prefix=$name")
  run "${queued[@]}" create "$name" "${where[@]}" "--accelerator-type=$type" \
    "--runtime-version=$runtime" "${nodes[@]}" ${spot:+--spot} \
    ${reserved:+--reserved} ${create:+"$create"}
}

delete() {  # again while it is still busy with its last change
  local failures=0
  until run "${queued[@]}" delete "$name" "${where[@]}" --force --quiet; do
    (( ++failures < 10 )) || return 1
    sleep "$poll"
  done
}

install_all() {
  run git -C "$root" archive --format=tar.gz "--output=$scratch/source.tar.gz" \
    HEAD &&
  run "${queued[@]}" scp "$scratch/source.tar.gz" "$name:" "${where[@]}" \
    "${all[@]}" &&
  on_workers "${setup:+$setup && }rm -rf zppo/source && mkdir -p zppo/source &&\
 tar -xzf source.tar.gz -C zppo/source &&\
 $(worker install "$extras" "$workdir")"
}

asked=false  # whether this launcher asked for the resource that is there
until_active() {
  local state before=unknown
  while :; do
    state="$(state_now)"
    [[ "$state" == "$before" ]] || say "$name: ${state:-not there}"
    before="$state"
    case "$state" in
      ACTIVE) return ;;
      '') ask; asked=true installed=false ;;
      SUSPENDED) delete ;;
      FAILED)
        say "the request failed; why: $(quoted "${queued[@]}" describe "$name" \
          "${where[@]}"). Delete it before the next try"
        return 1 ;;
      *) sleep "$poll" ;;  # CREATING, WAITING_FOR_RESOURCES, SUSPENDING, ...
    esac
  done
}

installed=false
one_try() {  # the exit code of tpu_worker.sh, or one of gcloud below 64
  local status=0
  if ! $asked; then
    asked=true  # a run is there at most once
    on_workers "$(worker follow)" || status=$?
    case "$status" in
      64 | 127) ;;  # none runs, or nothing is installed
      *) return "$status" ;;
    esac
  fi
  $installed || install_all || return
  installed=true
  on_workers "$(worker start "$(date +%s)-$restarted" "${train[@]}")"
}

if $dry_run; then
  echo '# ask, unless the resource is there'
  ask
  echo "# every $poll s until it prints ACTIVE"
  quoted "${queued[@]}" describe "$name" "${where[@]}" \
    '--format=value(state.state)'
  echo '# follow a run that is there since another launcher; 64: there is none'
  on_workers "$(worker follow)"
  echo '# install'
  install_all
  echo '# run; TRY is a number that grows'
  on_workers "$(worker start TRY "${train[@]}")"
  echo "# after a preemption: delete, and begin again, at most $restarts times"
  [[ -n "$keep" ]] || { echo '# at the end'; delete; }
  exit
fi

restarted=0 quick=0
while :; do
  until_active
  began=$SECONDS status=0
  one_try || status=$?
  (( status != 0 )) || break
  if (( status >= 64 && status < 128 )); then
    status=$((status - 64))
    say "the run ended with exit code $status, which a restart does not mend"
    break
  fi
  sleep "$poll"
  if [[ "$(state_now)" == ACTIVE ]]; then
    (( SECONDS - began < 600 )) && quick=$((quick + 1)) || quick=1
    if (( quick == 3 )); then
      say "exit code $status, for the third time within ten minutes each"
      break
    fi
  else
    quick=0
  fi
  if (( restarted == restarts )); then
    say "exit code $status after $restarts restarts"
    break
  fi
  restarted=$((restarted + 1))
  say "exit code $status; restart $restarted of at most $restarts"
done
if [[ -n "$keep" ]]; then stays; else delete; fi
exit "$status"
