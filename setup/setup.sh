#!/usr/bin/env bash
# setup.sh: from whatever state this machine is in to a Docker engine, a node image, kind and kubectl.
# What they are and where is written to $XDG_CACHE_HOME/kchaos/testbed.env, for kchaos and the Makefile.
#
# setup.sh [--needs-only] COMMAND=PACKAGE...: sees to it that these are there too. With --needs-only it stops after them: what can be
# told at once has been told by then, nothing is built yet, and cargo has what it needs (with-cargo.sh).
#
# Each part is kept in the cache under a hash of what it is made from, so a second run only looks;
# an interrupted one goes on. Nothing of the system is touched where an engine already runs.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
. "$REPO/node-image/versions.env"
image_dir=$REPO/node-image

# ---- what this machine has to have -------------------------------------------------------------

is_root() { [[ $(id -u) == 0 ]]; }
engine_up() { "$REPO/setup/engine.sh" status; }

check_machine() {
	[[ $(uname) == Linux ]] || die "this set-up is for Linux: elsewhere install Docker and kind, and run kchaos on a cluster of your own"
	((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 501)) || die "bash $BASH_VERSION is too old: 5.1 is needed"
	if ! engine_up; then
		is_root || die "no Docker engine answers and you are not root: start Docker, or join the docker group and log in again"
		has dockerd || has apt-get || die "there is no Docker engine and no apt-get to install one: install Docker by hand"
	fi
}

# What nodes of kchaos' own clusters hold counts as available: these clusters are used again, or removed by make down.
check_memory() {
	local free nodes
	free=$(awk '/^MemAvailable/ { print int($2 / 1024) }' /proc/meminfo)
	if ((free < 4096)); then
		nodes=$(docker ps -q --filter label=io.x-k8s.kind.cluster --filter name=^kchaos- 2>/dev/null) || true
		# shellcheck disable=SC2086 # words
		[[ -z $nodes ]] || free=$(docker stats --no-stream --format '{{.MemUsage}}' $nodes 2>/dev/null |
			awk -v free="$free" '$1 ~ /MiB$/ { free += $1 } $1 ~ /GiB$/ { free += $1 * 1024 } END { print int(free) }') || true
	fi
	((free >= 4096)) || die "only $((free / 1024)) GiB of memory are available and a cluster needs 4: stop something, or use a larger machine"
}

check_disk() {
	local free
	mkdir -p "$CACHE"
	free=$(df --output=avail -BG "$CACHE" | tail -n 1 | tr -dc 0-9)
	((free >= 15)) || die "only $free GB are free below $CACHE and the first set-up needs 15: free some, or point XDG_CACHE_HOME elsewhere"
}

# Whoever can neither pull the node image nor build it is told so before anything is begun.
check_build() {
	if ! has go; then
		has kind || die "Go is missing, which builds kind and, where none can be pulled, a node image: $install_go"
		! engine_up || pullable || die "the node image can't be pulled here, and Go, which builds one, is missing: $install_go"
		return
	fi
	keys
	is_root || [[ -d $(artefact_dir "rootfs-$DEBIAN_SUITE" "$key_rootfs") ]] || pullable ||
		die "the node image can't be pulled here, and building one needs root (for debootstrap): run make setup as root"
	builds_kubernetes || return 0
	check_disk
	timeout 60 go list -m "k8s.io/kubernetes@v$K8S_VERSION" >/dev/null 2>&1 ||
		die "no network: the Go module proxy ($(go env GOPROXY)) doesn't answer, and nothing is in the cache yet"
	needs+=(cc=build-essential jq=jq)
}
install_go='install Go 1.24 or newer (https://go.dev/dl)'

# Should the image turn out to be pulled, that build is ended.
builds_kubernetes() {
	[[ ! -d $(artefact_dir "kubernetes-$K8S_VERSION" "$key_kubernetes") && $(cat "$CACHE/pull-$KINDEST_NODE" 2>/dev/null) != yes ]]
}

# packages COMMAND=PACKAGE...: installs the packages whose command is missing.
packages() {
	local wanted missing=()
	for wanted in "$@"; do has "${wanted%=*}" || missing+=("${wanted#*=}"); done
	((${#missing[@]})) || return 0
	has apt-get || die "missing: ${missing[*]}, and there is no apt-get here: install them by hand"
	is_root || die "missing: ${missing[*]}; installing them needs root: sudo apt-get install ${missing[*]}"
	local began=$SECONDS log=$CACHE/logs/packages.log
	# It calls it a success when it has reached nobody, and a failure when one source of many is broken.
	LC_ALL=C apt-get -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20 update >"$log" 2>&1 || true
	if grep -q '^E: Could not get lock' "$log"; then die "another program installs packages: $(grep -m1 '^E:' "$log"); wait for it"; fi
	grep -qE '^(Hit|Get):' "$log" ||
		die "missing: ${missing[*]}, and no network to install them: apt-get update reaches none of its sources: $(grep -m1 '^[EW]:' "$log")"
	report packages "installing ${missing[*]}"
	# Ended in its midst, it would leave packages that no later one gets past.
	(
		trap '' HUP INT TERM
		DEBIAN_FRONTEND=noninteractive exec apt-get install -y --no-install-recommends "${missing[@]}" >>"$log" 2>&1
	) ||
		die "apt-get could not install ${missing[*]}: $(grep -m1 '^E:' "$log") (log: $log)"
	report packages "installed in $(clock $((SECONDS - began)))"
}

start_engine() {
	engine_up && return
	has dockerd || packages dockerd=docker.io iptables=iptables
	has docker || packages docker=docker-cli # a package of its own in newer Debians
	local began=$SECONDS
	if [[ ! -d /run/systemd/system && ! -x $(oci_runtime) ]] && lacks_sys_resource; then
		artefact oci-runtime "$(hash "$REPO/setup/oci-runtime")" "$image_dir/programs.sh" oci-runtime
	fi
	"$REPO/setup/engine.sh" start
	report engine "started in $(clock $((SECONDS - began)))"
}

# Every kubelet, kube-proxy and systemd watches files; the default of 128 instances for all of them
# makes larger clusters fail in odd ways.
raise_limit() {
	local now
	now=$(cat "/proc/sys/${1//.//}")
	((now >= $2)) && return
	is_root && sysctl -qw "$1=$2" && return
	report limits "warning: $1 is $now, several clusters need $2: sudo sysctl -w $1=$2"
}

# ---- the node image ----------------------------------------------------------------------------

# pullable: the ordinary image is there, or its registry can be reached. Asked once per cache; a set-up that is killed while it asks leaves
# an empty answer, which is none.
pullable() {
	local name=docker.io/kindest/node:$KINDEST_NODE answer=$CACHE/pull-$KINDEST_NODE
	docker image inspect "$name" >/dev/null 2>&1 && echo yes >"$answer"
	if [[ ! -s $answer ]]; then
		if timeout 15 docker manifest inspect "$name" >/dev/null 2>&1; then echo yes; else echo no; fi >"$answer"
	fi
	[[ $(cat "$answer") == yes ]]
}

pull_node_image() {
	local name=docker.io/kindest/node:$KINDEST_NODE
	pullable || return
	docker image inspect "$name" >/dev/null 2>&1 || docker pull "$name" || { rm "$CACHE/pull-$KINDEST_NODE" && return 1; }
	node_image=$name origin=pulled version=$KINDEST_NODE
}

keys() {
	local toolchain
	toolchain=$(go env GOVERSION)
	key_kubernetes=$(hash "$K8S_VERSION" "$PAUSE_VERSION" "$toolchain" "$image_dir/programs.sh" "$image_dir/kubernetes")
	key_rootfs=$(hash "$DEBIAN_SUITE" "$image_dir/rootfs.sh")
	key_etcd=$(hash "$ETCD_VERSION" "$toolchain" "$image_dir/programs.sh")
	key_coredns=$(hash "$COREDNS_VERSION" "$toolchain" "$image_dir/programs.sh")
	key_local_path=$(hash "$LOCAL_PATH_VERSION" "$toolchain" "$image_dir/programs.sh")
	key_kind=$(hash "$KIND_VERSION" "$toolchain" "$image_dir/programs.sh")
	key_image=$(hash "$key_kubernetes" "$key_rootfs" "$key_etcd" "$key_coredns" "$key_local_path" "$AGNHOST_VERSION" \
		"$HAPROXY_IMAGE" "$image_dir/assemble.sh" "$image_dir/prepare-node.sh" "$image_dir/files")
}

artefact_dir() { echo "$CACHE/artefacts/$1-$2"; }

build_kubernetes() { artefact "kubernetes-$K8S_VERSION" "$key_kubernetes" "$image_dir/programs.sh" kubernetes; }
build_rootfs() { artefact "rootfs-$DEBIAN_SUITE" "$key_rootfs" "$image_dir/rootfs.sh"; }
build_programs() {
	artefact "kind-$KIND_VERSION" "$key_kind" "$image_dir/programs.sh" kind
	artefact "etcd-$ETCD_VERSION" "$key_etcd" "$image_dir/programs.sh" etcd
	artefact "coredns-$COREDNS_VERSION" "$key_coredns" "$image_dir/programs.sh" coredns
	artefact "local-path-provisioner-$LOCAL_PATH_VERSION" "$key_local_path" "$image_dir/programs.sh" local-path-provisioner
}

assemble() {
	docker image inspect "$node_image" "$HAPROXY_IMAGE" >/dev/null 2>&1 && return
	local began=$SECONDS log=$CACHE/logs/node-image.log
	report node-image "assembling (log: $log)"
	"$image_dir/assemble.sh" "$node_image" \
		"$(artefact_dir "kubernetes-$K8S_VERSION" "$key_kubernetes")" "$(artefact_dir "rootfs-$DEBIAN_SUITE" "$key_rootfs")" \
		"$(artefact_dir "etcd-$ETCD_VERSION" "$key_etcd")" "$(artefact_dir "coredns-$COREDNS_VERSION" "$key_coredns")" \
		"$(artefact_dir "local-path-provisioner-$LOCAL_PATH_VERSION" "$key_local_path")" >"$log" 2>&1 || {
		tail -n 15 "$log" | sed 's/^/         | /'
		die "the node image could not be assembled: $log"
	}
	report node-image "built $(clock $((SECONDS - began)))"
	# Images of earlier recipes are of no more use, but for those that a cluster still runs on.
	local old
	for old in $(docker images --format '{{.Repository}}:{{.Tag}}' "kchaos-node:v$K8S_VERSION-*"); do
		[[ $old == "$node_image" ]] || docker rmi "$old" >/dev/null 2>&1 || true
	done
}

# heartbeat: what is still being built, once a minute, while this set-up lives.
heartbeat() {
	local partial names
	while sleep 60 >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do # (it must not keep a pipe open when it is left behind)
		names=''
		for partial in "$CACHE"/artefacts/*.partial; do
			partial=${partial##*/}
			names+=" ${partial%-*}"
		done
		report still "building:$names"
	done
}
ticker=''

# ---- in order ----------------------------------------------------------------------------------

needs_only=no
[[ ${1-} != --needs-only ]] || { needs_only=yes && shift; }
needs=("$@")
mkdir -p "$CACHE"/{artefacts,logs,bin}
check_machine
check_memory
exec 9>"$CACHE/lock"
flock -n 9 || { report lock "another set-up is running; waiting for it" && flock 9; }
trap '[[ -z $ticker ]] || kill "$ticker" 2>/dev/null || true; end_lanes; rm -rf "$CACHE"/artefacts/*.partial' EXIT
trap 'exit 130' HUP INT TERM
check_build
packages "${needs[@]}"
! has dockerd || start_engine # one that is installed tells at once whether it starts
[[ $needs_only == no ]] || exit 0

# The longest part starts first.
if has go && builds_kubernetes; then lane build_kubernetes; fi
start_engine
raise_limit fs.inotify.max_user_instances 8192
raise_limit fs.inotify.max_user_watches 524288

if pull_node_image; then
	end_lanes
	report node-image "$node_image (pulled)"
	if has go; then
		artefact "kind-$KIND_VERSION" "$key_kind" "$image_dir/programs.sh" kind
		kind=$(artefact_dir "kind-$KIND_VERSION" "$key_kind")/kind
	else
		has kind || die "kind is missing, and so is Go to build it: install one of them"
		kind=$(command -v kind)
	fi
	kubectl=$(command -v kubectl || true)
else
	has go || die "the node image can't be pulled here, and Go, which builds one, is missing: $install_go"
	node_image=kchaos-node:v$K8S_VERSION-$key_image origin=built version=v$K8S_VERSION
	kind=$(artefact_dir "kind-$KIND_VERSION" "$key_kind")/kind
	kubectl=$(artefact_dir "kubernetes-$K8S_VERSION" "$key_kubernetes")/kubectl
	if [[ -x $kind && -x $kubectl ]] && docker image inspect "$node_image" "$HAPROXY_IMAGE" >/dev/null 2>&1; then
		report node-image cached
	else
		report node-image "can't be pulled here: building it, Kubernetes included, which took 13 to 18 minutes on two cores"
		if [[ ! -d $(artefact_dir "rootfs-$DEBIAN_SUITE" "$key_rootfs") ]]; then
			packages debootstrap=debootstrap
			lane build_rootfs
		fi
		lane build_programs
		heartbeat 9>&- &
		ticker=$!
		await_lanes || die "stopped; what is built so far is kept, and the next set-up goes on from there"
		kill "$ticker"
		assemble
	fi
fi

ln -sf "$kind" "$CACHE/bin/kind"
[[ -z $kubectl ]] || ln -sf "$kubectl" "$CACHE/bin/kubectl"
cat >"$CACHE/testbed.env.partial" <<EOF
# Written by setup/setup.sh; source it to use the testbed by hand.
export KCHAOS_NODE_IMAGE='$node_image'
export KCHAOS_NODE_IMAGE_ORIGIN='$origin'
export KCHAOS_K8S_VERSION='$version'
export KCHAOS_KIND='$kind'
export KCHAOS_KUBECTL='$kubectl'
export KCHAOS_AGNHOST='registry.k8s.io/e2e-test-images/agnhost:$AGNHOST_VERSION'
export PATH='$CACHE/bin':"\$PATH"
EOF
mv "$CACHE/testbed.env.partial" "$CACHE/testbed.env"
report ready "$node_image"
