//! What etcd has stored. It is asked with etcd's own tool, without going through the API server; if it does not answer,
//! its disk is looked at.

use super::{LOOK, Testimony};
use crate::cluster::docker::Engine;
use crate::error::Result;
use crate::in_node::ETCD;
use crate::node::NodeId;
use crate::scenario::StoreLeft;

/// Prints `has DIGEST` of the namespace kube-system as etcd holds it, whether it is encrypted or missing. Every store
/// has this namespace and no two stores share it, since it has a uid.
///
/// If etcd does not answer, prints `garbage` if the database that etcd would read has no header on either of the two
/// pages that may hold it.
const ASK: &str = r#"if said=$(ask_etcd --command-timeout=2s get /registry/namespaces/kube-system --write-out=json 2>/dev/null); then
	echo "has $(echo "$said" | sed -n 's/.*"value":"\([^"]*\)".*/\1/p' | sha256sum)"
	exit
fi
db=$(sed -n 's/^ *- --data-dir=//p' /etc/kubernetes/manifests/etcd.yaml)/member/snap/db
magic() { od -An -tx4 -j"$1" -N4 "$db" | tr -d ' '; }
[ ! -e "$db" ] || [ "$(magic 16)" = ed0cdaed ] || [ "$(magic 4112)" = ed0cdaed ] || echo garbage
"#;

/// What is seen of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Store {
    /// What distinguishes the store from any other.
    Has(String),
    /// etcd does not answer and could not: its database has no header.
    Garbage,
    /// etcd does not answer.
    Silent,
}

impl Store {
    /// Looks at a store without going through the API server.
    pub(super) async fn look(engine: &Engine, node: &NodeId) -> Result<Self> {
        let output = engine.exec(node, &["sh", "-c", &[ETCD, ASK].concat()], None, LOOK).await?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(match said.as_str() {
            "garbage" => Self::Garbage,
            _ if said.starts_with("has ") => Self::Has(said),
            _ => Self::Silent,
        })
    }
}

/// Is this what the fault leaves of a lost store?
pub(super) fn held_against(before: &Store, now: &Store, left: StoreLeft) -> Testimony {
    let (seen, effect) = match (before, now) {
        (Store::Garbage | Store::Silent, _) => ("it could not be read before", None),
        (_, Store::Silent) => ("etcd does not answer", None),
        (_, Store::Garbage) => ("etcd does not answer, and its database has no header", Some(StoreLeft::Garbage)),
        (before, now) if before == now => return ("it has what it had".to_owned(), Some(false)),
        (_, Store::Has(_)) => ("it lacks what it had", Some(StoreLeft::Nothing)),
    };
    (seen.to_owned(), effect.filter(|seen| *seen == left).map(|_| true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etcd_that_does_not_answer_yet_has_lost_nothing_as_far_as_is_known() {
        let (had, other) = (Store::Has("has 1".into()), Store::Has("has 2".into()));
        for (now, nothing, garbage) in [
            (&had, Some(false), Some(false)),
            (&other, Some(true), None),
            (&Store::Garbage, None, Some(true)),
            (&Store::Silent, None, None),
        ] {
            assert_eq!(held_against(&had, now, StoreLeft::Nothing).1, nothing, "{now:?}");
            assert_eq!(held_against(&had, now, StoreLeft::Garbage).1, garbage, "{now:?}");
        }
        assert_eq!(held_against(&Store::Silent, &other, StoreLeft::Nothing).1, None);
    }
}
