#!/usr/bin/env bash
# Installs what the targets of the Makefile need.
#   scripts/install.sh lint     golangci-lint, built by this Go and kept in the user's cache; prints its path
#   scripts/install.sh system   gcc, Chromium, Node.js and ip from apt, where that may be done
#   scripts/install.sh npm      the packages of every folder with a package.json, without their install scripts
set -euo pipefail
cd "$(dirname "$0")/.."

golangci_lint=v2.15.0 # keep in step with docs/dependencies.md

lint() {
  local cache bin
  # A linter refuses code for a Go newer than the one that built it, so the key has both versions.
  cache=$(dirname "$(go env GOCACHE)")/peerserver
  bin=$cache/golangci-lint-$golangci_lint-$(go env GOVERSION)
  if [ ! -x "$bin/golangci-lint" ]; then
    echo "building golangci-lint $golangci_lint, once, in a minute or two" >&2
    mkdir -p "$cache"
    build=$(mktemp -d "$cache/build.XXXXXX")
    trap 'rm -rf "$build"' EXIT
    GOBIN=$build go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$golangci_lint" >&2
    mkdir -p "$bin"
    mv "$build/golangci-lint" "$bin/golangci-lint"
  fi
  echo "$bin/golangci-lint"
}

system() {
  local want=()
  command -v gcc >/dev/null || want+=(gcc libc6-dev)
  command -v node >/dev/null || want+=(nodejs)
  command -v npm >/dev/null || want+=(npm)
  command -v ip >/dev/null || want+=(iproute2)
  command -v "${CHROMIUM:-chromium}" >/dev/null || want+=(chromium)
  [ ${#want[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "lacking and not installed (that needs root and apt): ${want[*]}" >&2
    return 0
  fi
  echo "installing ${want[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq || echo "apt-get update failed; going on with the lists there are" >&2
  # One at a time: a package that this system does not have must not keep the others out.
  local package
  for package in "${want[@]}"; do
    apt-get install -y -qq --no-install-recommends "$package" >/dev/null </dev/null || echo "apt-get could not install $package" >&2
  done
}

npm_packages() {
  local manifest dir
  git ls-files --cached --others --exclude-standard -- '*package.json' | while read -r manifest; do
    dir=$(dirname "$manifest")
    if [ "$dir/node_modules/.package-lock.json" -nt "$dir/package-lock.json" ]; then
      continue
    fi
    echo "npm ci in $dir"
    (cd "$dir" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error </dev/null)
  done
}

case ${1:-} in
  lint) lint ;;
  system) system ;;
  npm) npm_packages ;;
  *) sed -n '2,5s/^# //p' "$0" >&2; exit 2 ;;
esac
