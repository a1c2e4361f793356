#!/usr/bin/env bash
# A PostgreSQL server for this checkout's tests, in a directory of its own, with every durability
# setting on: the store refuses to run on any other.
#
#   scripts/postgres.sh start       starts it unless it runs; prints the URL
#   scripts/postgres.sh url         prints the URL of the running server
#   scripts/postgres.sh stop        stops it and deletes its data
set -euo pipefail
. "$(dirname "$0")/lib.sh"

state="$cache/postgres" # holds the path of the server's directory

binaries() {
  local directory
  for directory in /usr/lib/postgresql/*/bin; do
    [ -x "$directory/initdb" ] && found=$directory
  done
  if [ -n "${found:-}" ]; then
    echo "$found"
  elif have initdb; then
    dirname "$(readlink -f "$(command -v initdb)")"
  else
    die "PostgreSQL is not installed" "apt-get install postgresql-15, or run scripts/setup.sh"
  fi
}

# PostgreSQL refuses to run as root: then the account `postgres` (the package makes it) or `nobody` does.
as_server() {
  if [ "$(id -u)" -ne 0 ]; then
    "$@"
  elif id postgres >/dev/null 2>&1; then
    (cd / && runuser -u postgres -- "$@")
  else
    (cd / && runuser -u nobody -- "$@")
  fi
}

home() { cat "$state" 2>/dev/null || true; }

running() {
  local home
  home=$(home)
  [ -n "$home" ] && [ -d "$home/data" ] && as_server "$(binaries)/pg_ctl" -D "$home/data" status >/dev/null 2>&1
}

url() { echo "postgres://postgres@127.0.0.1:$(cat "$(home)/port")/slipway"; }

start() {
  local bin home port attempt
  mkdir -p "$cache"
  exec 9>"$state.lock"
  flock 9
  if running; then
    url
    return
  fi
  bin=$(binaries)
  # Not below the checkout: the server's account must be able to reach its directory.
  home=$(mktemp -d "${TMPDIR:-/tmp}/slipway-postgres.XXXXXX")
  chmod 755 "$home"
  mkdir "$home/data" "$home/socket"
  [ "$(id -u)" -ne 0 ] || chown "$(as_server id -u)" "$home/data" "$home/socket"
  say "starting PostgreSQL ($("$bin/postgres" --version | grep -oE '[0-9.]+' | head -1)) in $home"
  as_server "$bin/initdb" -D "$home/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$home/initdb.log" 2>&1 \
    || { tail -20 "$home/initdb.log" >&2; die "initdb failed"; }
  # Another process may take the port between the choice and the bind, hence the attempts.
  for attempt in 1 2 3 4 5; do
    port=$(free_port)
    # Descriptor 9 is the lock, which must not outlive this script in the server.
    if as_server "$bin/pg_ctl" -D "$home/data" -w -t 60 -l "$home/data/server.log" \
      -o "-p $port -k $home/socket -c listen_addresses=127.0.0.1 -c max_connections=200 -c fsync=on -c full_page_writes=on -c synchronous_commit=on" \
      start >/dev/null 2>&1 9>&-; then
      echo "$port" >"$home/port"
      echo "$home" >"$state"
      as_server "$bin/createdb" -h 127.0.0.1 -p "$port" -U postgres slipway
      url
      return
    fi
    say "port $port did not work out (attempt $attempt)"
  done
  tail -20 "$home/data/server.log" >&2
  die "PostgreSQL does not start"
}

stop() {
  local home
  home=$(home)
  if running; then
    say "stopping PostgreSQL"
    as_server "$(binaries)/pg_ctl" -D "$home/data" -m immediate stop >/dev/null
  fi
  # shellcheck disable=SC2115  # guarded: only a directory that start() made
  case $home in */slipway-postgres.*) rm -rf "$home" ;; esac
  rm -f "$state"
}

case ${1:-} in
  start) start ;;
  stop) stop ;;
  url)
    running || die "PostgreSQL does not run here" "scripts/postgres.sh start"
    url
    ;;
  *) die "usage: scripts/postgres.sh start|stop|url" ;;
esac
