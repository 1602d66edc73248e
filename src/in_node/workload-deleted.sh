# Kubernetes itself deletes what belongs to the deleted objects. An object that a finalizer holds is only marked as
# deleted, and stays until somebody removes the finalizer.
inject() {
	for object in $objects; do
		keep_object "${object%/*}.yaml" --namespace="$namespace" "$object"
		[ -z "$held" ] || set_finalizers "[\"$held\"]" "$object"
		ask_api delete --namespace="$namespace" "$object" --ignore-not-found --wait=false >/dev/null
	done
}
set_finalizers() { ask_api patch --namespace="$namespace" "$2" --type=merge --patch="{\"metadata\":{\"finalizers\":$1}}" >/dev/null; }
# Creates the objects again, as anybody would who has their manifests. In a namespace that is gone, or going, nothing is
# missed, except that it can't go as long as something in it is held.
undo() {
	put_store_back
	await_api
	[ -z "$held" ] || let_go
	phase=$(ask_api get namespace "$namespace" --ignore-not-found --output=jsonpath='{.status.phase}')
	[ "$phase" = Active ] || return 0
	for object in $objects; do
		saved=$home/${object%/*}.yaml
		[ -e "$saved" ] || continue
		there=$(named --namespace="$namespace" "$object")
		[ -n "$there" ] || ask_api create --filename="$saved" >/dev/null
	done
}
let_go() {
	for object in $objects; do
		holding=$(ask_api get --namespace="$namespace" "$object" --ignore-not-found --output=jsonpath='{.metadata.finalizers}')
		case $holding in *"$held"*) set_finalizers null "$object" ;; esac
	done
	for object in $objects; do
		tries=0
		while marked=$(ask_api get --namespace="$namespace" "$object" --ignore-not-found --output=jsonpath='{.metadata.deletionTimestamp}') && [ -n "$marked" ]; do
			tries=$((tries + 1))
			[ "$tries" -lt 60 ] || { echo "$object is marked as deleted, and does not go" >&2; exit 1; }
			sleep 0.5
		done
	done
}
