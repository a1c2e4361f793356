#!/usr/bin/env bash
# Measures the queue against its budgets and its peers, in one run on one machine: `make bench`.
# Arguments go to slipway-bench; see `cargo run --release -p slipway-bench -- --help`.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

say "building the server and the load generator (release)"
cargo build --release --locked -p slipway -p slipway-bench
say "building the peers: River (Go) and Graphile Worker (npm)"
mkdir -p target/bench
(cd bench/river && go build -o ../../target/bench/river .)
(cd bench/graphile && npm ci --ignore-scripts --no-audit --no-fund --silent)
url=$(scripts/postgres.sh start)
trap 'scripts/postgres.sh stop >/dev/null' EXIT

exec_bench() {
  target/release/slipway-bench --postgres "$url" --deep-postgres 100000 \
    --peer target/bench/river --peer "node bench/graphile/bench.mjs" \
    --json target/bench/report.json "$@"
}
exec_bench "$@"
