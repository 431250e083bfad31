#!/bin/sh
# Starts an application that hands its streams over, and Caddy in front of it:
# run.sh express, or run.sh python. ^C ends both.
set -eu
cd "$(dirname "$0")"
case "${1-}" in
express)
	node -e 'require.resolve("express")' 2>/dev/null || npm install --no-save --no-package-lock --no-audit --no-fund express@5
	set -- node app.mjs
	;;
python) set -- python3 app.py ;;
*)
	echo "usage: $0 express|python" >&2
	exit 2
	;;
esac
if [ -z "${CADDY-}" ]; then
	CADDY=../../bin/caddy-example
	go build -o "$CADDY" ../../cmd/caddy
fi
"$@" &
app=$!
"$CADDY" run --config Caddyfile &
caddy=$!
trap 'kill $app $caddy 2>/dev/null || true; wait' EXIT
trap 'exit 0' INT TERM
wait $caddy
