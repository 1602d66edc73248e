//! What the API holds, read from etcd with its own tool, without going through the API server.

use super::{LOOK, Testimony};
use crate::cluster::docker::Engine;
use crate::in_node::{ETCD, HELD_BY};
use crate::node::NodeId;
use crate::plan::PlannedFault;
use crate::scenario::FaultSpec;

/// Prints how many of the keys exist or, if a text is given, how many hold that text. A key that ends in `*` counts
/// once if any key begins with the part before the `*`. Prints nothing if etcd does not answer.
const COUNT: &str = r#"set -eu
count=0 text=$1
shift
for key; do
	case $key in
	*'*') found=$(ask_etcd --command-timeout=4s get "${key%'*'}" --prefix --keys-only) ;;
	*) found=$(ask_etcd --command-timeout=4s get "$key" --keys-only) ;;
	esac
	if [ -n "$found" ] && [ -n "$text" ]; then
		held=$(ask_etcd --command-timeout=4s get "$key" --write-out=json)
		found=$(echo "$held" | sed -n 's/.*"value":"\([^"]*\)".*/\1/p' | base64 -d | tr -c '[:print:]' '\n' | grep -Fe "$text" || :)
	fi
	[ -z "$found" ] || count=$((count + 1))
done
echo "$count"
"#;

/// What etcd holds, or no longer holds, once the fault is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    what: &'static str,
    /// Keys; one that ends in `*` stands for all keys that begin with the part before it.
    keys: Vec<String>,
    /// A text that the keys hold; any value will do if it is empty.
    text: &'static str,
    /// Is it there with the fault, or without it?
    with_fault: bool,
}

impl Stored {
    /// What to look for, if the fault is made through the API.
    pub(super) fn of(fault: &PlannedFault) -> Option<Self> {
        let keyed = |what, key: String, text, with_fault| Self { what, keys: vec![key], text, with_fault };
        Some(match &fault.spec {
            FaultSpec::Drain { .. } => keyed(
                "taint of a node that is cordoned,",
                format!("/registry/minions/{}", fault.node.name),
                "node.kubernetes.io/unschedulable",
                true,
            ),
            FaultSpec::DeleteBinding { name } => {
                keyed("the binding", format!("/registry/clusterrolebindings/{name}"), "", false)
            }
            FaultSpec::DeadWebhook { .. } => {
                keyed("the webhook", "/registry/validatingwebhookconfigurations/kchaos-*".to_owned(), "", true)
            }
            FaultSpec::DeleteNamespace {} => {
                let deleted = fault.objects.as_ref()?;
                let key = |(kind, name): &(_, _)| registry(&ToString::to_string(kind), &deleted.namespace, name);
                let keys = deleted.objects.iter().map(key).collect();
                Self { what: "the namespace and what was in it", keys, text: "", with_fault: false }
            }
            FaultSpec::Delete { held, .. } => {
                let deleted = fault.objects.as_ref()?;
                let key = |(kind, name): &(_, _)| registry(&ToString::to_string(kind), &deleted.namespace, name);
                Self {
                    what: if *held { "finalizer of what was deleted," } else { "what was deleted" },
                    keys: deleted.objects.iter().map(key).collect(),
                    text: if *held { HELD_BY } else { "" },
                    with_fault: *held,
                }
            }
            _ => return None,
        })
    }

    pub(super) fn what(&self) -> &'static str {
        self.what
    }

    pub(super) async fn testimony(&self, engine: &Engine, operator: &NodeId) -> Testimony {
        let script = [ETCD, COUNT].concat();
        let mut argv = vec!["sh", "-c", &script, "sh", self.text];
        argv.extend(self.keys.iter().map(String::as_str));
        match engine.exec(operator, &argv, None, LOOK).await {
            Ok(output) if output.code == 0 => self.held_against(&String::from_utf8_lossy(&output.stdout)),
            Ok(output) => (output.stderr, None),
            Err(e) => (e.to_string(), None),
        }
    }

    /// Compares the count with the number of keys: only all of them or none of them is a clear answer.
    fn held_against(&self, counted: &str) -> Testimony {
        let all = self.keys.len();
        let Ok(count) = counted.trim().parse::<usize>() else { return ("etcd does not answer".to_owned(), None) };
        let there = match count {
            0 => Some(false),
            _ if count == all => Some(true),
            _ => None,
        };
        (format!("{count} of {all} there"), there.map(|there| there == self.with_fault))
    }
}

/// Where the API server keeps an object in etcd.
fn registry(kind: &str, namespace: &impl ToString, name: &impl ToString) -> String {
    let kinds = match kind {
        "namespace" => return format!("/registry/namespaces/{}", name.to_string()),
        "service" => "services/specs".to_owned(),
        other => format!("{other}s"),
    };
    format!("/registry/{kinds}/{}/{}", namespace.to_string(), name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_what_was_to_be_deleted_is_no_effect_and_silence_is_nothing() {
        let deleted = Stored { what: "", keys: vec!["a".into(), "b".into()], text: "", with_fault: false };
        assert_eq!(deleted.held_against("0\n").1, Some(true));
        assert_eq!(deleted.held_against("1\n").1, None);
        assert_eq!(deleted.held_against("2\n").1, Some(false));
        assert_eq!(deleted.held_against("").1, None);
        let made = Stored { with_fault: true, ..deleted };
        assert_eq!((made.held_against("2").1, made.held_against("0").1), (Some(true), Some(false)));
    }

    #[test]
    fn objects_are_where_the_api_server_keeps_them() {
        assert_eq!(registry("service", &"n", &"web"), "/registry/services/specs/n/web");
        assert_eq!(registry("namespace", &"n", &"n"), "/registry/namespaces/n");
        assert_eq!(registry("deployment", &"n", &"web"), "/registry/deployments/n/web");
    }
}
