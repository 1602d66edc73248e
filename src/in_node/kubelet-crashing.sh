# The unit of kind starts the kubelet again a second after each end. The kubelet must not live long enough to renew its
# lease.
inject() {
	systemctl is-active --quiet "$name-kill" ||
		systemd-run --quiet --collect --unit="$name-kill" /bin/sh -c \
			'while :; do systemctl kill --kill-whom=main --signal=KILL kubelet 2>/dev/null; sleep 0.2; done'
}
undo() {
	systemctl stop "$name-kill" 2>/dev/null || :
	if systemctl is-active --quiet "$name-kill"; then
		echo 'the kubelet is still being killed' >&2
		return 1
	fi
	systemctl reset-failed kubelet 2>/dev/null || :
	systemctl start kubelet
	systemctl is-active --quiet kubelet
}
