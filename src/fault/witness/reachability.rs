//! Every way between the nodes of a partition: who reaches whose kubelet, whose API server, and whose pods. It shows not only that
//! what was to be cut is cut, but that the others still reach each other. What else is cut off of the broken node itself
//! may be another fault's doing.

use std::collections::BTreeSet;
use std::fmt;

use futures::future::{join_all, try_join_all};

use super::connections::open;
use super::vantage::{API_MANIFEST, KUBELET_CONFIG, has};
use super::{API_PORT, KUBELET_PORT, LOOK, Testimony};
use crate::cluster::docker::Engine;
use crate::error::Result;
use crate::node::NodeId;
use crate::plan::PlannedFault;
use crate::scenario::{Dropped, FaultSpec};

/// The ways that a partition may close, and those that it must leave open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ways {
    nodes: Vec<End>,
    ways: Vec<Way>,
    /// Indices of the ways that the partition is to close.
    to_close: BTreeSet<usize>,
}

/// A node at the end of a way.
#[derive(Debug, Clone, PartialEq, Eq)]
struct End {
    node: NodeId,
    address: String,
    serves_api: bool,
    /// Address of a pod there that nobody evicts.
    pod: Option<String>,
}

/// From one node, by its index, to something on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    from: usize,
    to: usize,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Kubelet,
    ApiServer,
    Pod,
}

/// Prints the address of a sampler in the node, if there is one. Nothing in its pod listens, but the pod's kernel refuses
/// at once.
const SAMPLER: &str = r#"pid=$(pgrep -f '^[^ ]* agent sample ' | head -n 1)
[ -z "$pid" ] || nsenter --target "$pid" --net ip -o -4 addr show scope global | sed -n 's/.* inet \([0-9.]*\).*/\1/p' | head -n 1"#;
/// A port that is closed in a sampler's pod.
const CLOSED_PORT: u16 = 1;

impl Ways {
    /// The ways between the node that is cut off and those of its peers that nothing else breaks; `None` if the
    /// partition closes none of them.
    ///
    /// # Errors
    /// If the engine does not say where the nodes are.
    pub(super) async fn of(engine: &Engine, fault: &PlannedFault, whole: &[NodeId]) -> Result<Option<Self>> {
        let FaultSpec::Partition { drops, .. } = fault.spec else { return Ok(None) };
        let nodes = [&fault.node].into_iter().chain(whole.iter().filter(|node| **node != fault.node));
        let ends = nodes.map(async |node| -> Result<Option<End>> {
            if !has(engine, node, KUBELET_CONFIG).await {
                return Ok(None);
            }
            let Some(address) = engine.state(node).await?.addresses.into_values().next() else { return Ok(None) };
            let serves_api = has(engine, node, API_MANIFEST).await;
            let found = engine.exec(node, &["sh", "-c", SAMPLER], None, LOOK).await?;
            let pod = String::from_utf8_lossy(&found.stdout).trim().to_owned();
            Ok(Some(End { node: node.clone(), address, serves_api, pod: Some(pod).filter(|pod| !pod.is_empty()) }))
        });
        let nodes: Vec<End> = try_join_all(ends).await?.into_iter().flatten().collect();
        let is_cut_off = nodes.first().is_some_and(|first| first.node == fault.node);
        Ok(Some(Self::between(nodes, drops)).filter(|ways| is_cut_off && !ways.to_close.is_empty()))
    }

    /// The first of the nodes is the one that is cut off.
    fn between(nodes: Vec<End>, drops: Dropped) -> Self {
        let on = |to: usize| {
            let End { serves_api, pod, .. } = &nodes[to];
            let others = [serves_api.then_some(What::ApiServer), pod.as_ref().map(|_| What::Pod)];
            [What::Kubelet].into_iter().chain(others.into_iter().flatten())
        };
        let all = 0..nodes.len();
        let pairs = all.clone().flat_map(|from| all.clone().map(move |to| (from, to))).filter(|(from, to)| from != to);
        let ways: Vec<Way> = pairs.flat_map(|(from, to)| on(to).map(move |what| Way { from, to, what })).collect();
        let closes = |way: &Way| match drops {
            Dropped::Everything => way.from == 0 || way.to == 0,
            Dropped::ToApi => way.from == 0 && way.what == What::ApiServer,
            Dropped::ToKubelet => way.to == 0 && way.what == What::Kubelet && nodes[way.from].serves_api,
            Dropped::ToEtcd | Dropped::FromUsers => false,
        };
        let to_close = ways.iter().enumerate().filter(|(_, way)| closes(way)).map(|(index, _)| index).collect();
        Self { nodes, ways, to_close }
    }

    /// Goes all ways.
    pub(super) async fn testimony(&self, engine: &Engine) -> Testimony {
        let from_each = (0..self.nodes.len()).map(async |from| {
            let ours: Vec<usize> = (0..self.ways.len()).filter(|way| self.ways[*way].from == from).collect();
            let to: Vec<String> = ours.iter().map(|way| self.address(*way)).collect();
            let opened = open(engine, &self.nodes[from].node, &to).await?;
            Ok(ours
                .into_iter()
                .enumerate()
                .filter(|(nth, _)| !opened.quick.contains(nth))
                .map(|(_, way)| way)
                .collect())
        });
        match join_all(from_each).await.into_iter().collect::<Result<Vec<Vec<usize>>, String>>() {
            Ok(closed) => self.told(&closed.into_iter().flatten().collect()),
            Err(why) => (why, None),
        }
    }

    fn address(&self, way: usize) -> String {
        let Way { to, what, .. } = self.ways[way];
        let End { address, pod, .. } = &self.nodes[to];
        match what {
            What::Kubelet => format!("{address}/{KUBELET_PORT}"),
            What::ApiServer => format!("{address}/{API_PORT}"),
            What::Pod => format!("{}/{CLOSED_PORT}", pod.as_ref().unwrap_or(address)),
        }
    }

    /// Is it a way between nodes that are not cut off?
    fn goes_past(&self, way: usize) -> bool {
        let Way { from, to, .. } = self.ways[way];
        from != 0 && to != 0
    }

    fn told(&self, closed: &BTreeSet<usize>) -> Testimony {
        let all = self.ways.len();
        let ours = |way: &&usize| self.to_close.contains(way) || self.goes_past(**way);
        let closed = &closed.iter().filter(ours).copied().collect::<BTreeSet<usize>>();
        if closed.is_empty() {
            return ("every way that should be open is, and so is what should be closed".to_owned(), Some(false));
        }
        let named = |ways: &mut dyn Iterator<Item = &usize>| {
            ways.map(|way| self.name(*way).to_string()).collect::<Vec<_>>().join(", ")
        };
        let shut = format!("{} of {all} ways are closed", closed.len());
        if *closed == self.to_close {
            return (format!("{shut}, as they should be: {}", named(&mut closed.iter())), Some(true));
        }
        let (more, less) =
            (named(&mut closed.difference(&self.to_close)), named(&mut self.to_close.difference(closed)));
        let told = [("which should be open", more), ("and open is what should be closed", less)];
        let told =
            told.into_iter().filter(|(_, ways)| !ways.is_empty()).map(|(what, ways)| format!(", {what}: {ways}"));
        (told.fold(shut, |shut, more| shut + &more), None)
    }

    fn name(&self, way: usize) -> impl fmt::Display {
        let Way { from, to, what } = self.ways[way];
        let what = match what {
            What::Kubelet => "kubelet of",
            What::ApiServer => "API server of",
            What::Pod => "pod on",
        };
        format!("{} → {what} {}", self.nodes[from].node.name, self.nodes[to].node.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker that is cut off, a control plane and another worker. A pod is known of two of them.
    fn ways(drops: Dropped) -> Ways {
        let end = |name: &str, serves_api, pod: &str| End {
            node: NodeId { id: format!("{name}-id"), name: name.into() },
            address: format!("{name}-address"),
            serves_api,
            pod: Some(pod.to_owned()).filter(|pod| !pod.is_empty()),
        };
        Ways::between(vec![end("far", false, "1.2.3.4"), end("plane", true, ""), end("other", false, "5.6.7.8")], drops)
    }

    fn to_close(drops: Dropped) -> Vec<String> {
        let ways = ways(drops);
        ways.to_close.iter().map(|way| ways.name(*way).to_string()).collect()
    }

    #[test]
    fn each_partition_closes_its_own_ways() {
        assert_eq!(ways(Dropped::Everything).ways.len(), 12);
        assert_eq!(
            to_close(Dropped::Everything),
            [
                "far → kubelet of plane",
                "far → API server of plane",
                "far → kubelet of other",
                "far → pod on other",
                "plane → kubelet of far",
                "plane → pod on far",
                "other → kubelet of far",
                "other → pod on far"
            ]
        );
        assert_eq!(to_close(Dropped::ToApi), ["far → API server of plane"]);
        assert_eq!(to_close(Dropped::ToKubelet), ["plane → kubelet of far"]);
        assert_eq!(to_close(Dropped::FromUsers), [""; 0]);
    }

    #[test]
    fn only_what_was_to_be_closed_and_all_of_it_is_the_effect() {
        let ways = ways(Dropped::ToKubelet);
        let wanted = ways.to_close.clone();
        assert_eq!(ways.told(&BTreeSet::new()).1, Some(false));
        let closed = "1 of 12 ways are closed, as they should be: plane → kubelet of far";
        assert_eq!(ways.told(&wanted), (closed.into(), Some(true)));
        let with = |others: &[usize]| wanted.iter().chain(others).copied().collect::<BTreeSet<usize>>();
        // Another fault may have cut off the same node from something else.
        let [its_own, past] = [(0, 1), (1, 2)].map(|(from, to)| {
            let is = |way: &Way| (way.from, way.to, way.what) == (from, to, What::Kubelet);
            ways.ways.iter().position(is).unwrap()
        });
        assert_eq!(ways.told(&with(&[its_own])).1, Some(true));
        let closed = "2 of 12 ways are closed, which should be open: plane → kubelet of other";
        assert_eq!(ways.told(&with(&[past])), (closed.into(), None));
        let other = "1 of 12 ways are closed, which should be open: plane → kubelet of other, and open is what should be \
                     closed: plane → kubelet of far";
        assert_eq!(ways.told(&BTreeSet::from([past])), (other.into(), None));
    }
}
