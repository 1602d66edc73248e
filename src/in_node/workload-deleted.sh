# Kubernetes itself deletes what belongs to the deleted objects.
inject() {
	for object in $objects; do
		keep_object "${object%/*}.yaml" --namespace="$namespace" "$object"
		ask_api delete --namespace="$namespace" "$object" --ignore-not-found --wait=false >/dev/null
	done
}
# Creates the objects again, as anybody would who has their manifests. In a namespace that is gone, or going, nothing is
# missed.
undo() {
	put_store_back
	await_api
	phase=$(ask_api get namespace "$namespace" --ignore-not-found --output=jsonpath='{.status.phase}')
	[ "$phase" = Active ] || return 0
	for object in $objects; do
		saved=$home/${object%/*}.yaml
		[ -e "$saved" ] || continue
		there=$(named --namespace="$namespace" "$object")
		[ -n "$there" ] || ask_api create --filename="$saved" >/dev/null
	done
}
