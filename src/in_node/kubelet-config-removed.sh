# The unit has ConditionPathExists on the file, so systemd does not even try to start the kubelet.
inject() {
	put_away
	systemctl restart kubelet
}
