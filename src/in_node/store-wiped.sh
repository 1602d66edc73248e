# The restarted etcd finds nothing and makes a new store. The restarted API server believes it.
inject() {
	put_aside
	kill_both || :
}
undo() { put_store_back; }
