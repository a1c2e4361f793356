#!/usr/bin/env bash
# Crash rounds: server and agent are killed at seeded moments, while our client and the official one
# push, and at every failpoint, on both stores; every pushed item must start exactly once and end, and
# so must every run.
#
#   ROUNDS=1000 SEED=… OUTAGE=600 scripts/chaos.sh
#
# ROUNDS counts rounds on SQLite; PostgreSQL gets a fifth of them. OUTAGE=0 leaves out the long outage,
# which takes its time for real, on both stores at once. A failing seed is printed: give it again to
# repeat the rounds.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$repo"

rounds=${ROUNDS:-1000}
seed=${SEED:-$(date +%s)}
outage=${OUTAGE:-600}

"$repo/scripts/setup.sh" all
cargo build --locked --quiet --package slipway
python="$(scripts/venv.sh 0.31)/bin/python"
[ -f "$cache/postgres" ] || trap 'scripts/postgres.sh stop' EXIT
postgres=$(scripts/postgres.sh start)

database() { # a fresh one per series
  local name="chaos_$1_$$"
  psql --quiet "$postgres" -c "CREATE DATABASE \"$name\"" >/dev/null
  echo "${postgres%/*}/$name"
}

chaos() { (cd tests && "$python" -m chaos "$@"); }

failed=0
chaos failpoints || failed=1
chaos failpoints --database-url "$(database failpoints)" || failed=1
chaos rounds --rounds "$rounds" --seed "$seed" || failed=1
chaos rounds --rounds $(((rounds + 4) / 5)) --seed "$seed" --database-url "$(database rounds)" || failed=1
if [ "$outage" != 0 ]; then
  chaos outage --seconds "$outage" &
  on_sqlite=$!
  chaos outage --seconds "$outage" --database-url "$(database outage)" || failed=1
  wait "$on_sqlite" || failed=1
fi
exit $failed
