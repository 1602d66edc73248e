# Finds the volume on the disk of this node that holds a workload's state.
volume_of() {
	for container in $(containers_of "$1" "$2"); do
		ctr -n k8s.io containers info "$container" | sed -n '/"destination": "\/state"/,/}/s/^ *"source": "\(.*\)",*$/\1/p'
	done | sort -u
}
