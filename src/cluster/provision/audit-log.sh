# shellcheck shell=sh
# Has the API server of this node keep a log of what those components write of which one instance leads. The kubelet is
# stopped, so it takes the new manifest when the node is started again, and not before.
set -e
manifest=/etc/kubernetes/manifests/kube-apiserver.yaml
! grep -q -e '--audit-' "$manifest" || exit 0
systemctl stop kubelet
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
- level: None
END
sed 's|^\( *- \)kube-apiserver$|&\n\1--audit-policy-file=/etc/kubernetes/audit/policy.yaml\n\1--audit-log-path=/var/log/kubernetes/audit.log\n\1--audit-log-maxsize=20\n\1--audit-log-maxbackup=1|
s|^    volumeMounts:$|&\n    - {name: audit-policy, mountPath: /etc/kubernetes/audit, readOnly: true}\n    - {name: audit-log, mountPath: /var/log/kubernetes}|
s|^  volumes:$|&\n  - {name: audit-policy, hostPath: {path: /etc/kubernetes/audit, type: Directory}}\n  - {name: audit-log, hostPath: {path: /var/log/kubernetes, type: DirectoryOrCreate}}|' \
	"$manifest" >/etc/kubernetes/kube-apiserver.new
[ "$(grep -c audit /etc/kubernetes/kube-apiserver.new)" = 8 ]
mv /etc/kubernetes/kube-apiserver.new "$manifest"
