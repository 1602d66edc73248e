# Once: its kubelet starts it again.
inject() {
	[ ! -e "$home/killed" ] || return 0
	pkill -KILL -f "^$component( |\$)"
	: >"$home/killed"
}
undo() { forget_backoff; }
