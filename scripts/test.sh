#!/usr/bin/env bash
#
# Runs `go test` with the given arguments. When it fails, prints what failed
# again at the end, because the logs of many Caddys come before that.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# With the race detector each test binary sleeps for a second before it exits,
# for goroutines that still run then. 100 ms are enough: most packages check
# that none does (goleak).
export GORACE="${GORACE:-atexit_sleep_ms=100}"

output=$(mktemp)
trap 'rm -f "$output"' EXIT

"${GO:-go}" test "$@" 2>&1 | tee "$output" && exit 0

failed='^ *--- FAIL: |_test\.go:[0-9]+: |^panic: |^fatal error: |WARNING: DATA RACE|^FAIL\b|\.go:[0-9]+:[0-9]+: '
printf '\n== What failed:\n'
grep -E -e "$failed" -e "$PWD/.*\.go:[0-9]+ " "$output" | grep -v '^{' | head -n 50 || true
exit 1
