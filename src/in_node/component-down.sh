# The kubelet ends a static pod whose manifest is gone, and recreates the pod when the manifest is back.
kill_it() { pkill -KILL -f "^$component( |\$)"; }
inject() {
	put_away
	end_it
}
