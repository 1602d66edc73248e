drop_in=/run/systemd/system/kubelet.service.d/kchaos.conf
# Adds a setting to the unit of the kubelet, until the node restarts.
set_unit() {
	mkdir -p "${drop_in%/*}"
	printf '[Service]\n%s\n' "$1" >"$drop_in"
	systemctl daemon-reload
}
reset_unit() {
	rm -f "$drop_in"
	rmdir "${drop_in%/*}" 2>/dev/null || :
	systemctl daemon-reload
}
