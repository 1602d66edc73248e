//! Sampler pods: one on each observer, sampling Services and pods of the workloads from there.
//!
//! Their targets are on their command line, as addresses unless a probe is about names, so they go on without
//! instructions, and without the API, DNS or anything else that may be broken. They are placed by hand, tolerate
//! everything, and are never restarted: a series that starts anew would hide a gap.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{
    EnvVar, EnvVarSource, Node, ObjectFieldSelector, Pod, PodDNSConfig, PodDNSConfigOption, Service, Toleration,
};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use tokio::time::timeout;

use super::manifest::{PORT, WORKLOAD, container, meta_in, pod_spec};
use super::{failed, processor_share, ready};
use crate::agent::sampler::{Peer, Target};
use crate::cluster::Cluster;
use crate::cluster::agent_image::ImageRef;
use crate::error::{Error, Result};
use crate::node::NodeId;
use crate::plan::Plan;
use crate::sample::{Failure, Outcome, Value};
use crate::scenario::{Address, MAX_NAME, ProbeSource, ProbeSpec, ServiceRequest, Way};

/// How long looking for the user's own Services may take.
const LOOK: Duration = Duration::from_secs(10);
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Longer than any workload's name, so that nobody takes this container for a workload's, which has the workload's
/// name.
const CONTAINER: &str = "sampler-no-workload-can-have-so-long-a-name";
const _: () = assert!(CONTAINER.len() > MAX_NAME);
/// In a node, nothing listens on tcpmux's port; the sampler takes the refusal as proof that it can reach something.
const CLOSED_PORT: u16 = 1;

/// A sampler pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampler {
    /// The node on which it runs.
    pub node: NodeId,
    /// Path of its output in the node.
    pub log: String,
    /// What it samples, in the order in which its output numbers them.
    pub watches: Vec<Watched>,
}

/// One series that a sampler yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Index of the probe in the plan.
    pub probe: usize,
    /// Name of the series: the observing node, and for requests to single pods `NODE→POD`.
    pub series: String,
    /// Where and how often.
    pub target: Target,
    /// The workload, or the single pod, that is asked. Addresses are reused, so an answer from anybody else does not
    /// count. `None` for a Service of the user's own, whose answers nobody knows.
    pub asked: Option<String>,
    /// Whether the token is wanted that a keeper adds to its name, instead of the name.
    pub token: bool,
}

impl Watched {
    /// The outcome that an answer amounts to: a failure, unless it comes from the workload or pod that was asked.
    pub fn take(&self, outcome: Outcome) -> Outcome {
        let Some(asked) = &self.asked else { return outcome };
        let Outcome::Saw(Value::Text(answer)) = outcome else { return outcome };
        let (name, token) = answer.split_once(' ').unwrap_or((&answer, ""));
        let own = name.strip_prefix(asked).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
        match (own, self.token) {
            (false, _) => Outcome::Failed(Failure::Other(format!("answered by {name}"))),
            (true, true) => Outcome::Saw(Value::Text(token.to_owned())),
            (true, false) => Outcome::Saw(Value::Text(name.to_owned())),
        }
    }
}

/// Puts a sampler on each node that some probe asks from, and waits until they run.
pub(super) async fn deploy(client: &Client, plan: &Plan, image: &ImageRef, pods: &[Pod]) -> Result<Vec<Sampler>> {
    let services = Api::<Service>::namespaced(client.clone(), &plan.namespace)
        .list(&ListParams::default())
        .await
        .map_err(|e| failed("list the workloads' Services", &e))?;
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await;
    let nodes = nodes.map_err(|e| failed("list the nodes", &e))?.items;
    let addresses = Addresses::new(&services.items, pods, &nodes, theirs(client, plan).await?);
    let namespace = plan.watch_namespace();
    let api = Api::<Pod>::namespaced(client.clone(), &namespace);
    let mut watched = Vec::new();
    for node in askers(plan) {
        let watches = watches(plan, node, &addresses)?;
        if !watches.is_empty() {
            watched.push((node, watches));
        }
    }
    let created = try_join_all(watched.into_iter().map(async |(node, watches)| {
        let cpu = processor_share::of(client, &node.name).await;
        cpu.map(|cpu| (node, pod(plan, node, image, &cpu, &watches), watches))
    }))
    .await?;
    let params = PostParams::default();
    let posted = try_join_all(created.iter().map(|(_, pod, _)| api.create(&params, pod)))
        .await
        .map_err(|e| failed("create the samplers", &e))?;
    let names: Vec<String> = posted.iter().map(ResourceExt::name_any).collect();
    ready::pods(client, &namespace, &names, READY_WITHIN).await?;
    let samplers = created.into_iter().zip(posted).map(|((node, _, watches), pod)| Sampler {
        node: node.clone(),
        log: format!(
            "/var/log/pods/{namespace}_{}_{}/{CONTAINER}/0.log",
            pod.name_any(),
            pod.uid().unwrap_or_default()
        ),
        watches,
    });
    Ok(samplers.collect())
}

/// Addresses of the workloads, as of the baseline.
struct Addresses {
    services: BTreeMap<String, ServiceAddress>,
    /// Workload, pod, address.
    pods: Vec<(String, String, IpAddr)>,
    /// Addresses of the nodes, as their kubelets report them.
    nodes: BTreeMap<String, IpAddr>,
    /// Addresses of the user's own Services.
    theirs: BTreeMap<Address, IpAddr>,
}

struct ServiceAddress {
    ip: IpAddr,
    /// The port that every node has open for it, if there is one.
    node_port: Option<u16>,
}

impl Addresses {
    fn new(services: &[Service], pods: &[Pod], nodes: &[Node], theirs: BTreeMap<Address, IpAddr>) -> Self {
        let service = |s: &Service| {
            let node_port = s.spec.iter().flat_map(|spec| spec.ports.iter().flatten()).find_map(|port| port.node_port);
            let node_port = node_port.and_then(|port| port.try_into().ok());
            Some((s.name_any(), ServiceAddress { ip: cluster_ip(s)?, node_port }))
        };
        let pod = |p: &Pod| {
            let address = p.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
            Some((p.labels().get(WORKLOAD)?.clone(), p.name_any(), address))
        };
        Self {
            services: services.iter().filter_map(service).collect(),
            pods: pods.iter().filter_map(pod).collect(),
            nodes: nodes.iter().filter_map(|node| Some((node.name_any(), internal_ip(node)?))).collect(),
            theirs,
        }
    }
}

fn internal_ip(node: &Node) -> Option<IpAddr> {
    let mut all = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    all.find(|address| address.type_ == "InternalIP")?.address.parse().ok()
}

fn cluster_ip(service: &Service) -> Option<IpAddr> {
    service.spec.as_ref()?.cluster_ip.as_ref()?.parse().ok()
}

/// The user's own Services that the plan's probes ask.
fn asked_of_theirs(plan: &Plan) -> impl Iterator<Item = (&Address, &str, &ServiceRequest)> {
    plan.probes.iter().filter_map(|probe| match &probe.spec {
        ProbeSpec::Reach(address @ Address::Service { namespace, request }) => {
            Some((address, namespace.as_str(), request))
        }
        _ => None,
    })
}

/// Checks that the cluster has the user's own Services that the plan's probes ask, but for those that the run creates.
///
/// # Errors
/// If one is not there, or has no such port; or if the API does not say.
pub async fn check_theirs(cluster: &Cluster, plan: &Plan) -> Result<()> {
    let created = plan.manifests.as_ref().map(|manifests| manifests.namespace.as_str());
    let there: Vec<_> = asked_of_theirs(plan).filter(|(_, namespace, _)| Some(*namespace) != created).collect();
    if there.is_empty() {
        return Ok(());
    }
    let look = async {
        let client = cluster.client().await?;
        try_join_all(there.into_iter().map(|(address, namespace, request)| find(&client, address, namespace, request)))
            .await
    };
    let late = |_| Error::could_not_run(format!("the API of cluster {} hangs", cluster.name));
    timeout(LOOK, look).await.map_err(late)?.map(drop)
}

/// Addresses of the user's own Services that the plan's probes ask.
async fn theirs(client: &Client, plan: &Plan) -> Result<BTreeMap<Address, IpAddr>> {
    let found = asked_of_theirs(plan).map(async |(address, namespace, request)| {
        Ok::<_, Error>((address.clone(), find(client, address, namespace, request).await?))
    });
    Ok(try_join_all(found).await?.into_iter().collect())
}

async fn find(client: &Client, address: &Address, namespace: &str, request: &ServiceRequest) -> Result<IpAddr> {
    let ServiceRequest { name, port, .. } = request;
    let service = Api::<Service>::namespaced(client.clone(), namespace).get_opt(name).await;
    let service = service.map_err(|e| failed(&format!("look for {address}"), &e))?;
    let ports = service.iter().flat_map(|s| s.spec.iter().flat_map(|s| s.ports.iter().flatten()));
    let ports: Vec<i32> = ports.map(|p| p.port).collect();
    let wrong = match service.as_ref().map(cluster_ip) {
        None => format!("there is no Service {name} in namespace {namespace}"),
        Some(None) => format!("Service {namespace}/{name} has no address of its own"),
        Some(Some(_)) if !ports.contains(&i32::from(*port)) => {
            format!("Service {namespace}/{name} has no port {port}, but {ports:?}")
        }
        Some(Some(ip)) => return Ok(ip),
    };
    Err(Error::could_not_run(wrong).next("kubectl get services --all-namespaces"))
}

/// Nodes that requests may come from: `plan.observers`, which the fault does not touch, and nodes that a probe names.
fn askers(plan: &Plan) -> BTreeSet<&NodeId> {
    let named = plan.probes.iter().filter_map(|probe| plan.targets.get(probe.spec.from()?));
    plan.observers.iter().chain(named).collect()
}

/// Whether this probe asks from this node.
fn asks_from(plan: &Plan, spec: &ProbeSpec, node: &NodeId) -> bool {
    match spec.from() {
        Some(target) => plan.targets.get(target) == Some(node),
        None => plan.observers.contains(node),
    }
}

/// What a sampler on this node watches.
fn watches(plan: &Plan, node: &NodeId, addresses: &Addresses) -> Result<Vec<Watched>> {
    let mut watches = Vec::new();
    for (index, probe) in plan.probes.iter().enumerate().filter(|(_, p)| asks_from(plan, &p.spec, node)) {
        let token = matches!(probe.spec, ProbeSpec::Token { .. });
        let watch = |series: String, asked: &str, peer: Peer| {
            let target = Target { peer, interval: probe.interval, timeout: probe.timeout, request: None };
            Watched { probe: index, series, target, asked: Some(asked.to_owned()), token }
        };
        match probe.spec.source() {
            ProbeSource::Service(workload) => {
                let service = addresses.services.get(workload).ok_or_else(|| {
                    Error::usage(format!("requests to workload `{workload}` need a Service in front of it"))
                        .next(format!("give it `service: true` in {}", plan.source))
                })?;
                let peer = match &probe.spec {
                    ProbeSpec::Requests { by: Way::Name, .. } => {
                        Peer::Named { host: format!("{workload}.{}.svc", plan.namespace), port: 80 }
                    }
                    ProbeSpec::Requests { by: Way::NodePort, .. } => {
                        let of_node = addresses.nodes.get(&node.name).copied().zip(service.node_port);
                        let (ip, port) = of_node.ok_or_else(|| {
                            Error::could_not_run(format!("Service {workload} has no port on {}", node.name))
                        })?;
                        Peer::At(SocketAddr::new(ip, port))
                    }
                    _ => Peer::At(SocketAddr::new(service.ip, 80)),
                };
                watches.push(watch(node.name.clone(), workload, peer));
            }
            ProbeSource::EachPod(workload) => {
                let before = watches.len();
                let of = addresses.pods.iter().filter(|(owner, _, _)| owner == workload);
                watches.extend(of.map(|(_, pod, address)| {
                    let peer = Peer::At(SocketAddr::new(*address, PORT));
                    watch(format!("{}→{pod}", node.name), pod, peer)
                }));
                if watches.len() == before {
                    return Err(Error::could_not_run(format!("workload `{workload}` has no pod with an address")));
                }
            }
            ProbeSource::Address(address) => {
                // kchaos itself asks a URL, not a sampler.
                let (Address::Service { request, .. }, Some(ip)) = (address, addresses.theirs.get(address)) else {
                    continue;
                };
                let target = Target {
                    peer: Peer::At(SocketAddr::new(*ip, request.port)),
                    interval: probe.interval,
                    timeout: probe.timeout,
                    request: Some(address.request()),
                };
                watches.push(Watched { probe: index, series: node.name.clone(), target, asked: None, token });
            }
            ProbeSource::Engine
            | ProbeSource::Lists
            | ProbeSource::Api { .. }
            | ProbeSource::Ledger(_)
            | ProbeSource::AuditLog(_)
            | ProbeSource::ApiToKubelet { .. } => {}
        }
    }
    Ok(watches)
}

/// The sampler on a node, which asks for `cpu` of its processors.
pub(super) fn pod(plan: &Plan, node: &NodeId, image: &ImageRef, cpu: &str, watches: &[Watched]) -> Pod {
    let mut args: Vec<String> = ["agent", "sample"].map(str::to_owned).into();
    args.push(format!("--refuses=$(HOST_IP):{CLOSED_PORT}"));
    args.extend(watches.iter().map(|w| format!("--target={}", w.target)));
    let mut sampler = container(CONTAINER, image.to_string(), "Never", cpu, args);
    sampler.env = Some(vec![EnvVar {
        name: "HOST_IP".into(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: "status.hostIP".into(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }]);
    let mut spec = pod_spec(sampler);
    // The resolver would wait for five seconds before it asks again.
    let again = [("timeout", "1"), ("attempts", "3")]
        .map(|(name, value)| PodDNSConfigOption { name: Some(name.into()), value: Some(value.into()) });
    spec.dns_config = Some(PodDNSConfig { options: Some(again.into()), ..PodDNSConfig::default() });
    spec.node_name = Some(node.name.clone());
    spec.restart_policy = Some("Never".into());
    spec.tolerations = Some(vec![Toleration { operator: Some("Exists".into()), ..Toleration::default() }]);
    let metadata = meta_in(&plan.watch_namespace(), &format!("sampler-{}", node.name));
    Pod { metadata, spec: Some(spec), ..Pod::default() }
}
