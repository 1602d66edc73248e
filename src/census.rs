//! The state of a cluster at one time, in items that can be compared: taken before a fault and after everything was put
//! back, by [`crate::residue`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::component::Leader;

/// Everything the audit compares, as `kind/owner/item` → value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Census(pub BTreeMap<String, String>);

/// One item that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Name of the item, as in [`Census`].
    pub item: String,
    /// Value before the fault; `None` if it was absent.
    pub before: Option<String>,
    /// Value now; `None` if it is absent.
    pub now: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.before, &self.now) {
            (Some(before), Some(now)) => write!(f, "{}: {now}, was {before}", self.item),
            (Some(before), None) => write!(f, "{}: gone, was {before}", self.item),
            (None, Some(now)) => write!(f, "{}: {now}, was not there", self.item),
            (None, None) => f.write_str(&self.item),
        }
    }
}

impl Census {
    /// Returns the items that are not the same in `now`, sorted by name.
    pub fn differences(&self, now: &Self) -> Vec<Difference> {
        let items: BTreeSet<_> = self.0.keys().chain(now.0.keys()).collect();
        let compared = items.into_iter().map(|item| Difference {
            item: item.clone(),
            before: self.0.get(item).cloned(),
            now: now.0.get(item).cloned(),
        });
        compared.filter(|d| d.before != d.now).collect()
    }

    /// Returns what is not in order, in words, if the API was asked: a node that is not Ready, a control-plane component
    /// that nobody leads, or what another run has put in. On such a cluster, no claim about Kubernetes' reactions can be
    /// proved, and what is put in order meanwhile would look like residue.
    pub fn not_in_order(&self) -> Option<String> {
        let asked = self.0.keys().any(|item| item.starts_with("api/node/"));
        let led = |name: &str| self.0.contains_key(&format!("api/leader/{name}"));
        let idle = Leader::ALL.map(Leader::name).into_iter().find(|name| asked && !led(name));
        let unready = self.0.iter().find_map(|(item, value)| {
            let (node, what) = item.strip_prefix("api/node/")?.split_once('/')?;
            let tainted = ["taint/node.kubernetes.io/not-ready:", "taint/node.kubernetes.io/unreachable:"];
            let unready = (what == "ready" && value != "True") || tainted.iter().any(|taint| what.starts_with(taint));
            unready.then(|| format!("node {node} is not Ready"))
        });
        let others = || {
            let mut items = self.0.iter();
            let (namespace, phase) =
                items.find_map(|(item, phase)| Some((item.strip_prefix("leftover/namespace/")?, phase)))?;
            let is =
                if phase == "Terminating" { "is being removed" } else { "is there: that run goes on, or has left it" };
            Some(format!("namespace {namespace} of another run {is}"))
        };
        unready.or_else(|| idle.map(|name| format!("no {name} leads"))).or_else(others)
    }

    pub(crate) fn put(&mut self, item: String, value: impl Into<String>) {
        self.0.insert(item, value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn census(items: &[(&str, &str)]) -> Census {
        Census(items.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn a_changed_a_lost_and_a_new_item_are_each_named() {
        let before = census(&[("a", "1"), ("b", "2"), ("c", "3")]);
        let now = census(&[("a", "1"), ("b", "9"), ("d", "4")]);
        let found: Vec<_> = before
            .differences(&now)
            .into_iter()
            .map(|d| (d.item, d.before.unwrap_or_default(), d.now.unwrap_or_default()))
            .collect();
        let expected = [("b", "2", "9"), ("c", "3", ""), ("d", "", "4")];
        assert_eq!(found, expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())));
        assert!(before.differences(&before).is_empty());
    }

    #[test]
    fn a_cluster_is_in_order_once_its_nodes_are_ready_and_its_components_led() {
        let (manager, scheduler) = ("api/leader/kube-controller-manager", "api/leader/kube-scheduler");
        let order = |more: &[(&str, &str)]| {
            census(&[&[("node/a/state", "running"), (manager, "a")], more].concat()).not_in_order()
        };
        let led = (scheduler, "a");
        assert_eq!(order(&[("api/node/a/ready", "True"), led]), None);
        assert_eq!(order(&[("api/node/a/ready", "True")]), Some("no kube-scheduler leads".into()));
        for unready in [("api/node/b/ready", "False"), ("api/node/b/taint/node.kubernetes.io/not-ready:NoSchedule", "")]
        {
            assert_eq!(order(&[("api/node/a/ready", "True"), unready, led]), Some("node b is not Ready".into()));
        }
        let of_another_run = ("leftover/namespace/kchaos-a", "Active");
        let told = order(&[("api/node/a/ready", "True"), led, of_another_run]).unwrap();
        assert!(told.starts_with("namespace kchaos-a of another run is there"), "{told}");
        let of_the_user = ("api/node/a/taint/mine:NoSchedule", "");
        assert_eq!(order(&[("api/node/a/ready", "True"), of_the_user, led]), None);
        assert_eq!(order(&[]), None, "the API was not asked");
    }
}
