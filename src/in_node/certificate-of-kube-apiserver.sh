# The API server shows a new certificate as soon as the file is there, but a client that is connected already does not
# look. So the API server is killed and started anew: then every client must look.
pki=/etc/kubernetes/pki
component=kube-apiserver
inject() {
	[ ! -e "$home/expired" ] || return 0
	away=$pki/apiserver.crt.$name
	[ -e "$away" ] || { cp -a $pki/apiserver.crt "$away.new"; mv "$away.new" "$away"; }
	echo "$certificate" >"$away.expired"
	mv "$away.expired" $pki/apiserver.crt
	pkill -KILL -f '^kube-apiserver( |$)'
	: >"$home/expired"
}
undo() {
	away=$pki/apiserver.crt.$name
	rm -f "$away.new" "$away.expired"
	[ ! -e "$away" ] || mv "$away" $pki/apiserver.crt
	forget_backoff
}
