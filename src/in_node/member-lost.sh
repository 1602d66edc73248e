# One member of several is lost with what it had stored: etcd is down, and its data is not there. The others go on
# without it, if they are a majority. They are asked from this node. Their addresses are written down while this member
# can still tell them.
# The lost member is not started with an empty directory. What etcd makes of that depends on what it was told when it
# was created: the member that made the cluster may make another one, whose writes would be lost.
others() {
	"$home/etcdctl" --endpoints="$(cat "$home/others")" --command-timeout=5s --cacert="$pki/ca.crt" --cert="$pki/server.crt" --key="$pki/server.key" "$@"
}
# As one of the others knows it. All would have to agree otherwise, and a member that was just added can't yet.
members() { others member list --consistency=s; }
settle() {
	away=/etc/kubernetes/$name.yaml
	[ ! -e "$away" ] || etcd_manifest=$away
	where
	own=$(setting initial-advertise-peer-urls)
}
inject() {
	settle
	if [ ! -e "$home/others" ]; then
		list=$(ask_etcd member list)
		echo "$list" | grep -F ", $own, " | cut -d, -f1 >"$home/id"
		echo "$list" | grep -vF ", $own, " | cut -d, -f4 | tr -d ' ' >"$home/peers"
		echo "$list" | grep -vF ", $own, " | cut -d, -f5 | tr -d ' ' | paste -sd, - >"$home/others.new"
		mv "$home/others.new" "$home/others"
	fi
	put_aside
	[ -e "$away" ] || mv "$etcd_manifest" "$away"
	end_all '^etcd( |$)'
	pkill -CONT -f '^kube-apiserver( |$)' || :
}
# The documented procedure: the member is removed and added as a new one. The new member is told who the others are and
# gets everything from them. Once begun, the procedure can only be completed: what a removed member has stored is worth
# nothing.
remedy() {
	[ ! -e "$home/replaced" ] || return 0
	settle
	had=$(cat "$home/id") own_name=$(setting name) new=/etc/kubernetes/$name.new
	: >"$home/replacing"
	# A survivor that is alone would have to agree with a member that is not there yet, and until then do nothing, not
	# even start. So that one learns first.
	[ "$lost" = alone ] && learner= || learner=--learner
	stop_etcd
	# Whoever answers may not have heard yet of what another one has done.
	tries=0
	until list=$(members) && ! echo "$list" | grep -q "^$had, "; do
		tries=$((tries + 1))
		[ "$tries" -lt 30 ] || { cat "$home/refused" >&2; exit 1; }
		others member remove "$had" >/dev/null 2>"$home/refused" || sleep 0.3
	done
	# A member that an earlier call has added, and that has begun to store what it gets, is left alone.
	if ! echo "$list" | grep -F ", $own, " | grep -qF ', started, '; then
		rm -rf "$data/member"
	fi
	# Members are taken only by a cluster that has been well for some seconds.
	tries=0
	until echo "$list" | grep -qF ", $own, "; do
		tries=$((tries + 1))
		[ "$tries" -lt 60 ] || { cat "$home/refused" >&2; exit 1; }
		others member add "$own_name" --peer-urls="$own" ${learner:+"$learner"} >/dev/null 2>"$home/refused" || sleep 0.3
		list=$(members | sed "/^$had, /d")
	done
	everybody=$(echo "$list" | sed -e 's/^[^,]*, started, \([^,]*\), \([^,]*\), .*/\1=\2/' -e "s|^[^,]*, unstarted, , \([^,]*\), .*|$own_name=\1|" | paste -sd, -)
	sed -e '/^ *- --initial-cluster\(-state\)\{0,1\}=/d' \
		-e "s|^\( *- \)etcd\$|&\n\1--initial-cluster=$everybody\n\1--initial-cluster-state=existing|" "$away" >"$new"
	[ "$(grep -c -e '--initial-cluster\(-state\)\{0,1\}=' "$new")" = 2 ] || { echo 'the manifest of etcd has no command that flags could be added to' >&2; exit 1; }
	mv "$new" /etc/kubernetes/manifests/etcd.yaml
	start_kubelet
	tries=0
	until members | grep -F ", $own, " | grep -q ', started, .*, false$'; do
		# A member that learns is refused as long as it does not have everything.
		[ -z "$learner" ] || others member promote "$(members | grep -F ", $own, " | cut -d, -f1)" >/dev/null 2>&1 || :
		tries=$((tries + 1))
		[ "$tries" -lt 150 ] || { echo 'the new member does not start, or does not get everything' >&2; exit 1; }
		sleep 0.2
	done
	: >"$home/replaced"
}
# A member that was started without a majority serves no clients before there is one, but it does serve other members.
members_as_peers_know() {
	while read -r peer; do
		curl --silent --fail --noproxy '*' --http1.1 --max-time 2 --cacert "$pki/ca.crt" --cert "$pki/peer.crt" --key "$pki/peer.key" "$peer/members" && return
	done <"$home/peers"
	return 1
}
# Do the others still count on this member? If it was lost alone, they do for as long as nobody has begun to replace it.
# If it was lost with others, who is left may have forgotten them all by now, so somebody who knows must say so.
is_member() {
	tries=0
	until list=$(members); do
		[ "$lost" != alone ] || [ -e "$home/replacing" ] || return 0
		if [ ! -e "$home/replacing" ] && list=$(members_as_peers_know); then
			case $list in *"\"$own\""*) return 0 ;; *) return 1 ;; esac
		fi
		tries=$((tries + 1))
		[ "$tries" -lt 5 ] || { echo 'nobody says whether this is still a member' >&2; exit 1; }
		sleep 1
	done
	echo "$list" | grep -q "^$(cat "$home/id"), "
}
put_manifest_back() { [ ! -e "$away" ] || mv "$away" /etc/kubernetes/manifests/etcd.yaml; }
# The shell may be killed after any step. The next call goes on from there.
undo() {
	rm -f "/etc/kubernetes/$name.new"
	[ -e "$home/touched" ] || return 0
	settle
	if [ -e "$home/replaced" ] || ! is_member; then
		remedy
		# The new member now knows the others from its disk, so the old manifest will do.
		if [ -e "$away" ]; then
			stop_etcd
			put_manifest_back
		fi
	else
		if [ -e "$aside/member" ]; then
			stop_etcd
			rm -rf "$data/member"
			mv -T "$aside/member" "$data/member"
		elif [ "$(number "$data/member")" != "$(cat "$home/touched")" ]; then
			echo 'what was put aside is not there, and not back' >&2
			exit 1
		fi
		put_manifest_back
	fi
	pkill -CONT -f '^(etcd|kube-apiserver)( |$)' || :
	start_kubelet
	rm -rf "$aside"
	rm -f "$home/touched"
}
