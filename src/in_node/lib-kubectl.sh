# The API, as an operator asks it who is logged into a control plane. kubeadm gives him a way in that does not depend on RBAC (from Kubernetes 1.29 on, in
# the node that it made first). What is asked is always assigned first: that ends the shell if there is no answer, which says nothing of what is there.
way_in=/etc/kubernetes/super-admin.conf
[ -e "$way_in" ] || way_in=/etc/kubernetes/admin.conf
export KUBECACHEDIR="$home/cache"
ask_api() { kubectl --kubeconfig "$way_in" --request-timeout=10s "$@"; }
named() { ask_api get "$@" --ignore-not-found --output=name; }
# Before anything is undone: an API that was down may take a while, and one that does not come is an error.
await_api() {
	tries=0
	until ask_api get --raw /readyz >/dev/null 2>&1; do
		tries=$((tries + 1))
		[ "$tries" -lt 60 ] || { echo 'the API does not answer' >&2; exit 1; }
		sleep 0.5
	done
}
# Keeps an object as it can be created again, without what only the API gives to it; whole or not at all.
keep_object() {
	kept=$home/$1
	shift
	[ ! -e "$kept" ] || return 0
	ask_api get "$@" --output=yaml | sed '/^  \(resourceVersion\|uid\|creationTimestamp\|generation\): /d' >"$kept.new"
	[ -s "$kept.new" ]
	mv "$kept.new" "$kept"
}
