//! What is believed: nodes, pods, endpoints and Leases as the API reports them, listed afresh each time and never from
//! a watch or a cache.
//!
//! All values of one look come from the same lists. An API that does not answer says nothing about what is believed, so
//! its errors are `Unknown` here (they are evidence for the `api` probe). Each look also asks for a pod that does not
//! exist.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Node, NodeCondition, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::{Pace, Source, Taken, blind};
use crate::cluster::leader_lease;
use crate::component::Leader;
use crate::plan::Plan;
use crate::sample::{Outcome, Value};
use crate::scenario::{PodState, ProbeSpec};
use crate::workload::WORKLOAD;

const SERVICE: &str = "kubernetes.io/service-name";
pub(super) const ABSENT: &str = "kchaos-canary-absent";

/// Lists at its pace, forever.
pub(super) async fn poll(plan: Arc<Plan>, probes: Vec<usize>, pace: Pace, client: Client, source: Source) {
    let (probes, first) = (Arc::new(probes), Arc::new(OnceLock::new()));
    super::poll(pace, source, &Arc::clone(&probes), move |slot| {
        let (plan, probes, client, first) =
            (Arc::clone(&plan), Arc::clone(&probes), client.clone(), Arc::clone(&first));
        async move {
            let look = tokio::time::timeout(pace.timeout, Belief::ask(&client, &plan.namespace));
            let (taken, seen) = Taken::take(&slot, look).await;
            let seen = seen.unwrap_or_else(|_| Err(Outcome::Unknown("the API did not answer in time".into())));
            let outcome = |probe: usize| match &seen {
                Ok(belief) => belief.of(&plan.probes[probe].spec, &plan, &first),
                Err(nothing) => nothing.clone(),
            };
            probes.iter().map(|&probe| (probe, taken, outcome(probe))).collect()
        }
    })
    .await;
}

/// When each node became Ready, or ceased to be.
type Changes = BTreeMap<String, Time>;

/// What the API reports, at one moment.
#[derive(Debug, Default)]
struct Belief {
    nodes: Vec<Node>,
    pods: Vec<Pod>,
    slices: Vec<EndpointSlice>,
    leases: Vec<Lease>,
}

impl Belief {
    /// Asks without a resource version, so that no answer is older than the question.
    async fn ask(client: &Client, namespace: &str) -> Result<Self, Outcome> {
        let all = ListParams::default();
        let nodes = Api::<Node>::all(client.clone());
        let pods = Api::<Pod>::namespaced(client.clone(), namespace);
        let slices = Api::<EndpointSlice>::namespaced(client.clone(), namespace);
        let leases = Api::<Lease>::namespaced(client.clone(), leader_lease::NAMESPACE);
        let (nodes, listed, slices, leases, canary) =
            tokio::join!(nodes.list(&all), pods.list(&all), slices.list(&all), leases.list(&all), pods.get_opt(ABSENT));
        let unknown = |e: kube::Error| Outcome::Unknown(format!("the API: {e}"));
        if canary.map_err(unknown)?.is_some() {
            return Err(blind("the API knows a pod that does not exist"));
        }
        Ok(Self {
            nodes: nodes.map_err(unknown)?.items,
            pods: listed.map_err(unknown)?.items,
            slices: slices.map_err(unknown)?.items,
            leases: leases.map_err(unknown)?.items,
        })
    }

    /// `first` is when each node became Ready, as the first look at which all were has it.
    fn of(&self, spec: &ProbeSpec, plan: &Plan, first: &OnceLock<Changes>) -> Outcome {
        let named = |target: &String| plan.targets.get(target).map(|n| n.name.as_str());
        let value = match spec {
            ProbeSpec::NodeReady(target) => named(target).map(|n| Value::Text(self.ready(n))),
            ProbeSpec::NodeTaints(target) => named(target).map(|n| Value::Set(self.taints(n))),
            ProbeSpec::NodesMissed { not_reporting_to } => {
                let plane = plan.targets.get(not_reporting_to);
                plane.map(|plane| Value::Count(self.missed(plan.kubelets_elsewhere_than(plane), first)))
            }
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
            // That nobody leads does not mean that another instance does.
            ProbeSpec::Leader(leader) => {
                let Some(node) = self.leader(*leader) else { return Outcome::Unknown("nobody leads".into()) };
                Some(Value::Text(node))
            }
            ProbeSpec::Restarts { of } => Some(Value::Count(self.restarts(of))),
            ProbeSpec::Endpoints { of, on } => match on.as_ref().map(|t| named(t).ok_or(())).transpose() {
                Ok(on) => Some(Value::Count(self.endpoints(of, on))),
                Err(()) => None,
            },
            ProbeSpec::NodeState(_)
            | ProbeSpec::NodeProcesses(_)
            | ProbeSpec::ComponentProcesses { .. }
            | ProbeSpec::ComponentIdentities { .. }
            | ProbeSpec::KubeletAnswers(_)
            | ProbeSpec::ApiAnswers(_)
            | ProbeSpec::KubeletComplaints(_)
            | ProbeSpec::Containers { .. }
            | ProbeSpec::ContainerIdentities { .. }
            | ProbeSpec::Requests { .. }
            | ProbeSpec::PodRequests { .. }
            | ProbeSpec::Token { .. }
            | ProbeSpec::Log { .. }
            | ProbeSpec::Exec { .. }
            | ProbeSpec::Reach(_)
            | ProbeSpec::Api(_)
            | ProbeSpec::ApiOf { .. }
            | ProbeSpec::Writes(_)
            | ProbeSpec::StaleWrites { .. } => None,
        };
        value.map_or_else(|| Outcome::Unknown("the probe names no target of the plan".into()), Outcome::Saw)
    }

    fn leader(&self, of: Leader) -> Option<String> {
        self.leases.iter().find(|l| l.name_any() == of.name())?.spec.as_ref().and_then(leader_lease::holder)
    }

    fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|n| n.metadata.name.as_deref() == Some(name))
    }

    fn ready(&self, node: &str) -> String {
        self.node(node).and_then(ready).map_or_else(|| "absent".to_owned(), |c| c.status.clone())
    }

    /// How many of these nodes are not Ready, or were not since the first look.
    fn missed<'n>(&self, nodes: impl Iterator<Item = &'n str>, first: &OnceLock<Changes>) -> u64 {
        let now = self.changes();
        // Before all nodes are Ready, there is nothing to compare with.
        let first = if self.all_ready() { first.get_or_init(|| now.clone()) } else { first.get().unwrap_or(&now) };
        nodes.filter(|node| self.ready(node) != "True" || now.get(*node) != first.get(*node)).count() as u64
    }

    fn all_ready(&self) -> bool {
        !self.nodes.is_empty() && self.nodes.iter().all(|node| ready(node).is_some_and(|is| is.status == "True"))
    }

    fn changes(&self) -> Changes {
        let change = |node: &Node| Some((node.name_any(), ready(node)?.last_transition_time.clone()?));
        self.nodes.iter().filter_map(change).collect()
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
            // A pod that has not been placed is on no node, and therefore off every node.
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

/// The node's condition that says whether it is Ready.
fn ready(node: &Node) -> Option<&NodeCondition> {
    node.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == "Ready")
}

fn is(pod: &Pod, that: PodState) -> bool {
    let status = pod.status.as_ref();
    let terminating = pod.metadata.deletion_timestamp.is_some();
    match that {
        PodState::Existing => true,
        PodState::Terminating => terminating,
        PodState::Live => !terminating,
        PodState::Ended => matches!(status.and_then(|s| s.phase.as_deref()), Some("Failed" | "Succeeded")),
        PodState::Unstarted => !status.iter().flat_map(|s| s.container_statuses.iter().flatten()).any(has_started),
        PodState::Ready => {
            let mut conditions = status.iter().flat_map(|s| s.conditions.iter().flatten());
            !terminating && conditions.any(|c| c.type_ == "Ready" && c.status == "True")
        }
    }
}

/// Whether the container has ever run.
fn has_started(container: &ContainerStatus) -> bool {
    let runs_or_ran = |state: &ContainerState| state.running.is_some() || state.terminated.is_some();
    container.started == Some(true) || container.restart_count > 0 || container.state.as_ref().is_some_and(runs_or_ran)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn pod(name: &str, node: &str, ready: &str, more: Json) -> Pod {
        let mut pod = json!({
            "metadata": {"name": name, "uid": format!("u-{name}"), "labels": {WORKLOAD: "web"}},
            "spec": {"nodeName": node, "containers": []},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}],
                       "containerStatuses": [{"name": "app", "image": "", "imageID": "", "ready": true, "restartCount": 2}]},
        });
        merge(&mut pod, more);
        serde_json::from_value(pod).unwrap()
    }

    fn merge(into: &mut Json, more: Json) {
        match (into, more) {
            (Json::Object(into), Json::Object(more)) => {
                for (key, value) in more {
                    merge(into.entry(key).or_insert(Json::Null), value);
                }
            }
            (into, more) => *into = more,
        }
    }

    fn belief() -> Belief {
        let deleted = json!({"metadata": {"deletionTimestamp": "2026-11-24T10:00:00Z"}});
        let endpoint = |address: &str, node: &str, ready: Json| json!({"addresses": [address], "nodeName": node, "conditions": {"ready": ready}});
        let slice = |service: &str, endpoints: Json| {
            let slice = json!({"metadata": {"name": "s", "labels": {SERVICE: service}}, "addressType": "IPv4", "endpoints": endpoints});
            serde_json::from_value(slice).unwrap()
        };
        Belief {
            nodes: serde_json::from_value(json!([
                {
                    "metadata": {"name": "w1"},
                    "spec": {"taints": [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]},
                    "status": {"conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "Unknown"}]},
                },
                {
                    "metadata": {"name": "w2"},
                    "status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-24T10:00:00Z"}]},
                },
            ]))
            .unwrap(),
            pods: vec![
                pod("a", "w1", "True", deleted),
                pod("b", "w2", "True", json!({})),
                pod("c", "w2", "False", json!({})),
                pod("d", "w1", "False", json!({"status": {"phase": "Failed"}})),
                pod("e", "w2", "True", json!({"metadata": {"labels": {WORKLOAD: "other"}}})),
                pod("f", "w2", "False", json!({"spec": {"nodeName": null}})),
            ],
            leases: vec![serde_json::from_value(json!({
                "metadata": {"name": "kube-scheduler"}, "spec": {"holderIdentity": "plane_2_5a-b"},
            }))
            .unwrap()],
            slices: vec![
                slice("web", json!([endpoint("1", "w1", json!(true)), endpoint("2", "w2", json!(true)), endpoint("3", "w2", json!(false))])),
                // A momentary copy of an endpoint, and an endpoint that leaves out its readiness.
                slice("web", json!([endpoint("2", "w2", json!(true)), endpoint("4", "w2", Json::Null)])),
                slice("other", json!([endpoint("5", "w2", json!(true))])),
            ],
        }
    }

    #[test]
    fn pods_are_counted_by_state_and_place() {
        let belief = belief();
        let count = |that, on, off| belief.pods("web", that, on, off);
        assert_eq!(count(PodState::Existing, None, None), 5);
        assert_eq!(count(PodState::Ready, None, None), 1);
        assert_eq!(count(PodState::Terminating, Some("w1"), None), 1);
        assert_eq!(count(PodState::Terminating, None, Some("w1")), 0);
        assert_eq!(count(PodState::Live, None, None), 4);
        assert_eq!(count(PodState::Ended, None, None), 1);
        assert_eq!(count(PodState::Existing, Some("w2"), None), 2);
        // The pod that is on no node is off every node.
        assert_eq!(count(PodState::Existing, None, Some("w1")), 3);
        assert_eq!(belief.restarts("web"), 10);
        assert_eq!(belief.pods("nobody", PodState::Existing, None, None), 0);
    }

    #[test]
    fn a_leader_is_the_node_in_its_identity_and_who_has_no_lease_leads_nowhere() {
        assert_eq!(belief().leader(Leader::KubeScheduler).as_deref(), Some("plane_2"));
        assert_eq!(belief().leader(Leader::KubeControllerManager), None);
    }

    #[test]
    fn a_pod_is_unstarted_until_a_container_of_it_has_run() {
        let with = |containers: Json| {
            let pod = pod("p", "w1", "False", json!({"status": {"containerStatuses": containers}}));
            is(&pod, PodState::Unstarted)
        };
        let container = |more: Json| {
            let mut status = json!({"name": "web", "image": "", "imageID": "", "ready": false, "restartCount": 0});
            merge(&mut status, more);
            status
        };
        let waiting = json!({"started": false, "state": {"waiting": {"reason": "ContainerCreating"}}});
        assert!(with(Json::Null), "bound, and no kubelet has taken it up");
        assert!(with(json!([container(json!({}))])));
        assert!(with(json!([container(waiting.clone())])));
        for started in [
            json!({"started": true}),
            json!({"state": {"running": {}}}),
            json!({"state": {"terminated": {"exitCode": 0}}}),
            json!({"restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}),
        ] {
            assert!(!with(json!([container(waiting.clone()), container(started.clone())])), "{started}");
        }
        assert_eq!(belief().pods("web", PodState::Unstarted, None, None), 0);
    }

    #[test]
    fn an_endpoint_is_counted_once_and_only_while_it_is_ready() {
        let belief = belief();
        assert_eq!(belief.endpoints("web", None), 3);
        assert_eq!(belief.endpoints("web", Some("w1")), 1);
        assert_eq!(belief.endpoints("web", Some("w2")), 2);
        assert_eq!(belief.endpoints("nobody", None), 0);
    }

    #[test]
    fn a_node_is_as_its_condition_says_or_absent() {
        let belief = belief();
        assert_eq!(belief.ready("w1"), "Unknown");
        assert_eq!(belief.ready("w9"), "absent");
        assert_eq!(belief.taints("w1"), ["node.kubernetes.io/unreachable:NoExecute".to_owned()].into());
        assert!(belief.taints("w9").is_empty());
        let missed = |node, first: &Changes| belief.missed([node].into_iter(), &OnceLock::from(first.clone()));
        assert_eq!(["w1", "w2", "w9"].map(|node| missed(node, &belief.changes())), [1, 0, 1]);
        // It is Ready, and was not for a while.
        let earlier = [("w2".to_owned(), Time("2026-11-24T09:00:00Z".parse().unwrap()))].into();
        assert_eq!(missed("w2", &earlier), 1);
    }
}
