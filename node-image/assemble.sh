#!/usr/bin/env bash
# assemble.sh IMAGE ARTEFACTS...: puts the built parts together as the node image IMAGE, in Docker.
# ARTEFACTS are the directories that rootfs.sh and programs.sh have filled. The pods' images are
# made first, in layers that they share, then imported into the node's own containerd.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/versions.env"
image=$1
shift
export DOCKER_BUILDKIT=0 # the client may be newer than the engine and its builder
# Docker's own names for the pod images: the upstream names behind a prefix, so that nobody's
# pulled images are touched. Inside the node the prefix is dropped.
prefix=kchaos.local
tools_tag=v$K8S_VERSION
work=$(mktemp -d)
container=''
trap '[[ -z $container ]] || docker rm -fv "$container" >/dev/null; rm -rf "$work"' EXIT

# part FILE: where a built part is.
part() {
	local artefact
	for artefact in "${artefacts[@]}"; do
		[[ ! -e $artefact/$1 ]] || { echo "$artefact/$1" && return; }
	done
	echo "assemble.sh: no $1 among ${artefacts[*]}" >&2 && return 1
}
artefacts=("$@")

# build NAME PART...: an image from the Dockerfile on standard input, with the parts in its context.
build() {
	local name=$1 file
	shift
	rm -rf "$work/context" && mkdir "$work/context"
	for file in "$@"; do
		[[ -e $file ]] || file=$(part "$file")
		cp -rL "$file" "$work/context/"
	done
	docker build --force-rm --tag "$name" --file - "$work/context"
}

pod_images=()
pod_image() {
	pod_images+=("$prefix/$1")
	build "$prefix/$1" "${@:2}"
}

registry=registry.k8s.io
pod_image "$registry/pause:$PAUSE_VERSION" pause <<-'EOF'
	FROM scratch
	COPY pause /pause
	ENTRYPOINT ["/pause"]
EOF
pod_image "$registry/etcd:$ETCD_VERSION-0" etcd etcdctl etcdutl <<-'EOF'
	FROM scratch
	ENV PATH=/usr/local/bin
	COPY etcd etcdctl etcdutl /usr/local/bin/
EOF
pod_image "$registry/coredns/coredns:v$COREDNS_VERSION" coredns <<-'EOF'
	FROM scratch
	COPY coredns /coredns
	ENTRYPOINT ["/coredns"]
EOF
# One layer for three programs (the links are relative, so a plain tar archive carries them).
mkdir -p "$work/links/usr/local/bin" "$work/links/usr/local/libexec"
for program in kube-apiserver kube-controller-manager kube-scheduler; do
	ln -s kubernetes "$work/links/usr/local/bin/$program"
done
ln -s ../bin/kubernetes "$work/links/usr/local/libexec/kube-proxy"
tar -C "$work/links" -cf "$work/links.tar" .
pod_image "$registry/kube-apiserver:v$K8S_VERSION" kubernetes "$work/links.tar" <<-'EOF'
	FROM scratch
	ENV PATH=/usr/local/bin
	COPY kubernetes /usr/local/bin/kubernetes
	ADD links.tar /
EOF
for program in kube-controller-manager kube-scheduler; do
	docker tag "$prefix/$registry/kube-apiserver:v$K8S_VERSION" "$prefix/$registry/$program:v$K8S_VERSION"
	pod_images+=("$prefix/$registry/$program:v$K8S_VERSION")
done
pod_image "$registry/kube-proxy:v$K8S_VERSION" tools.tar "$here/files/usr/local/bin/"{kube-proxy,iptables-mode} <<-EOF
	FROM $prefix/$registry/kube-apiserver:v$K8S_VERSION
	ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin
	ADD tools.tar /
	COPY kube-proxy iptables-mode /usr/local/bin/
EOF
# Serves the pod network and local-path-provisioner's helper pods, and is the base of agnhost.
pod_image "localhost/kchaos/node-tools:$tools_tag" tools.tar "$here/files/usr/local/bin/"{cni-daemon,iptables-mode} <<-'EOF'
	FROM scratch
	ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin
	ADD tools.tar /
	COPY cni-daemon iptables-mode /usr/local/bin/
EOF
pod_image "localhost/kchaos/local-path-provisioner:v$LOCAL_PATH_VERSION" local-path-provisioner <<-'EOF'
	FROM scratch
	ENV PATH=/usr/local/bin
	COPY local-path-provisioner /usr/local/bin/
EOF
pod_image "$registry/e2e-test-images/agnhost:$AGNHOST_VERSION" agnhost <<-EOF
	FROM $prefix/localhost/kchaos/node-tools:$tools_tag
	COPY agnhost /agnhost
	RUN mkdir /uploads && ln -s agnhost /agnhost-2
	EXPOSE 80 8080 8081 9376 5000
	ENTRYPOINT ["/agnhost"]
	CMD ["pause"]
EOF

# The load balancer, under the tag kind asks for; its own configuration comes from kind later.
# kind's asks for 100000 connections, more than some hosts' limit of open files: -n overrides it.
printf 'defaults\n  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\nfrontend none\n  mode tcp\n  bind 127.0.0.1:1\n' \
	>"$work/haproxy.cfg"
build "$HAPROXY_IMAGE" lb.tar "$work/haproxy.cfg" <<-'EOF'
	FROM scratch
	ENV PATH=/usr/sbin:/usr/bin
	ADD lb.tar /
	COPY haproxy.cfg /usr/local/etc/haproxy/haproxy.cfg
	ENTRYPOINT ["haproxy", "-W", "-db", "-n", "4096", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
EOF

# The node itself.
cp -r "$here/files" "$work/files"
echo "v$K8S_VERSION" >"$work/files/kind/version"
find "$work/files" -type f -exec sed -i "s/@PAUSE_VERSION@/$PAUSE_VERSION/; s/@TOOLS_TAG@/$tools_tag/; s/@LOCAL_PATH_VERSION@/$LOCAL_PATH_VERSION/" {} +
docker import - kchaos-build:rootfs <"$(part node.tar)"
build kchaos-build:node "$work/files" kubernetes "$here/prepare-node.sh" <<-'EOF'
	FROM kchaos-build:rootfs
	COPY files/ /
	COPY kubernetes /usr/bin/kubernetes
	COPY prepare-node.sh /tmp/
	RUN /tmp/prepare-node.sh && rm /tmp/prepare-node.sh
EOF
container=$(docker run --detach --security-opt seccomp=unconfined --entrypoint containerd kchaos-build:node)
until docker exec "$container" ctr version >/dev/null 2>&1; do sleep 0.2; done
# What kubeadm will ask for has to be what was made.
docker exec "$container" kubeadm config images list --kubernetes-version "v$K8S_VERSION" 2>/dev/null | sort >"$work/wanted"
printf '%s\n' "${pod_images[@]#"$prefix/"}" | sort >"$work/made"
if [[ -n $(comm -23 "$work/wanted" "$work/made") ]]; then
	echo "kubeadm $K8S_VERSION asks for other versions than versions.env pins:" >&2
	comm -23 "$work/wanted" "$work/made" >&2
	exit 1
fi
docker save "${pod_images[@]}" | docker exec -i "$container" ctr -n k8s.io images import --no-unpack -
docker exec "$container" bash -euc '
	for name in $(ctr -n k8s.io images ls -q | grep "^'$prefix'/"); do
		ctr -n k8s.io images tag "$name" "${name#'$prefix'/}"
		ctr -n k8s.io images label "${name#'$prefix'/}" io.cri-containerd.pinned=pinned
		ctr -n k8s.io images rm "$name"
	done'
docker stop "$container" >/dev/null
docker commit "$container" kchaos-build:loaded
docker rm -v "$container" >/dev/null && container=''
# Neither import nor commit can set the stop signal.
build "$image" <<-'EOF'
	FROM kchaos-build:loaded
	ENV container=docker
	STOPSIGNAL SIGRTMIN+3
	ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]
	CMD []
EOF
docker rmi kchaos-build:{rootfs,node,loaded} "${pod_images[@]}" >/dev/null
