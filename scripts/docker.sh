#!/usr/bin/env bash
# A Docker engine with two small images, for this checkout's tests, and podman with the same images.
#
#   scripts/docker.sh start         sees to a Docker engine and the images; prints the engine's address
#   scripts/docker.sh podman        does that, and sees to podman beside it; prints podman's address
#   scripts/docker.sh stop          stops the engines that this checkout started; images stay
#
# A Docker engine that answers is used as it is: a second one on a machine would take the first one's
# networks. Otherwise Debian's docker.io is installed and started with its data below .cache/docker.
# Podman is always this checkout's own: its images, containers and socket are below .cache/docker/podman.
# No registry is needed: the images are made from Debian packages.
#
#   slipway-test/busybox:1          a shell and the usual commands, 2 MB
#   slipway-test/python:1           Python 3.11 with the official client
set -euo pipefail
. "$(dirname "$0")/lib.sh"

state="$cache/docker"
socket=/var/run/docker.sock
address=${DOCKER_HOST:-unix://$socket}
podman="$state/podman"
podman_address="unix://$podman/podman.sock"

answers() { docker --host "$address" version --format '{{.Server.Version}}' >/dev/null 2>&1; }
has_image() { docker --host "$address" image inspect "$1" >/dev/null 2>&1; }

# Installs Debian packages of which a program is missing: install_missing PROGRAM=PACKAGE...
install_missing() {
  local pair packages=()
  for pair in "$@"; do have "${pair%%=*}" || packages+=("${pair#*=}"); done
  [ ${#packages[@]} -gt 0 ] || return 0
  have apt-get || die "missing: ${packages[*]}" "install them with this system's package manager, then start again"
  say "installing Debian packages: ${packages[*]}"
  as_root apt-get update -q >&2 || die "the package lists cannot be fetched" "is the machine online? try: apt-get update"
  # The package would start an engine of its own, with its data elsewhere.
  as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -q --no-install-recommends "${packages[@]}" >&2 \
    || die "installing ${packages[*]} failed" "the lines above say why; try it by hand: apt-get install ${packages[*]}"
}

start_engine() {
  if have docker && answers; then return; fi
  [ "$address" = "unix://$socket" ] \
    || die "no Docker engine answers at $address" "unset DOCKER_HOST to let this script start one"
  install_missing dockerd=docker.io docker=docker.io
  answers && return
  say "starting a Docker engine; its data is in .cache/docker/data, its log in .cache/docker/engine.log"
  mkdir -p "$state"
  as_root dockerd --host "$address" --data-root "$state/data" --exec-root "$state/run" --pidfile "$state/engine.pid" \
    >"$state/engine.log" 2>&1 </dev/null 9>&- &
  disown
  wait_until 60 answers || { tail -20 "$state/engine.log" >&2; die "the Docker engine does not answer at $address"; }
}

# import ROOT IMAGE [CHANGE...]: makes an image of a directory.
import() {
  local root=$1 image=$2 changes=() change
  shift 2
  for change in "$@"; do changes+=(--change "$change"); done
  as_root tar -C "$root" -c . | docker --host "$address" import "${changes[@]}" - "$image" >/dev/null
}

make_busybox() {
  local root="$state/busybox"
  install_missing busybox=busybox-static
  say "making the image slipway-test/busybox:1"
  rm -rf "$root"
  mkdir -p "$root/bin" "$root/tmp" "$root/etc" "$root/root"
  cp "$(command -v busybox)" "$root/bin/busybox"
  local command
  for command in $("$root/bin/busybox" --list); do [ -e "$root/bin/$command" ] || ln -s busybox "$root/bin/$command"; done
  echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
  import "$root" slipway-test/busybox:1 'ENV PATH=/bin' 'CMD ["sh"]'
  rm -rf "$root"
}

make_python() {
  local root="$state/python" mirror venv client
  install_missing mmdebstrap=mmdebstrap
  venv=$("$repo/scripts/venv.sh" 0.31 9>&-)
  client=$(grep -E '^wandb==' "$repo/tests/requirements-0.31.txt")
  say "making the image slipway-test/python:1 (Python from Debian, $client from PyPI); this takes a minute"
  mirror=$(awk '/^URIs:/ { print $2; exit }' /etc/apt/sources.list.d/debian.sources 2>/dev/null || true)
  mirror=${mirror:-http://deb.debian.org/debian}
  as_root rm -rf "$root"
  mkdir -p "$root"
  as_root mmdebstrap --quiet --variant=extract --format=tar \
    --include=python3-minimal,libpython3-stdlib,dash,bash,coreutils,libc-bin,base-files,base-passwd \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    bookworm "$state/python.tar" "$mirror" >&2 || die "mmdebstrap failed" "is the machine online? the lines above are its own"
  as_root tar -C "$root" -xf "$state/python.tar"
  as_root ln -sf python3 "$root/usr/bin/python"
  as_root mkdir -p "$root/tmp" "$root/root"
  echo 'root:x:0:0:root:/root:/bin/bash' | as_root tee "$root/etc/passwd" >/dev/null
  as_root "$venv/bin/pip" install --quiet --disable-pip-version-check --target "$root/opt/python" "$client" >&2 \
    || die "$client cannot be installed" "is the machine online? the lines above are pip's"
  import "$root" slipway-test/python:1 'ENV PYTHONPATH=/opt/python' \
    'ENV PATH=/usr/local/bin:/usr/bin:/bin' 'CMD ["python3"]'
  as_root rm -rf "$root" "$state/python.tar"
}

start_docker() {
  mkdir -p "$cache" "$state"
  exec 9>"$cache/docker.lock"
  flock 9
  start_engine
  has_image slipway-test/busybox:1 || make_busybox
  has_image slipway-test/python:1 || make_python
  echo "$address"
}

podman_answers() { docker --host "$podman_address" version --format '{{.Server.Version}}' >/dev/null 2>&1; }

start_podman() {
  local image
  start_docker >/dev/null
  install_missing podman=podman
  mkdir -p "$podman"
  if ! podman_answers; then
    say "starting podman; its data is in .cache/docker/podman, its log in .cache/docker/podman/engine.log"
    # Not every machine has systemd to make cgroups and keep events.
    printf '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n' >"$podman/containers.conf"
    as_root rm -f "$podman/podman.sock"
    # shellcheck disable=SC2016  # expanded by the inner shell
    as_root env CONTAINERS_CONF="$podman/containers.conf" sh -c 'echo $$ >"$0/engine.pid"
      exec podman --root "$0/store" --runroot "$0/run" system service --time=0 "$1"' "$podman" "$podman_address" \
      >"$podman/engine.log" 2>&1 </dev/null 9>&- &
    disown
    wait_until 60 test -S "$podman/podman.sock" || { tail -20 "$podman/engine.log" >&2; die "podman does not make its socket"; }
    as_root chown "$(id -u)" "$podman/podman.sock"
    wait_until 60 podman_answers || { tail -20 "$podman/engine.log" >&2; die "podman does not answer at $podman_address"; }
  fi
  for image in slipway-test/busybox:1 slipway-test/python:1; do
    docker --host "$podman_address" image inspect "$image" >/dev/null 2>&1 && continue
    say "giving podman the image $image"
    docker --host "$address" save "$image" | docker --host "$podman_address" load >/dev/null
  done
  echo "$podman_address"
}

# stop_one PROGRAM DIRECTORY: ends the engine whose number is in the directory.
stop_one() {
  local pid
  pid=$(cat "$2/engine.pid" 2>/dev/null || true)
  # The file is left by a crash, and its number may be another program's by now.
  if [ -n "$pid" ] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$1" ]; then
    say "stopping $1"
    as_root kill "$pid"
    wait_until 60 test ! -e "/proc/$pid" || die "$1 (process $pid) does not end"
  fi
  as_root rm -f "$2/engine.pid"
}

stop() {
  stop_one podman "$podman"
  stop_one dockerd "$state"
}

case ${1:-} in
  start) start_docker ;;
  podman) start_podman ;;
  stop) stop ;;
  *) die "usage: scripts/docker.sh start|podman|stop" ;;
esac
