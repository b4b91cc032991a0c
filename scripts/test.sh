#!/usr/bin/env bash
# Runs every test: unit tests, the race detector where goroutines share most, then real browsers and real client
# libraries over real nodes, then what the README shows. A suite or test whose needs cannot be met is named with what
# it lacks; with CI=true that is a failure.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
root=$PWD

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=()
skipped=()

# The first thing of a list of needs that is not there.
lacks() {
  local need
  for need in "$@"; do
    case $need in
      gcc) [ -n "$(command -v gcc)" ] && [ "$(go env CGO_ENABLED)" = 1 ] || { echo "gcc, or CGO_ENABLED=1"; return; } ;;
      node) node -e 'process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)' 2>/dev/null || { echo "Node.js 20 or newer"; return; } ;;
      packages) [ -z "$npm_failed" ] || { echo "npm packages (npm ci failed)"; return; } ;;
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

scripts/install.sh system
scripts/install.sh node
for dir in "$root"/tools/node/node_modules/node-linux-*/bin; do
  [ ! -d "$dir" ] || PATH=$dir:$PATH
done
npm_failed=
scripts/install.sh npm || npm_failed=yes
scripts/install.sh browser
if [ -z "${E2E_CHROMIUM:-}" ]; then
  E2E_CHROMIUM=$(command -v chromium || (cd testnet/e2e && node -p 'require("playwright-core").chromium.executablePath()' 2>/dev/null) || true)
fi
export PATH E2E_CHROMIUM
go build -o "$scratch/gotest" ./scripts/gotest || exit 1

mapfile -t unit < <(go list ./... | grep -v -e /testnet -e /cmd/)
mapfile -t whole < <(go list ./... | grep -e /testnet -e /cmd/)
# Where goroutines of several connections meet; `make race` does all.
mapfile -t races < <(go list ./... | grep -E '/(relay|node|dhtstore|peer)(/|$)')

suite "unit tests" "" gotest -timeout 20m "${unit[@]}"
suite "race detector" "gcc" gotest -race -timeout 20m "${races[@]}"
# The torrent client is built without cgo: with it, a package of it needs a C++ compiler.
suite "whole nodes" "" env CGO_ENABLED=0 "$scratch/gotest" -timeout 40m -p 1 "${whole[@]}"
for dir in $(git ls-files -- 'testnet/*/go.mod' | xargs -r -n1 dirname); do
  suite "$dir" "" in_folder "$dir" env CGO_ENABLED=0 "$scratch/gotest" -timeout 20m ./...
done
suite "peer/browser" "node packages" in_folder peer/browser sh -c 'node_modules/.bin/tsc --noEmit && node build.mjs --check && node test/run.mjs'
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
