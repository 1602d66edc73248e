# A ClusterRoleBinding is deleted, and created again as it was.
inject() {
	keep_object binding.yaml clusterrolebinding "$binding"
	ask_api delete clusterrolebinding "$binding" --ignore-not-found >/dev/null
}
undo() {
	[ -e "$home/binding.yaml" ] || return 0
	await_api
	there=$(named clusterrolebinding "$binding")
	[ -n "$there" ] || ask_api create --filename="$home/binding.yaml" >/dev/null
}
