# The kubelet reports every few seconds that it is alive. systemd ends a kubelet that does not report, and starts
# another.
inject() {
	[ ! -e "$home/frozen" ] || return 0
	set_unit WatchdogSec=6s
	systemctl restart kubelet
	# What hangs is a kubelet at work, not one that is about to start.
	tries=0
	until curl -sf --max-time 1 -o /dev/null http://127.0.0.1:10248/healthz; do
		tries=$((tries + 1))
		[ "$tries" -lt 100 ] || { echo 'the kubelet does not start with a watchdog' >&2; exit 1; }
		sleep 0.1
	done
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
