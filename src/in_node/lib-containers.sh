# Finds the containers of a workload on this node, including those that have ended.
containers_of() {
	ctr -n k8s.io containers ls -q "labels.\"io.kubernetes.pod.namespace\"==$1,labels.\"io.kubernetes.container.name\"==$2"
}
kill_containers_of() {
	for container in $(containers_of "$1" "$2"); do
		ctr -n k8s.io tasks kill --signal SIGKILL "$container" 2>/dev/null || :
	done
}
