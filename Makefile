# What a person or a CI machine does with this repository. `make` alone lists the targets.
#
# CARGO_TARGET_DIR is respected; CARGO and RUSTFLAGS as usual.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help install-deps build demo test test-model fuzz lint fmt smoke smoke-shell bench bench-image bench-sync bench-latency bench-firecracker bench-peer clean-state

CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
RELEASE := $(TARGET_DIR)/release
GUEST_TARGET := x86_64-unknown-linux-gnu

# Every cargo call sees the same value, or each would rebuild what the other built.
export BANGER_COMMIT := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install-deps: ## Install the distribution packages banger and its tests need (only what is missing)
	@tools/install-deps

build: ## Build the programs into target/release
	@# Only what a user runs: the tests' own dependencies would double the first build.
	@$(CARGO) build --release -p banger -p bangerd
	@# Alone, so that no other crate's features can reach the privileged program.
	@$(CARGO) build --release -p bangerd-root
	@# Static: it runs as PID 1 of any image. An explicit --target keeps the flag away from build scripts.
	@RUSTFLAGS="$${RUSTFLAGS:-} -C target-feature=+crt-static" \
		$(CARGO) build --release -p banger-guest --target $(GUEST_TARGET)
	@tools/copy-if-changed $(TARGET_DIR)/$(GUEST_TARGET)/release/banger-guest-program $(RELEASE)/banger-guest

demo: install-deps build ## From nothing: run the tests of examples/hello-c in a fresh VM
	@tools/demo $(RELEASE)/banger examples/hello-c

test: build ## Run every test, the end-to-end suite (real VMs) included
	@tools/run-tests

test-model: ## 2,000 random sequences of edits, git and faults against a real sshd: a quarter of an hour (BANGER_MODEL_SEED=n: others)
	@BANGER_MODEL_SEQUENCES=$${BANGER_MODEL_SEQUENCES:-2000} BANGER_MODEL_JOBS=$${BANGER_MODEL_JOBS:-6} \
		$(CARGO) test --release --workspace --test it -- --nocapture random_sequences

fuzz: ## Each fuzz target for a minute (FUZZ_SECONDS=n; FUZZ="sync/frames daemon/layer" for some of them)
	@tools/fuzz $(FUZZ)

lint: ## Formatting, clippy with warnings denied, shellcheck
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --release --workspace --all-targets --quiet -- -D warnings
	@tools/lint-shell

fmt: ## Format the Rust sources
	@$(CARGO) fmt --all

smoke: build ## Boot a systemd host in QEMU, install banger in it, run the scenarios (SCENARIO=a,b for some of them)
	@$(CARGO) build --release --quiet -p banger-smoke
	@$(RELEASE)/banger-smoke run $(if $(SCENARIO),--scenario $(SCENARIO))

smoke-shell: build ## Boot that host and stay in it with a shell of root
	@$(CARGO) build --release --quiet -p banger-smoke
	@$(RELEASE)/banger-smoke shell

bench: build ## Measure `vm run` against the same VM started by hand; writes target/bench/boot.json
	@$(CARGO) build --release --quiet -p banger-tests --bin banger-bench
	@$(RELEASE)/banger-bench boot

bench-image: build ## Measure `image pull` against skopeo, umoci, mke2fs, and container images against the default one
	@$(CARGO) build --release --quiet -p banger-tests --bin banger-bench
	@$(RELEASE)/banger-bench image
	@$(RELEASE)/banger-bench first-output

bench-sync: ## Measure the workspace engine against rsync, tar over ssh and git clone; writes target/bench/sync.json
	@$(CARGO) build --release --quiet -p banger-sync -p banger-tests --bin banger-sync-sender \
		--bin banger-sync-receiver --bin banger-bench
	@$(RELEASE)/banger-bench sync

bench-latency: ## Measure how soon a save is on the other side, against lsyncd; writes target/bench/latency.json
	@$(CARGO) build --release --quiet -p banger-sync -p banger-tests --bin banger-sync-sender \
		--bin banger-sync-receiver --bin banger-bench
	@$(RELEASE)/banger-bench latency

bench-firecracker: build ## Measure the installed mode against Firecracker by hand in the smoke host; writes target/bench/firecracker.json
	@$(CARGO) build --release --quiet -p banger-smoke
	@$(RELEASE)/banger-smoke run --scenario bench_firecracker --measurements $(TARGET_DIR)/bench/firecracker.json

bench-peer: build ## Measure `vm run` against microsandbox in the smoke host; writes target/bench/peer.json
	@$(CARGO) build --release --quiet -p banger-smoke
	@$(RELEASE)/banger-smoke run --scenario bench_peer --measurements $(TARGET_DIR)/bench/peer.json

clean-state: ## Forget the kernel and image that the tests share (they are built again when needed)
	@rm -rf $(TARGET_DIR)/test-artifacts
