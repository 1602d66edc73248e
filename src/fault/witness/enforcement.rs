//! Does an API server act on what it holds? Asked of it, in the node of the operator; what it holds is looked at elsewhere.

use super::{LOOK, Testimony};
use crate::cluster::docker::{Engine, NodeId};
use crate::in_node::KUBECTL;
use crate::plan::PlannedFault;
use crate::scenario::{FaultSpec, Unanswered};

/// May whoever has kubeadm's `admin.conf` do everything?
const RIGHTS: &str =
    "kubectl --kubeconfig /etc/kubernetes/admin.conf --request-timeout=5s auth can-i '*' '*' 2>/dev/null || :";
/// Is a write that changes nothing refused for want of the webhook's approval?
const REFUSED: &str = r#"said=$(ask_api create configmap kchaos --namespace=default --dry-run=server --output=name 2>&1 || :)
case $said in
*nobody.kchaos.io*) echo no ;;
configmap/*) echo yes ;;
*) echo "$said" ;;
esac
"#;
/// Does such a write add to those that were let through without the webhook's approval?
const LET_THROUGH: &str = r#"counted() { ask_api get --raw /metrics | sed -n 's/^apiserver_admission_webhook_fail_open_count{.*nobody.kchaos.io.*} //p'; }
before=$(counted)
ask_api create configmap kchaos --namespace=default --dry-run=server >/dev/null 2>&1
after=$(counted)
if [ "${before:-0}" = "${after:-0}" ]; then echo yes; else echo no; fi
"#;

/// A question that an API server answers with no as long as the fault is in, and else with yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question {
    what: &'static str,
    script: &'static str,
}

impl Question {
    /// Of a fault that changes what an API server allows.
    pub(super) fn of(fault: &PlannedFault) -> Option<Self> {
        let (what, script) = match &fault.spec {
            FaultSpec::DeleteBinding { name } if name.to_string() == "kubeadm:cluster-admins" => {
                ("may admin.conf do everything?", RIGHTS)
            }
            FaultSpec::DeadWebhook { unanswered: Unanswered::Refuses } => ("is a write taken?", REFUSED),
            FaultSpec::DeadWebhook { unanswered: Unanswered::LetsThrough } => {
                ("is a write taken without having been let through?", LET_THROUGH)
            }
            _ => return None,
        };
        Some(Self { what, script })
    }

    pub(super) fn what(&self) -> &'static str {
        self.what
    }

    pub(super) async fn testimony(&self, engine: &Engine, operator: &NodeId) -> Testimony {
        let script = ["set -u\nhome=/tmp/kchaos-look\n", KUBECTL, self.script, "\nrm -rf \"$home\"\n"].concat();
        match engine.exec(operator, &["sh", "-c", &script], None, LOOK).await {
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
