#!/usr/bin/env bash
# What launchers/tpu_queued.sh has every TPU VM do. It is there after the copy
# of the repository, and works in the folder ZPPO_HOME (default ~/zppo).
#
#   tpu_worker.sh install EXTRAS WORKDIR   Python and zppo_jax[EXTRAS] in venv/
#   tpu_worker.sh start TRY COMMAND...     starts COMMAND, unless TRY has
#                                          started, and follows it
#   tpu_worker.sh follow                   follows the newest try, if it runs
#
# A try outlives the connection that started it: its output is in tries/TRY/log
# and its exit code in tries/TRY/status. Following prints the output and ends
# with that code if it is 128 or more, else with 64 + code, so that the launcher
# can tell it from codes of gcloud. 64 means that no try runs.
set -euo pipefail

home="${ZPPO_HOME:-$HOME/zppo}"
HELD_S=120  # seconds that an earlier try has to save and to leave the TPU

install() {  # EXTRAS WORKDIR
  mkdir -p "$2"
  if [[ "$(stat --format=%d "$2")" == "$(stat --format=%d /)" ]]; then
    echo "$0: WORKDIR $2 lies on the own disk of $(hostname), which goes away\
 with it; mount shared storage there (--setup)" >&2
    exit 66
  fi
  export PATH="$HOME/.local/bin:$PATH"
  # The VMs' own Python may be older than zppo_jax needs. uv brings one. Ubuntu
  # 24 asks for the variable, earlier ones do not know it.
  command -v uv >/dev/null ||
    PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --user uv
  [[ -d "$home/venv" ]] || uv venv --quiet --python=3.12 "$home/venv"
  uv pip install --quiet "--python=$home/venv/bin/python" \
    --editable "$home/source[$1]"
}

newest() {  # the folder of the newest try; nothing without one
  find "$home/tries" -mindepth 1 -maxdepth 1 -type d 2>/dev/null | sort |
    tail -n 1
}

runs() {  # FOLDER: whether the processes of a try live
  [[ -s "$1/group" ]] && kill -0 -- "-$(cat "$1/group")" 2>/dev/null
}

stop_earlier() {  # a try that lost its launcher still holds the TPU
  local folder second
  for folder in "$home"/tries/*/; do
    runs "$folder" || continue
    kill -TERM -- "-$(cat "$folder/group")" 2>/dev/null || true
    for (( second = 0; second < HELD_S; second++ )); do
      runs "$folder" || break
      sleep 1
    done
    kill -KILL -- "-$(cat "$folder/group")" 2>/dev/null || true
  done
}

start() {  # TRY COMMAND...
  local folder="$home/tries/$1"
  shift
  mkdir -p "$home/tries"
  if [[ ! -d "$folder" ]]; then
    stop_earlier
    mkdir "$folder"
    cd "$home/source"
    # A session of its own, so that the end of the connection does not end it.
    # The shell waits for the command, also when a signal goes to both.
    # shellcheck disable=SC2016 # the inner shell expands these
    PATH="$home/venv/bin:$PATH" setsid bash -c '
      trap : TERM INT
      folder="$1"
      shift
      echo $$ > "$folder/group"
      "$@" & child=$!
      status=0
      while :; do
        wait "$child" && status=0 || status=$?
        kill -0 "$child" 2>/dev/null || break
      done
      echo "$status" > "$folder/status.part"
      mv "$folder/status.part" "$folder/status"
    ' try "$folder" "$@" </dev/null >"$folder/log" 2>&1 &
    while [[ ! -s "$folder/group" ]]; do sleep 0.1; done
  fi
  follow_to_its_end "$folder"
}

follow_to_its_end() {  # FOLDER
  tail -n +1 -f "--pid=$(cat "$1/group")" "$1/log"
  local status=137  # of a shell that was killed before it could write one
  [[ ! -s "$1/status" ]] || status="$(cat "$1/status")"
  if (( status > 0 && status < 64 )); then
    status=$((64 + status))
  fi
  exit "$status"
}

follow() {
  local folder
  folder="$(newest)"
  if [[ -z "$folder" ]] || ! runs "$folder"; then
    exit 64
  fi
  follow_to_its_end "$folder"
}

case "${1-}" in
  install | start | follow) "$@" ;;
  *) echo "$0: install, start or follow is needed" >&2; exit 2 ;;
esac
