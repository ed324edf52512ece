#!/usr/bin/env bash
# A project builds its docs in CI by `mkdocs build --strict --quiet`, so that a
# broken link fails, and no page of progress is printed.
#
# One would guess: --quiet silences what is printed, and --strict ends with an
# exit code other than 0 for a link to a page that does not exist, whatever is
# printed.
#
# What happens with mkdocs 1.6.1: with --quiet the same build ends with 0. Strict
# mode counts warnings in a handler of the logger, and --quiet raises the
# logger's level above them, so there is nothing left to count.
#
# Why it matters: a strict step of CI that is quiet checks nothing, and stays
# green while links of the documentation break.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q mkdocs==1.6.1
"$work/venv/bin/pip" list --format=freeze 2>/dev/null | grep -i '^mkdocs=='

cd "$work"
mkdir docs
echo 'site_name: t' >mkdocs.yml
echo 'A [link](gone.md) to nothing.' >docs/index.md

code_of() {
  local code=0
  venv/bin/mkdocs build --site-dir site "$@" >said 2>&1 || code=$?
  echo "$code"
}
strict="$(code_of --strict)"
grep -c "gone.md" said | sed 's/^/lines that name the link, --strict: /'
quiet="$(code_of --strict --quiet)"
echo "exit code of --strict: $strict; of --strict --quiet: $quiet"

if [[ "$strict" != 1 || "$quiet" != 0 ]]; then
  echo "CHANGED: expected 1 and 0"
  exit 1
fi
echo "as found: --quiet switches --strict off"
