# The restarted etcd finds nothing and makes a new store. The restarted API server believes it.
inject() {
	put_aside
	pkill -KILL -f "$both" || :
}
undo() { put_store_back; }
