# An operator declares that the node is off: what waits for its kubelet need not wait any more.
taint=node.kubernetes.io/out-of-service
inject() {
	: >"$home/tainted"
	ask_api taint node "$node" "$taint=nodeshutdown:NoExecute" --overwrite >/dev/null
}
undo() {
	[ -e "$home/tainted" ] || return 0
	await_api
	there=$(named node "$node")
	[ -n "$there" ] || return 0
	taints=$(ask_api get node "$node" --output=jsonpath='{.spec.taints[*].key}')
	case $taints in *"$taint"*) ask_api taint node "$node" "$taint-" >/dev/null ;; esac
}
