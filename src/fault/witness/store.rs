//! What etcd has stored, asked past the API server with etcd's own tool, and if it does not answer, looked at on the disk.

use super::{LOOK, Testimony};
use crate::cluster::docker::{Engine, NodeId};
use crate::error::Result;
use crate::in_node::ETCD;
use crate::scenario::StoreLeft;

/// What etcd says of the namespace that every store has and none has in common with another, since it has a uid: `has DIGEST`, whether it is encrypted
/// or missing. If etcd says nothing: `garbage` if what it would read has no header, on neither of the two pages that may hold it.
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
    /// What tells it from any other.
    Has(String),
    /// etcd does not answer, and would not.
    Garbage,
    /// etcd does not answer.
    Silent,
}

impl Store {
    /// Looks past the API server.
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

/// Is that what is left of a store that was lost?
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
