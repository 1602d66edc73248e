# Kills once: systemd may start the kubelet again.
inject() {
	[ ! -e "$home/killed" ] || return 0
	systemctl kill --kill-whom=main --signal=KILL kubelet
	: >"$home/killed"
}
undo() {
	systemctl reset-failed kubelet 2>/dev/null || :
	systemctl start kubelet
	systemctl is-active --quiet kubelet
}
