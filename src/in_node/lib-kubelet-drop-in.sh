drop_in=/run/systemd/system/kubelet.service.d/kchaos.conf
# One more setting of the kubelet's unit, until the node restarts.
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
