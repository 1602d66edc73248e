# What is done about the store of an etcd that is the only member: a snapshot of it, a store made from that, and the old
# one put back.
# The controller manager and the scheduler hold on to what they knew, so they are started anew, too.
start_all() {
	pkill -KILL -f '^kube-(controller-manager|scheduler)( |$)' || :
	start_kubelet
}
# Kills etcd, which its kubelet starts again, and with it the API server unless that is kept.
restart_with_it() {
	case $api_server in
	restarted) pkill -KILL -f "$both" || : ;;
	kept)
		pkill -KILL -f '^etcd( |$)' || :
		pkill -CONT -f '^kube-apiserver( |$)' || :
		;;
	esac
}
# Takes a snapshot, as an operator would while all is well. The snapshot holds every secret of the cluster.
snapshot() {
	[ ! -e "$home/snapshot.db" ] || return 0
	members=$(ask_etcd member list | wc -l)
	[ "$members" = 1 ] || { echo "of $members members none is restored from a snapshot alone" >&2; exit 1; }
	tools
	ask_etcd snapshot save "$home/snapshot.new" >/dev/null 2>&1 || { echo 'etcd gave no snapshot' >&2; exit 1; }
	sha256sum <"$home/snapshot.new" >"$home/snapshot.sum"
	mv "$home/snapshot.new" "$home/snapshot.db"
	"$home/etcdutl" snapshot status "$home/snapshot.db" --write-out=json
}
# Makes a store from a snapshot, whole or not at all. The revisions of the store go on from beyond any that a client
# could have seen, and the earlier ones are gone. Otherwise a client that watches would wait for a revision that never
# comes; this way it starts anew.
restore_from() {
	rm -rf "$aside/half" "$aside/restored"
	timeout 60 "$home/etcdutl" snapshot restore "$1" --data-dir "$aside/half" --bump-revision "$2" --mark-compacted --name "$(setting name)" \
		--initial-cluster "$(setting name)=$(setting initial-advertise-peer-urls)" \
		--initial-advertise-peer-urls "$(setting initial-advertise-peer-urls)" >"$home/restore.log" 2>&1 || { tail -n 1 "$home/restore.log" >&2; return 1; }
	mv -T "$aside/half" "$aside/restored"
}
# The documented procedure. Nothing is put aside before the snapshot is known to be good, and the new store is made
# before anything is stopped.
remedy() {
	[ ! -e "$home/remedied" ] || return 0
	[ -e "$home/snapshot.db" ] || { echo 'there is no snapshot' >&2; exit 1; }
	[ "$(sha256sum <"$home/snapshot.db")" = "$(cat "$home/snapshot.sum")" ] || { echo 'the snapshot is not the one that was taken' >&2; exit 1; }
	put_aside
	restore_from "$home/snapshot.db" 1000000000
	stop_etcd
	rm -rf "$data/member"
	mv -T "$aside/restored/member" "$data/member"
	start_all
	: >"$home/remedied"
}
# Prints the revision of a store that is not running. What etcd had not yet written to the database is not counted.
revision() { timeout 20 "$home/etcdutl" snapshot status "$1/snap/db" --write-out=json 2>/dev/null | sed -n 's/.*"revision":\([0-9]*\).*/\1/p'; }
# Takes a snapshot of the store that was put aside. etcd itself must give it, because its log has more than its
# database. Nobody else can connect to that etcd.
as_snapshot() {
	socket=unix://$home/etcd.sock
	"$home/etcd" --data-dir "$aside" --name "$(setting name)" --listen-client-urls "$socket" --advertise-client-urls http://127.0.0.1:1 \
		--listen-peer-urls "unix://$home/peer.sock" >"$home/etcd.log" 2>&1 9>&- &
	etcd=$! tries=0
	until "$home/etcdctl" --endpoints="$socket" --command-timeout=1s get none >/dev/null 2>&1; do
		tries=$((tries + 1))
		[ "$tries" -lt 60 ] || { kill -KILL "$etcd" || :; echo 'the store that was put aside does not start' >&2; return 1; }
		sleep 0.2
	done
	rm -f "$home/forward.db"
	timeout 60 "$home/etcdctl" --endpoints="$socket" snapshot save "$home/forward.db" >/dev/null 2>&1
	kill -KILL "$etcd" || :
	wait "$etcd" 2>/dev/null || :
}
# The shell may be killed after any step. The next call goes on from there.
put_store_back() {
	rm -f "$home/snapshot.db" "$home/snapshot.new"
	[ -e "$home/touched" ] || return 0
	where
	if [ -e "$aside/member" ]; then
		stop_etcd
		had=$(revision "$aside/member")
		# Recorded only once: when this is done again, the store that came meanwhile may be gone.
		if [ ! -e "$home/came" ]; then
			revision "$data/member" >"$home/came.new"
			mv "$home/came.new" "$home/came"
		fi
		came=$(cat "$home/came")
		# Clients know revisions of the store that came meanwhile. If those are ahead of the store that comes back,
		# clients would be deaf to all that happens until it catches up. So it goes on from the revisions that clients
		# know.
		if [ -n "$had" ] && [ "${came:-0}" -gt "$((had - 1000))" ]; then
			as_snapshot
			restore_from "$home/forward.db" "$((came - had + 10000))"
			rm -rf "$data/member"
			mv -T "$aside/restored/member" "$data/member"
			mv -T "$aside/member" "$aside/old"
		else
			rm -rf "$data/member"
			mv -T "$aside/member" "$data/member"
		fi
	elif [ ! -e "$aside/old" ] && [ ! -e "$home/back" ] && [ "$(number "$data/member")" != "$(cat "$home/touched")" ]; then
		echo 'the store that was put aside is not there, and not back' >&2
		exit 1
	else
		pkill -CONT -f '^(etcd|kube-apiserver)( |$)' || :
	fi
	: >"$home/back"
	rm -rf "$aside"
	rm -f "$home/forward.db"
	start_all
	rm -f "$home/touched"
}
