# A component that needs the API exits for want of it, and is started again at ever longer intervals. A restarted
# kubelet has forgotten these intervals. Its containers run on.
forget_backoff() {
	case $component in
	kube-apiserver | etcd)
		systemctl restart kubelet
		systemctl is-active --quiet kubelet
		;;
	esac
}
