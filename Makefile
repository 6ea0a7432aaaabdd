# What a developer types. `.ci/run` calls check and test.
GO      ?= go
TIMEOUT ?= 25m
PROTO   := $(wildcard wire/proto/entente/v1/*.proto)

.PHONY: all build test check sim simdirectory bench generate fuzz

all: build

build: ## one static binary, bin/entente
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/entente ./cmd/entente

check: ## formatting, vet, staticcheck, generated code up to date
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "gofmt -w these:"; echo "$$out"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) build ./...
	$(GO) run ./wire/gen
	git diff --exit-code --stat -- wire/ententev1

test: ## everything, with the race detector
	@test -d "$${MLS_VECTORS:-../shared/mls-vectors}" || echo "MLS VECTORS MISSING: set MLS_VECTORS to their folder; only the project's own run"
	$(GO) test -race -shuffle=on -count=1 -timeout $(TIMEOUT) ./...
	$(GO) test -count=1 -run RFC9106 ./identity # the race detector's builds derive keys cheaply
	$(GO) test -count=1 -run Promises ./testnet/sim # 30 runs; with the race detector above only a few

sim: ## SEEDS runs in simulated time, from seed SEED on: testnet/sim
	$(GO) test -count=1 -v -timeout 240m -run Promises ./testnet/sim -seeds $${SEEDS:-1000} -seed $${SEED:-1}

simdirectory: ## SEEDS runs of a lying directory and SEEDS honest ones, 20 organizations each
	$(GO) test -count=1 -v -timeout 120m -run 'DirectoryThatLies|HonestDirectories' ./testnet/sim -directoryseeds $${SEEDS:-1000} -seed $${SEED:-1}

bench: ## the figures of RESULTS.md
	$(GO) run ./cmd/entente bench
	$(GO) run ./mls/growth

generate: $(PROTO) ## protobuf code from wire/proto
	$(GO) run ./wire/gen

fuzz: ## every fuzz target for FUZZTIME each
	sh testnet/fuzz.sh $${FUZZTIME:-10s}
