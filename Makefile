# `make` alone says what there is.

CARGO   ?= cargo
TARGET  := $(or $(CARGO_TARGET_DIR),target)
GUESTS  := $(TARGET)/wasm32-wasip2/guest
PLUGINS := echo assistant
# What Restate calls for the chat: a workspace of its own.
RESTATE := --manifest-path tests/rivals/restate/Cargo.toml
# Components: the plugins, and for the tests a guest that misbehaves, one that does as it is told,
# and the chat that rivals are compared by.
COMPONENTS := $(PLUGINS:%=-p %) -p hostile -p scripted -p chat

# The daemon under test is the one that ships. What tests it, and the unit tests, are compiled without
# optimisation, which takes a quarter of the time; they mostly wait.
UNOPTIMISED := $(foreach crate,abide abide-tests abide-rivals,--config profile.release.package.$(crate).opt-level=0)

.DEFAULT_GOAL := help
.PHONY: help setup setup-tools build demo matrix trajectory model real-model real-tools measure measure-first-token measure-backup measure-trials measure-scale bench bench-peers test power-cuts old-and-new chaos damage api-fuzz lint doc deny

help: ## Show what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-19s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what a build needs beside Rust and a C++ compiler
	@tests/setup/setup.sh

setup-tools: ## Install real tool servers, which tests talk to (ABIDE_REAL_TOOLS=skip does without)
	@tests/setup/setup.sh tools $(TARGET)/real-tools

# A first build is long: a target builds the one program and the guests that it needs. `--workspace`
# keeps the features of all crates as they are for the tests, so that nothing is built twice.
PROGRAM :=
GUEST_PACKAGES := $(PLUGINS:%=-p %)
matrix: PROGRAM := abide-save-matrix
trajectory: PROGRAM := abide-agent-soak
real-tools: PROGRAM := abide-listed-tools
real-model: PROGRAM := abide-real-model
measure measure-first-token measure-backup measure-trials measure-scale: PROGRAM := abide-measure
bench-peers: PROGRAM := abide-rivals
old-and-new: PROGRAM := abide-old-and-new abide-test-tools
damage: PROGRAM := abide-damage abide-test-tools
damage: GUEST_PACKAGES := $(PLUGINS:%=-p %) -p scripted
api-fuzz: PROGRAM := abide-api-fuzz abide-test-tools
api-fuzz: GUEST_PACKAGES := $(PLUGINS:%=-p %) -p scripted
measure measure-first-token measure-trials measure-scale bench bench-peers test old-and-new: GUEST_PACKAGES := $(COMPONENTS)

build: setup ## Build dist/abide and dist/plugins/*.wasm
	$(CARGO) build --locked --release --workspace --bin abide $(PROGRAM:%=--bin %)
	$(CARGO) build --locked --profile guest --target wasm32-wasip2 $(GUEST_PACKAGES)
	@mkdir -p dist/plugins
	@install -m 755 $(TARGET)/release/abide dist/abide
	@strip --strip-debug dist/abide
	@install -m 644 $(PLUGINS:%=$(GUESTS)/%.wasm) dist/plugins

demo: ## Restart a daemon under twenty live sessions, and watch
	@tests/setup/announce.sh $(TARGET)
	@$(MAKE) --no-print-directory build PROGRAM=abide-demo
	@ABIDE_BIN=dist/abide ABIDE_GUESTS=dist/plugins $(TARGET)/release/abide-demo

matrix: build ## Save the configuration in every way, with every kind of change, under live sessions: ONLY=data
	@ABIDE_BIN=dist/abide ABIDE_GUESTS=dist/plugins $(TARGET)/release/abide-save-matrix $(ONLY)

trajectory: build ## Kill and restart a daemon under an agent with real tools (needs Node.js)
	@ABIDE_BIN=dist/abide ABIDE_GUESTS=dist/plugins $(TARGET)/release/abide-agent-soak

model: ## Serve a small real model until Ctrl-C, offline after the first run: MODEL_PORT=8080 MODEL_TEMPLATE=file.jinja
	@tests/setup/model/run.sh $(TARGET)/model $(or $(MODEL_PORT),8080) $(MODEL_TEMPLATE)

real-tools: build ## List the tools of servers for services and browsers, and call one of each (needs Node.js)
	@ABIDE_BIN=dist/abide ABIDE_GUESTS=dist/plugins $(TARGET)/release/abide-listed-tools

real-model: build ## Hold conversations with the small real model behind templates that refuse what others' do
	@ABIDE_BIN=dist/abide ABIDE_GUESTS=dist/plugins $(TARGET)/release/abide-real-model tests/setup/model $(TARGET)/model

measure: build ## Measure 10,000 turns in flight, what the journal costs, a session beside 100 busy guests, 100 restarts, and failing ones (some minutes)
	@ABIDE_BIN=dist/abide $(TARGET)/release/abide-measure in-flight
	@ABIDE_BIN=dist/abide $(TARGET)/release/abide-measure journal
	@ABIDE_BIN=dist/abide $(TARGET)/release/abide-measure compute
	@ABIDE_BIN=dist/abide $(TARGET)/release/abide-measure restarts
	@ABIDE_BIN=dist/abide $(TARGET)/release/abide-measure boot-failures

measure-first-token: build ## Measure how long a model's first word takes through the daemon: AGAINST=path-to-abide
	@ABIDE_BIN=dist/abide ABIDE_GUESTS=dist/plugins $(TARGET)/release/abide-measure first-token \
		$(if $(AGAINST),--against $(AGAINST))

bench: build ## Measure parts of the daemon against what they are built on: ONLY=commit (some minutes)
	$(CARGO) bench --locked --profile release --workspace --bench costs -- $(ONLY)

bench-peers: build ## Compare Abide with Restate, workerd and bare RocksDB: ROUNDS=5 SECONDS=10 ONLY=workerd (needs Node.js)
	$(CARGO) build --locked --release $(RESTATE) --target-dir $(TARGET)
	@ABIDE_BIN=dist/abide $(TARGET)/release/abide-rivals \
		$(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SECONDS),--seconds $(SECONDS)) $(ONLY:%=--only %)

measure-backup: build ## Measure what backups cost the clients of a running daemon
	@ABIDE_BIN=dist/abide ABIDE_GUESTS=dist/plugins $(TARGET)/release/abide-measure backup

measure-trials: build ## Measure the trial of a new component on stored sessions: SESSIONS=100000
	@ABIDE_BIN=dist/abide ABIDE_GUESTS=$(GUESTS) $(TARGET)/release/abide-measure trials $(if $(SESSIONS),--sessions $(SESSIONS))

# The stores are kept in DATA: making a million sessions takes the better part of it.
measure-scale: build ## Measure up to a million sessions, and draw the figures (DATA=folder)
	@ABIDE_BIN=dist/abide $(TARGET)/release/abide-measure idle
	@ABIDE_BIN=dist/abide $(TARGET)/release/abide-measure long
	@ABIDE_BIN=dist/abide $(TARGET)/release/abide-measure state --plots tests/measurements/plots
	@ABIDE_BIN=dist/abide $(TARGET)/release/abide-measure pressure
	@ABIDE_BIN=dist/abide $(TARGET)/release/abide-measure curve --plots tests/measurements/plots \
		$(if $(DATA),--data $(DATA))

# Tests mostly wait for daemons: with as many at once as there are processors, half of those are idle.
test: export RUST_TEST_THREADS ?= $(shell expr 2 \* $$(nproc))
test: build setup-tools ## Run all tests
	$(CARGO) test --locked --release --workspace $(UNOPTIMISED) --doc
	$(CARGO) test --locked --release --workspace $(UNOPTIMISED) --tests

power-cuts: build ## Cut the power under load, keep random parts of what was not synced: CUTS=500 SEED=1
	ABIDE_CUTS=$(or $(CUTS),500) $(if $(SEED),ABIDE_SEED=$(SEED)) \
		$(CARGO) test --locked --release --workspace --test suite power_cuts_that_leave_parts -- --nocapture

old-and-new: build ## An older binary and this one by turns over one data folder: OLD=path-to-abide ROUNDS=20
	@ABIDE_BIN=dist/abide $(TARGET)/release/abide-old-and-new $(OLD) $(ROUNDS)

# Apart from dist: a daemon with fault points is not what users run.
chaos: setup ## Kill a daemon until it lies: SEEDS=200 FIRST=1 JOBS=2 DO=run|boundaries|bugs
	$(CARGO) build --locked --release --workspace --features abide/faults
	$(CARGO) build --locked --profile guest --target wasm32-wasip2 $(COMPONENTS)
	@mkdir -p $(TARGET)/chaos
	@install -m 755 $(TARGET)/release/abide $(TARGET)/chaos/abide
	@ABIDE_BIN=$(TARGET)/chaos/abide $(TARGET)/release/abide-chaos $(or $(DO),run) \
		$(if $(SEEDS),--seeds $(SEEDS)) $(if $(FIRST),--first $(FIRST)) $(if $(JOBS),--jobs $(JOBS))

damage: build ## Damage each kind of file of a data folder, and judge what a daemon makes of it: PLACES=20 FIRST=1 JOBS=2 ONLY='table log'
	@ABIDE_BIN=dist/abide ABIDE_GUESTS=$(GUESTS) $(TARGET)/release/abide-damage \
		$(if $(PLACES),--places $(PLACES)) $(if $(FIRST),--first $(FIRST)) $(if $(JOBS),--jobs $(JOBS)) \
		$(if $(ONLY),--only '$(ONLY)')

api-fuzz: build ## Send every kind of request to the whole API with Schemathesis, with and without tokens: SECONDS=180 ONLY=viewer
	@tests/setup/api_fuzz/setup.sh $(TARGET)/api-fuzz
	@ABIDE_BIN=dist/abide ABIDE_GUESTS=$(GUESTS) $(TARGET)/release/abide-api-fuzz \
		--venv $(TARGET)/api-fuzz --hooks tests/setup/api_fuzz \
		$(if $(SECONDS),--seconds $(SECONDS)) $(if $(ONLY),--only $(ONLY))

lint: setup ## Check the format, and everything that clippy knows
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --release --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked --profile guest --target wasm32-wasip2 $(COMPONENTS) -- -D warnings
	$(CARGO) fmt $(RESTATE) --check
	$(CARGO) clippy --locked --release $(RESTATE) --target-dir $(TARGET) -- -D warnings

doc: setup ## Build the developers' documentation; a warning is an error
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc --locked --release --workspace --no-deps --document-private-items

deny: ## Check licences, bans and sources of all dependencies (needs cargo-deny)
	$(CARGO) deny --locked --config .github/deny.toml check bans licenses sources
