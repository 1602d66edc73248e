# Ends etcd and the API server on a node for as long as nothing may start them.
both='^(etcd|kube-apiserver)( |$)'
end_all() {
	tries=0
	while pkill -KILL -f "$1"; do
		tries=$((tries + 1))
		[ "$tries" -lt 100 ] || { echo 'what is to end does not' >&2; return 1; }
		sleep 0.1
	done
}
# Stops the API server, too. Without an etcd it leaves its callers waiting, and the kubelet beside it starts no pod
# before it has told the API server of that pod. A restarted kubelet has forgotten how long both were to wait for their
# next start.
stop_etcd() {
	systemctl stop kubelet
	end_all "$both"
	end_all "^$home/etcd "
}
start_kubelet() {
	systemctl start kubelet
	systemctl is-active --quiet kubelet
}
