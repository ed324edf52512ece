# Sourced by every launcher: reads its arguments, and prints or runs commands.
#
# A launcher first sets `options`, the names that take --NAME=VALUE, and
# `switches`, the names of --NAME, and a variable of each name ('-' becomes '_')
# that holds the default. read_arguments then sets these variables and
#
#   dry_run                 true: print every command and run none
#   method, seed, workdir   the three arguments without a flag
#   config                  of --config=FILE
#   flags                   what goes to `zppo train` as it is
#   variables               NAME=VALUE of each --env=NAME=VALUE
#
# bash 3.2 reads it, because macOS has no other: no associative arrays.
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # the launchers read and set the variables

usage() {  # the comment at the top of the launcher
  awk 'NR > 1 { if (!/^#/ || /^#SBATCH/) exit; sub(/^# ?/, ""); print }' "$0"
}

refuse() {
  echo "$0: $1" >&2
  exit 2
}

quoted() {  # words as one line that a shell reads back
  local word line='' quote="'\\''"
  for word in "$@"; do
    case "$word" in
      '' | *[!A-Za-z0-9_@%+=:,./-]*) word="'${word//\'/$quote}'" ;;
    esac
    line="$line${line:+ }$word"
  done
  printf '%s\n' "$line"
}

run() {  # a command, which --dry-run prints
  if $dry_run; then quoted "$@"; else "$@"; fi
}

become() {  # the last command of a launcher, which takes its place
  if $dry_run; then quoted "$@"; else exec "$@"; fi
}

one_of() {  # whether the first word is among the others
  local word="$1" other
  shift
  for other in "$@"; do
    [[ "$word" != "$other" ]] || return 0
  done
  return 1
}

# A flag that neither a launcher nor `zppo train` knows is refused here, before
# it costs the start of a pod.
read_arguments() {
  local argument key listed='' places=()
  dry_run=false config='' flags=() variables=()
  for key in $options; do listed="$listed --$key=..."; done
  for key in $switches; do listed="$listed --$key"; done
  for argument in "$@"; do
    key="${argument%%=*}"
    key="${key#--}"
    case "$argument" in
      -h | --help) usage; exit 0 ;;
      --dry-run) dry_run=true ;;
      --config=*) config="${argument#--config=}" ;;
      --details | --measure) refuse "$argument is for zppo train --dry-run;\
 here --dry-run prints the command of a run" ;;
      --config.*=* | --fork-from=* | --fork_from=* | --traceback)
        flags+=("$argument") ;;
      --env=*)
        [[ "$argument" =~ ^--env=[A-Za-z_][A-Za-z_0-9]*=.*$ ]] || refuse \
          "$argument: --env=NAME=VALUE is allowed"
        variables+=("${argument#--env=}") ;;
      --*=*)
        # shellcheck disable=SC2086 # a list of names
        one_of "$key" $options || refuse "unknown setting --$key=...; known:\
$listed --env=NAME=... --config=... --config.KEY=... --fork-from=..."
        printf -v "${key//-/_}" '%s' "${argument#*=}" ;;
      --*)
        # shellcheck disable=SC2086 # a list of names
        one_of "$key" $switches || refuse "unknown switch --$key; known:\
$listed --dry-run --traceback"
        printf -v "${key//-/_}" '%s' true ;;
      -*) refuse "unexpected argument '$argument'" ;;
      *) places+=("$argument") ;;
    esac
  done
  (( ${#places[@]} <= 3 )) || refuse "unexpected argument '${places[3]}'"
  (( ${#places[@]} == 3 )) || refuse \
    "METHOD, SEED and WORKDIR are needed, e.g. zppo 0 runs/zppo-0 (--help)"
  method="${places[0]}" seed="${places[1]}" workdir="${places[2]}"
}

need() {  # SETTING TEXT: refuses a setting without a value
  local variable="${1//-/_}"
  [[ -n "${!variable-}" ]] || refuse "--$1=... is needed: $2"
}

whole() {  # SETTING LEAST: refuses all but whole numbers from LEAST on
  local variable="${1//-/_}"
  if [[ ! "${!variable}" =~ ^[0-9]+$ ]] || (( ${!variable} < $2 )); then
    refuse "--$1=${!variable}: a whole number >= $2 is allowed"
  fi
}

# Machines that come and go keep nothing: a run of theirs lives on storage that
# all of them mount, and its config comes with the repository.
for_other_machines() {  # ROOT
  [[ "$workdir" == /* ]] || refuse "WORKDIR '$workdir' is not allowed: a run\
 lies in a folder of storage that all machines mount, so give its absolute path"
  [[ -n "$config" ]] || refuse "--config=FILE is needed, e.g.\
 --config=configs/pod_9b.py"
  [[ "$config" != /* && -f "$1/${config%%:*}" ]] || refuse "--config=$config:\
 the machines get this repository, so name a file of it by its path there, e.g.\
 configs/pod_9b.py"
  # A pod compiles for minutes; its next start reads the programs from here.
  cache="${cache:-$(dirname "$workdir")/compiled_programs}"
}

# CONFIG CACHE NAME=VALUE...: sets `train`, the command that trains or resumes,
# keeps compiled programs in CACHE and has the variables and those of --env.
train_command() {
  train=(env "JAX_COMPILATION_CACHE_DIR=$2" "${@:3}"
         ${variables[@]+"${variables[@]}"}
         zppo train "--config=$1" "--workdir=$workdir"
         "--config.method=$method" "--config.seed=$seed"
         ${flags[@]+"${flags[@]}"})
}

whole_mesh() {  # COUNT: adds a mesh over all devices, unless a flag names one
  local flag
  for flag in ${flags[@]+"${flags[@]}"}; do
    [[ "$flag" != --config.mesh.* ]] || return 0
  done
  flags+=(--config.mesh.data=1 "--config.mesh.fsdp=$1" --config.mesh.tensor=1)
}

# Where compiled programs are kept on this machine.
own_cache="${JAX_COMPILATION_CACHE_DIR:-}"
own_cache="${own_cache:-${XDG_CACHE_HOME:-$HOME/.cache}/zppo_jax}"
