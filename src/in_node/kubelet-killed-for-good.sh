# The kubelet is killed, and its unit does not start another.
inject() {
	set_unit Restart=no
	systemctl kill --kill-whom=main --signal=KILL kubelet 2>/dev/null || ! systemctl is-active --quiet kubelet
}
undo() {
	reset_unit
	systemctl reset-failed kubelet 2>/dev/null || :
	systemctl start kubelet
	systemctl is-active --quiet kubelet
}
