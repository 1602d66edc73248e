#!/bin/bash
# Runs inside the node image while it is built: turns a Debian file system into one that systemd can
# boot in a container as a Kubernetes node.
set -euo pipefail
units=/lib/systemd/system

# Nothing that touches hardware, the host's kernel or consoles.
rm -f "$units"/{multi-user,local-fs,basic}.target.wants/* /etc/systemd/system/*.wants/* \
	"$units"/sockets.target.wants/*{udev,initctl}* \
	"$units"/sysinit.target.wants/systemd-tmpfiles-setup.service
systemctl enable containerd.service kubelet.service
systemctl mask systemd-binfmt.service
systemctl set-default multi-user.target

ln -s kubernetes /usr/bin/kubelet
ln -s kubernetes /usr/bin/kubeadm
ln -s kubernetes /usr/bin/kubectl
mkdir -p /etc/kubernetes/manifests /etc/cni/net.d /opt/cni
ln -s /usr/lib/cni /opt/cni/bin
ctr oci spec | jq 'del(.process.rlimits)' >/etc/containerd/base-spec.json
