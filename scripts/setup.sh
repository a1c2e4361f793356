#!/usr/bin/env bash
# Sets a machine up to build and test: Debian packages that are missing, and the Python environments
# with the official client. Says what it installs and does nothing on a machine that is ready.
#
#   scripts/setup.sh                everything
#   scripts/setup.sh build          what `cargo build` needs
#   scripts/setup.sh demo           that, and the Python environment of the demo
set -euo pipefail
. "$(dirname "$0")/lib.sh"

parts=${1:-all}

# Maps a program that must be there to the Debian package that brings it.
packages=()
need() { have "$1" || packages+=("$2"); }

need cc build-essential
need make make
need git git
need python3 python3
if have python3; then
  python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
fi
if [ "$parts" = all ]; then
  [ -x /usr/lib/postgresql/15/bin/initdb ] || have initdb || packages+=(postgresql-15)
fi

if [ ${#packages[@]} -gt 0 ]; then
  have apt-get || die "missing: ${packages[*]}" "install them with this system's package manager, then start again"
  say "installing Debian packages: ${packages[*]}"
  # The package of the database server would start a cluster of its own; ours is started per test run.
  as_root mkdir -p /etc/postgresql-common
  [ -e /etc/postgresql-common/createcluster.conf ] \
    || echo 'create_main_cluster = false' | as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
  as_root apt-get update -q >&2 || die "the package lists cannot be fetched" "is the machine online? try: apt-get update"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${packages[@]}" >&2 \
    || die "installing ${packages[*]} failed" "the lines above say why; try it by hand: apt-get install ${packages[*]}"
fi

if ! have cargo; then
  die "there is no Rust toolchain (cargo)" "install rustup; rust-toolchain.toml then selects the version by itself"
fi
# Where rustup is in charge, this fetches the pinned toolchain with its components.
toolchain=$(cd "$repo" && cargo --version) \
  || die "the Rust toolchain that rust-toolchain.toml names cannot be had" "is the machine online? try: rustup toolchain install"
say "toolchain: $toolchain"

case $parts in
  build) ;;
  demo) "$repo/scripts/venv.sh" 0.31 >/dev/null ;;
  all)
    "$repo/scripts/venv.sh" 0.31 >/dev/null
    "$repo/scripts/venv.sh" 0.28 >/dev/null
    ;;
  *) die "unknown part '$parts'" "one of: all, build, demo" ;;
esac
