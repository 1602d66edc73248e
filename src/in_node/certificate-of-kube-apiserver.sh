# The API server shows a new one as soon as it is there; only who has a connection does not look. So it is started anew: then everybody must.
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
