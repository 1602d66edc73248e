//! What one of several etcd members has stored. It is asked with etcd's own tool, without going through the API server,
//! and its disk is looked at.

use super::{LOOK, Testimony};
use crate::cluster::docker::Engine;
use crate::error::Result;
use crate::in_node::ETCD;
use crate::node::NodeId;

/// Prints the member's directory, the number of its inode, and, if etcd answers, a digest of data that every store has
/// and no two stores share.
///
/// A directory keeps its inode when it is put aside. A member that knows no other members answers, too, but with the
/// data of another store. etcd's manifest names the directory only as long as the manifest is there, so later looks are
/// given the directory.
const ASK: &str = r#"dir=${1:-$(sed -n 's/^ *- --data-dir=//p' /etc/kubernetes/manifests/etcd.yaml)/member}
echo "place $dir"
echo "disk $(stat -c %i "$dir" 2>/dev/null)"
if said=$(ask_etcd --command-timeout=2s get /registry/namespaces/kube-system --write-out=json 2>/dev/null); then
	echo "has $(echo "$said" | sed -n 's/.*"value":"\([^"]*\)".*/\1/p' | sha256sum)"
fi
"#;

/// What is seen of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// The directory that was looked at.
    place: String,
    /// The number of that directory's inode; empty if it is not there.
    disk: String,
    /// A digest of what the member says it has; `None` if it does not answer.
    has: Option<String>,
}

impl Member {
    /// Looks at a member without going through the API server, in the same directory as `before`.
    pub(super) async fn look(engine: &Engine, node: &NodeId, before: Option<&Self>) -> Result<Self> {
        let place = before.map_or("", |before| before.place.as_str());
        let output = engine.exec(node, &["sh", "-c", &[ETCD, ASK].concat(), "sh", place], None, LOOK).await?;
        let said = String::from_utf8_lossy(&output.stdout);
        let of = |what: &str| said.lines().find_map(|line| line.strip_prefix(what)).map(|rest| rest.trim().to_owned());
        Ok(Self { place: of("place").unwrap_or_default(), disk: of("disk").unwrap_or_default(), has: of("has") })
    }
}

/// Has the member lost what it had? A member that answers with what it had has not, wherever it got that from.
pub(super) fn held_against(before: &Member, now: &Member) -> Testimony {
    let (Member { disk, has: Some(had), .. }, false) = (before, before.disk.is_empty()) else {
        return ("it could not be read before".to_owned(), None);
    };
    let (seen, effect) = match &now.has {
        Some(has) if has == had => ("it has what it had", Some(false)),
        Some(_) => ("it lacks what it had", Some(true)),
        None if now.disk.is_empty() => ("it does not answer, and has nothing on the disk", Some(true)),
        None if now.disk != *disk => ("it does not answer, and has something else on the disk", Some(true)),
        None => ("it does not answer", None),
    };
    (seen.to_owned(), effect)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(disk: &str, has: Option<&str>) -> Member {
        Member { place: String::new(), disk: disk.to_owned(), has: has.map(str::to_owned) }
    }

    #[test]
    fn a_member_that_does_not_answer_has_lost_something_only_if_it_is_not_on_the_disk() {
        let before = member("1", Some("a"));
        for (now, effect) in [
            (member("1", Some("a")), Some(false)),
            // It got everything back from the others.
            (member("2", Some("a")), Some(false)),
            (member("2", Some("b")), Some(true)),
            (member("2", None), Some(true)),
            (member("", None), Some(true)),
            (member("1", None), None),
        ] {
            assert_eq!(held_against(&before, &now).1, effect, "{now:?}");
        }
        for unseen in [member("1", None), member("", Some("a"))] {
            assert_eq!(held_against(&unseen, &member("2", None)).1, None, "{unseen:?}");
        }
    }
}
