#!/usr/bin/env bash
# with-cargo.sh [COMMAND=PACKAGE...] -- cargo ARGUMENT...: set-up, and this cargo beside it, since neither needs the other.
#
# First what can be told at once: of what is missing, the first line speaks. When one of the two fails, the other is ended.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 501)) || die "bash $BASH_VERSION is too old: 5.1 is needed"

needs=(cc=build-essential)
while [[ $1 != -- ]]; do needs+=("$1") && shift; done
shift

check_rust() {
	local least install found
	least=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$REPO/Cargo.toml")
	install="install Rust $least or newer: curl -sSf https://sh.rustup.rs | sh, then . ~/.cargo/env"
	if ! has cargo || ! has rustc; then die "Rust is missing, or not in the PATH: $install"; fi
	# rustup's are in the PATH before there is a toolchain.
	found=$(cargo --version 2>&1 && rustc --version 2>&1) || die "cargo or rustc doesn't run (${found%%$'\n'*}): rustup default stable"
	found=${found#cargo } found=${found%%[!0-9.]*}
	printf '%s\n' "$least" "$found" | sort --version-sort --check=quiet || die "cargo $found is too old: $install"
}

fetch_crates() {
	local log=$CACHE/logs/crates.log
	cargo fetch --quiet --manifest-path "$REPO/Cargo.toml" --target "$(rustc -vV | sed -n 's/^host: //p')" >"$log" 2>&1 ||
		die "cargo can't fetch what kchaos is made of (no network?): $(grep -m1 '^error' "$log") (log: $log)"
}

mkdir -p "$CACHE/logs"
trap end_lanes EXIT
trap 'exit 130' HUP INT TERM
check_rust
lane "$REPO/setup/setup.sh" --needs-only "${needs[@]}"
lane fetch_crates
await_lanes || exit 1

compgen -G "${CARGO_TARGET_DIR:-$REPO/target}/*/*/kchaos" >/dev/null ||
	report cargo "builds kchaos, for the first time here: some minutes on two cores"
lane "$REPO/setup/setup.sh"
lane "$@"
cargo=$! ended=''
if ! await_lanes; then
	end_lanes # so that the reason is the last line
	[[ $ended != "$cargo" ]] || die "cargo failed; what set-up has built so far is kept, and the next one goes on from there"
	exit 1
fi
