# The undo creates the node as it was, before its kubelet is back. Otherwise the kubelet would register another node of
# that name, with other addresses for its pods.
inject() {
	keep_object node.yaml node "$node"
	ask_api delete node "$node" --ignore-not-found --wait=false >/dev/null
}
undo() {
	[ -e "$home/node.yaml" ] || return 0
	await_api
	there=$(named node "$node")
	[ -n "$there" ] || ask_api create --filename="$home/node.yaml" >/dev/null
}
