# A static pod whose manifest is gone is ended by its kubelet, and made anew when it is back. Renamed within its file system, so that nobody ever
# sees half of it. Ended in order, it would go on with what it has begun for as long as it is given: this is a crash.
manifest=/etc/kubernetes/manifests/$component.yaml
inject() {
	away=/etc/kubernetes/$name.yaml
	[ -e "$away" ] || mv "$manifest" "$away"
	quiet=0 tries=0
	while [ "$quiet" -lt 5 ] && [ "$tries" -lt 100 ]; do
		# The kubelet may start it once more before it sees what has become of the manifest.
		if pkill -KILL -f "^$component( |\$)"; then quiet=0; else quiet=$((quiet + 1)); fi
		tries=$((tries + 1))
		sleep 0.2
	done
}
undo() {
	away=/etc/kubernetes/$name.yaml
	[ ! -e "$away" ] || mv "$away" "$manifest"
	[ -e "$manifest" ]
	forget_backoff
}
