# Evicts pods as long as there are any, and tries again where a disruption budget forbids it. Only pods of the workloads
# of kchaos are evicted: other pods there do not belong to kchaos.
inject() {
	: >"$home/cordoned"
	ask_api cordon "$node" >/dev/null
	[ ! -e "$home/drained" ] || return 0
	systemctl is-active --quiet "$name-drain" ||
		systemd-run --quiet --collect --unit="$name-drain" --setenv=KUBECACHEDIR="$home/cache" /bin/sh -c \
			"until kubectl --kubeconfig $way_in drain $node --pod-selector=kchaos.io/workload --ignore-daemonsets --delete-emptydir-data --force >$home/drain.log 2>&1; do sleep 1; done; : >$home/drained"
	# Waits until all pods are gone, or one may not go yet.
	tries=0
	until [ -e "$home/drained" ] || grep -q 'disruption budget' "$home/drain.log" 2>/dev/null; do
		tries=$((tries + 1))
		[ "$tries" -lt 300 ] || { tail -n 1 "$home/drain.log" >&2; exit 1; }
		sleep 0.1
	done
}
undo() {
	[ -e "$home/cordoned" ] || return 0
	systemctl stop "$name-drain" 2>/dev/null || :
	if systemctl is-active --quiet "$name-drain"; then
		echo 'the node is still being drained' >&2
		exit 1
	fi
	await_api
	there=$(named node "$node")
	[ -n "$there" ] || return 0
	ask_api uncordon "$node" >/dev/null
}
