#!/usr/bin/env bash
#
# Runs `go test` with the given arguments. When it fails, what failed is said
# again at the end: before it are the logs of many Caddys.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

output=$(mktemp)
trap 'rm -f "$output"' EXIT

"${GO:-go}" test "$@" 2>&1 | tee "$output" && exit 0

failed='^ *--- FAIL: |_test\.go:[0-9]+: |^panic: |^fatal error: |WARNING: DATA RACE|^FAIL\b|\.go:[0-9]+:[0-9]+: '
printf '\n== What failed:\n'
grep -E -e "$failed" -e "$PWD/.*\.go:[0-9]+ " "$output" | grep -v '^{' | head -n 50 || true
exit 1
