# Everything a person or CI runs. `make help` lists it.
SHELL := /bin/bash
CARGO_TARGET_DIR ?= target
export CARGO_TARGET_DIR
BIN := $(CARGO_TARGET_DIR)/release
KEEP ?= 0
# The demo's car starts containers, which takes root.
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

TIME ?= 60
SEED ?= 0
TARGET ?= layer
TAGS ?= 200
KILLS ?= 20
REPLICAS ?= 1

.PHONY: help demo test burst fuzz fuzz-libfuzzer bench lint update-base setup setup-tests build base runtime clean-demo order schemas

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | column -ts '	'

demo: setup base runtime ## Take a git tag through the whole lane until a container drives a lap
	$(SUDO) python3 scripts/demo.py --bin $(BIN) $(if $(filter 1,$(KEEP)),--keep,)

# With the tests at once: their dependencies ask for more of some crates, and what was built without
# them would be built again.
test burst: ALSO := --tests
test: setup setup-tests base runtime ## Run every test, real peers included
	scripts/test.sh

burst: setup base runtime $(if $(filter-out 1,$(REPLICAS)),setup-tests) ## 200 tags in bursts, 20 kills: each released once (docs/burst.md)
	BURST_TAGS=$(TAGS) BURST_KILLS=$(KILLS) REPLICAS=$(REPLICAS) SEED=$(SEED) cargo test --release --workspace \
	  --test lane -- --ignored --exact --nocapture burst::as_large_as_asked

fuzz: build ## Throw mutated bytes at every parser, TIME seconds each (docs/fuzzing.md)
	$(BIN)/pitlane-fuzz run --seconds $(TIME) --seed $(SEED) --keep $(CARGO_TARGET_DIR)/fuzz

fuzz-libfuzzer: ## The same for one TARGET, by coverage; needs nightly and cargo-fuzz
	scripts/fuzz.sh $(TARGET) $(TIME)

bench: setup setup-tests base runtime ## Compare with crane, cosign, docker in the same run
	python3 scripts/bench.py --bin $(BIN)

lint: ## Format, clippy, licences and sources of dependencies
	scripts/lint.sh

update-base: ## Refresh the lock of the base image
	python3 scripts/base.py --update

setup: ## Install what building and the demo need
	scripts/setup.sh demo

setup-tests: ## Install the peers that tests compare with
	scripts/setup.sh tests

build: ## Build all programs
	cargo build --release --workspace --bins $(ALSO)

base: build ## Make the base layout of car images
	python3 scripts/base.py
	$(BIN)/pitlane base --rootfs linux/amd64=target/base/rootfs/amd64 \
	  --rootfs linux/arm64=target/base/rootfs/arm64 --lock pipelines/base.lock.yaml --out target/base/layout >/dev/null

runtime: build ## Cross-build the runtime for arm64
	scripts/cross-car.sh

order: build ## Refresh the list of functions that a check runs (needs valgrind)
	python3 scripts/order.py --bin $(BIN)

schemas: ## Write the JSON Schemas of all formats to docs/schemas
	UPDATE_SCHEMAS=1 cargo test --release -p pitlane-tests schemas

clean-demo: ## Stop what `make demo KEEP=1` left running
	$(SUDO) python3 scripts/demo.py --stop
