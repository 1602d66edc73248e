# Freezes the main process only: the processes that it has started are the containers of others.
inject() { systemctl kill --kill-whom=main --signal=STOP kubelet; }
undo() {
	# A kubelet that is not there is not frozen.
	systemctl kill --kill-whom=main --signal=CONT kubelet 2>/dev/null || :
	systemctl start kubelet
	if grep -q '^State:.T' "/proc/$(systemctl show --property=MainPID --value kubelet)/status"; then
		echo 'the kubelet is still frozen' >&2
		return 1
	fi
	systemctl is-active --quiet kubelet
}
