#!/usr/bin/env bash
# Relays signals of PeerJS and y-webrtc through their reference servers, one node and two nodes, one after the other and
# each as fresh processes, prints what that costs, and writes it to docs/benchmarks.md.
#   scripts/bench-doors.sh [--rounds N] [--seconds N] [--idle N] [--only TEXT] [--print]
# --only measures the rows that have TEXT in their name; --print leaves docs/benchmarks.md as it is, and so does --only.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=1 seconds=5 idle=5000 only='' out=docs/benchmarks.md
while [ $# -gt 0 ]; do
  case $1 in
    --rounds) rounds=$2; shift ;;
    --seconds) seconds=$2; shift ;;
    --idle) idle=$2; shift ;;
    --only) only=$2 out=; shift ;;
    --print) out= ;;
    *) sed -n '2,5s/^# *//p' "$0" >&2; exit 2 ;;
  esac
  shift
done

commit=$(git describe --always --dirty --abbrev=12)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
scripts/install.sh npm
go build -o "$scratch/peerserver" ./cmd/peerserver
go build -o "$scratch/doors" ./testnet/bench/doors
ulimit -n "$(ulimit -Hn)"
"$scratch/doors" -date "$(date -u +%F)" -commit "$commit" -program "$scratch/peerserver" -rounds "$rounds" \
  -duration "${seconds}s" -idle "$idle" -only "$only" -out "$out"
