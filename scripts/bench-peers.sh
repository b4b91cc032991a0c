#!/usr/bin/env bash
# Measures what peers take to meet, next to PeerJS, and what their channels carry, next to bare pion, and writes it to
# docs/benchmarks.md.
#   scripts/bench-peers.sh [--rounds N] [--times N] [--print]
# --print leaves docs/benchmarks.md as it is.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=3 times=60 out=docs/benchmarks.md
while [ $# -gt 0 ]; do
  case $1 in
    --rounds) rounds=$2; shift ;;
    --times) times=$2; shift ;;
    --print) out= ;;
    *) sed -n '2,5s/^# *//p' "$0" >&2; exit 2 ;;
  esac
  shift
done

commit=$(git describe --always --dirty --abbrev=12)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
scripts/install.sh npm
E2E_OPENED="$scratch/opened" E2E_TIMES=$times node testnet/e2e/run.mjs opening.bench.mjs >&2
go build -o "$scratch/peers" ./testnet/bench/peers
"$scratch/peers" -date "$(date -u +%F)" -commit "$commit" -rounds "$rounds" -opened "$scratch/opened" -out "$out"
