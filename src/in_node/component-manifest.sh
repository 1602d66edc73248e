# A static pod by its manifest. What is put away is renamed within its file system, so that nobody ever sees half of it, and comes back as it was.
manifest_of() {
	manifest=/etc/kubernetes/manifests/$1.yaml
	away=/etc/kubernetes/$name.$1.yaml
}
put_away() {
	manifest_of "$1"
	[ -e "$away" ] || mv "$manifest" "$away"
}
bring_back() {
	manifest_of "$1"
	[ ! -e "$away" ] || mv "$away" "$manifest"
	[ -e "$manifest" ]
}
# Ended in order, it would go on with what it has begun for as long as it is given: this is a crash. The kubelet may start it once more before it
# sees what has become of the manifest.
end_it() {
	quiet=0 tries=0
	while [ "$quiet" -lt 5 ] && [ "$tries" -lt 100 ]; do
		if kill_it; then quiet=0; else quiet=$((quiet + 1)); fi
		tries=$((tries + 1))
		sleep 0.2
	done
}
