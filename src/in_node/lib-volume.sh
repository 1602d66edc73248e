# Finds the containers of a workload on this node, including those that have ended, and the volume on the disk of the
# node that holds their state.
containers_of() {
	ctr -n k8s.io containers ls -q "labels.\"io.kubernetes.pod.namespace\"==$1,labels.\"io.kubernetes.container.name\"==$2"
}
volume_of() {
	for container in $(containers_of "$1" "$2"); do
		ctr -n k8s.io containers info "$container" | sed -n '/"destination": "\/state"/,/}/s/^ *"source": "\(.*\)",*$/\1/p'
	done | sort -u
}
