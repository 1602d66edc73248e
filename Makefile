# Two commands matter: `make run` and `make test`. Both set the machine up by themselves.
# Another Kubernetes: `make run K8S_VERSION=1.35.4` (versions are pinned in node-image/versions.env).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup build run test soak lint verdicts down

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

# Set-up builds a node image and cargo builds kchaos; neither needs the other, so they run side by side, once both have what they need.
beside_setup = setup/with-cargo.sh $(2) -- $(1)

build: ## the machine and a kchaos to install (a release build)
	@$(call beside_setup,cargo build --release)

# Not a release build, which takes three times as long to make: kchaos mostly waits.
run: ## break a real cluster: kchaos run node-shutdown
	@$(call beside_setup,cargo build)
	@$(TESTBED); failed=0; cargo run --quiet -- run node-shutdown --keep || failed=$$?; \
	printf '%s\n' '' 'The cluster kchaos-single stays, for more. In each shell:' \
		"    export PATH=$$(echo $${CARGO_TARGET_DIR:-$$PWD/target}/*/debug):"'$$PATH' "    . $(CACHE)/testbed.env" \
		'Then: kchaos list; kchaos run node-shutdown/pause; kind export kubeconfig --name kchaos-single, for kubectl; make down, to remove it.' >&2; \
	exit $$failed

# First what needs no cluster, while there is none: what kills and starts containers wants the whole machine, and even an idle cluster takes a third of a
# processor. Then a large cluster that is made, timed, broken and removed, with nothing beside it; then two small ones that all others share, made side by
# side. Else one program after another: judging beside a compiler, or another test, only finds a starved machine, and an engine that is kept busy by kills
# loses track of others' containers. Generated cases are the same each time, so that a failure is one of the change at hand; without PROPTEST_RNG_SEED they
# are others. The program is the one that the tests are linked with: `cargo run` would build another, without what only tests need, for more than a minute.
test: ## the tests, the real cluster included
	@$(call beside_setup,cargo test --no-run,strace=strace)
	@$(TESTBED); export KCHAOS_REQUIRE=1 KCHAOS_TEST_CLUSTER=kchaos-test-single KCHAOS_TEST_CLUSTERS=2 PROPTEST_RNG_SEED=4; \
	cargo test --lib --test journal --test judge --test page --test reports --test scenario_files --test doctor \
		--test verdict_table --test startup_time --test steady_state --test no_target --test setup; \
	kchaos=$$(echo "$${CARGO_TARGET_DIR:-target}"/*/debug/kchaos); \
	for cluster in $$KCHAOS_TEST_CLUSTER{,-2}; do \
		[ -z "$$(docker ps -aq --filter label=io.x-k8s.kind.cluster=$$cluster)" ] || "$$kchaos" down $$cluster; \
	done; \
	cargo test --test sampler -- --skip on_a_real --test-threads=1; \
	cargo test --test kill; \
	cargo test --test engine -- --skip real --skip overlap --test-threads=3; \
	cargo test --test engine -- overlap --skip real --test-threads=1; \
	cargo test --test provision -- --skip single; \
	KCHAOS_TEST_CLUSTERS=1 cargo test --test ha; \
	"$$kchaos" up single --name $$KCHAOS_TEST_CLUSTER-2 & up=$$!; \
	cargo test --test provision -- single || { kill $$up; wait $$up; exit 1; }; wait $$up; \
	cargo test --test engine -- overlap::a_real real::; \
	cargo test --test sampler -- on_a_real --test-threads=1; \
	cargo test --test scenarios; \
	cargo test --test kill_on_cluster

soak: ## every variant of every scenario, all sabotage and every kill, what is alike as well (two hours)
	@$(call beside_setup,cargo test --no-run,strace=strace)
	@$(TESTBED); export KCHAOS_REQUIRE=1 KCHAOS_SOAK=1; cargo test --test engine -- overlap --test-threads=1; cargo test --test ha; \
	export KCHAOS_TEST_CLUSTERS=2; cargo test --test scenarios; cargo test --test kill_on_cluster; \
	KCHAOS_TEST_CLUSTER=kchaos-test-single cargo test --test engine -- real::; cargo test --test kill; \
	cargo test --test provision -- ones_own; cargo test --test plain_kind

lint: ## formatting, clippy, rustdoc, shellcheck, what may be depended on
	@cargo fmt --check
	@cargo clippy --all-targets -- -D warnings
	@RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --document-private-items --quiet
	@if command -v cargo-deny >/dev/null; then cargo deny --log-level error check licenses bans sources; fi
	@if command -v shellcheck >/dev/null; then shellcheck -x setup/*.sh node-image/*.sh src/provision/*.sh node-image/files/usr/local/bin/*; \
		for change in $(filter-out src/in_node/dead-mans-switch.sh,$(wildcard src/in_node/*.sh)); do cat $$change src/in_node/dead-mans-switch.sh | shellcheck --shell=sh --exclude=SC2034,SC2154,SC2329 -; done; \
		cat src/in_node/lib-etcd.sh src/residue/node.sh | shellcheck --shell=sh -; fi

# Which runs count is for whoever has looked at them to say: sabotaged runs leave reports, too.
verdicts: ## the README's table, from runs that count: make verdicts REPORTS="RUN/report.json …"
	@[ -n "$(REPORTS)" ] || { echo 'say which: make verdicts REPORTS="RUN/report.json …"' >&2; exit 2; }
	@REPORTS="$(abspath $(REPORTS))" SNAPSHOTS=overwrite cargo test --test verdict_table the_table_in_the_readme
	@cargo test --test verdict_table

down: ## delete the clusters kchaos made
	@$(TESTBED); cargo run --quiet -- down --all
