# etcd's own tools, where its image has them: in the container of the etcd that runs. Everything else must do without.
pki=/etc/kubernetes/pki/etcd
tool_of_etcd() {
	container=/proc/$(pgrep -of '^etcd( |$)')/root
	echo "$container/usr/local/bin/$1"
}
ask_etcd() { "$(tool_of_etcd etcdctl)" --endpoints=https://127.0.0.1:2379 --cacert=$pki/ca.crt --cert=$pki/server.crt --key=$pki/server.key "$@"; }
