# The API, asked as by an operator who is logged into a control plane. kubeadm gives the operator credentials that do
# not depend on RBAC (from Kubernetes 1.29 on, only on the node that it set up first). An answer is always assigned to a
# variable first: if there is none, that ends the shell, since no answer says nothing about what is there.
way_in=/etc/kubernetes/super-admin.conf
[ -e "$way_in" ] || way_in=/etc/kubernetes/admin.conf
ask_api() { KUBECACHEDIR=$home/cache kubectl --kubeconfig "$way_in" --request-timeout=10s "$@"; }
named() { ask_api get "$@" --ignore-not-found --output=name; }
# Called before anything is undone. An API that was down may take a while; one that does not come back is an error.
await_api() {
	give_up=$(($(date +%s) + 30))
	until ask_api get --raw /readyz --request-timeout=2s >/dev/null 2>&1; do
		[ "$(date +%s)" -lt "$give_up" ] || { echo 'the API does not answer' >&2; exit 1; }
		sleep 0.5
	done
}
# What is marked as deleted goes in its own time: a claim when no pod uses it any more, a namespace when nothing is left
# in it.
await_gone() {
	for object; do
		give_up=$(($(date +%s) + 30))
		while :; do
			marked=$(ask_api get --namespace="$namespace" "$object" --ignore-not-found --output=jsonpath='{.metadata.deletionTimestamp}')
			[ -n "$marked" ] || break
			[ "$(date +%s)" -lt "$give_up" ] || { echo "$object is marked as deleted, and does not go" >&2; exit 1; }
			sleep 0.5
		done
	done
}
# What was noted at a kept claim when it got its volume is never said of the new one.
forget_binding() { sed -i '/^    \(pv\|volume\(\.beta\)\{0,1\}\)\.kubernetes\.io\//d' "$1"; }
# Makes it a claim that never had a volume.
forget_volume() {
	forget_binding "$1"
	sed -i '/^  volumeName: /d' "$1"
}
# Keeps an object in a form that can be created again, without the fields that only the API sets, or the scheduler. The file is written
# whole or not at all.
keep_object() {
	kept=$home/$1
	shift
	[ ! -e "$kept" ] || return 0
	ask_api get "$@" --output=yaml | sed '/^  \(resourceVersion\|uid\|creationTimestamp\|generation\|nodeName\): /d' >"$kept.new"
	[ -s "$kept.new" ]
	mv "$kept.new" "$kept"
}
