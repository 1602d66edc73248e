//! Waits until a cluster really is Ready. After a start, the API goes on reporting what it believed before, until every
//! kubelet has reported anew. So a report counts only if it is newer than the start of the node's container.
//!
//! The parts of the control plane are judged by what they do (the API server's own readiness, the leaders' Leases), not
//! by their pods' conditions, which their start-up probes hold back for up to twenty seconds.
//!
//! Two things would only take time, so they are helped. After a start, pods that need the API find it down at first and
//! retry at ever longer intervals. Once nothing but such pods is missing, those that have a controller are deleted (see
//! [`Patience`]), so that fresh ones take their place: seconds instead of a minute. And leaders that ended with their
//! nodes still hold their Leases, which are given back in their name (see [`stale_leases`]).
//!
//! It polls instead of watching: on an API server that hangs, a watch looks like a cluster in which nothing happens.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use futures::TryFutureExt;
use futures::future::{join_all, try_join_all};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ContainerStatus, Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::time::{Instant, sleep, timeout};

use super::{stale_leases, start};
use crate::cluster::Cluster;
use crate::cluster::api::{self, Credentials, Identity};
use crate::cluster::leader_lease::is_valid;
use crate::component::Leader;
use crate::error::{Error, Result};
use crate::node::Role;

/// Time between looks. A look costs the cluster some of the time that it needs for its start.
const EVERY: Duration = Duration::from_millis(500);
/// How long a look may take.
pub(super) const LOOK: Duration = Duration::from_secs(3);
/// Shortest time between two messages about what is waited for.
const SAY_EVERY: Duration = Duration::from_secs(5);
/// Namespaces whose pods are part of a cluster; the second one is kind's storage.
const NAMESPACES: [&str; 2] = ["kube-system", "local-path-storage"];
/// Static pods of every control plane, by the beginning of their names.
const STATIC_PODS: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/// Something that is not Ready.
#[derive(Debug, PartialEq, Eq)]
struct Missing {
    /// What it is, in words.
    what: String,
    /// The pod, if it runs without becoming Ready, and would be replaced if it were deleted.
    stuck: Option<Stuck>,
}

impl From<String> for Missing {
    fn from(what: String) -> Self {
        Self { what, stuck: None }
    }
}

/// A pod that runs, is not Ready and has a controller.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stuck {
    namespace: String,
    name: String,
    /// Whether it is older than the last start of its node.
    outlived: bool,
}

/// Decides when a fresh pod is quicker than a stuck one.
///
/// That is at once for pods that outlived their node's start. One that is new may be stuck, too: if it began before its
/// node's kube-proxy had written its rules, it retries like the others (seen: 23 s). But it may also just be slow, so
/// each time that a new one is given up, the next is given twice as long.
struct Patience {
    with_new: Duration,
    /// Since when each pod is stuck, with nothing else missing.
    since: BTreeMap<String, Instant>,
    given_up: BTreeSet<String>,
}

impl Patience {
    fn new() -> Self {
        Self { with_new: Duration::from_secs(8), since: BTreeMap::new(), given_up: BTreeSet::new() }
    }

    /// Which pods to replace, each once, if stuck pods are all that is missing.
    fn lost_with(&mut self, missing: &[Missing], now: Instant) -> Vec<Stuck> {
        let stuck: Vec<_> = missing.iter().filter_map(|m| m.stuck.clone()).collect();
        if stuck.len() < missing.len() {
            self.since.clear();
            return Vec::new();
        }
        self.since.retain(|name, _| stuck.iter().any(|pod| pod.name == *name));
        let mut lost = Vec::new();
        for pod in stuck {
            let since = *self.since.entry(pod.name.clone()).or_insert(now);
            if (pod.outlived || now.duration_since(since) >= self.with_new) && self.given_up.insert(pod.name.clone()) {
                lost.push(pod);
            }
        }
        if lost.iter().any(|pod| !pod.outlived) {
            self.with_new *= 2;
        }
        lost
    }
}

/// A node that must be Ready.
struct Expected {
    name: String,
    role: Role,
    /// When its container was last started.
    started: Timestamp,
}

/// What the API reports.
struct Seen {
    nodes: Vec<Node>,
    pods: Vec<Pod>,
    deployments: Vec<Deployment>,
    /// Leases of nodes and of the control plane's leaders.
    leases: Vec<Lease>,
    /// Control planes whose own API server reports that it is ready.
    serving: Vec<String>,
}

/// What is needed to ask a cluster, as far as it is known.
#[derive(Default)]
struct Access {
    /// Read once: to read them, a process is started in a node.
    credentials: Option<Credentials>,
    clients: Option<Clients>,
}

/// Clients for the ways into a cluster.
struct Clients {
    /// The client that goes the way users go.
    entrance: Client,
    /// A client for each API server, with the name of its node.
    direct: Vec<(String, Client)>,
}

/// Waits until all nodes, their Leases and all system pods are reported Ready since the last start.
///
/// # Errors
/// If they aren't within this time; the error says what is missing.
pub(super) async fn wait(cluster: &Cluster, within: Duration, say: &mut impl FnMut(fmt::Arguments<'_>)) -> Result<()> {
    let give_up = Instant::now() + within;
    let (mut said, mut said_at) = (String::new(), Instant::now());
    let mut renewals = BTreeMap::new();
    let mut access = Access::default();
    let mut patience = Patience::new();
    loop {
        // A node may be seen to run when it has just been killed, and found to be down later.
        let missing = match start::what_is_down(cluster).and_then(|_| look(cluster, &mut access)).await {
            Ok(Some((expected, seen))) => {
                let now = Timestamp::now();
                if let (Some(clients), Some(started)) = (&access.clients, all_control_planes_started(&expected)) {
                    let stale = stale_leases::held_since_before(started, &seen.leases, now);
                    join_all(stale.map(|lease| stale_leases::give_back(&clients.entrance, lease))).await;
                }
                missing(&expected, &seen, &mut renewals, now)
            }
            Ok(None) => vec!["the API does not answer yet".to_owned().into()],
            Err(e) => {
                access.clients = None;
                vec![e.to_string().into()]
            }
        };
        if missing.is_empty() {
            return Ok(());
        }
        if let Some(clients) = &access.clients {
            for pod in patience.lost_with(&missing, Instant::now()) {
                replace(&clients.entrance, &pod).await;
            }
        }
        let waiting = summary(&missing);
        if Instant::now() > give_up {
            return Err(Error::could_not_run(format!(
                "cluster {} is not Ready after {} s: {waiting}",
                cluster.name,
                within.as_secs()
            )));
        }
        if waiting != said && said_at.elapsed() >= if said.is_empty() { Duration::from_secs(1) } else { SAY_EVERY } {
            say(format_args!("waiting: {waiting}"));
            (said, said_at) = (waiting, Instant::now());
        }
        sleep(EVERY).await;
    }
}

/// Deletes a pod so that its controller makes another. It does not matter if that fails: then the pod is waited for.
async fn replace(client: &Client, Stuck { namespace, name, .. }: &Stuck) {
    let api = Api::<Pod>::namespaced(client.clone(), namespace);
    let at_once = DeleteParams::default().grace_period(1);
    match timeout(LOOK, api.delete(name, &at_once)).await {
        Ok(Ok(_)) => tracing::info!("pod {name} is replaced"),
        Ok(Err(e)) => tracing::info!("pod {name} can't be replaced: {e}"),
        Err(_) => tracing::info!("pod {name} can't be replaced: the API hangs"),
    }
}

/// Looks at the containers and asks the API, through the same clients as before as long as they work.
/// There is nothing to see until an API server is ready.
async fn look(cluster: &Cluster, access: &mut Access) -> Result<Option<(Vec<Expected>, Seen)>> {
    let expected = try_join_all(cluster.nodes.iter().map(|node| expected(cluster, node))).await?;
    let clients = match &mut access.clients {
        Some(clients) => clients,
        none => none.insert(connect(cluster, &mut access.credentials).await?),
    };
    let serving: Vec<_> = join_all(clients.direct.iter().map(serving)).await.into_iter().flatten().collect();
    if serving.is_empty() {
        return Ok(None);
    }
    match timeout(LOOK, ask(clients, serving)).await {
        Ok(Ok(seen)) => Ok(Some((expected, seen))),
        Ok(Err(_)) => Err(Error::could_not_run("the API does not answer yet")),
        Err(_) => Err(Error::could_not_run("the API hangs")),
    }
}

async fn expected(cluster: &Cluster, node: &super::Node) -> Result<Expected> {
    let name = node.id.name.clone();
    let state = cluster.engine.state(&node.id).await?;
    if state.status != "running" {
        return Err(Error::could_not_run(format!("{name} is {}", state.status)));
    }
    let started = state.started_at.parse().map_err(|_| Error::could_not_run(format!("{name} has no start time")))?;
    Ok(Expected { name, role: node.role, started })
}

async fn connect(cluster: &Cluster, credentials: &mut Option<Credentials>) -> Result<Clients> {
    let credentials = match credentials {
        Some(credentials) => credentials,
        none => none.insert(
            cluster
                .credentials(Identity::User)
                .await
                .map_err(|_| Error::could_not_run("no control plane lets us in yet"))?,
        ),
    };
    let client = async |node| credentials.client(api::published(&cluster.engine, node).await?).await;
    let entrance = cluster.entrance().ok_or_else(|| Error::could_not_run("there is no control plane"))?;
    let mut direct = Vec::new();
    for node in cluster.control_planes() {
        direct.push((node.name.clone(), client(node).await?));
    }
    Ok(Clients { entrance: client(entrance).await?, direct })
}

/// Asks for everything else, once it is known which API servers are ready.
async fn ask(clients: &Clients, serving: Vec<String>) -> kube::Result<Seen> {
    let client = || clients.entrance.clone();
    let (nodes, mut pods, storage, deployments, mut leases, leaders) = futures::try_join!(
        list(Api::all(client())),
        list::<Pod>(Api::namespaced(client(), NAMESPACES[0])),
        list::<Pod>(Api::namespaced(client(), NAMESPACES[1])),
        list::<Deployment>(Api::namespaced(client(), NAMESPACES[0])),
        list::<Lease>(Api::namespaced(client(), "kube-node-lease")),
        list::<Lease>(Api::namespaced(client(), NAMESPACES[0])),
    )?;
    pods.extend(storage);
    leases.extend(leaders);
    Ok(Seen { nodes, pods, deployments, leases, serving })
}

/// Name of the node, if its API server reports that it is ready, storage included.
async fn serving((name, client): &(String, Client)) -> Option<String> {
    let request = http::Request::get("/readyz").body(Vec::new()).ok()?;
    // Less than a look may take, so that one hanging API server does not hide what the others say.
    let answer = timeout(LOOK / 2, client.request_text(request)).await.ok()?;
    answer.is_ok().then(|| name.clone())
}

async fn list<K>(api: Api<K>) -> kube::Result<Vec<K>>
where
    K: Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + fmt::Debug,
{
    Ok(api.list(&ListParams::default()).await?.items)
}

/// Lists what is not Ready. `renewals` remembers from look to look which renewal of each Lease was seen first.
fn missing(
    expected: &[Expected],
    seen: &Seen,
    renewals: &mut BTreeMap<String, Timestamp>,
    now: Timestamp,
) -> Vec<Missing> {
    let mut missing: Vec<Missing> = Vec::new();
    for node in expected.iter().filter(|n| n.role != Role::LoadBalancer) {
        let name = &node.name;
        if let Some(why) = node_missing(node, seen.nodes.iter().find(|n| n.name_any() == *name)) {
            missing.push(format!("{name} {why}").into());
        } else if !lease_is_fresh(name, node.started, seen.leases.iter().find(|l| l.name_any() == *name), renewals, now)
        {
            missing.push(format!("{name} has not renewed its lease").into());
        }
        if node.role == Role::ControlPlane {
            let absent =
                STATIC_PODS.iter().filter(|pod| !seen.pods.iter().any(|p| p.name_any() == format!("{pod}-{name}")));
            missing.extend(absent.map(|pod| Missing::from(format!("{pod}-{name} is not there"))));
            if !seen.serving.contains(name) {
                missing.push(format!("the API server of {name} is not ready").into());
            }
        }
    }
    if let Some(started) = all_control_planes_started(expected) {
        let idle = Leader::ALL.map(Leader::name).into_iter().filter(|name| {
            let lease = seen.leases.iter().find(|l| l.name_any() == *name);
            !lease_is_fresh(name, started, lease, renewals, now)
        });
        missing.extend(idle.map(|name| Missing::from(format!("no {name} leads"))));
    }
    missing.extend(seen.pods.iter().filter_map(|pod| pod_missing(pod, expected)));
    let changing = seen.deployments.iter().filter(|deployment| is_rolling_out(deployment));
    missing.extend(changing.map(|deployment| format!("{} is being rolled out", deployment.name_any()).into()));
    missing
}

/// When the first control plane was started: who has led from before that, leads no longer.
fn all_control_planes_started(expected: &[Expected]) -> Option<Timestamp> {
    expected.iter().filter(|n| n.role == Role::ControlPlane).map(|n| n.started).min()
}

fn node_missing(expected: &Expected, node: Option<&Node>) -> Option<&'static str> {
    let Some(node) = node else { return Some("is not registered") };
    let status = node.status.as_ref();
    let ready = status.and_then(|s| s.conditions.as_ref()?.iter().find(|c| c.type_ == "Ready"));
    let Some(ready) = ready.filter(|c| c.status == "True") else { return Some("is not Ready") };
    if ready.last_heartbeat_time.as_ref().is_none_or(|t| before(t.0, expected.started)) {
        return Some("has not reported since its start");
    }
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_ref()).into_iter().flatten();
    let lost = [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
        "node.cloudprovider.kubernetes.io/uninitialized",
    ];
    taints.into_iter().any(|t| lost.contains(&t.key.as_str())).then_some("is still tainted")
}

/// Whether a Lease was renewed since the start, and either recently or while we looked: our clock may differ.
fn lease_is_fresh(
    name: &str,
    started: Timestamp,
    lease: Option<&Lease>,
    renewals: &mut BTreeMap<String, Timestamp>,
    now: Timestamp,
) -> bool {
    let Some(spec) = lease.and_then(|l| l.spec.as_ref()) else { return false };
    let Some(renewed) = spec.renew_time.as_ref().map(|t| t.0) else { return false };
    let seen_renewed = *renewals.entry(name.to_owned()).or_insert(renewed) != renewed;
    !before(renewed, started) && (seen_renewed || is_valid(spec, now))
}

/// Whether a change of the Deployment is still under way. Its old pods all stay Ready until its new ones are, and only
/// then go.
fn is_rolling_out(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let Some(status) = &deployment.status else { return true };
    status.observed_generation < deployment.metadata.generation
        || status.updated_replicas.unwrap_or(0) != wanted
        || status.replicas.unwrap_or(0) != wanted
}

fn pod_missing(pod: &Pod, nodes: &[Expected]) -> Option<Missing> {
    let name = pod.name_any();
    let status = pod.status.as_ref();
    if status.and_then(|s| s.phase.as_deref()).is_some_and(|phase| phase == "Succeeded" || phase == "Failed") {
        return None;
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return Some(format!("{name} is being deleted").into());
    }
    let home = pod.spec.as_ref().and_then(|s| nodes.iter().find(|n| s.node_name.as_ref() == Some(&n.name)));
    let ready = status.and_then(|s| s.conditions.as_ref()?.iter().find(|c| c.type_ == "Ready"));
    let is_static = pod.owner_references().iter().any(|o| o.kind == "Node");
    if !is_static && ready.is_none_or(|c| c.status != "True") {
        return Some(Missing { what: format!("{name} is not Ready"), stuck: stuck(pod, home) });
    }
    let home = home?;
    let containers = status.and_then(|s| s.container_statuses.as_deref()).unwrap_or_default();
    let started = |c: &ContainerStatus| c.state.as_ref()?.running.as_ref()?.started_at.as_ref().map(|t| t.0);
    let stale = containers.is_empty() || containers.iter().any(|c| started(c).is_none_or(|t| before(t, home.started)));
    stale.then(|| format!("{name} has not been seen since its node's start").into())
}

fn stuck(pod: &Pod, home: Option<&Expected>) -> Option<Stuck> {
    let created = pod.metadata.creation_timestamp.as_ref();
    let outlived = home.zip(created).is_some_and(|(home, created)| before(created.0, home.started));
    let containers = pod.status.as_ref().and_then(|s| s.container_statuses.as_deref()).unwrap_or_default();
    let has_run = |c: &ContainerStatus| c.restart_count > 0 || c.state.as_ref().is_some_and(|s| s.running.is_some());
    let is_replaced = |kind: &str| kind == "ReplicaSet" || kind == "DaemonSet";
    let controlled = pod.owner_references().iter().any(|o| o.controller == Some(true) && is_replaced(&o.kind));
    (controlled && (outlived || containers.iter().any(has_run))).then(|| Stuck {
        namespace: pod.namespace().unwrap_or_default(),
        name: pod.name_any(),
        outlived,
    })
}

/// Whether it was reported before the start. Kubernetes cuts times to seconds; the engine does not.
pub(super) fn before(reported: Timestamp, started: Timestamp) -> bool {
    reported.as_second() < started.as_second()
}

fn summary(missing: &[Missing]) -> String {
    const SHOWN: usize = 3;
    let shown = missing.iter().take(SHOWN).map(|m| m.what.as_str()).collect::<Vec<_>>().join(", ");
    match missing.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests;
