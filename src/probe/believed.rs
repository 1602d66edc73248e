//! What is believed: nodes, pods and endpoints as the API tells them, listed afresh each time and never from a watch or a cache.
//!
//! All values of one look come from the same lists. An API that does not answer says nothing about what is believed, so its errors are
//! `Unknown` here (they are evidence for the `api` probe). Each look also asks for a pod that does not exist.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::slots::Slots;
use super::{Pace, Source, Taken, blind};
use crate::clock::Mono;
use crate::event::{Outcome, Value};
use crate::plan::Plan;
use crate::scenario::{PodState, ProbeSpec};
use crate::workload::WORKLOAD;

const SERVICE: &str = "kubernetes.io/service-name";
pub(super) const ABSENT: &str = "kchaos-canary-absent";

/// Lists, at its pace, for ever.
pub(super) async fn poll(plan: Arc<Plan>, probes: Vec<usize>, pace: Pace, client: Client, source: Source) {
    let mut slots = Slots::new(Mono::now(), pace.interval);
    let probes = Arc::new(probes);
    loop {
        let slot = slots.next().await;
        let (plan, probes, client, source) = (Arc::clone(&plan), Arc::clone(&probes), client.clone(), source.clone());
        tokio::spawn(async move {
            let look = tokio::time::timeout(pace.timeout, Belief::ask(&client, &plan.namespace));
            let (taken, seen) = Taken::take(&slot, look).await;
            let seen = seen.unwrap_or_else(|_| Err(Outcome::Unknown("the API did not answer in time".into())));
            for &probe in probes.iter() {
                let outcome = match &seen {
                    Ok(belief) => belief.of(&plan.probes[probe].spec, &plan),
                    Err(nothing) => nothing.clone(),
                };
                source.send(&taken, pace.timeout, probe, "", outcome).await;
            }
        });
    }
}

/// What the API says, at one moment.
#[derive(Debug, Default)]
struct Belief {
    nodes: Vec<Node>,
    pods: Vec<Pod>,
    slices: Vec<EndpointSlice>,
}

impl Belief {
    /// Without a resource version, so that no answer is older than the question.
    async fn ask(client: &Client, namespace: &str) -> Result<Self, Outcome> {
        let all = ListParams::default();
        let nodes = Api::<Node>::all(client.clone());
        let pods = Api::<Pod>::namespaced(client.clone(), namespace);
        let slices = Api::<EndpointSlice>::namespaced(client.clone(), namespace);
        let (nodes, listed, slices, canary) =
            tokio::join!(nodes.list(&all), pods.list(&all), slices.list(&all), pods.get_opt(ABSENT));
        let unknown = |e: kube::Error| Outcome::Unknown(format!("the API: {e}"));
        if canary.map_err(unknown)?.is_some() {
            return Err(blind("the API knows a pod that does not exist"));
        }
        Ok(Self {
            nodes: nodes.map_err(unknown)?.items,
            pods: listed.map_err(unknown)?.items,
            slices: slices.map_err(unknown)?.items,
        })
    }

    fn of(&self, spec: &ProbeSpec, plan: &Plan) -> Outcome {
        let named = |target: &String| plan.targets.get(target).map(|n| n.name.as_str());
        let value = match spec {
            ProbeSpec::NodeReady(target) => named(target).map(|n| Value::Text(self.ready(n))),
            ProbeSpec::NodeTaints(target) => named(target).map(|n| Value::Set(self.taints(n))),
            ProbeSpec::Pods { of, that, on, off } => {
                let place = |target: &Option<String>| target.as_ref().map(|t| named(t).ok_or(())).transpose();
                match (place(on), place(off)) {
                    (Ok(on), Ok(off)) => Some(Value::Count(self.pods(of, *that, on, off))),
                    _ => None,
                }
            }
            ProbeSpec::PodIdentities { of } => {
                let identity = |p: &Pod| format!("{}/{}", p.name_any(), p.uid().unwrap_or_default());
                Some(Value::Set(self.pods_of(of).map(identity).collect()))
            }
            ProbeSpec::Restarts { of } => Some(Value::Count(self.restarts(of))),
            ProbeSpec::Endpoints { of, on } => match on.as_ref().map(|t| named(t).ok_or(())).transpose() {
                Ok(on) => Some(Value::Count(self.endpoints(of, on))),
                Err(()) => None,
            },
            ProbeSpec::NodeState(_)
            | ProbeSpec::NodeProcesses(_)
            | ProbeSpec::KubeletAnswers(_)
            | ProbeSpec::Requests { .. }
            | ProbeSpec::PodRequests { .. }
            | ProbeSpec::Token { .. }
            | ProbeSpec::Api(_) => None,
        };
        value.map_or_else(|| Outcome::Unknown("the probe names no target of the plan".into()), Outcome::Saw)
    }

    fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|n| n.metadata.name.as_deref() == Some(name))
    }

    fn ready(&self, node: &str) -> String {
        let mut conditions =
            self.node(node).and_then(|n| n.status.as_ref()).into_iter().flat_map(|s| s.conditions.iter().flatten());
        conditions.find(|c| c.type_ == "Ready").map_or_else(|| "absent".to_owned(), |c| c.status.clone())
    }

    fn taints(&self, node: &str) -> BTreeSet<String> {
        let taints = self.node(node).and_then(|n| n.spec.as_ref()).into_iter().flat_map(|s| s.taints.iter().flatten());
        taints.map(|t| format!("{}:{}", t.key, t.effect)).collect()
    }

    fn pods_of<'a>(&'a self, workload: &'a str) -> impl Iterator<Item = &'a Pod> {
        self.pods.iter().filter(move |p| p.labels().get(WORKLOAD).is_some_and(|w| w == workload))
    }

    fn pods(&self, workload: &str, that: PodState, on: Option<&str>, off: Option<&str>) -> u64 {
        let counted = self.pods_of(workload).filter(|pod| {
            // A pod that has not been placed is on no node, and so is off every one.
            let node = pod.spec.as_ref().and_then(|s| s.node_name.as_deref());
            let placed = on.is_none_or(|on| node == Some(on)) && off.is_none_or(|off| node != Some(off));
            placed && is(pod, that)
        });
        counted.count() as u64
    }

    fn restarts(&self, workload: &str) -> u64 {
        let status = |p: &Pod| p.status.as_ref()?.container_statuses.clone();
        let counts =
            self.pods_of(workload).filter_map(status).flatten().map(|c| u64::try_from(c.restart_count).unwrap_or(0));
        counts.sum()
    }

    fn endpoints(&self, workload: &str, on: Option<&str>) -> u64 {
        let slices = self.slices.iter().filter(|s| s.labels().get(SERVICE).is_some_and(|name| name == workload));
        // The same endpoint may be in two slices for a moment.
        let ready: BTreeSet<&String> = slices
            .flat_map(|s| &s.endpoints)
            .filter(|e| e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true))
            .filter(|e| on.is_none_or(|on| e.node_name.as_deref() == Some(on)))
            .filter_map(|e| e.addresses.first())
            .collect();
        ready.len() as u64
    }
}

fn is(pod: &Pod, that: PodState) -> bool {
    let status = pod.status.as_ref();
    let terminating = pod.metadata.deletion_timestamp.is_some();
    match that {
        PodState::Existing => true,
        PodState::Terminating => terminating,
        PodState::Live => !terminating,
        PodState::Ended => matches!(status.and_then(|s| s.phase.as_deref()), Some("Failed" | "Succeeded")),
        PodState::Ready => {
            let mut conditions = status.iter().flat_map(|s| s.conditions.iter().flatten());
            !terminating && conditions.any(|c| c.type_ == "Ready" && c.status == "True")
        }
    }
}
