# The tools of etcd, which only its image has: they are run from the container of the running etcd. What works without
# an etcd must do without them.
pki=/etc/kubernetes/pki/etcd
tool_of_etcd() {
	container=/proc/$(pgrep -of '^etcd( |$)')/root
	echo "$container/usr/local/bin/$1"
}
ask_etcd() { "$(tool_of_etcd etcdctl)" --endpoints=https://127.0.0.1:2379 --cacert=$pki/ca.crt --cert=$pki/server.crt --key=$pki/server.key "$@"; }
