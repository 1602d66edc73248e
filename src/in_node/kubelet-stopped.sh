# The kubelet's unit is stopped, and started.
inject() { systemctl stop kubelet; }
undo() {
	systemctl start kubelet
	systemctl is-active --quiet kubelet
}
