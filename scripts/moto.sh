#!/usr/bin/env bash
# An S3 service (moto) for this checkout's tests.
#
#   scripts/moto.sh start           starts it unless it runs; prints its endpoint
#   scripts/moto.sh url             prints the endpoint of the running service
#   scripts/moto.sh stop            stops it; what was stored is gone
#
# Any access key is accepted. Buckets are made by whoever needs them.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

state="$cache/moto" # holds: pid port

answers() { python3 - "$1" <<'PY'
import sys, urllib.request
urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/moto-api/", timeout=2).read()
PY
}

running() {
  local pid port
  [ -f "$state" ] || return 1
  read -r pid port <"$state"
  kill -0 "$pid" 2>/dev/null && answers "$port" 2>/dev/null
}

url() {
  local pid port
  read -r pid port <"$state"
  echo "http://127.0.0.1:$port"
}

start() {
  local port pid venv
  mkdir -p "$cache"
  exec 9>"$state.lock"
  flock 9
  if running; then
    url
    return
  fi
  venv=$("$repo/scripts/venv.sh" 0.31 9>&-)
  port=$(free_port)
  say "starting an S3 service (moto) on port $port"
  "$venv/bin/python" -m moto.server -H 127.0.0.1 -p "$port" >"$state.log" 2>&1 </dev/null 9>&- &
  pid=$!
  disown
  wait_until 30 answers "$port" || { tail -20 "$state.log" >&2; kill "$pid" 2>/dev/null; die "moto does not answer"; }
  echo "$pid $port" >"$state"
  url
}

stop() {
  local pid port
  if running; then
    read -r pid port <"$state"
    say "stopping the S3 service on port $port"
    kill "$pid"
  fi
  rm -f "$state"
}

case ${1:-} in
  start) start ;;
  stop) stop ;;
  url)
    running || die "the S3 service does not run here" "scripts/moto.sh start"
    url
    ;;
  *) die "usage: scripts/moto.sh start|stop|url" ;;
esac
