# A component shows a new certificate as soon as the file is there, but connections that exist go on. So the component
# is killed and started anew: then every connection must be made again, and the other side looks at the certificate.
inject() {
	[ ! -e "$home/expired" ] || return 0
	away=$shown.$name
	[ -e "$away" ] || { cp -a "$shown" "$away.new"; mv "$away.new" "$away"; }
	echo "$certificate" >"$away.expired"
	mv "$away.expired" "$shown"
	pkill -KILL -f "^$component( |\$)"
	: >"$home/expired"
}
undo() {
	away=$shown.$name
	rm -f "$away.new" "$away.expired"
	[ ! -e "$away" ] || mv "$away" "$shown"
	# An API server that hangs without etcd would keep the new kubelet from starting etcd for half a minute.
	[ "$component" != etcd ] || pgrep -f '^etcd( |$)' >/dev/null || pkill -KILL -f '^kube-apiserver( |$)' || :
	forget_backoff
}
