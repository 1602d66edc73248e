//! The residue audit: what differs between the cluster before the fault and after everything was put back.
//!
//! It compares two [`Census`]es and returns the [`Difference`]s. A census is taken from below (containers, addresses,
//! restart policies, firewall rules, units) and from the API (taints, leftover objects). It is a flat map, so that a
//! difference always has a name. It holds only what outlives a restart of a healthy node: no pids, no counters, no
//! rules with generated names or ports.

mod api;
mod node;

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::census::{Census, Difference};
use crate::cluster::docker::{Engine, Node, Residents};
use crate::error::Result;

/// How long a cluster may take to be as before after it was put back, no matter by whom. A node may have to boot, and
/// its kubelet to ask again.
pub(crate) const AS_BEFORE_WITHIN: Duration = Duration::from_secs(180);
/// What a control plane's etcd tells about all members: which there are, and how many of them have what data.
const MEMBERS: &str = "etcd/members";
const DATA: &str = "etcd/data";
/// How often a cluster is looked at again while it is not yet as before.
const AGAIN: Duration = Duration::from_millis(500);

/// Takes a census of a kind cluster. Without `api`, the API's objects are left out. An API that does not answer is an
/// item of its own.
///
/// # Errors
/// If the engine does not answer.
pub async fn census(engine: &Engine, cluster: &str, api: Option<&kube::Client>) -> Result<Census> {
    let look = Look { engine, cluster, api, residents: Residents::new(engine.clone()) };
    let (mut census, running) = look.outside().await?;
    census.0.append(&mut look.inside(&running).await.0);
    Ok(census)
}

/// Takes a census again and again until it is as before, for at most `within`, and returns the last differences.
///
/// A cluster that was just put back needs a while. An engine that does not answer is a difference, too. What only the
/// API knows is compared if `api` is given.
pub async fn wait_until_as(
    engine: &Engine,
    cluster: &str,
    api: Option<&kube::Client>,
    before: &Census,
    within: Duration,
) -> Vec<Difference> {
    let look = Look { engine, cluster, api, residents: Residents::new(engine.clone()) };
    let give_up = Instant::now() + within;
    loop {
        let last = Instant::now() > give_up;
        let differences = match look.differences(before, last).await {
            Ok(differences) => differences,
            Err(e) => vec![Difference { item: "engine".into(), before: None, now: Some(e.to_string()) }],
        };
        if differences.is_empty() || last {
            return differences;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Looks at a cluster, as often as needed.
struct Look<'e> {
    engine: &'e Engine,
    cluster: &'e str,
    api: Option<&'e kube::Client>,
    residents: Residents,
}

impl Look<'_> {
    /// Returns what differs from before. Looking inside nodes slows their recovery, so unless `all` is set it waits
    /// until nothing differs outside.
    async fn differences(&self, before: &Census, all: bool) -> Result<Vec<Difference>> {
        let (mut now, running) = self.outside().await?;
        let gone = Gone::of(before, &now);
        let before = gone.left_of(&comparable(before, self.api.is_some()));
        if !all {
            let mut known = before.clone();
            known.0.retain(|item, _| !is_inside(item));
            let differences = known.differences(&gone.left_of(&now));
            if !differences.is_empty() {
                return Ok(differences);
            }
        }
        now.0.append(&mut self.inside(&running).await.0);
        Ok(before.differences(&gone.left_of(&now)))
    }

    /// Returns what the engine and the API know, and the nodes that are running.
    async fn outside(&self) -> Result<(Census, Vec<Node>)> {
        let (mut census, mut running) = (Census::default(), Vec::new());
        for node in self.engine.nodes(self.cluster).await? {
            let state = self.engine.state(&node.id).await?;
            node::container(&node, &state, &mut census);
            if state.status == "running" {
                running.push(node);
            }
        }
        for (name, purpose) in self.engine.leftovers(self.cluster).await? {
            census.put(format!("leftover/container/{name}"), purpose);
        }
        if let Some(api) = self.api {
            api::objects(api, &mut census).await;
        }
        Ok((census, running))
    }

    async fn inside(&self, nodes: &[Node]) -> Census {
        let asked = nodes.iter().map(|node| node::within(&self.residents, node));
        Census(futures::future::join_all(asked).await.into_iter().flat_map(|census| census.0).collect())
    }
}

/// Can an item be known only inside a node?
fn is_inside(item: &str) -> bool {
    let of_node = item.strip_prefix("node/").and_then(|rest| rest.split_once('/'));
    of_node.is_some_and(|(_, item)| !node::is_of_container(item))
}

/// Returns the part of a census that can be compared, with the API or without it.
fn comparable(before: &Census, with_api: bool) -> Census {
    let mut known = before.clone();
    known.0.retain(|item, _| {
        let mut parts = item.split('/');
        match (parts.next(), parts.next()) {
            (Some("api"), _) | (Some("leftover"), Some("namespace" | "volume" | "webhook")) => with_api,
            _ => true,
        }
    });
    known
}

/// The nodes whose containers were removed since a census. They are nobody's residue: the one who removed them knows, and
/// nothing could bring them back. What the API still knows of them is not either.
struct Gone<'b> {
    nodes: BTreeSet<&'b str>,
    /// One of them was a member of etcd, so that what the others tell about all members has changed for good.
    member: bool,
}

impl<'b> Gone<'b> {
    fn of(before: &'b Census, now: &Census) -> Self {
        let is_gone = |node: &&str| !now.0.contains_key(&format!("node/{node}/state"));
        let had = before.0.keys().filter_map(|item| item.strip_prefix("node/")?.strip_suffix("/state"));
        let nodes: BTreeSet<&str> = had.filter(is_gone).collect();
        let member = nodes.iter().any(|node| before.0.contains_key(&format!("node/{node}/{DATA}")));
        Self { nodes, member }
    }

    fn left_of(&self, census: &Census) -> Census {
        let left = census.0.iter().filter_map(|(item, value)| {
            let of_node =
                item.strip_prefix("api/").unwrap_or(item).strip_prefix("node/").and_then(|of| of.split_once('/'));
            let value = match of_node {
                Some((node, _)) if self.nodes.contains(node) => return None,
                Some((_, MEMBERS)) if self.member => return None,
                // However many there are now, they must have the same data.
                Some((_, DATA)) if self.member => value.split_once(", ").map_or(value.as_str(), |(_, hashes)| hashes),
                _ => value,
            };
            Some((item.clone(), value.to_owned()))
        });
        Census(left.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn census(items: &[(&str, &str)]) -> Census {
        Census(items.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn without_the_api_its_items_are_left_out_and_a_removed_node_is_nobodys_residue() {
        let before = census(&[("node/a/state", "running"), ("node/b/state", "running"), ("api/node/a/ready", "True")]);
        let items = |now: &[_], with_api| -> Vec<_> {
            let now = census(now);
            let gone = Gone::of(&before, &now);
            let before = gone.left_of(&comparable(&before, with_api));
            before.differences(&gone.left_of(&now)).into_iter().map(|d| d.item).collect()
        };
        let exited = ("node/a/state", "exited");
        assert_eq!(items(&[exited], false), ["node/a/state"]);
        assert_eq!(items(&[exited], true), ["api/node/a/ready", "node/a/state"]);
        let api_of_removed = ("api/node/b/ready", "Unknown");
        assert_eq!(items(&[exited, api_of_removed], true), ["api/node/a/ready", "node/a/state"]);
        let new = ("api/node/c/ready", "True");
        assert_eq!(items(&[exited, new], true), ["api/node/a/ready", "api/node/c/ready", "node/a/state"]);
    }

    #[test]
    fn what_is_told_of_all_members_of_etcd_is_not_residue_of_one_that_was_removed() {
        let [a, b, c] = ["a", "b", "c"].map(|node| format!("node/{node}/{DATA}"));
        let (of_three, of_two) =
            ("3 of 3 members, with 1 hash and 1 leader of all", "2 of 3 members, with 1 hash and 1 leader of all");
        let running = [("node/a/state", "running"), ("node/b/state", "running")];
        let before = census(
            &[&running[..], &[("node/c/state", "running"), (&a, of_three), (&b, of_three), (&c, of_three)]].concat(),
        );
        let differences = |now: &[(&str, &str)]| {
            let now = census(now);
            let gone = Gone::of(&before, &now);
            gone.left_of(&before).differences(&gone.left_of(&now))
        };
        let listed = format!("node/a/{MEMBERS}");
        let now = [&running[..], &[(&a, of_two), (&b, of_two), (&listed, "a;b;")]].concat();
        assert_eq!(differences(&now), []);
        let apart = [&running[..], &[(&a, "2 of 2 members, with 2 hash and 1 leader of all"), (&b, of_two)]].concat();
        assert_eq!(differences(&apart).len(), 1);
        let still_there = [&now[..], &[("node/c/state", "running")]].concat();
        assert_eq!(differences(&still_there).len(), 4);
    }

    #[test]
    fn a_node_is_not_asked_for_what_its_container_tells() {
        for (item, inside) in [
            ("node/a/state", false),
            ("node/a/restart-policy", false),
            ("node/a/address/kind", false),
            ("api/node/a/ready", false),
            ("leftover/container/x", false),
            ("node/a/units", true),
            ("node/a/file/etc/kubernetes/manifests/etcd.yaml", true),
        ] {
            assert_eq!(is_inside(item), inside, "{item}");
        }
    }
}
