#!/usr/bin/env bash
# Measures the queue and the agent against their budgets and their peers, in one run on one machine:
# `make bench`. Arguments go to slipway-bench; see `cargo run --release -p slipway-bench -- --help`.
# A peer whose tools (Go, Node with npm, Python) are not installed is left out, and that is said; so are
# the rows of containers where no engine answers.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

say "building the server and the load generator (release)"
cargo build --release --locked -p slipway -p slipway-bench
mkdir -p target/bench
peers=()
if have go; then
  say "building the peer River (Go)"
  (cd bench/river && go build -o ../../target/bench/river .)
  peers+=(--peer target/bench/river)
else
  say "leaving River out: Go is not installed"
fi
if have npm; then
  say "fetching the peer Graphile Worker (npm)"
  (cd bench/graphile && npm ci --ignore-scripts --no-audit --no-fund --silent)
  peers+=(--peer "node bench/graphile/bench.mjs")
else
  say "leaving Graphile Worker out: npm is not installed"
fi
if have python3; then
  say "fetching the official client, whose agent is a peer (pip)"
  scripts/venv.sh 0.31 >/dev/null
fi
url=$(scripts/postgres.sh start)
trap 'scripts/postgres.sh stop >/dev/null' EXIT

target/release/slipway-bench --postgres "$url" --deep-postgres 100000 "${peers[@]}" \
  --json target/bench/report.json "$@"
