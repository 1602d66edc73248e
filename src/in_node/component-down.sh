# A static pod whose manifest is gone is ended by its kubelet, and made anew when it is back.
kill_it() { pkill -KILL -f "^$component( |\$)"; }
inject() {
	put_away
	end_it
}
