# The kubelet reports every few seconds that it is alive. systemd ends a kubelet that does not report, and starts
# another.
inject() {
	[ ! -e "$home/frozen" ] || return 0
	set_unit WatchdogSec=6s
	systemctl restart kubelet
	systemctl kill --kill-whom=main --signal=STOP kubelet
	: >"$home/frozen"
}
undo() {
	if [ -e "$drop_in" ]; then
		reset_unit
		systemctl kill --kill-whom=main --signal=CONT kubelet 2>/dev/null || :
		systemctl restart kubelet
	else
		systemctl start kubelet
	fi
	systemctl is-active --quiet kubelet
}
