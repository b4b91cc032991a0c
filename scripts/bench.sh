#!/usr/bin/env bash
# Loads npm bittorrent-tracker's server, one node and two nodes with the same offers, one after the other and each as
# fresh processes, prints what that costs, and writes it to docs/benchmarks.md.
#   scripts/bench.sh [--date YYYY-MM-DD] [--rounds N] [--seconds N] [--idle N] [--print]
# --print leaves docs/benchmarks.md as it is. Every row is measured once in each round; the table shows medians.
set -euo pipefail
cd "$(dirname "$0")/.."

date=$(date -u +%F) rounds=3 seconds=10 idle=19500 out=docs/benchmarks.md
while [ $# -gt 0 ]; do
  case $1 in
    --date) date=$2; shift ;;
    --rounds) rounds=$2; shift ;;
    --seconds) seconds=$2; shift ;;
    --idle) idle=$2; shift ;;
    --print) out= ;;
    *) sed -n '2,5s/^# *//p' "$0" >&2; exit 2 ;;
  esac
  shift
done

scratch=$(mktemp -d)
server=
end_server() {
  [ -n "$server" ] || return 0
  kill "$server" 2>/dev/null || true
  wait "$server" 2>/dev/null || true
  server=
}
trap 'end_server; rm -rf "$scratch"' EXIT

scripts/install.sh npm
go build -o "$scratch/peerserver" ./cmd/peerserver
commit=$(git describe --always --dirty --abbrev=12)
go build -o "$scratch/table" ./testnet/bench/table
ulimit -n "$(ulimit -Hn)"

# start WHAT: its line of JSON goes to $scratch/servers.
start() {
  : >"$scratch/servers"
  case $1 in
    npm) (cd testnet/e2e && exec node --input-type=module -e "$(cat ../bench/reference.mjs)") >"$scratch/servers" & ;;
    one) "$scratch/peerserver" testnet --nodes 1 --processes --json >"$scratch/servers" & ;;
    two) "$scratch/peerserver" testnet --nodes 2 --processes --json >"$scratch/servers" & ;;
  esac
  server=$!
  for _ in $(seq 300); do
    [ -s "$scratch/servers" ] && return
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  echo "the servers did not start" >&2
  return 1
}

# row NAME SERVERS FLAGS... measures one row and keeps its report, also one of losses: the table shows them.
row() {
  local name=$1 servers=$2
  shift 2
  echo "== $name, round $round of $rounds; load average $(cut -d ' ' -f 1-3 /proc/loadavg)" >&2
  start "$servers"
  "$scratch/peerserver" bench --json --nodes "$scratch/servers" "$@" >"$scratch/report" 2>"$scratch/log" ||
    [ -s "$scratch/report" ] || { cat "$scratch/log" >&2; return 1; }
  end_server
  printf '%s\t%s\n' "$name" "$(cat "$scratch/report")" >>"$scratch/results"
}

load=(--duration "${seconds}s")
for round in $(seq "$rounds"); do
  row full-npm npm "${load[@]}"
  row full-one one "${load[@]}"
  row full-one-cross one "${load[@]}" --layout cross
  row full-two two "${load[@]}"
  row some-one one "${load[@]}" --layout cross --parallel 12
  row some-two two "${load[@]}" --parallel 12
  row few-one one "${load[@]}" --layout cross --parallel 4
  row few-two two "${load[@]}" --parallel 4
  row rate-npm npm "${load[@]}" --rate 1000
  row rate-one one "${load[@]}" --rate 1000
  row rate-two two "${load[@]}" --rate 1000
  row idle-npm npm --idle "$idle"
  row idle-one one --idle "$idle"
done

"$scratch/table" -date "$date" -commit "$commit" -out "$out" <"$scratch/results"
