#!/usr/bin/env bash
#
# Starts an Express application with js-serve-grip, and the hub in front of it.
# Both end with this script.
#
#	examples/grip/run.sh
#
# Then, in two terminals:
#
#	curl -N http://localhost:8080/rooms/1
#	curl -H 'Content-Type: text/plain' -d hello http://localhost:8080/rooms/1
#
#	GRIP_KEY  the key that both know. Default: a random one
#	CADDY     a Caddy with evstream. Default: this repository's
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

export GRIP_KEY=${GRIP_KEY:-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')}
dir=bin/grip
mkdir -p "$dir"
if [[ -z ${CADDY:-} ]]; then
  CADDY=$dir/caddy
  go build -o "$CADDY" ./cmd/caddy
fi
[[ -d $dir/node_modules ]] || npm install --prefix "$dir" --no-save --no-package-lock --no-audit --no-fund express @fanoutio/grip @fanoutio/serve-grip
cp examples/grip/app.mjs "$dir/app.mjs" # beside node_modules, where it finds them
node "$dir/app.mjs" &
trap 'kill $!' EXIT
"$CADDY" run --config examples/grip/Caddyfile
