# The documented way out when so many members of etcd are lost that the rest is no majority: the one that is left forgets
# the others, and goes on as the only one with what it has. This is asked of etcd once, by a start of its own whose
# clients and peers are nobody, so no flag is left behind in its manifest. There is no way back: a member that was
# forgotten can only be added anew. So once begun, the undo completes it.
others_forgotten() { ask_etcd --command-timeout=2s get none >/dev/null 2>&1 && [ "$(ask_etcd member list | wc -l)" = 1 ]; }
until_true() {
	tries=0
	until "$@"; do
		tries=$((tries + 1))
		[ "$tries" -lt 150 ] || return 1
		sleep 0.2
	done
}
answers_alone() { "$home/etcdctl" --endpoints="$socket" --command-timeout=1s get none >/dev/null 2>&1; }
inject() {
	[ ! -e "$home/alone" ] || return 0
	where
	tools
	: >"$home/begun"
	stop_etcd
	socket=unix://$home/etcd.sock
	"$home/etcd" --force-new-cluster --data-dir "$data" --name "$(setting name)" --listen-client-urls "$socket" \
		--advertise-client-urls http://127.0.0.1:1 --listen-peer-urls "unix://$home/peer.sock" >"$home/etcd.log" 2>&1 9>&- &
	etcd=$!
	until_true answers_alone || { kill -KILL "$etcd" || :; tail -n 1 "$home/etcd.log" >&2; echo 'etcd does not go on alone' >&2; exit 1; }
	kill "$etcd"
	wait "$etcd" || :
	start_kubelet
	until_true others_forgotten || { echo 'etcd is not the only member' >&2; exit 1; }
	: >"$home/alone"
}
undo() {
	[ -e "$home/begun" ] || return 0
	inject
	rm -f "$home/begun"
}
