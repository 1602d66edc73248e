//! A question that an API server answers with "no" while the fault is in. It is asked from the operator's node. Another
//! witness (`stored_in_etcd.rs`) looks at what the API server has stored.

use super::{LOOK, Testimony};
use crate::cluster::docker::Engine;
use crate::in_node::KUBECTL;
use crate::node::NodeId;
use crate::plan::PlannedFault;
use crate::scenario::{FaultSpec, Reclaim, Unanswered};

/// May a user of kubeadm's `admin.conf` do everything?
const RIGHTS: &str =
    "kubectl --kubeconfig /etc/kubernetes/admin.conf --request-timeout=5s auth can-i '*' '*' 2>/dev/null || :";
/// Is a write that changes nothing accepted? Prints `no` if it is refused because the webhook's approval is missing.
const REFUSED: &str = r#"said=$(ask_api create configmap kchaos --namespace=default --dry-run=server --output=name 2>&1 || :)
case $said in
*nobody.kchaos.io*) echo no ;;
configmap/*) echo yes ;;
*) echo "$said" ;;
esac
"#;
/// Is such a write taken without being counted as let through? Prints `no` if it adds to the writes that were let
/// through without the webhook's approval.
const LET_THROUGH: &str = r#"counted() { metrics=$(ask_api get --raw /metrics) && echo "$metrics" | sed -n 's/^apiserver_admission_webhook_fail_open_count{.*nobody.kchaos.io.*} //p'; }
before=$(counted) && ask_api create configmap kchaos --namespace=default --dry-run=server >/dev/null && after=$(counted) || exit 1
if [ "${before:-0}" = "${after:-0}" ]; then echo yes; else echo no; fi
"#;

/// May something run on this node that a drain should have evicted? Yes if the node is not cordoned, or if a pod of a
/// kchaos workload is there that no DaemonSet owns and no disruption budget keeps.
const UNDRAINED: &str = r#"cordoned=$(ask_api get node "$1" --output='jsonpath={.spec.unschedulable}') || exit 1
[ "$cordoned" = true ] || { echo yes; exit; }
each='{range .items[*]}{.metadata.namespace}/{.metadata.labels.kchaos\.io/workload} {.metadata.ownerReferences[0].kind}{"\n"}{end}'
pods=$(ask_api get pods --all-namespaces --selector=kchaos.io/workload --field-selector="spec.nodeName=$1" --output="jsonpath=$each") || exit 1
each='{range .items[*]}{.metadata.namespace}/{.metadata.name} {.status.disruptionsAllowed}{"\n"}{end}'
budgets=$(ask_api get poddisruptionbudgets --all-namespaces --selector=kchaos.io/workload --output="jsonpath=$each") || exit 1
left=$(echo "$pods" | while read -r workload owner; do
	case "$owner $budgets " in
	"DaemonSet "* | *"$workload 0"*) ;;
	*) echo "$workload" ;;
	esac
done)
if [ -z "$left" ]; then echo no; else echo yes; fi
"#;

/// Is any of these objects there, and to stay? The first argument is their namespace. Prints `no` if all are marked as
/// deleted.
const TO_STAY: &str = r#"namespace=$1
shift
for object; do
	said=$(ask_api get --namespace="$namespace" "$object" --ignore-not-found --output='jsonpath={.metadata.name} {.metadata.deletionTimestamp}') || exit 1
	case $said in
	'') echo "$object is gone" && exit ;;
	*' ') echo yes && exit ;;
	esac
done
echo no
"#;

/// Has the claim a volume that is its own? The arguments are the namespace, what becomes of the volume, and objects.
/// Prints `no` once the volume is gone, or stays without its claim.
const HAS_VOLUME: &str = r#"namespace=$1 reclaim=$2
for object; do
	case $object in persistentvolumeclaim/*) claim=$namespace/${object#*/} ;; esac
done
each='{range .items[*]}{.spec.claimRef.namespace}/{.spec.claimRef.name} {.status.phase}{"\n"}{end}'
volumes=$(ask_api get persistentvolumes --output="jsonpath=$each") || exit 1
phase=$(echo "$volumes" | sed -n "s|^$claim ||p")
case $reclaim/$phase in
*/Bound) echo yes ;;
delete/ | retain/Released) echo no ;;
*) echo "it is ${phase:-gone}" ;;
esac
"#;

/// A question that an API server answers with `no` while the fault is in, and with `yes` otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    what: &'static str,
    script: &'static str,
    /// What the question is about: the node, or a namespace, what becomes of a volume, and objects.
    about: Vec<String>,
}

impl Question {
    /// The question to ask, if the fault changes what an API server allows.
    pub(super) fn of(fault: &PlannedFault) -> Option<Self> {
        let (what, script) = match &fault.spec {
            FaultSpec::Drain { .. } => ("may a pod that can be evicted run on a drained node?", UNDRAINED),
            FaultSpec::Delete { reclaim: Some(_), .. } => ("has the claim its volume?", HAS_VOLUME),
            FaultSpec::Delete { held: true, .. } => ("is any of what was deleted to stay?", TO_STAY),
            FaultSpec::DeleteBinding { name } if name.to_string() == "kubeadm:cluster-admins" => {
                ("may admin.conf do everything?", RIGHTS)
            }
            FaultSpec::DeadWebhook { unanswered: Unanswered::Refuses } => ("is a write taken?", REFUSED),
            FaultSpec::DeadWebhook { unanswered: Unanswered::LetsThrough } => {
                ("is a write taken without having been let through?", LET_THROUGH)
            }
            _ => return None,
        };
        let about = match (&fault.spec, &fault.objects) {
            (FaultSpec::Delete { reclaim, .. }, Some(deleted)) => {
                let objects = deleted.objects.iter().map(|(kind, name)| format!("{kind}/{name}"));
                let reclaim = reclaim.map(|reclaim| match reclaim {
                    Reclaim::Delete => "delete".to_owned(),
                    Reclaim::Retain => "retain".to_owned(),
                });
                [deleted.namespace.to_string()].into_iter().chain(reclaim).chain(objects).collect()
            }
            _ => vec![fault.node.name.clone()],
        };
        Some(Self { what, script, about })
    }

    pub(super) fn what(&self) -> &'static str {
        self.what
    }

    pub(super) async fn testimony(&self, engine: &Engine, operator: &NodeId) -> Testimony {
        let home = "set -u\nhome=/tmp/kchaos-look\ntrap 'rm -rf \"$home\"' EXIT\n";
        let script = [home, KUBECTL, self.script].concat();
        let mut argv = vec!["sh", "-c", &script, "sh"];
        argv.extend(self.about.iter().map(String::as_str));
        match engine.exec(operator, &argv, None, LOOK).await {
            Ok(output) if output.code == 0 => answer(String::from_utf8_lossy(&output.stdout).trim()),
            Ok(output) => (output.stderr, None),
            Err(e) => (e.to_string(), None),
        }
    }
}

fn answer(said: &str) -> Testimony {
    let effect = match said {
        "yes" => Some(false),
        "no" => Some(true),
        _ => None,
    };
    (said.to_owned(), effect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_answer_is_one() {
        assert_eq!(answer("yes").1, Some(false));
        assert_eq!(answer("no").1, Some(true));
        for other in ["", "error: connection refused", "no - no RBAC policy matched"] {
            assert_eq!(answer(other).1, None, "{other}");
        }
    }
}
