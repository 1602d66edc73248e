# Kubernetes itself deletes what belongs to the deleted objects. An object that a finalizer holds is only marked as
# deleted, and stays until somebody removes the finalizer. A volume whose claim is deleted goes with it, or stays.
inject() {
	for object in $objects; do
		keep_object "${object%/*}.yaml" --namespace="$namespace" "$object"
		case $object in persistentvolumeclaim/*) set_reclaim "$object" ;; esac
	done
	for object in $objects; do
		[ -z "$held" ] || set_finalizers "[\"$held\"]" "$object"
		ask_api delete --namespace="$namespace" "$object" --ignore-not-found --wait=false >/dev/null
	done
}
set_finalizers() { ask_api patch --namespace="$namespace" "$2" --type=merge --patch="{\"metadata\":{\"finalizers\":$1}}" >/dev/null; }
# Notes which volume it is and what its policy was, before the policy is changed.
set_reclaim() {
	there=$(named --namespace="$namespace" "$1")
	[ -n "$there" ] || return 0
	if [ ! -e "$home/volume" ]; then
		volume=$(ask_api get --namespace="$namespace" "$1" --output=jsonpath='{.spec.volumeName} {.metadata.uid}')
		policy=$(ask_api get persistentvolume "${volume% *}" --output=jsonpath='{.spec.persistentVolumeReclaimPolicy}')
		echo "$volume $policy" >"$home/volume.new"
		mv "$home/volume.new" "$home/volume"
	fi
	read -r volume _ <"$home/volume"
	set_policy "$reclaim"
}
# A volume that goes meanwhile has nothing to be changed any more.
patch_volume() {
	ask_api patch persistentvolume "$volume" --type=merge --patch="$1" >/dev/null 2>&1 && return
	there=$(named persistentvolume "$volume")
	[ -z "$there" ] || ask_api patch persistentvolume "$volume" --type=merge --patch="$1" >/dev/null
}
set_policy() { patch_volume "{\"spec\":{\"persistentVolumeReclaimPolicy\":\"$1\"}}"; }
set_claim_of() { patch_volume "{\"spec\":{\"claimRef\":{\"uid\":$1,\"resourceVersion\":null}}}"; }
# Creates the objects again, as anybody would who has their manifests. In a namespace that is gone, or going, nothing is
# missed, except that it can't go as long as something in it is held, and that nobody else would remove a volume.
undo() {
	put_store_back
	await_api
	[ -z "$held" ] || let_go
	# shellcheck disable=SC2086 # several objects
	await_gone $objects
	phase=$(ask_api get namespace "$namespace" --ignore-not-found --output=jsonpath='{.status.phase}')
	if [ "$phase" = Active ]; then
		for object in $objects; do
			saved=$home/${object%/*}.yaml
			[ -e "$saved" ] || continue
			there=$(named --namespace="$namespace" "$object")
			[ -z "$there" ] || continue
			case $object in persistentvolumeclaim/*) free_volume "$saved" ;; esac
			ask_api create --filename="$saved" >/dev/null
		done
	fi
	[ ! -e "$home/volume" ] || put_policy_back "$phase"
}
let_go() {
	for object in $objects; do
		holding=$(ask_api get --namespace="$namespace" "$object" --ignore-not-found --output=jsonpath='{.metadata.finalizers}')
		case $holding in *"$held"*) set_finalizers null "$object" ;; esac
	done
}
# A volume that is there is made one for a claim of that name again; if it is gone, the claim is made as one that never
# had a volume.
free_volume() {
	read -r volume _ <"$home/volume"
	kept=$(named persistentvolume "$volume")
	if [ "$reclaim" = Retain ] && [ -n "$kept" ]; then
		forget_binding "$1"
		set_claim_of null
	else
		forget_volume "$1"
	fi
}
# A volume with its old policy, and without its claim, may be deleted with all that is on it. So the claim must have it
# again first. If the namespace goes, nobody will claim it any more, and to be deleted is what it needs; that happens
# only to a volume that is known to have had a claim. One that was to go with its claim goes, whatever its policy was.
put_policy_back() {
	read -r volume uid policy <"$home/volume"
	there=$(named persistentvolume "$volume")
	[ -n "$there" ] || return 0
	if [ "$1" != Active ]; then
		owner=$(ask_api get persistentvolume "$volume" --ignore-not-found --output=jsonpath='{.spec.claimRef.uid}')
		[ -n "$owner" ] || set_claim_of "\"$uid\""
		set_policy Delete
		return
	fi
	for object in $objects; do
		case $object in persistentvolumeclaim/*)
			claim=$(ask_api get --namespace="$namespace" "$object" --ignore-not-found --output=jsonpath='{.metadata.uid}')
			;;
		esac
	done
	if [ "$reclaim" = Retain ]; then
		await_claim
	elif [ "$claim" != "$uid" ]; then
		return 0
	fi
	set_policy "$policy"
}
await_claim() {
	tries=0
	while :; do
		state=$(ask_api get persistentvolume "$volume" --output=jsonpath='{.status.phase} {.spec.claimRef.uid}')
		[ "$state" != "Bound $claim" ] || break
		tries=$((tries + 1))
		[ "$tries" -lt 60 ] || { echo "$volume is not claimed again: $state" >&2; exit 1; }
		sleep 0.5
	done
}
