#!/usr/bin/env bash
# Installs what the targets of the Makefile need.
#   scripts/install.sh lint      golangci-lint, built by this Go and kept in the user's cache; prints its path
#   scripts/install.sh system    gcc, Chromium, Firefox, Node.js, ip, Caddy and nginx from apt, where that may be done
#   scripts/install.sh npm       the packages of every folder with a package.json, without their install scripts
#   scripts/install.sh node      a newer Node.js, from npm, where the system's is too old
#   scripts/install.sh browser   Chromium from Playwright, where apt has none that runs (Ubuntu has a snap)
set -euo pipefail
cd "$(dirname "$0")/.."

golangci_lint=v2.15.0

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

has() { command -v "$1" >/dev/null; }

system() {
  local want=() package
  has gcc || want+=(gcc libc6-dev)
  has node || want+=(nodejs)
  has npm || want+=(npm)
  has ip || want+=(iproute2)
  has nft || want+=(nftables)
  has openssl || want+=(openssl)
  has "${E2E_CHROMIUM:-chromium}" || want+=(chromium)
  has "${E2E_FIREFOX:-firefox-esr}" || has firefox || want+=(firefox-esr)
  has caddy || want+=(caddy)
  has nginx || [ -x /usr/sbin/nginx ] || want+=(nginx)
  has turnutils_uclient || want+=(coturn)
  has miniupnpd || [ -x /usr/sbin/miniupnpd ] || want+=(miniupnpd-nftables)
  [ ${#want[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ] || ! has apt-get; then
    echo "lacking, and not installed, for that needs root and apt: ${want[*]}"
    return 0
  fi
  echo "installing ${want[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq </dev/null || echo "apt-get update failed; going on with the lists there are"
  # Neither the proxies nor coturn are to run as services here: the tests start their own.
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  # One at a time: a package that this system does not have must not keep the others out.
  for package in "${want[@]}"; do
    apt-get install -y -qq --no-install-recommends "$package" >/dev/null </dev/null || echo "apt-get could not install $package"
  done
}

install_packages() { # of one folder, unless they are there
  [ "$1/node_modules/.package-lock.json" -nt "$1/package-lock.json" ] && return
  echo "npm ci in $1"
  (cd "$1" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error </dev/null)
}

npm_packages() {
  local manifests manifest
  mapfile -t manifests < <(git ls-files --cached --others --exclude-standard -- '*package.json')
  for manifest in "${manifests[@]}"; do
    [ "$manifest" = tools/node/package.json ] || install_packages "$(dirname "$manifest")"
  done
}

node_is_new() { has node && node -e 'process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)'; }

newer_node() {
  has npm && ! node_is_new && install_packages tools/node
}

browser() {
  "${E2E_CHROMIUM:-chromium}" --version >/dev/null 2>&1 && return
  [ "$(id -u)" = 0 ] && [ -e testnet/e2e/node_modules/playwright-core/cli.js ] || return 0
  echo "installing Chromium from Playwright"
  node testnet/e2e/node_modules/playwright-core/cli.js install --with-deps chromium </dev/null >/dev/null
}

case ${1:-} in
  lint) lint ;;
  system) system ;;
  npm) npm_packages ;;
  node) newer_node || true ;;
  browser) browser || echo "Playwright could not install Chromium" ;;
  *) sed -n '3,7s/^# *//p' "$0" >&2; exit 2 ;;
esac
