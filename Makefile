# Two commands matter: `make run` and `make test`. Both set the machine up by themselves.
# Another Kubernetes: `make run K8S_VERSION=1.33.13` (versions are pinned in node-image/versions.env).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup build run test trials lint verdicts down

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/kchaos
export K8S_VERSION
# CI clones afresh each time; its build directory outlives the clone.
ifeq ($(CI),true)
export CARGO_TARGET_DIR ?= $(CACHE)/target
endif
TESTBED := source $(CACHE)/testbed.env

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 10

setup: ## the machine: Docker engine, node image, kind (cached; a second run only looks)
	@setup/setup.sh

# Set-up builds a node image and cargo builds kchaos; neither needs the other, so they run side by side.
build: ## the machine and the kchaos binary
	@setup/setup.sh & setup=$$!; cargo build --release & cargo=$$!; wait $$setup; wait $$cargo

run: build ## break a real cluster: kchaos run node-shutdown
	@$(TESTBED); cargo run --release --quiet -- run node-shutdown --keep

test: ## every test that needs no cluster, then those on the engine's own containers
	@setup/setup.sh & setup=$$!; cargo test --no-run & cargo=$$!; wait $$setup; wait $$cargo
	@$(TESTBED); export KCHAOS_REQUIRE=1; \
	cargo test --lib --test journal --test judge --test page --test readme --test reports --test scenario_files --test startup --test steady; \
	cargo test --test engine

# Not part of `make test` yet: see "State" in the README. They run alone, since judging beside a compiler only finds a starved machine.
trials: ## node-shutdown and its sabotage on a real cluster, kill trials, clusters made and brought back
	@setup/setup.sh & setup=$$!; cargo test --no-run & cargo=$$!; wait $$setup; wait $$cargo
	@$(TESTBED); export KCHAOS_REQUIRE=1; \
	cargo test --no-fail-fast --test scenarios --test kill --test provision

lint: ## formatting, clippy, rustdoc, shellcheck, what may be depended on
	@cargo fmt --check
	@cargo clippy --all-targets -- -D warnings
	@RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --document-private-items --quiet
	@if command -v cargo-deny >/dev/null; then cargo deny --log-level error check licenses bans sources; fi
	@if command -v shellcheck >/dev/null; then shellcheck -x setup/*.sh node-image/*.sh node-image/files/usr/local/bin/*; fi

# Which runs count is for whoever has looked at them to say: sabotaged runs leave reports, too.
verdicts: ## the README's table, from runs that count: make verdicts REPORTS="RUN/report.json …"
	@[ -n "$(REPORTS)" ] || { echo 'say which: make verdicts REPORTS="RUN/report.json …"' >&2; exit 2; }
	@REPORTS="$(abspath $(REPORTS))" SNAPSHOTS=overwrite cargo test --test readme

down: ## delete the clusters kchaos made
	@$(TESTBED); cargo run --release --quiet -- down
