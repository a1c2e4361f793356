#!/usr/bin/env bash
# Fuzzes the parsers that a submitter reaches, one after another; ends at the first find.
#
#   SECONDS_EACH=60 scripts/fuzz.sh [TARGET...]
#
# Without a target: all of them. What breaks one is kept in fuzz/artifacts/<target>/.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$repo"

version=0.13.2
seconds=${SECONDS_EACH:-60}

if ! "$cache/bin/cargo-fuzz" --version 2>/dev/null | grep -qF "$version"; then
  say "installing cargo-fuzz $version into .cache"
  cargo install cargo-fuzz --version "$version" --locked --quiet --root "$cache"
fi
export PATH="$cache/bin:$PATH"

# Documents of real clients are what a mutation of one should begin with.
seeds() {
  case $1 in
    graphql) echo crates/slipway-server/tests/documents crates/slipway-wire/graphql/{official,additions} ;;
    *) echo "fuzz/seeds/$1" ;;
  esac
}

say "building the fuzz targets (the first time takes minutes)"
cargo fuzz build --sanitizer none --features libfuzzer
if [ $# -eq 0 ]; then mapfile -t targets < <(cargo fuzz list); else targets=("$@"); fi
for target in "${targets[@]}"; do
  say "fuzzing $target for $seconds s"
  mkdir -p "fuzz/corpus/$target"
  # shellcheck disable=SC2046  # directories without spaces, one argument each
  cargo fuzz run --sanitizer none --features libfuzzer "$target" "fuzz/corpus/$target" $(seeds "$target") -- \
    -max_total_time="$seconds" -max_len=16384 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 ||
    die "$target failed" "its input is above and in fuzz/artifacts/$target; run it again with: cargo fuzz run --sanitizer none --features libfuzzer $target FILE"
done
