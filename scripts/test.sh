#!/usr/bin/env bash
# Every check of the project, in stages that are timed and named.
#
#   scripts/test.sh                 all stages
#   scripts/test.sh STAGE...        only these (setup is always done)
#
# A stage that fails does not stop the ones after it: one run shows all that is broken.
# Exits non-zero if any stage failed. Full output of each stage stays in .cache/test/STAGE.log.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$repo"

logs="$cache/test"
mkdir -p "$logs"

stage_setup() { scripts/setup.sh; }
stage_format() {
  cargo fmt --all --check
  cargo fmt --manifest-path fuzz/Cargo.toml --check
}
stage_build() { cargo build --locked --workspace; }
stage_rust() {
  SLIPWAY_TEST_POSTGRES_URL=$(scripts/postgres.sh start)
  SLIPWAY_TEST_S3_ENDPOINT=$(scripts/moto.sh start)
  export SLIPWAY_TEST_POSTGRES_URL SLIPWAY_TEST_S3_ENDPOINT
  cargo test --locked --workspace --no-fail-fast
}
stage_lint() { cargo clippy --locked --workspace --all-targets -- -D warnings; }
# Each seed once through its target, without libFuzzer. Shares what `rust` has compiled.
stage_fuzz() { cargo test --locked --manifest-path fuzz/Cargo.toml --target-dir target; }
stage_project() { pytest tests/project; }
stage_durability() { pytest tests/durability; }
stage_docs() { pytest tests/docs; }
stage_official() {
  SLIPWAY_TEST_POSTGRES_URL=$(scripts/postgres.sh start)
  export SLIPWAY_TEST_POSTGRES_URL
  pytest tests/official
}
stage_docker() {
  scripts/docker.sh podman
  pytest tests/docker
}
stage_demo() { ONCE=1 scripts/demo.sh; }
# A fixed seed and no long outage: the same rounds on every run, in minutes.
stage_chaos() { ROUNDS=${ROUNDS:-50} SEED=${SEED:-1} OUTAGE=0 scripts/chaos.sh; }

pytest() { "$("$repo/scripts/venv.sh" 0.31)/bin/python" -m pytest "$@"; }

all=(setup format build rust lint fuzz project docs durability demo official docker chaos)
if [ $# -gt 0 ]; then stages=(setup "$@"); else stages=("${all[@]}"); fi
for stage in "${stages[@]}"; do
  declare -F "stage_$stage" >/dev/null || die "there is no stage '$stage'" "stages: ${all[*]}"
done

cleanup() {
  scripts/moto.sh stop || true
  scripts/docker.sh stop || true
  scripts/postgres.sh stop || true
}
trap cleanup EXIT

# Waits for the last of a stage's output. A process that the stage left behind may hold it open for ever:
# that is told, and not waited for.
end_of_output() {
  local reader=$1 stage=$2
  for _ in $(seq 50); do
    kill -0 "$reader" 2>/dev/null || return 0
    sleep 0.1
  done
  say "[$stage] left a process behind that holds its output"
  kill "$reader" 2>/dev/null || true
}

began=$SECONDS
failed=()
summary=()
for stage in "${stages[@]}"; do
  say "[$stage]"
  stage_began=$SECONDS
  exec {output}> >(exec tee "$logs/$stage.log")
  reader=$!
  # In a subshell with its own errexit: `if` would switch it off inside the function.
  set +e
  (
    # Services that it starts would hold it open.
    exec {output}>&-
    set -e
    "stage_$stage"
  ) >&"$output" 2>&1 </dev/null
  status=$?
  set -e
  exec {output}>&-
  end_of_output "$reader" "$stage"
  took=$((SECONDS - stage_began))
  if [ "$status" -eq 0 ]; then
    summary+=("$(printf 'ok      %-9s %4d s' "$stage" "$took")")
  else
    summary+=("$(printf 'FAILED  %-9s %4d s   %s' "$stage" "$took" ".cache/test/$stage.log")")
    failed+=("$stage")
    # Nothing after these two can tell anything new.
    case $stage in setup | build) break ;; esac
  fi
  say "[$stage] $([ "$status" -eq 0 ] && echo ok || echo FAILED) after $took s"
done

cleanup
trap - EXIT

echo
echo "Stages, $((SECONDS - began)) s in all:"
printf '  %s\n' "${summary[@]}"
echo
echo "The runners' own closing lines:"
for stage in "${stages[@]}"; do
  [ -f "$logs/$stage.log" ] || continue
  case $stage in
    rust | fuzz) sed -nE 's/^ +(Running|Doc-tests) (.*)/\2/p; /^test result:/p' "$logs/$stage.log" \
      | awk '/^test result:/ { print "  " suite ": " $0; next } { suite = $0; sub(/ \(.*/, "", suite) }' ;;
    project | docs | durability | official | docker) printf '  %s: %s\n' "$stage" "$(tail -1 "$logs/$stage.log")" ;;
    chaos) sed -n 's/^chaos: /  chaos: /p' "$logs/chaos.log" ;;
  esac
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "FAILED: ${failed[*]}"
  exit 1
fi
echo "All stages passed."
