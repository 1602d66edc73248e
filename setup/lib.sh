# shellcheck shell=bash
# What the set-up scripts share: where things are kept, and how a step is run and shown.
# Sourced, not run.

CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/kchaos
REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

die() {
	printf 'set-up: %s\n' "$*" >&2
	exit 1
}

# clock SECONDS: 4s, 2m05s
clock() { (($1 < 60)) && printf '%ds' "$1" || printf '%dm%02ds' $(($1 / 60)) $(($1 % 60)); }

# report STEP STATE [DETAIL]: one line of progress, with the time since set-up began.
report() { printf '%7s  %-30s %s\n' "$(clock $((SECONDS)))" "$1" "${*:2}"; }

# has COMMAND: it is in the PATH.
has() { command -v "$1" >/dev/null 2>&1; }

# lacks_sys_resource: nobody here can have CAP_SYS_RESOURCE, capability 24.
lacks_sys_resource() {
	local bounding
	bounding=$(awk '/^CapBnd/ { print $2 }' /proc/self/status)
	((!(0x$bounding >> 24 & 1)))
}

# hash WORD|FILE|DIRECTORY...: one short content hash over all of them.
hash() {
	local input
	for input in "$@"; do
		if [[ -e $input ]]; then
			find "$input" -type f -print0 | LC_ALL=C sort -z | xargs -0 cat
		else
			echo "$input"
		fi
	done | sha256sum | cut -c1-12
}

# artefact NAME KEY COMMAND...: the directory $CACHE/artefacts/NAME-KEY, made by COMMAND with the
# directory as its last argument. KEY is a hash of what it is made from. It is made under another name and renamed when whole, so one that
# exists is complete. Prints how long it took; its output goes to a log.
artefact() {
	local name=$1 dir=$CACHE/artefacts/$1-$2 began=$SECONDS
	shift 2
	if [[ -d $dir ]]; then
		report "$name" cached
		return
	fi
	local log=$CACHE/logs/$name.log partial=$dir.partial
	report "$name" "building (log: $log)"
	rm -rf "$partial"
	mkdir -p "$partial"
	if ! nice -n 5 "$@" "$partial" >"$log" 2>&1; then
		report "$name" "FAILED after $(clock $((SECONDS - began))); the end of $log:"
		tail -n 15 "$log" | sed 's/^/         | /'
		return 1
	fi
	mv "$partial" "$dir"
	# What earlier recipes made is of no more use, but for the runtime that a running engine may call.
	local old
	for old in "$CACHE/artefacts/$name"-????????????; do
		[[ $old == "$dir" || $name == oci-runtime ]] || rm -rf "$old"
	done
	report "$name" "built $(clock $((SECONDS - began)))"
}

# Lanes are what runs side by side, each in its own process group, so that one that isn't needed (or whose neighbour failed) is ended
# with all it started. Their input is nobody's terminal: who asks it from the background is stopped.
# A lane holds the lock of its set-up: where that one was killed alone, its lanes build on, and the next must not begin beside them.
lanes=()
lane() {
	set -m
	"$@" </dev/null &
	lanes+=($!)
	set +m
}
end_lanes() {
	local pid
	for pid in "${lanes[@]}"; do
		kill -- "-$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
	lanes=()
}
# await_lanes: until all have ended well, or one has failed, which is $ended.
await_lanes() {
	local i how
	while ((${#lanes[@]})); do
		# Now and then wait -n of bash 5.2 knows nothing of a lane that has ended already (127, and no pid); wait PID does.
		ended='' how=(-n -p ended "${lanes[@]}")
		for i in "${lanes[@]}"; do kill -0 "$i" 2>/dev/null || ended=$i how=("$i"); done
		wait "${how[@]}" || [[ -z ${ended:=} ]] || return 1
		for i in "${!lanes[@]}"; do [[ ${lanes[i]} != "$ended" ]] || unset 'lanes[i]'; done
	done
}

# Where the OCI runtime wrapper is (once built).
oci_runtime() { echo "$CACHE/artefacts/oci-runtime-$(hash "$REPO/setup/oci-runtime")/oci-runtime"; }
