# etcd reads its certificate at each handshake, so connections that exist go on. etcd is killed and started anew: then
# every connection to another member must be made again, and the other member refuses the certificate.
pki=/etc/kubernetes/pki/etcd
component=etcd
inject() {
	[ ! -e "$home/expired" ] || return 0
	away=$pki/peer.crt.$name
	[ -e "$away" ] || { cp -a $pki/peer.crt "$away.new"; mv "$away.new" "$away"; }
	echo "$certificate" >"$away.expired"
	mv "$away.expired" $pki/peer.crt
	pkill -KILL -f '^etcd( |$)'
	: >"$home/expired"
}
undo() {
	away=$pki/peer.crt.$name
	rm -f "$away.new" "$away.expired"
	[ ! -e "$away" ] || mv "$away" $pki/peer.crt
	# An API server that hangs without etcd would keep the new kubelet from starting etcd for half a minute.
	pgrep -f '^etcd( |$)' >/dev/null || pkill -KILL -f '^kube-apiserver( |$)' || :
	forget_backoff
}
