# etcd, started again, finds nothing and makes a new store; the API server, started again, believes it.
inject() {
	put_aside
	kill_both || :
}
undo() { put_store_back; }
