#!/usr/bin/env bash
# What can be said of the code without running it. Every check runs, also when an earlier one failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
tool() { go tool -modfile=tools/go.mod "$@"; }
failed=()

# check NAME COMMAND...
check() {
  local name=$1 start=$SECONDS
  shift
  if "$@"; then
    echo "ok    $name ($((SECONDS - start)) s)"
  else
    echo "FAIL  $name"
    failed+=("$name")
  fi
}

# Each folder with a go.mod is a module; node_modules has Go files of others.
modules() { git ls-files --cached --others --exclude-standard -- go.mod '*/go.mod' | grep -v '^tools/' | xargs -n1 dirname; }
# Go files that people write.
sources() {
  git ls-files --cached --others --exclude-standard -- '*.go' | while read -r file; do
    [ ! -e "$file" ] || grep -q '^// Code generated .* DO NOT EDIT\.$' "$file" || echo "$file"
  done
}

formatted() {
  local files
  files=$(sources | xargs go tool -modfile=tools/go.mod gofumpt -l) || return 1
  [ -z "$files" ] || { echo "not formatted; run: go tool -modfile=tools/go.mod gofumpt -w ${files//$'\n'/ }"; return 1; }
}

in_modules() {
  local dir bad=0
  for dir in $(modules); do
    (cd "$dir" && "$@" ./...) || bad=1
  done
  return $bad
}

lint() {
  local bin
  bin=$(scripts/install.sh lint) || return 1
  in_modules "$bin" run --config "$PWD/.golangci.yml"
}

generated() {
  local file bad=0
  tool buf generate --output "$scratch" || return 1
  while read -r file; do
    cmp -s "$scratch/$file" "$file" || { echo "$file is not what the schema generates; run: make generate"; bad=1; }
  done < <(cd "$scratch" && find . -type f | sed 's|^\./||')
  return $bad
}

check "format" formatted
check "vet" in_modules go vet
check "lint" lint
check "schema" tool buf lint
check "generated code" generated
check "repository" go run ./scripts/check

if [ ${#failed[@]} -gt 0 ]; then
  echo "failed: ${failed[*]}"
  exit 1
fi
