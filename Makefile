# Everything that is done with this repository. `make` alone lists it.
.DEFAULT_GOAL := help
# The order of prerequisites counts: the count of tests is the last thing that `make ci` prints.
.NOTPARALLEL:
.PHONY: help run setup build test ci fmt lint docs deny sim fuzz soak acceptance bench bench-check bench-compare

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

run: ## Build, and start a proxy with servers to try it on
	cargo run --release -p weir -- demo

setup: ## Install what the tests need and is missing (Debian packages, .venv)
	@scripts/setup

build: ## Build the release binaries
	cargo build --release --workspace

test: setup ## Run every test
	@scripts/test

ci: setup lint docs deny bench-check test ## Run all that continuous integration runs

SEEDS ?= 10000
SEED ?=
sim: ## Simulate: SEEDS=10000 fresh worlds, or replay one with SEED=n
	cargo run --release -p sim -- $(if $(SEED),--seed $(SEED) --trace,--seeds $(SEEDS))

TIME ?= 60
fuzz: ## Run every fuzz target for TIME=60 seconds
	@TIME=$(TIME) scripts/fuzz

MINUTES ?= 10
soak: setup ## MINUTES=10 of load with churn; memory and descriptors must stay flat
	cargo build --release -p weir
	@MINUTES=$(MINUTES) scripts/soak

acceptance: setup ## Run suites of other projects through Weir (ACC_SHARDS=1: before one server)
	cargo build --release -p weir
	@scripts/acceptance $(SUITES)

bench: ## Instruction counts of the hot paths
	python3 bench/micro/instructions.py

bench-check: setup ## Fail when a hot path takes more instructions than recorded; test the measurement itself
	cd bench/micro && cargo fmt --check && cargo clippy --all-targets --locked -- -D warnings && cargo test --locked
	python3 bench/micro/instructions.py --check

bench-compare: setup ## Weir beside its peers, interleaved, on this machine
	python3 bench/compare/compare.py

fmt: ## Format the sources
	cargo fmt --all

lint: ## Check the format, and let clippy look for mistakes
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

docs: ## Build the documentation of the code
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items

deny: ## Check licences, advisories and sources of the dependencies
	@if command -v cargo-deny > /dev/null; then \
		cargo deny check; \
	else \
		echo "deny: not checked, cargo-deny is not installed (cargo install cargo-deny)"; \
	fi
