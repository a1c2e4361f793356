#!/usr/bin/env bash
# Measures the queue and the agent against their budgets and their peers, in one run on one machine:
# `make bench`. Arguments go to slipway-bench; see `cargo run --release -p slipway-bench -- --help`.
# Needs Go and Node with npm for the peers; PEERS=0 leaves them out. The rows of containers are left out,
# and that is said, where no engine answers.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

say "building the server and the load generator (release)"
cargo build --release --locked -p slipway -p slipway-bench
mkdir -p target/bench
peers=()
if [ "${PEERS:-1}" != 0 ]; then
  have go || die "Go is missing, with which the peer River is built" "apt-get install golang, or PEERS=0 to leave the peers out"
  have npm || die "npm is missing, which fetches the peer Graphile Worker" "apt-get install npm, or PEERS=0 to leave the peers out"
  say "building the peer River (Go)"
  (cd bench/river && go build -o ../../target/bench/river .)
  say "fetching the peer Graphile Worker (npm)"
  (cd bench/graphile && npm ci --ignore-scripts --no-audit --no-fund --silent)
  peers=(--peer target/bench/river --peer "node bench/graphile/bench.mjs")
fi
if have python3; then
  say "fetching the official client, whose agent is a peer (pip)"
  scripts/venv.sh 0.31 >/dev/null
fi
url=$(scripts/postgres.sh start)
trap 'scripts/postgres.sh stop >/dev/null' EXIT

target/release/slipway-bench --postgres "$url" --deep-postgres 100000 "${peers[@]}" \
  --json target/bench/report.json "$@"
