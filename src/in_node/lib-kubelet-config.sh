# Puts the kubelet's configuration away, and back.
config=/var/lib/kubelet/config.yaml
# The file is moved, not copied: what comes back is the very file that was there.
put_away() {
	[ -e "$home/config.yaml" ] || mv "$config" "$home/config.yaml"
}
undo() {
	if [ -e "$home/config.yaml" ]; then
		mv "$home/config.yaml" "$config"
		systemctl reset-failed kubelet 2>/dev/null || :
		systemctl restart kubelet
	else
		systemctl start kubelet
	fi
	systemctl is-active --quiet kubelet
}
