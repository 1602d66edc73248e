# The kubelet ends a static pod whose manifest is gone, and makes it anew when it is back. Renamed within its file system: nobody ever sees
# half of it.
manifest=/etc/kubernetes/manifests/$component.yaml away=/etc/kubernetes/$name.yaml
inject() { [ -e "$away" ] || mv "$manifest" "$away"; }
undo() {
	[ ! -e "$away" ] || mv "$away" "$manifest"
	[ -e "$manifest" ]
}
