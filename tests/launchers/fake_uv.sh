#!/usr/bin/env bash
# Stands in for uv: the environment that it makes holds the zppo of $FAKE.
set -euo pipefail
echo "uv $*" >> "$FAKE/calls"
if [[ "$1" == venv ]]; then
  folder="${!#}"
  mkdir -p "$folder/bin"
  cp "$FAKE/zppo" "$folder/bin/zppo"
fi
