#!/usr/bin/env bash
# One real job from a queue to a finished run: a classifier of handwritten digits, trained by our agent as
# a local process, logging through the official client.
#
#   scripts/demo.sh                 leaves server and agent running until Ctrl-C
#   ONCE=1 scripts/demo.sh          stops them and exits with the job's code
#
# Everything it makes is in .cache/demo, fresh on every call. Your own login is not touched.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$repo"

once=${ONCE:-}
scripts/setup.sh demo
venv=$(scripts/venv.sh 0.31)
say "building slipway (the first time takes some minutes)"
cargo build --locked --package slipway

demo="$cache/demo"
exec 8>"$demo.lock"
flock -n 8 || die "another demo runs from this checkout" "end it with Ctrl-C"
rm -rf "$demo"
mkdir -p "$demo/home"
umask 077

port=$(free_port)
url="http://localhost:$port"
key=$("$venv/bin/python" -c 'import secrets; print(secrets.token_hex(20))')
printf '%s\n' "$key" >"$demo/admin-key"

# A home of its own: neither `slipway` nor `wandb` sees or writes the login of whoever runs this.
export HOME="$demo/home" NETRC="$demo/home/.netrc" WANDB_CONFIG_DIR="$demo/home/.config/wandb"
export WANDB_DIR="$demo/home" WANDB_CACHE_DIR="$demo/home/cache" WANDB_DATA_DIR="$demo/home/data"
export WANDB_BASE_URL="$url" WANDB_API_KEY="$key" WANDB_ERROR_REPORTING=false
export PATH="$repo/target/debug:$venv/bin:$PATH"
unset WANDB_ENTITY WANDB_PROJECT WANDB_MODE WANDB_RUN_ID

cleanup() {
  trap - EXIT INT TERM
  [ -z "${agent:-}" ] || kill "$agent" 2>/dev/null || true
  [ -z "${agent:-}" ] || wait "$agent" 2>/dev/null || true
  [ -z "${server:-}" ] || kill "$server" 2>/dev/null || true
  [ -z "${server:-}" ] || wait "$server" 2>/dev/null || true
}
trap cleanup EXIT
trap 'exit 130' INT TERM

say "starting the server on $url (log: .cache/demo/server.log)"
# In sessions of their own, so that Ctrl-C reaches this script alone and the agent can drain.
SLIPWAY_ADMIN_USER=demo SLIPWAY_ADMIN_API_KEY="$key" \
  setsid slipway server --data-dir "$demo/data" --listen "127.0.0.1:$port" >"$demo/server.log" 2>&1 8>&- </dev/null &
server=$!
answers() { kill -0 "$server" && "$venv/bin/python" -c "import urllib.request; urllib.request.urlopen('$url/readyz', timeout=2)"; }
wait_until 60 answers || { tail -20 "$demo/server.log" >&2; die "the server does not answer"; }

say "creating queue 'demo' for local processes"
slipway queue create demo --resource local-process

cat >"$demo/launch-config.yaml" <<'YAML'
entity: demo
queues: [demo]
max_jobs: 2
process:
  enabled: true # jobs run as this user, on this machine
YAML
say "starting a launch agent (log: .cache/demo/agent.log)"
setsid slipway launch-agent --config "$demo/launch-config.yaml" --state-dir "$demo/agent" >"$demo/agent.log" 2>&1 8>&- </dev/null &
agent=$!
active() { slipway queue show demo --output json | "$venv/bin/python" -c 'import json, sys; sys.exit(not json.load(sys.stdin)["active"])'; }
wait_until 60 active || { tail -20 "$demo/agent.log" >&2; die "the agent does not come up"; }

say "making a job of demo/train.py"
slipway job create code demo --project digits --name train --entry-point "python train.py"

say "putting it on the queue"
code=0
slipway launch --job demo/digits/train:latest --queue demo --project digits --name "digits with SGD" \
  --config '{"overrides": {"run_config": {"epochs": 20, "learning_rate": 0.02}}}' --wait || code=$?

say "how it went"
item=$(slipway item list --queue demo --output json | "$venv/bin/python" -c 'import json, sys; print(json.load(sys.stdin)[0]["id"])')
slipway item show --events --output json "$item" | "$venv/bin/python" -c '
import json, sys
words = {"pushed": "Queued", "leased": "Pending", "running": "Running", "finished": "Finished", "failed": "Failed", "killed": "Killed"}
for event in json.load(sys.stdin)["events"]:
    if event["kind"] in words:
        print(event["at"], words[event["kind"]])
'

run=$(slipway run list --project digits --output json \
  | "$venv/bin/python" -c 'import json, sys; runs = json.load(sys.stdin); print(runs[0]["name"] if runs else "")')
if [ -n "$run" ]; then
  say "what the run logged"
  slipway run show "demo/digits/$run"
fi
say "the run's page:   $url/demo/digits/runs/$run"
say "the queue's page: $url/launch/demo/demo"

if [ -n "$once" ]; then
  say "the job's exit code: $code"
  exit "$code"
fi
say "sign in with the key in .cache/demo/admin-key; from another terminal:"
say "  WANDB_BASE_URL=$url WANDB_API_KEY=\$(cat '$demo/admin-key') '$repo/target/debug/slipway' item list"
say "Ctrl-C ends server and agent"
wait "$server"
