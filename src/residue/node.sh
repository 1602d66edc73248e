# What outlives a restart of a node, as lines `ITEM VALUE`: units that have failed; the unit, process and files of the
# kubelet; certificates; the members of etcd and, if there are several, whether all hold the same data and name the same
# leader; everything that bears our name; and, as `rules/FAMILY`, each line of the firewall. The id of a member is left
# out, since a member that was restored from a snapshot has another one. What could not be asked is missing.

# Uses few processes: this runs again and again on nodes that have something else to do.
sums() { sha256sum "$@" 2>/dev/null | while read -r sum file; do echo "file$file $sum"; done; }

if failed=$(systemctl list-units --failed --plain --no-legend --no-pager); then
	echo "units asked"
	printf '%s\n' "$failed" | while read -r unit _; do [ -z "$unit" ] || echo "unit/$unit failed"; done
fi
if [ -e /var/lib/kubelet/config.yaml ] || systemctl cat kubelet >/dev/null 2>&1; then
	while IFS='=' read -r property value; do
		case $property in
		ActiveState) active=$value ;;
		UnitFileState) enabled=$value ;;
		DropInPaths) drop_ins=$value ;;
		MainPID) pid=$value ;;
		esac
	done <<-END
		$(systemctl show kubelet -p ActiveState -p UnitFileState -p DropInPaths -p MainPID)
	END
	echo "kubelet/unit $active $enabled $drop_ins"
	echo "kubelet/process $(grep -q '^State:.[Tt]' "/proc/$pid/status" 2>/dev/null && echo stopped || echo 'not stopped')"
	sums /var/lib/kubelet/config.yaml /var/lib/kubelet/kubeadm-flags.env
fi
sums /etc/kubernetes/manifests/*.yaml /etc/kubernetes/pki/*.crt /etc/kubernetes/pki/etcd/*.crt
for family in ip ip6; do
	if saved=$("${family}tables-save"); then
		echo "firewall/$family asked"
		printf '%s\n' "$saved" | sed "s,^,rules/$family ,"
	fi
done
current=/var/lib/kubelet/pki/kubelet-client-current.pem
[ ! -e $current ] || echo "kubelet/certificate $(readlink $current)"
# Asked again if the members differ, since they lag a little behind each other.
for attempt in 1 2 3; do
	[ -e /etc/kubernetes/manifests/etcd.yaml ] || break
	members=$(ask_etcd --command-timeout=2s member list 2>/dev/null) || continue
	count=$(echo "$members" | wc -l)
	in_order="$count of $count members, with 1 hash and 1 leader of all"
	data=$in_order
	if [ "$count" -gt 1 ]; then
		said=$(ask_etcd --command-timeout=2s get /registry/namespaces/kube-system --write-out=json)
		revision=$(echo "$said" | sed -n 's/.*"revision":\([0-9]*\).*/\1/p')
		hashes=$(ask_etcd --command-timeout=2s endpoint hashkv --cluster --rev="$revision" | cut -d, -f2)
		# A member that knows of no leader names 0.
		leaders=$(ask_etcd --command-timeout=2s endpoint status --cluster --write-out=fields | sed -n 's/^"Leader" : \([1-9]\)/\1/p')
		asked=$(echo "$hashes" | wc -l) told=$(echo "$leaders" | grep -c .) || :
		[ "$told" != "$asked" ] || told=all
		data="$asked of $count members, with $(echo "$hashes" | sort -u | wc -l) hash and $(echo "$leaders" | sort -u | wc -l) leader of $told"
	fi
	if [ $attempt = 3 ] || [ "$data" = "$in_order" ]; then
		echo "etcd/members $(echo "$members" | cut -d' ' -f2- | sort | tr '\n' ';')"
		echo "etcd/data $data"
		break
	fi
done
for left in /etc/kubernetes/kchaos-* /etc/kubernetes/pki/*.kchaos-* /etc/kubernetes/pki/etcd/*.kchaos-* /var/lib/kubelet/pki/kchaos-* /var/lib/kchaos/* /etc/systemd/system/kchaos-* /run/systemd/transient/kchaos-*; do
	[ ! -e "$left" ] || echo "left$left there"
done
