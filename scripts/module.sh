#!/usr/bin/env bash
#
# Writes bin/release, a Go module whose program is Caddy with its standard modules and
# evstream. A release is built in it, because Caddy tells the version of a module only if
# the program depends on it (caddy list-modules --versions); of cmd/caddy, which is in the
# same module as evstream, it tells none. All other versions are those of go.mod.
#
#   scripts/module.sh VERSION       of this version, as it is published
#   scripts/module.sh VERSION .     of this working copy, under that version
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

module=github.com/evstream/caddy-evstream
version=${1:-}
from=${2:-}
[[ $version =~ ^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$ ]] || {
  echo "module: error: the version is ${version:-missing}; it must be one such as v1.2.3 or v1.2.3-rc.1" >&2
  exit 2
}
[[ -z $from || $from == . ]] || {
  echo "module: error: the source is $from; it must be . for this working copy, or left out" >&2
  exit 2
}

go=${GO:-go}
rm -rf bin/release
mkdir -p bin/release
cat >bin/release/main.go <<GO
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/caddyserver/caddy/v2/modules/standard"
	_ "$module"
)

func main() { caddycmd.Main() }
GO
sed 's|^module .*|module caddy|' go.mod >bin/release/go.mod
cp go.sum bin/release/go.sum

cd bin/release
export GOWORK=off GOFLAGS=-mod=mod
"$go" mod edit -require="$module@$version"
if [[ -n $from ]]; then
  "$go" mod edit -replace="$module=../.."
else
  "$go" mod download "$module@$version"
fi
"$go" list -deps . >/dev/null # what go.mod and go.sum lack is added
