#!/usr/bin/env bash
#
# Installs the clients and proxies that `make clients` runs, on Debian and Ubuntu:
# with apt-get nginx, HAProxy, Firefox, Chromium, curl, Python and its requests, PHP,
# Ruby, and Node with npm; with npm, into bin/clients, the packages below. What is there is
# not installed again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Exact versions: what is tested does not change by itself.
modules=(
  @microsoft/fetch-event-source@2.0.1
  event-source-polyfill@1.0.31
  eventsource@4.1.1
  eventsource3@npm:eventsource@3.0.7
  @fanoutio/grip@4.3.0
  @fanoutio/serve-grip@2.0.0
  express@5.3.0
  standardwebhooks@1.1.1
  ai@7.0.173
  @ai-sdk/react@4.0.177
  react@19.3.1
  react-dom@19.3.1
  esbuild@0.28.2
  vue@3.5.45
  openai@7.59.0
  @langchain/langgraph-sdk@1.15.0
  @tanstack/ai-client@0.33.2
  htmx.org@2.0.11
  htmx-ext-sse@2.2.4
  @hotwired/turbo@8.0.23
  axe-core@4.14.1
  typescript@7.0.2
)

say() { echo "clients: $*"; }
fail() {
  echo "clients: error: $*" >&2
  exit 1
}
found() {
  local name
  for name in "$@"; do
    PATH=$PATH:/usr/sbin command -v "$name" >/dev/null 2>&1 && return 0
  done
  return 1
}

packages=()
need() { # PACKAGE COMMAND...
  local package=$1
  shift
  found "$@" || packages+=("$package")
}

need nginx-light nginx
need haproxy haproxy
need chromium chromium chromium-browser google-chrome google-chrome-stable
need firefox-esr firefox-esr firefox
need curl curl
need python3 python3
need php-cli php
need ruby ruby
need nodejs node
need npm npm
if ! python3 -c 'import requests' 2>/dev/null && ! /usr/bin/python3 -c 'import requests' 2>/dev/null; then
  packages+=(python3-requests)
fi

if [[ ${#packages[@]} -gt 0 ]]; then
  found apt-get || fail "there is no apt-get here: install by hand: ${packages[*]}"
  as_root=()
  if [[ $(id -u) -ne 0 ]]; then
    found sudo || fail "installing needs root, and there is no sudo: run as root: apt-get install ${packages[*]}"
    as_root=(sudo)
  fi
  say "installing ${packages[*]} with apt-get"
  "${as_root[@]}" apt-get update -q
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${packages[@]}"
fi

least=20
have=$(node --version)
[[ ${have#v} =~ ^([0-9]+) && ${BASH_REMATCH[1]} -ge $least ]] || fail "node $have is too old: version $least or newer is needed"

mkdir -p bin/clients
if [[ "$(cat bin/clients/installed 2>/dev/null)" != "${modules[*]}" ]]; then
  say "installing ${modules[*]} with npm, into bin/clients"
  npm install --prefix bin/clients --no-save --no-package-lock --no-audit --no-fund --ignore-scripts "${modules[@]}"
  echo "${modules[*]}" >bin/clients/installed
fi
