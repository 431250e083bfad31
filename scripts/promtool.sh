#!/usr/bin/env bash
#
# Checks the metrics of a Caddy of this working copy, the alerts and their tests with
# promtool. Where there is none it is taken out of Debian's package prometheus, into
# bin/promtool; nothing is installed.
#
#   scripts/promtool.sh [CADDY]    the program, by default bin/caddy-promtool, which is built
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mkdir -p bin
work=$(mktemp -d)
caddy_pid=
cleanup() {
  [[ -z $caddy_pid ]] || kill "$caddy_pid" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

promtool=$(command -v promtool || echo bin/promtool)
if [[ ! -x $promtool ]]; then
  command -v apt-get >/dev/null || {
    echo "promtool: error: there is no promtool and no apt-get: install Prometheus" >&2
    exit 1
  }
  (cd "$work" && apt-get download -q prometheus && dpkg-deb -x prometheus_*.deb prometheus)
  cp "$work/prometheus/usr/bin/promtool" bin/promtool
  promtool=bin/promtool
fi
"$promtool" --version 2>&1 | head -1

"$promtool" check rules deploy/grafana/rules.yml
"$promtool" test rules deploy/grafana/rules_test.yml

caddy=${1:-bin/caddy-promtool}
[[ $# -gt 0 ]] || "${GO:-go}" build -o "$caddy" ./cmd/caddy
admin=127.0.0.1:${ADMIN_PORT:-20190}
cat >"$work/Caddyfile" <<CADDYFILE
{
	admin $admin
	persist_config off
	auto_https off
	evstream
}
CADDYFILE
XDG_DATA_HOME=$work XDG_CONFIG_HOME=$work "$caddy" run --config "$work/Caddyfile" --adapter caddyfile >"$work/log" 2>&1 &
caddy_pid=$!
for _ in $(seq 100); do
  curl -fsS "http://$admin/evstream/_health/ready" >/dev/null 2>&1 && break
  sleep 0.2
done
curl -fsS "http://$admin/metrics" | grep -E '^(# (HELP|TYPE) )?evstream_' >"$work/metrics" || {
  cat "$work/log" >&2
  exit 1
}
"$promtool" check metrics <"$work/metrics"
echo "$(grep -c '^# TYPE' "$work/metrics") metrics are as promtool wants them"
