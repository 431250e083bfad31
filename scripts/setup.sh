#!/usr/bin/env bash
#
# Prepares a fresh Debian or Ubuntu for `make test`: checks the version of Go,
# and installs with apt-get what else the tests need. Where all of that is
# installed it does nothing, and needs neither root nor the network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

GO=${GO:-go}
go_least=1.26

say() { echo "setup: $*"; }
fail() {
  echo "setup: error: $*" >&2
  exit 1
}

# found NAME...: whether one of these commands is installed.
found() {
  local name
  for name in "$@"; do
    command -v "$name" >/dev/null 2>&1 && return 0
  done
  return 1
}

check_go() {
  found "$GO" || fail "Go is not installed: version $go_least or newer is needed, see https://go.dev/dl/"
  local have
  have=$("$GO" env GOVERSION) || fail "\"$GO env GOVERSION\" does not work"
  have=${have#go}
  have=${have%% *}
  # A release candidate such as 1.26rc1 counts as its release.
  local least
  least=$(printf '%s\n%s\n' "$go_least" "${have%%rc*}" | sort -V | head -n 1)
  [[ $least == "$go_least" ]] || fail "Go $have is too old: version $go_least or newer is needed, see https://go.dev/dl/"
}

packages=()

# need PACKAGE WHY: has install install it.
need() {
  say "$1 is missing: $2"
  packages+=("$1")
}

install() {
  [[ ${#packages[@]} -gt 0 ]] || return 0
  found apt-get || fail "there is no apt-get here: install by hand: ${packages[*]}"
  local as_root=()
  if [[ $(id -u) -ne 0 ]]; then
    found sudo || fail "installing needs root, and there is no sudo: run as root: apt-get install ${packages[*]}"
    as_root=(sudo)
  fi
  say "installing ${packages[*]} with apt-get"
  "${as_root[@]}" apt-get update -q
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${packages[@]}"
}

check_go

if ! found "$("$GO" env CC)" gcc clang; then
  need gcc "the race detector (go test -race) is linked with it"
  need libc6-dev "gcc needs the headers of the C library"
fi
if ! found curl; then
  need curl "the tests run the commands of README.md"
fi
if ! found chromium chromium-browser google-chrome google-chrome-stable; then
  need chromium "the browser tests open real EventSources in it"
fi
if ! found redis-server; then
  # Debian's package also starts a Redis as a system service. The tests do not
  # use that one.
  need redis-server "the tests of the Redis adapter start servers of their own"
fi
if [[ $(uname -s) == Linux ]] && ! found strace; then
  need strace "a test of the durable log records with it what is written"
fi
if ! found python3; then
  need python3 "the tests run the example of an application in Python"
fi
# Debian's package also starts an nginx as a system service, which the tests do not use.
if ! PATH=$PATH:/usr/sbin found nginx; then
  need nginx-light "the tests of \"caddy evstream doctor\" put it, badly configured, before a hub"
fi

install
