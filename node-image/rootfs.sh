#!/usr/bin/env bash
# rootfs.sh OUT: the Debian parts of the node image, as three archives in OUT:
#   node.tar   the whole node system (systemd, containerd, CNI plugins, ...)
#   tools.tar  shell, iptables, ip, curl, jq, ...: the base of the pod images that need more than one binary
#   lb.tar     haproxy and what kind runs in its load balancer container
# Needs root (debootstrap makes device nodes and chroots).
set -euo pipefail
# debootstrap mounts /proc in its tree; in a mount namespace of our own that is gone when we are.
[[ -v ROOTFS_NAMESPACE ]] || ROOTFS_NAMESPACE=1 exec unshare --mount "$0" "$@"
. "$(dirname "$0")/versions.env"
out=$1
root=$out/rootfs

packages=(
	systemd systemd-sysv dbus                               # pid 1
	containerd runc containernetworking-plugins             # the container runtime and CNI plugins
	conntrack iptables nftables iproute2 ethtool socat kmod # what kubelet and kube-proxy call
	util-linux mount e2fsprogs procps                       # and what one calls on a node by hand
	bash ca-certificates curl jq
	haproxy # for the load balancer; purged from the node below
)

# The mirror the machine itself uses; where it isn't Debian, debootstrap's own default.
# shellcheck disable=SC2016 # those are apt's variables
mirror=$(apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
	awk -v suite="$DEBIAN_SUITE" '$1 == suite && $2 == "main" { print $3; exit }')

IFS=,
debootstrap --variant=minbase --include="${packages[*]}" "$DEBIAN_SUITE" "$root" ${mirror:+"$mirror"}
unset IFS

# copy_programs DEST PROGRAM...: the programs and the libraries they load, nothing else.
copy_programs() {
	local dest=$1 program path target lib
	shift
	for program in "$@"; do
		path=/usr/bin/$program
		[[ -L $root$path || -e $root$path ]] || path=/usr/sbin/$program
		# With the whole chain of links: iptables -> /etc/alternatives/iptables -> iptables-nft -> xtables-nft-multi.
		(cd "$root" && cp --parents --no-dereference ".$path" "$dest")
		while [[ -L $root$path ]]; do
			target=$(readlink "$root$path")
			[[ $target == /* ]] || target=${path%/*}/$target
			path=$target
			(cd "$root" && cp --parents --no-dereference ".$path" "$dest")
		done
		for lib in $(chroot "$root" ldd "$path" 2>/dev/null | grep -o '/[^ ]*'); do
			lib=${lib#/usr}
			mkdir -p "$dest/usr${lib%/*}"
			cp -L "$root/usr$lib" "$dest/usr$lib"
		done
	done
}

# skeleton DEST: the directories and links that every root file system has.
skeleton() {
	mkdir -p "$1"/{usr/bin,usr/sbin,usr/lib,usr/lib64,etc,run,var,proc,sys,dev,root} "$1/tmp"
	chmod 1777 "$1/tmp"
	local dir
	for dir in bin sbin lib lib64; do ln -s "usr/$dir" "$1/$dir"; done
	cp -a "$root"/etc/{passwd,group,nsswitch.conf} "$1/etc/"
}

common=(sh bash cat chmod chown cp cut date dd df echo env false head hostname id kill ln ls mkdir mktemp mv
	ps pgrep printf readlink rm rmdir sed seq sleep sort stat sync tail tee test touch tr true uname wc)
skeleton "$out/tools"
copy_programs "$out/tools" "${common[@]}" awk grep find xargs timeout sha256sum curl jq ip ss conntrack nft \
	iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore \
	iptables-nft iptables-nft-save iptables-nft-restore ip6tables-nft ip6tables-nft-save ip6tables-nft-restore \
	iptables-legacy iptables-legacy-save iptables-legacy-restore \
	ip6tables-legacy ip6tables-legacy-save ip6tables-legacy-restore
(cd "$root" && cp -a --parents usr/lib/*/xtables etc/ssl/certs/ca-certificates.crt "$out/tools/")
cp -a "$root/etc/protocols" "$out/tools/etc/" 2>/dev/null || true

skeleton "$out/lb"
copy_programs "$out/lb" "${common[@]}" haproxy
mkdir -p "$out/lb/usr/local/etc/haproxy"

chroot "$root" dpkg --purge haproxy
chroot "$root" apt-get clean
# Every node must make its own machine id; the name of the mirror is this machine's business.
rm -rf "$root"/etc/machine-id "$root"/var/lib/dbus/machine-id \
	"$root"/etc/apt/sources.list "$root"/var/log/* "$root"/var/lib/apt/lists/* "$root"/var/cache/* \
	"$root"/usr/share/{locale,man,info}
find "$root/usr/share/doc" -type f ! -name copyright -delete

for part in tools lb; do tar -C "$out/$part" -cf "$out/$part.tar" . && rm -rf "${out:?}/$part"; done
tar -C "$root" -cf "$out/node.tar" . && rm -rf "$root"
