# The certificate that the kubelet shows to API servers. The kubelet reads it at its start, and renews it long before it
# expires unless the kubelet was off for too long.
pki=/var/lib/kubelet/pki
current=$pki/kubelet-client-current.pem
inject() {
	[ ! -e "$home/expired" ] || return 0
	umask 077
	[ -e "$home/was" ] || { readlink $current >"$home/was.new"; mv "$home/was.new" "$home/was"; }
	{ echo "$certificate"; openssl pkey -in $current; } >"$pki/$name.pem.new"
	mv "$pki/$name.pem.new" "$pki/$name.pem"
	point_to "$pki/$name.pem"
	systemctl restart kubelet
	: >"$home/expired"
}
point_to() {
	ln -sfn "$1" "$pki/$name.link"
	mv -T "$pki/$name.link" $current
}
undo() {
	if [ -e "$home/was" ]; then
		point_to "$(cat "$home/was")"
		rm -f "$pki/$name.pem" "$pki/$name.pem.new"
		systemctl reset-failed kubelet 2>/dev/null || :
		systemctl restart kubelet
	else
		systemctl start kubelet
	fi
	systemctl is-active --quiet kubelet
}
