# The API server's storage: what etcd has on this node's disk. The store that was there is put aside by a rename beside its place, and comes back as
# it was. etcd's own tools are copied before anything is broken: without an etcd that runs, they are nowhere to be found.
setting() { cat /etc/kubernetes/manifests/etcd.yaml "/etc/kubernetes/$name.etcd.yaml" 2>/dev/null | sed -n "s/^ *- --$1=//p" | head -n 1; }
where() {
	data=$(setting data-dir)
	aside=$data/$name
	[ -d "$data" ] || { echo 'the manifest of etcd names no data directory' >&2; exit 1; }
}
tools() {
	for tool in etcd etcdctl etcdutl; do
		[ -e "$home/$tool" ] || { cp "/proc/$(pgrep -of '^etcd( |$)')/root/usr/local/bin/$tool" "$home/$tool.new" && mv "$home/$tool.new" "$home/$tool"; }
	done
}
# Both at the same moment, so that nothing is acknowledged by an API server that has lost its storage and does not know yet.
kill_it() { pkill -KILL -f '^(etcd|kube-apiserver)( |$)'; }
stop_both() {
	put_away kube-apiserver
	put_away etcd
	end_it
}
start_both() {
	bring_back etcd
	bring_back kube-apiserver
	forget_backoff
}
put_aside() {
	where
	[ ! -e "$aside/member" ] || return 0
	tools
	: >"$home/touched"
	mkdir -p -m 700 "$aside"
	pkill -STOP -f '^kube-apiserver( |$)'
	pkill -STOP -f '^etcd( |$)'
	mv "$data/member" "$aside/member"
}
# A snapshot as an operator takes it while all is well. It holds every secret of the cluster.
snapshot() {
	[ ! -e "$home/snapshot.db" ] || return 0
	tools
	pki=/etc/kubernetes/pki/etcd
	"$home/etcdctl" --endpoints=https://127.0.0.1:2379 --cacert=$pki/ca.crt --cert=$pki/server.crt --key=$pki/server.key \
		snapshot save "$home/snapshot.new" >/dev/null 2>&1 || { echo 'etcd gave no snapshot' >&2; exit 1; }
	mv "$home/snapshot.new" "$home/snapshot.db"
	sha256sum <"$home/snapshot.db" >"$home/snapshot.sum"
	"$home/etcdutl" snapshot status "$home/snapshot.db" --write-out=json
}
# A store of a snapshot. Its revisions go on from beyond any that a client could have seen, and those before are gone: whoever watches would
# otherwise wait for one that never comes, and starts anew instead.
restore_from() {
	rm -rf "$aside/restored"
	"$home/etcdutl" snapshot restore "$1" --data-dir "$aside/restored" --bump-revision "$2" --mark-compacted --name "$(setting name)" \
		--initial-cluster "$(setting name)=$(setting initial-advertise-peer-urls)" \
		--initial-advertise-peer-urls "$(setting initial-advertise-peer-urls)" >"$home/restore.log" 2>&1 || { tail -n 1 "$home/restore.log" >&2; return 1; }
}
# By the documented order: stop the API server, restore, start, and start anew what holds on to what it knew. Nothing is overwritten before the
# snapshot is known to be good.
remedy() {
	[ ! -e "$home/remedied" ] || return 0
	[ -e "$home/snapshot.db" ] || { echo 'there is no snapshot' >&2; exit 1; }
	[ "$(sha256sum <"$home/snapshot.db")" = "$(cat "$home/snapshot.sum")" ] || { echo 'the snapshot is not the one that was taken' >&2; exit 1; }
	put_aside
	restore_from "$home/snapshot.db" 1000000000
	stop_both
	rm -rf "$data/member"
	mv "$aside/restored/member" "$data/member"
	start_both
	pkill -KILL -f '^kube-(controller-manager|scheduler)( |$)' || :
	: >"$home/remedied"
}
# Of a store that does not run. What etcd had not yet written there is not counted.
revision() { "$home/etcdutl" snapshot status "$1/snap/db" --write-out=json 2>/dev/null | sed -n 's/.*"revision":\([0-9]*\).*/\1/p'; }
# The store that was there, as etcd itself gives it, for its log has more than its database.
as_snapshot() {
	"$home/etcd" --data-dir "$aside" --name "$(setting name)" --listen-client-urls http://127.0.0.1:23791 --advertise-client-urls http://127.0.0.1:23791 \
		--listen-peer-urls http://127.0.0.1:23792 >"$home/etcd.log" 2>&1 9>&- &
	etcd=$! tries=0
	rm -f "$home/forward.db"
	until "$home/etcdctl" --endpoints=http://127.0.0.1:23791 --command-timeout=1s snapshot save "$home/forward.db" >/dev/null 2>&1; do
		tries=$((tries + 1))
		[ "$tries" -lt 50 ] || { kill -KILL "$etcd"; echo 'the store that was put aside does not start' >&2; return 1; }
		sleep 0.2
	done
	kill -KILL "$etcd"
	wait "$etcd" 2>/dev/null || :
}
undo() {
	[ -e "$home/touched" ] || return 0
	where
	if [ -e "$aside/member" ]; then
		stop_both
		had=$(revision "$aside/member")
		# Once: what came meanwhile may be gone when this is done again.
		[ -e "$home/came" ] || { revision "$data/member" >"$home/came.new" && mv "$home/came.new" "$home/came"; }
		came=$(cat "$home/came")
		# Clients know revisions of the store that came meanwhile. If those are ahead of what comes back, they would be deaf to all that happens
		# until it catches up: so it goes on from there.
		if [ "${came:-0}" -gt "$((${had:-0} - 1000))" ]; then
			as_snapshot
			restore_from "$home/forward.db" "$((came - had + 10000))"
			rm -rf "$data/member"
			mv "$aside/restored/member" "$data/member"
			rm -rf "$aside/member"
		else
			rm -rf "$data/member"
			mv "$aside/member" "$data/member"
		fi
	else
		pkill -CONT -f '^(etcd|kube-apiserver)( |$)' || :
	fi
	rm -rf "$aside"
	start_both
	rm -f "$home/touched"
}
