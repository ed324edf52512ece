#!/usr/bin/env bash
# Stands in for gcloud and its one worker. $FAKE/state holds the resource's state
# (no file: no resource), $FAKE/states what the next describes print, a line each;
# then they print the state. An ssh runs its command here, in $HOME, after a line
# of $FAKE/outages, which is its exit code instead unless it is 0.
set -euo pipefail
echo "$*" >> "$FAKE/calls"
[[ "$1 $2 $3" == 'compute tpus queued-resources' ]]
verb="$4" name="$5"
shift 5

next() {  # FILE: takes its first line away and prints it
  [[ -s "$1" ]] || return 1
  head -n 1 "$1"
  sed -i 1d "$1"
}

case "$verb" in
  create)
    [[ ! -f "$FAKE/state" ]] || { echo ALREADY_EXISTS >&2; exit 1; }
    rm -rf "$HOME/zppo" "$HOME/source.tar.gz"  # new machines
    echo ACTIVE > "$FAKE/state" ;;
  delete) rm "$FAKE/state" ;;
  describe)
    state="$(next "$FAKE/states" || cat "$FAKE/state" 2>/dev/null || true)"
    case "$state" in
      '') echo "ERROR: NOT_FOUND: Resource '$name' was not found" >&2; exit 1 ;;
      OFFLINE) echo 'ERROR: cannot reach the network' >&2; exit 1 ;;
      SUSPENDED) echo SUSPENDED > "$FAKE/state" ;;
    esac
    echo "$state" ;;
  scp) cp "$name" "$HOME/$(basename "$name")" ;;
  ssh)
    code="$(next "$FAKE/outages" || echo 0)"
    (( code == 0 )) || exit "$code"
    for argument in "$@"; do
      case "$argument" in
        --command=*) cd "$HOME" && exec bash -c "${argument#--command=}" ;;
      esac
    done ;;
esac
