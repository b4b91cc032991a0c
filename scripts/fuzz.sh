#!/usr/bin/env bash
# Runs each fuzz target of the main module for the given time, one after the other.
#   scripts/fuzz.sh 60s
set -uo pipefail
cd "$(dirname "$0")/.." || exit

failed=()
for package in $(go list ./...); do
  targets=$(go test -list '^Fuzz' "$package") || exit 1
  for target in $targets; do
    [[ $target == Fuzz* ]] || continue # the line after the names says how long it took
    echo "== $package $target for ${1:-60s}"
    go test -run '^$' -fuzz "^$target\$" -fuzztime "${1:-60s}" "$package" || failed+=("$package $target")
  done
done
if [ ${#failed[@]} -gt 0 ]; then
  printf 'FAILED: %s\n' "${failed[@]}"
  exit 1
fi
