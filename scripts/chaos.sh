#!/usr/bin/env bash
# Crash rounds: server and agent are killed at seeded moments, while our client and the official one
# push, and at every failpoint, on both stores; every pushed item must start exactly once and end, and
# so must every run. The same with jobs as containers, whose engine goes away too.
#
#   ROUNDS=1000 SEED=… OUTAGE=600 ENGINE_ROUNDS=0 scripts/chaos.sh
#
# ROUNDS counts rounds on SQLite; PostgreSQL gets a fifth of them, containers a fifth on SQLite and a
# tenth on PostgreSQL. OUTAGE=0 leaves out the long outages of server and engine, which take their time
# for real, all at once. A failing seed is printed: give it again to repeat the rounds.
#
# ENGINE_ROUNDS=20 also kills the engine itself so often, with SIGKILL or SIGTERM: only one that this
# script has started, since an engine takes everybody's containers with it.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$repo"

rounds=${ROUNDS:-1000}
seed=${SEED:-$(date +%s)}
outage=${OUTAGE:-600}
engine_rounds=${ENGINE_ROUNDS:-0}

"$repo/scripts/setup.sh" all
cargo build --locked --quiet --package slipway
python="$(scripts/venv.sh 0.31)/bin/python"
stop=()
cleanup() { for service in "${stop[@]}"; do "scripts/$service.sh" stop; done; }
trap cleanup EXIT
[ -f "$cache/postgres" ] || stop+=(postgres)
postgres=$(scripts/postgres.sh start)
if ! docker version >/dev/null 2>&1; then
  stop+=(docker)
elif [ "$engine_rounds" != 0 ]; then
  die "an engine runs already, and others may use it: it is not killed" \
    "stop it (scripts/docker.sh stop, if this checkout started it), or leave ENGINE_ROUNDS out"
fi
scripts/docker.sh start >/dev/null

database() { # a fresh one per series
  local name="chaos_$1_$$"
  psql --quiet "$postgres" -c "CREATE DATABASE \"$name\"" >/dev/null
  echo "${postgres%/*}/$name"
}

chaos() { (cd tests && "$python" -m chaos "$@"); }
containers() { (cd tests && "$python" -m chaos.containers "$@"); }

failed=0
chaos failpoints || failed=1
chaos failpoints --database-url "$(database failpoints)" || failed=1
chaos rounds --rounds "$rounds" --seed "$seed" || failed=1
chaos rounds --rounds $(((rounds + 4) / 5)) --seed "$seed" --database-url "$(database rounds)" || failed=1
containers failpoints || failed=1
containers failpoints --database-url "$(database container_failpoints)" || failed=1
containers rounds --rounds $(((rounds + 4) / 5)) --seed "$seed" || failed=1
containers rounds --rounds $(((rounds + 9) / 10)) --seed "$seed" --database-url "$(database container_rounds)" || failed=1
if [ "$outage" != 0 ]; then
  chaos outage --seconds "$outage" &
  on_sqlite=$!
  containers outage --seconds "$outage" &
  of_engine=$!
  chaos outage --seconds "$outage" --database-url "$(database outage)" || failed=1
  wait "$on_sqlite" || failed=1
  wait "$of_engine" || failed=1
fi
if [ "$engine_rounds" != 0 ]; then
  containers engine --rounds "$engine_rounds" --seed "$seed" || failed=1
fi
exit $failed
