# The kubelet's configuration is replaced by one that it can't read.
inject() {
	put_away
	echo 'kind: [no kubelet reads this' >"$config"
	systemctl restart kubelet
}
