#!/usr/bin/env bash
# programs.sh PROGRAM OUT: builds one of the programs of the testbed from its Go module into OUT.
# Every module is fetched by the ordinary Go client and checked against the checksum database.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/versions.env"
out=$2
export CGO_ENABLED=0 GOFLAGS=-buildvcs=false
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# go_module PATH: an empty module to build from, in which nothing but the wanted one is required.
go_module() {
	cd "$work"
	go mod init "$1"
}

# module_dir MODULE@VERSION: where the module's source is, after fetching it.
module_dir() { go mod download -json "$1" | jq -er .Dir; }

kubernetes() {
	local source minor staging program file
	source=$(module_dir "k8s.io/kubernetes@v$K8S_VERSION")
	go_module kchaos/node-image/kubernetes
	# Kubernetes' go.mod points at its staging directories for the modules that live in its own
	# repository; the same code is published as v0.x. They are replaced but not required, and the
	# checksums start from Kubernetes' own.
	{
		grep -E '^(go|godebug) ' "$source/go.mod"
		sed -n '/^godebug ($/,/^)$/p' "$source/go.mod"
		echo "module kchaos/node-image/kubernetes"
		echo "require k8s.io/kubernetes v$K8S_VERSION"
		sed -n 's|^\t\(k8s.io/[^ ]*\) => ./staging/.*|\1|p' "$source/go.mod" | grep -v sample-cli-plugin |
			while read -r staging; do echo "replace $staging => $staging v0.${K8S_VERSION#1.}"; done
	} >go.mod
	install -m 644 "$source/go.sum" go.sum
	cp "$here/kubernetes/main.go" .
	for program in kube-apiserver kube-controller-manager kube-proxy kube-scheduler kubeadm kubectl kubelet; do
		mkdir -p "mains/$program"
		for file in "$source/cmd/$program"/*.go; do
			[[ $file == *_test.go ]] ||
				sed "s/^package main$/package ${program//-/}/; s/^func main() {$/func Main() {/" "$file" \
					>"mains/$program/${file##*/}"
		done
	done
	minor=${K8S_VERSION#1.} minor=${minor%.*}
	local package flags="-s -w"
	for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
		flags+=" -X $package.gitVersion=v$K8S_VERSION -X $package.gitMajor=1 -X $package.gitMinor=$minor"
		flags+=" -X $package.gitTreeState=clean -X $package.gitCommit=v$K8S_VERSION"
	done
	# The tags are those of Kubernetes' own release build.
	go build -mod=mod -trimpath -tags selinux,notest,grpcnotrace -ldflags "$flags" -o "$out/" \
		. k8s.io/kubernetes/test/images/agnhost
	for program in mains/*; do ln -s kubernetes "$out/${program##*/}"; done
	# The process that holds a pod's namespaces, as upstream builds it.
	cc -Os -Wall -static -DVERSION="v$PAUSE_VERSION" -o "$out/pause" "$source/build/pause/linux/pause.c"
}

# go_program NAME MODULE VERSION [LDFLAGS]: the main package at the root of a module.
go_program() {
	rm -f "$work"/go.*
	go_module kchaos/node-image/program
	go mod edit -require="$2@v$3"
	go build -mod=mod -trimpath -ldflags "-s -w ${4-}" -o "$out/$1" "$2"
}

case $1 in
kubernetes) kubernetes ;;
etcd)
	go_program etcd go.etcd.io/etcd/server/v3 "$ETCD_VERSION"
	go_program etcdctl go.etcd.io/etcd/etcdctl/v3 "$ETCD_VERSION"
	go_program etcdutl go.etcd.io/etcd/etcdutl/v3 "$ETCD_VERSION"
	;;
kind) go_program kind sigs.k8s.io/kind "$KIND_VERSION" ;;
coredns) go_program coredns github.com/coredns/coredns "$COREDNS_VERSION" ;;
local-path-provisioner) go_program local-path-provisioner github.com/rancher/local-path-provisioner "$LOCAL_PATH_VERSION" ;;
oci-runtime)
	cd "$here/../setup/oci-runtime"
	go build -trimpath -ldflags '-s -w' -o "$out/oci-runtime" .
	;;
*) echo "programs.sh: no program $1" >&2 && exit 2 ;;
esac
