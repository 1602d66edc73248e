# A component's process is stopped by a signal, and goes on.
inject() { pkill -STOP -f "^$component( |\$)"; }
# The kubelet may have found the frozen process dead and started another one, which is not frozen.
undo() {
	pkill -CONT -f "^$component( |\$)" || :
	forget_backoff
}
