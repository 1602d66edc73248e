inject() { pkill -STOP -f "^$component( |\$)"; }
# One that was started meanwhile, by its kubelet that found it dead, is not frozen.
undo() {
	pkill -CONT -f "^$component( |\$)" || :
	forget_backoff
}
