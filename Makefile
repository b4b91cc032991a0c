# What each target needs, scripts/install.sh knows. FUZZTIME is for one fuzz target.
FUZZTIME ?= 60s

.PHONY: run test check race fuzz bench sim matrix generate

run: ## a private DHT and three nodes on it, in one process
	go run ./cmd/peerserver testnet

test: ## everything: unit tests, races, then browsers and real clients
	scripts/test.sh

check: ## format, vet, lint, generated code, settings, documents
	scripts/check.sh

race: ## all Go tests of the main module under the race detector
	go run ./scripts/gotest -race -timeout 40m ./...

fuzz: ## each fuzz target for FUZZTIME
	scripts/fuzz.sh $(FUZZTIME)

bench: ## load on one node, on two, and on the reference servers of three doors, then peers beside PeerJS and pion, as tables
	scripts/bench.sh $(BENCH)
	scripts/bench-doors.sh
	scripts/bench-peers.sh

sim: ## 1,000 DHT nodes in memory, of which 30 % are killed
	go test -count=1 -v -timeout 60m -run '^TestSim' ./dhtstore -args -sim 1000

matrix: ## every kind of NAT with every other (docs/connectivity.md), every client library, both orders, at every delay (docs/matrix.md)
	scripts/install.sh system
	scripts/install.sh npm
	NATLAB_FULL=1 NATLAB_TABLE=$(CURDIR)/docs/connectivity.md go test -count=1 -v -timeout 30m -run '^Test(Matrix|Browsers|Move|TabMoves|Outage)$$' ./testnet/natlab
	E2E_FULL=1 E2E_TABLE=$(CURDIR)/docs/matrix.md node testnet/e2e/run.mjs -- --test-reporter=spec --test-reporter-destination=stdout \
		--test-reporter=./table.mjs --test-reporter-destination=stderr

generate: ## the Go code of the schema
	go tool -modfile=tools/go.mod buf generate
