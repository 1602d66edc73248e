# Kubernetes itself deletes what is in a namespace that is deleted.
inject() {
	for object in $objects; do
		keep_object "$(file_of "$object")" --namespace="$namespace" "$object"
	done
	ask_api delete namespace "$namespace" --ignore-not-found --wait=false >/dev/null
}
file_of() { echo "${1%/*}-${1#*/}.yaml"; }
# Creates the namespace and the objects again, as anybody would who has their manifests. Nothing is missed once the run's
# other namespace, from where it observes, is gone or going: then the run has removed this one for good.
undo() {
	put_store_back
	await_api
	await_gone "namespace/$namespace"
	phase=$(ask_api get namespace "$namespace-watch" --ignore-not-found --output=jsonpath='{.status.phase}')
	[ "$phase" = Active ] || return 0
	for object in $objects; do
		saved=$home/$(file_of "$object")
		[ -e "$saved" ] || continue
		there=$(named --namespace="$namespace" "$object")
		[ -z "$there" ] || continue
		case $object in persistentvolumeclaim/*) forget_volume "$saved" ;; esac
		ask_api create --filename="$saved" >/dev/null
	done
}
