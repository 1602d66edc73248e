# The restarted etcd finds nothing and makes a new store. A restarted API server believes it.
inject() {
	put_aside
	restart_with_it
}
undo() { put_store_back; }
