# The documented way out when so many members of etcd are lost that the rest is no majority: the one that is left forgets
# the others, and goes on as the only one with what it has. etcd is told so at a start of its own whose clients and peers
# are nobody, so no flag is left behind in its manifest, and no other member can come back meanwhile.
# There is no way back: a member that was forgotten can only be added anew. So once begun, the undo completes it. But a
# majority that is there is never forgotten, whoever has brought it back.
has_majority() { ask_etcd --command-timeout=2s get none >/dev/null 2>&1; }
# Waits for at most this many seconds.
within() {
	give_up=$(($(date +%s) + $1))
	shift
	until "$@"; do
		[ "$(date +%s)" -lt "$give_up" ] || return 1
		sleep 0.2
	done
}
answers_alone() { "$home/etcdctl" --endpoints="$socket" --command-timeout=1s get none >/dev/null 2>&1; }
answers_or_ended() { answers_alone || ! kill -0 "$etcd" 2>/dev/null; }
force() {
	stop_etcd
	socket=unix://$home/etcd.sock
	"$home/etcd" --force-new-cluster --data-dir "$data" --name "$(setting name)" --listen-client-urls "$socket" \
		--advertise-client-urls http://127.0.0.1:1 --listen-peer-urls "unix://$home/peer.sock" >"$home/etcd.log" 2>&1 9>&- &
	etcd=$!
	if within 20 answers_or_ended && answers_alone; then : >"$home/forced"; fi
	kill "$etcd" 2>/dev/null || :
	wait "$etcd" 2>/dev/null || :
}
inject() {
	[ ! -e "$home/alone" ] || return 0
	where
	if [ ! -e "$home/forced" ]; then
		! has_majority || { echo 'its etcd has a majority, so no member may be forgotten' >&2; exit 1; }
		tools
		: >"$home/begun"
		force
	fi
	end_all "^$home/etcd "
	start_kubelet
	[ -e "$home/forced" ] || { tail -n 1 "$home/etcd.log" >&2; echo 'etcd does not go on alone' >&2; exit 1; }
	within 25 has_majority || { echo 'etcd is not back' >&2; exit 1; }
	: >"$home/alone"
}
undo() {
	[ -e "$home/begun" ] || return 0
	if [ -e "$home/forced" ] || ! has_majority; then
		inject
	fi
	rm -f "$home/begun"
}
