# The volume is put aside by a rename to a place beside its own. A process that has it open goes on with it, so the
# container is killed, and the kubelet starts it again.
end_them() {
	for container in $(containers_of "$namespace" "$workload"); do
		ctr -n k8s.io tasks kill --signal SIGKILL "$container" 2>/dev/null || :
	done
}
inject() {
	if [ ! -e "$home/volume" ]; then
		volume=$(volume_of "$namespace" "$workload")
		[ -d "$volume" ] || { echo "$workload has no volume here, or several" >&2; exit 1; }
		echo "$volume" >"$home/volume.new"
		mv "$home/volume.new" "$home/volume"
	fi
	volume=$(cat "$home/volume")
	[ ! -e "$home/ended" ] || return 0
	[ -e "$volume.$name" ] || mv -T "$volume" "$volume.$name"
	if [ "$left" = empty ] && [ ! -e "$volume" ]; then
		mkdir "$volume.$name.new"
		chown --reference="$volume.$name" "$volume.$name.new"
		chmod --reference="$volume.$name" "$volume.$name.new"
		mv -T "$volume.$name.new" "$volume"
	fi
	end_them
	: >"$home/ended"
}
# The volume that came in its place holds nothing that was there before. A restarted kubelet has forgotten how long the
# container was to wait for its next start.
undo() {
	[ -e "$home/volume" ] || return 0
	volume=$(cat "$home/volume")
	if [ -e "$volume.$name" ]; then
		rm -rf "$volume"
		mv -T "$volume.$name" "$volume"
	fi
	rm -rf "$volume.$name.new"
	end_them
	systemctl restart kubelet
	systemctl is-active --quiet kubelet
}
