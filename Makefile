# Two commands matter: `make run` and `make test`. Both set the machine up by themselves.
# Another Kubernetes: `make run K8S_VERSION=1.33.13` (versions are pinned in node-image/versions.env).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup build run test lint down

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

build: setup ## the kchaos binary
	@cargo build --release

run: build ## break a real cluster: kchaos run node-shutdown
	@$(TESTBED); cargo run --release --quiet -- run node-shutdown

test: setup ## every test, those on a real cluster included
	@$(TESTBED); KCHAOS_REQUIRE=1 cargo test

lint: ## formatting, clippy, shellcheck
	@cargo fmt --check
	@cargo clippy --all-targets -- -D warnings
	@if command -v shellcheck >/dev/null; then shellcheck -x setup/*.sh node-image/*.sh node-image/files/usr/local/bin/*; fi

down: ## delete the clusters kchaos made
	@$(TESTBED); cargo run --release --quiet -- down
