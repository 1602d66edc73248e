# shellcheck shell=sh
# Has the API server of this node keep a log of what is written by those components of which one instance leads, and by
# all else that works by an account of kube-system; and of the renewals of nodes' leases, which tell whose kubelets report
# to it. The kubelet is stopped, so it takes the new manifest when the node is started again, and not before.
set -e
manifest=/etc/kubernetes/manifests/kube-apiserver.yaml
new=/etc/kubernetes/kube-apiserver.new
! grep -q -e '- --audit-' "$manifest" || exit 0
sed 's|^\( *- \)kube-apiserver$|&\n\1--audit-policy-file=/etc/kubernetes/audit/policy.yaml\n\1--audit-log-path=/var/log/kubernetes/audit.log\n\1--audit-log-maxsize=50\n\1--audit-log-maxbackup=1|
s|^    volumeMounts:$|&\n    - {name: kchaos-audit-policy, mountPath: /etc/kubernetes/audit, readOnly: true}\n    - {name: kchaos-audit-log, mountPath: /var/log/kubernetes}|
s|^  volumes:$|&\n  - {name: kchaos-audit-policy, hostPath: {path: /etc/kubernetes/audit, type: Directory}}\n  - {name: kchaos-audit-log, hostPath: {path: /var/log/kubernetes, type: DirectoryOrCreate}}|' \
	"$manifest" >"$new"
chmod --reference="$manifest" "$new"
if [ $(($(wc -l <"$new") - $(wc -l <"$manifest"))) != 8 ]; then
	rm "$new"
	echo "its manifest is not one of kubeadm's" >&2
	exit 1
fi
mkdir -p /etc/kubernetes/audit
cat >/etc/kubernetes/audit/policy.yaml <<'END'
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  users: ["system:kube-controller-manager", "system:kube-scheduler"]
  verbs: [create, update, patch, delete, deletecollection]
# The controllers of the controller manager, each by its own account.
- level: Metadata
  userGroups: ["system:serviceaccounts:kube-system"]
  verbs: [create, update, patch, delete, deletecollection]
- level: Metadata
  userGroups: ["system:nodes"]
  verbs: [update]
  resources: [{group: coordination.k8s.io, resources: [leases]}]
  namespaces: [kube-node-lease]
- level: None
END
systemctl stop kubelet
mv "$new" "$manifest"
