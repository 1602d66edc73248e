# A static pod, controlled by its manifest. The manifest is put away by a rename within its file system, so nobody ever
# sees half of it, and it comes back as it was.
manifest=/etc/kubernetes/manifests/$component.yaml
put_away() {
	away=/etc/kubernetes/$name.yaml
	[ -e "$away" ] || mv "$manifest" "$away"
}
# Kills the component, as in a crash: stopped in order, it would go on with what it has begun for its whole grace
# period. The kubelet may start it once more before it notices what has become of the manifest.
end_it() {
	quiet=0 tries=0
	while [ "$quiet" -lt 5 ]; do
		[ "$tries" -lt 100 ] || { echo "$component does not end" >&2; return 1; }
		if kill_it; then quiet=0; else quiet=$((quiet + 1)); fi
		tries=$((tries + 1))
		sleep 0.2
	done
}
undo() {
	away=/etc/kubernetes/$name.yaml
	rm -f "/etc/kubernetes/$name.new"
	[ ! -e "$away" ] || mv "$away" "$manifest"
	[ -e "$manifest" ]
	forget_backoff
}
