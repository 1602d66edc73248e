# What etcd has on this node's disk. What was there is put aside by a rename beside its place. Until another name says that it is back, nothing is
# removed that is called `member` and lies aside. etcd's own tools are copied before anything is broken: without an etcd that runs, they are nowhere
# to be found.
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
# Both are frozen first, so that nothing is acknowledged by an API server that has lost its storage and does not know yet.
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
