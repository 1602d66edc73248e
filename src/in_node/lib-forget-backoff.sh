# Who needs the API ends for want of it, and is started again at ever longer intervals. A kubelet that is started anew has forgotten those; its
# containers run on.
forget_backoff() {
	case $component in
	kube-apiserver | etcd)
		systemctl restart kubelet
		systemctl is-active --quiet kubelet
		;;
	esac
}
