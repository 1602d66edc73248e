# The data of etcd on the disk of this node. It is put aside by a rename to a place beside its own. A directory called
# `member` that lies aside is not removed until a file of another name records that the data is back.
# The tools of etcd are copied before anything is broken: without a running etcd they are nowhere to be found.
etcd_manifest=/etc/kubernetes/manifests/etcd.yaml
setting() { sed -n "s/^ *- --$1=//p" "$etcd_manifest" | head -n 1; }
where() {
	data=$(setting data-dir)
	aside=$data/$name
	[ -d "$data" ] || { echo 'the manifest of etcd names no data directory' >&2; exit 1; }
}
tools() {
	for tool in etcd etcdctl etcdutl; do
		if [ ! -e "$home/$tool" ]; then
			cp "$(tool_of_etcd "$tool")" "$home/$tool.new"
			mv "$home/$tool.new" "$home/$tool"
		fi
	done
}
number() { stat -c %i "$1" 2>/dev/null || :; }
# The API server and etcd are frozen first. Otherwise the API server could acknowledge writes before it knows that it
# has lost its storage.
put_aside() {
	where
	[ ! -e "$aside/member" ] || return 0
	tools
	number "$data/member" >"$home/touched"
	[ -d "$aside" ] || mkdir -m 700 "$aside"
	pkill -STOP -f '^kube-apiserver( |$)'
	pkill -STOP -f '^etcd( |$)'
	mv -T "$data/member" "$aside/member"
}
