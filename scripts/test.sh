#!/usr/bin/env bash
# Runs every test: unit tests, the race detector where goroutines share most, then real browsers and real client
# libraries over real nodes, then what the README shows. A suite whose needs cannot be met is named with what it
# lacks; with CI=true that is a failure.
set -uo pipefail
cd "$(dirname "$0")/.."
root=$PWD

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=()
skipped=()

# Where goroutines meet across packages: `make race` does all.
raced=(./relay/... ./node/... ./dhtstore/...)

lacks() { # the first thing of a list of needs that is not there
  local need
  for need in "$@"; do
    case $need in
      gcc) command -v gcc >/dev/null && [ "$(go env CGO_ENABLED)" = 1 ] || { echo "gcc and CGO_ENABLED=1"; return; } ;;
      node) node -e 'process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)' 2>/dev/null || { echo "Node.js 20 or newer"; return; } ;;
      chromium) "${CHROMIUM:-chromium}" --version >/dev/null 2>&1 || { echo "a Chromium that runs (CHROMIUM=/path)"; return; } ;;
      netns) ip netns list >/dev/null 2>&1 && [ "$(id -u)" = 0 ] || { echo "ip, and root to make a network namespace"; return; } ;;
      packages) [ -z "$npm_failed" ] || { echo "npm packages: npm ci failed"; return; } ;;
    esac
  done
}

# suite NAME "NEEDS" COMMAND...
suite() {
  local name=$1 needs=$2 start=$SECONDS lack
  shift 2
  # shellcheck disable=SC2086 # a list of words
  lack=$(lacks $needs)
  if [ -n "$lack" ]; then
    skipped+=("$name: lacks $lack")
    return
  fi
  echo "== $name"
  if "$@"; then
    echo "== $name passed ($((SECONDS - start)) s)"
  else
    echo "== $name FAILED ($((SECONDS - start)) s)"
    failed+=("$name")
  fi
}

gotest() { "$scratch/gotest" "$@"; }

in_folder() {
  local dir=$1
  shift
  (cd "$dir" && "$@")
}

folders_with() { git ls-files --cached --others --exclude-standard -- "testnet/*/$1" | xargs -r -n1 dirname; }

scripts/install.sh system
npm_failed=
if command -v npm >/dev/null; then
  scripts/install.sh npm || npm_failed=yes
else
  npm_failed=yes
fi
go build -o "$scratch/gotest" ./scripts/gotest || exit 1

mapfile -t unit < <(go list ./... | grep -v -e /testnet -e /cmd/)
mapfile -t whole < <(go list ./... | grep -e /testnet -e /cmd/)
mapfile -t races < <(go list "${raced[@]}" 2>/dev/null)

suite "unit tests" "" gotest -timeout 20m "${unit[@]}"
suite "race detector" "gcc" gotest -race -timeout 20m "${races[@]}"
suite "whole nodes" "node packages chromium netns" gotest -timeout 30m -count=1 -p 1 "${whole[@]}"
for dir in $(folders_with go.mod); do
  suite "$dir" "node packages chromium netns" in_folder "$dir" "$scratch/gotest" -timeout 30m -count=1 ./...
done
for dir in $(folders_with package.json); do
  grep -q '"test":' "$dir/package.json" || continue
  suite "$dir" "node packages chromium netns" in_folder "$dir" npm test
done
suite "README" "node packages" go run ./scripts/readme

for s in "${skipped[@]}"; do
  echo "SKIPPED $s"
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "FAILED: ${failed[*]}"
  exit 1
fi
if [ ${#skipped[@]} -gt 0 ] && [ "${CI:-}" = true ]; then
  echo "with CI=true no suite may be skipped"
  exit 1
fi
echo "all passed"
