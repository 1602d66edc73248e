# Makes a container of the node image a machine of a cluster, as far as faults can tell: ROLE, name of the control plane's node. Standard input: the
# authority's certificate and key, unless it is made here.
set -eu
role=$1 plane=$2
# NAME PROGRAM ARGUMENT…: a static pod of that name that is really something else.
pod() {
	cp "/usr/bin/$2" "/opt/pseudo/$1"
	name=$1
	shift 2
	printf '    - %s\n' "$name" "$@" >"/etc/kubernetes/manifests/$name.yaml"
}
pki=/etc/kubernetes/pki own=/var/lib/kubelet/pki
mkdir -p "$pki" "$own" /etc/kubernetes/manifests /etc/systemd/system/kubelet.service.d
if [ "$role" = control-plane ]; then
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=kubernetes \
		-keyout "$pki/ca.key" -out "$pki/ca.crt" 2>/dev/null
	cat "$pki/ca.crt" "$pki/ca.key" >/run/authority
	# Whoever asks the API server gets his connection broken off: that is an answer.
	pod kube-apiserver socat TCP-LISTEN:6443,fork,reuseaddr EXEC:/bin/true
	pod kube-controller-manager sleep infinity
	pod kube-scheduler sleep infinity
else
	umask 077
	cat >/run/authority
	umask 022
	openssl x509 -in /run/authority -out "$pki/ca.crt"
fi
cd "$own"
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/O=system:nodes/CN=system:node:$(hostname)" -keyout key -out request 2>/dev/null
openssl x509 -req -in request -CA /run/authority -CAkey /run/authority -CAcreateserial -CAserial serial -days 1 -out certificate 2>/dev/null
cat certificate key >kubelet-client.pem
rm -f key request serial certificate /run/authority
ln -s "$own/kubelet-client.pem" kubelet-client-current.pem
echo 'kind: KubeletConfiguration' >/var/lib/kubelet/config.yaml
printf 'clusters:\n- cluster:\n    server: https://%s:6443\n' "$plane" >/etc/kubernetes/kubelet.conf
printf '%s\n' '[Service]' 'ExecStartPre=' 'ExecStart=' 'ExecStart=/opt/pseudo/kubelet' >/etc/systemd/system/kubelet.service.d/99-pseudo.conf
# There are no containers, and nobody is to wait for whoever would say so.
systemctl disable --now --quiet containerd
ln -sf /bin/true "$(command -v ctr)"
systemctl daemon-reload
systemctl enable --quiet --now kubelet
until pgrep -x kubelet >/dev/null; do sleep 0.1; done
[ "$role" != control-plane ] || cat "$pki/ca.crt" "$pki/ca.key"
