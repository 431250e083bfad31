#!/usr/bin/env bash
#
# Starts a hub of three nodes on this machine: a Redis, three Caddys that share
# it, and one in front that balances. Everything ends with this script.
#
#	examples/cluster/run.sh
#
# Then open http://localhost:8080, and kill a node by the process number that is
# printed: kill -9 ….
#
#	PORT       where the front listens; the nodes are at the ports after it, and
#	           their admin endpoints ten higher. Default: 8080
#	REDIS_URL  a Redis that runs already. Default: a new one
#	CADDY      a Caddy with evstream. Default: this repository's
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

port=${PORT:-8080}
dir=$(mktemp -d)
pids=()

stop() {
  trap '' INT TERM # a second signal must not interrupt this
  trap - EXIT
  # The front first, so that its streams do not delay the nodes.
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
    kill "${pids[$i]}" 2>/dev/null || true
    wait "${pids[$i]}" 2>/dev/null || true
  done
  rm -rf "$dir"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { echo "cluster: $*"; }
fail() {
  echo "cluster: error: $*" >&2
  exit 1
}

# begin NAME COMMAND... starts a command, with its output in a file.
begin() {
  local name=$1
  shift
  "$@" >"$dir/$name.log" 2>&1 &
  pids+=($!)
}

# await NAME URL waits until the URL answers, or fails if the process ends.
await() {
  local name=$1 url=$2 pid=${pids[-1]}
  for _ in $(seq 300); do
    if curl -fsS -o "$dir/answer" "$url" 2>"$dir/error"; then
      return 0
    fi
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  cat "$dir/$name.log" "$dir/error" >&2
  fail "$name does not answer at $url"
}

command -v curl >/dev/null || fail "curl is needed"

if [[ -z ${REDIS_URL:-} ]]; then
  command -v redis-server >/dev/null || fail "redis-server is needed: apt-get install redis-server, or set REDIS_URL"
  redis=$((port + 20))
  # appendonly, so that nothing is lost when Redis is started again.
  begin redis redis-server --port "$redis" --bind 127.0.0.1 --dir "$dir" --save "" \
    --appendonly yes --maxmemory-policy noeviction
  export REDIS_URL=redis://localhost:$redis
  say "Redis is process ${pids[-1]}, at $REDIS_URL"
fi

caddy=${CADDY:-}
if [[ -z $caddy ]]; then
  say "building Caddy, which takes a minute the first time"
  caddy=$dir/caddy
  "${GO:-go}" build -o "$caddy" ./cmd/caddy
fi

nodes=()
for n in 1 2 3; do
  node=localhost:$((port + n))
  nodes+=("$node")
  LISTEN=$node ADMIN=localhost:$((port + n + 10)) \
    begin "node$n" "$caddy" run --config examples/cluster/node.Caddyfile --adapter caddyfile
  await "node$n" "http://$node/"
  say "node $n is process ${pids[-1]}, at http://$node"
done
LISTEN=localhost:$port NODES="${nodes[*]}" \
  begin front "$caddy" run --config examples/cluster/front.Caddyfile --adapter caddyfile
await front "http://localhost:$port/"
say "the scoreboard is at http://localhost:$port; ^C ends it all"
wait "${pids[-1]}"
