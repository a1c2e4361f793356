#!/usr/bin/env bash
# Makes .cache/venv-NAME hold exactly tests/requirements-NAME.txt and prints its path.
# Does nothing if it already does.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

name=${1:?usage: scripts/venv.sh 0.31|0.28}
requirements="$repo/tests/requirements-$name.txt"
venv="$cache/venv-$name"
[ -f "$requirements" ] || die "no such file: tests/requirements-$name.txt"

mkdir -p "$cache"
exec 9>"$venv.lock"
flock 9

wanted=$(sha256sum <"$requirements")
if [ "$(cat "$venv/installed" 2>/dev/null)" != "$wanted" ]; then
  say "installing Python packages into .cache/venv-$name: $(grep -cE '^[A-Za-z]' "$requirements") of them, $(grep -E '^wandb==' "$requirements") first"
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements" >&2 \
    || die "tests/requirements-$name.txt cannot be installed" "is the machine online? the lines above are pip's"
  printf '%s' "$wanted" >"$venv/installed"
fi
echo "$venv"
