# Once: whoever watches over it may start it again.
inject() {
	[ ! -e "$home/killed" ] || return 0
	: >"$home/killed"
	systemctl kill --kill-whom=main --signal=KILL kubelet
}
undo() {
	systemctl reset-failed kubelet 2>/dev/null || :
	systemctl start kubelet
	systemctl is-active --quiet kubelet
}
