# A chain that bears the name of the switch. It is asked before any other chain, so that established connections are not
# let through either. Packets are dropped without a reply: a node that is cut off is not told. The chain covers the
# peers themselves and the networks that the node routes through them, which are those of their pods. Where only a share
# of the packets is dropped, each packet is asked about once: either its source is on the other side, or its destination.
at_random=${share:+-m statistic --mode random --probability $share}
inject() {
	drop iptables -4 "$peers_v4"
	drop ip6tables -6 "$peers_v6"
}
drop() {
	[ -n "$3" ] || return 0
	"$1" -w -N "$name" 2>/dev/null || "$1" -w -F "$name"
	for peer in $3; do
		case $drops in
		everything)
			for network in "$peer" $(routed "$2" "$peer"); do
				# shellcheck disable=SC2086 # the option is several words
				"$1" -w -A "$name" -s "$network" $at_random -j DROP
				# shellcheck disable=SC2086
				"$1" -w -A "$name" -d "$network" $at_random -j DROP
			done
			;;
		to-api) "$1" -w -A "$name" -d "$peer" -p tcp --dport 6443 -j DROP ;;
		to-kubelet) "$1" -w -A "$name" -s "$peer" -p tcp --dport 10250 -j DROP ;;
		to-etcd) "$1" -w -A "$name" -d "$peer" -p tcp --dport 2380 -j DROP ;;
		from-users)
			for network in "$peer" $(routed "$2" "$peer"); do
				"$1" -w -A "$name" -s "$network" -j RETURN
			done
			;;
		esac
	done
	# Users come in where the other nodes do, but with other addresses.
	if [ "$drops" = from-users ]; then
		"$1" -w -A "$name" -i "$(outside "$2")" -p tcp --dport 6443 -j DROP
	fi
	for hook in INPUT OUTPUT FORWARD; do
		"$1" -w -C "$hook" -j "$name" 2>/dev/null || "$1" -w -I "$hook" 1 -j "$name"
	done
}
routed() {
	ip "$1" route show | while read -r network via gateway _; do
		[ "$via $gateway" != "via $2" ] || [ "$network" = default ] || echo "$network"
	done
}
outside() {
	ip "$1" route show default | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1
}
# A node whose rules cannot be read has undone nothing: the call fails, and the switch stays.
undo() {
	for tool in iptables ip6tables; do
		command -v "$tool" >/dev/null || continue
		case $tool in ip6tables) [ -n "$peers_v6" ] || continue ;; esac
		rules=$("$tool" -w -S)
		case $rules in *"-N $name"*) ;; *) continue ;; esac
		for hook in INPUT OUTPUT FORWARD; do
			while "$tool" -w -C "$hook" -j "$name" 2>/dev/null; do "$tool" -w -D "$hook" -j "$name"; done
		done
		"$tool" -w -F "$name"
		"$tool" -w -X "$name"
	done
}
