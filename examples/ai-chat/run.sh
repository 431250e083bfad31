#!/bin/sh
# Installs what package.json names, builds the page, and starts the application and
# Caddy; ^C ends both.
set -eu
cd "$(dirname "$0")"
[ -e node_modules ] || npm install --no-package-lock --no-audit --no-fund --ignore-scripts
node_modules/.bin/esbuild page.jsx --bundle --minify --format=esm --jsx=automatic --define:process.env.NODE_ENV='"production"' --log-level=warning --outfile=www/page.js

node server.mjs &
app=$!
trap 'kill $app 2>/dev/null' EXIT
trap 'exit 130' INT TERM
${CADDY:-go run ../../cmd/caddy} run
