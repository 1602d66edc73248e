//! Facts read from a running cluster: its nodes, and the settings that bound every window.
//!
//! [`read`] takes an engine and a cluster's name and returns [`Facts`]. It reads everything from below (the engine,
//! files in the nodes), so it works while the API is down. It reads how the components are *configured*, from their
//! manifests and configuration files; it does not see what a kubelet's command line overrides. Only the API knows who
//! leads: [`read_leaders`] asks it, for plans that need it. [`read_reporting`] reads which API server each kubelet
//! reports to, for plans that need that.

mod balancer;
mod reporting;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use serde::{Deserialize, Serialize};

pub use self::reporting::read_reporting;
use self::settings::{NodeFiles, audit_log, clocks};
use super::docker::{ContainerState, Engine, Node};
use super::leader_lease;
use crate::component::Leader;
use crate::error::{Error, Result};
use crate::node::{NodeId, RestartPolicy, Role};

/// Everything a plan needs to know about a cluster.
///
/// All of it but the leaders is read from below (engine, files in the nodes), so it is available while the API is down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Name of the kind cluster.
    pub cluster: String,
    /// The engine's own id.
    pub engine: String,
    /// Kubernetes version, such as `v1.34.4`.
    pub kubernetes: String,
    /// Nodes by name.
    pub nodes: BTreeMap<String, NodeFacts>,
    /// Clocks by name: every clock that a window needs, with its source.
    pub clocks: BTreeMap<Clock, Setting>,
    /// The node of the leading instance, for each component of which only one instance leads. Empty unless the API was
    /// asked; see [`read_leaders`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub leaders: BTreeMap<Leader, String>,
    /// By node, the control plane whose API server its kubelet reports to. Empty unless that was read; see
    /// [`read_reporting`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reporting: BTreeMap<String, String>,
    /// Path of the file in which each API server keeps its audit log, in its own file system. `None` if they keep none,
    /// or not all in the same place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_log: Option<String>,
}

/// Facts about one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// Its container.
    pub node: NodeId,
    /// Its role.
    pub role: Role,
    /// IPv4 address by network name.
    pub addresses: BTreeMap<String, String>,
    /// Whether its address is fixed by configuration, so that it survives restarts.
    pub pinned: bool,
    /// Its container's restart policy.
    pub restart_policy: RestartPolicy,
    /// The directory in which its etcd keeps its data, if that is in memory: then they are lost when its container is
    /// restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_in_memory: Option<String>,
    /// How many pods its kubelet has.
    #[serde(default)]
    pub pods: u32,
}

impl Facts {
    /// How many pods the node has that has most.
    pub(crate) fn most_pods(&self) -> u32 {
        self.nodes.values().map(|node| node.pods).max().unwrap_or(0)
    }
}

/// A clock of Kubernetes that bounds a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clock {
    /// Time without a lease renewal until a node is marked Unknown (controller manager).
    NodeMonitorGracePeriod,
    /// How often the controller manager looks at node leases.
    NodeMonitorPeriod,
    /// How often a kubelet renews its lease (a quarter of `nodeLeaseDurationSeconds`).
    LeaseRenew,
    /// How long a pod without its own toleration stays on an unreachable node (API server).
    UnreachableToleration,
    /// How often a kubelet reports its status.
    NodeStatusUpdate,
    /// Shortest time between two changes that a service proxy applies.
    ProxyMinSync,
    /// Time between the evictions of two nodes' pods (1 / `--node-eviction-rate` of the controller manager). Zero means
    /// that the rate is 0 and nothing is ever evicted.
    EvictionInterval,
    /// How long a leader may be silent before another instance takes the lead (the longer of controller manager and
    /// scheduler).
    LeaderLease,
    /// How long a leader tries to renew its lease before it gives up and ends (the longer of controller manager and
    /// scheduler).
    LeaderRenewDeadline,
    /// Waiting instances check at least this often whether anybody leads.
    LeaderRetry,
    /// How long the load balancer keeps sending requests to an API server that is gone. Only for clusters that have a
    /// load balancer.
    LoadBalancerDetection,
}

/// A setting's value and its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The value in force.
    pub value: Duration,
    /// Where it was read, for humans: `kube-controller-manager --node-monitor-grace-period`, or `default of v1.34`.
    pub source: String,
}

/// How long reading a file of a node may take.
const READ_FILE: Duration = Duration::from_secs(10);

/// Shell: prints the service proxy's configuration from the volume that its kubelet made. A node may still have the
/// volumes of earlier pods, so the newest one counts.
const PROXY_CONFIG: &str = "f=$(ls -t /var/lib/kubelet/pods/*/volumes/kubernetes.io~configmap/kube-proxy/config.conf 2>/dev/null | head -n 1); \
     [ -n \"$f\" ] && cat \"$f\"";

/// Shell: if etcd's data are in memory, prints where that is mounted, and their directory.
const STORE_IN_MEMORY: &str = "data=$(sed -n 's/^ *- --data-dir=//p' /etc/kubernetes/manifests/etcd.yaml 2>/dev/null | head -n 1); \
     case $(stat -f -c %T \"${data:-/}\" 2>/dev/null) in tmpfs | ramfs) echo \"$(stat -c %m \"$data\") $data\" ;; esac";

/// Prints a line for each pod that the node's kubelet has.
const PODS: [&str; 3] = ["ls", "-1", "/var/lib/kubelet/pods"];

/// Reads the facts of a cluster.
///
/// # Errors
/// If there is no such cluster, none of its control planes runs, its settings can't be read, or they bound no single
/// window: control planes that were started with different flags take turns in leading, so no deadline follows from
/// them.
pub async fn read(engine: &Engine, cluster: &str) -> Result<Facts> {
    let nodes = engine.nodes(cluster).await?;
    if nodes.is_empty() {
        return Err(Error::could_not_run(format!("there is no kind cluster called {cluster} on this engine"))
            .next("list them: kind get clusters"));
    }
    let states = try_join_all(nodes.iter().map(|n| engine.state(&n.id))).await?;
    let running: Vec<&Node> = nodes
        .iter()
        .zip(&states)
        .filter(|(n, s)| s.status == "running" && n.role != Role::LoadBalancer)
        .map(|(n, _)| n)
        .collect();
    let Some(lead) = running.iter().find(|n| n.role == Role::ControlPlane) else {
        return Err(Error::could_not_run(format!(
            "no control plane of cluster {cluster} runs, so its settings can't be read"
        ))
        .next(format!(
            "start one: docker start {0}; or, if it is paused, docker unpause {0}",
            control_plane_names(&nodes)
        )));
    };

    let (id, kubernetes, files, detection) = futures::join!(
        engine.id(),
        version(engine, &lead.id),
        join_all(running.iter().map(|n| files(engine, n))),
        detection(engine, &nodes, &states),
    );
    let kubernetes = kubernetes?;
    let files = files.into_iter().collect::<Result<Vec<_>>>()?;
    let audit_log = audit_log(&files)?;
    let of_nodes: BTreeMap<&str, &NodeFiles> = files.iter().map(|of| (of.node.as_str(), of)).collect();
    let mut clocks = clocks(&kubernetes, &files)?;
    clocks.extend(detection?.map(|setting| (Clock::LoadBalancerDetection, setting)));
    let facts = |(node, state): (&Node, ContainerState)| {
        let pinned =
            !state.addresses.is_empty() && state.addresses.keys().all(|network| state.pinned.contains(network));
        let told = of_nodes.get(node.id.name.as_str());
        let facts = NodeFacts {
            node: node.id.clone(),
            role: node.role,
            addresses: state.addresses,
            pinned,
            restart_policy: state.restart_policy,
            store_in_memory: told
                .and_then(|told| told.store_in_memory.as_deref())
                .and_then(|store| lost_with_it(store, &state.mounts)),
            pods: told.map_or(0, |told| told.pods),
        };
        (node.id.name.clone(), facts)
    };
    Ok(Facts {
        cluster: cluster.to_owned(),
        engine: id?,
        kubernetes,
        nodes: nodes.iter().zip(states).map(facts).collect(),
        clocks,
        leaders: BTreeMap::new(),
        reporting: BTreeMap::new(),
        audit_log,
    })
}

/// The directory of etcd's data that are in memory (`MOUNTED-AT DIRECTORY`), unless that memory is of the engine's
/// machine.
fn lost_with_it(store: &str, mounts: &BTreeSet<String>) -> Option<String> {
    let (mounted_at, data) = store.split_once(' ')?;
    (!mounts.contains(mounted_at)).then(|| data.to_owned())
}

fn control_plane_names(nodes: &[Node]) -> String {
    let names: Vec<_> = nodes.iter().filter(|n| n.role == Role::ControlPlane).map(|n| n.id.name.as_str()).collect();
    names.join(" ")
}

/// Reads the files of one node that hold settings, and counts its pods.
async fn files(engine: &Engine, node: &Node) -> Result<NodeFiles> {
    let manifest = async |component: &str| match node.role {
        Role::ControlPlane => file(engine, &node.id, &format!("/etc/kubernetes/manifests/{component}.yaml")).await,
        Role::Worker | Role::LoadBalancer => Ok(None),
    };
    let store = async || match node.role {
        Role::ControlPlane => stdout(engine, &node.id, &["sh", "-c", STORE_IN_MEMORY]).await,
        Role::Worker | Role::LoadBalancer => Ok(None),
    };
    let (controller_manager, scheduler, api_server, kubelet, proxy, store, pods) = futures::try_join!(
        manifest("kube-controller-manager"),
        manifest("kube-scheduler"),
        manifest("kube-apiserver"),
        file(engine, &node.id, "/var/lib/kubelet/config.yaml"),
        stdout(engine, &node.id, &["sh", "-c", PROXY_CONFIG]),
        store(),
        stdout(engine, &node.id, &PODS),
    )?;
    let pods = u32::try_from(pods.unwrap_or_default().lines().count()).unwrap_or(u32::MAX);
    let store_in_memory = store.map(|data| data.trim().to_owned()).filter(|data| !data.is_empty());
    let node = node.id.name.clone();
    Ok(NodeFiles { node, controller_manager, scheduler, api_server, kubelet, proxy, store_in_memory, pods })
}

/// How long the load balancer takes to notice that an API server is gone. `None` if no load balancer runs, or its
/// configuration bounds no such time.
async fn detection(engine: &Engine, nodes: &[Node], states: &[ContainerState]) -> Result<Option<Setting>> {
    let mut running = nodes.iter().zip(states).filter(|(_, s)| s.status == "running").map(|(n, _)| n);
    let Some(balancer) = running.find(|n| n.role == Role::LoadBalancer) else { return Ok(None) };
    for (path, detection) in balancer::KNOWN {
        if let Some(config) = file(engine, &balancer.id, path).await? {
            return Ok(detection(&config));
        }
    }
    Ok(None)
}

/// Asks the API on which node each leader-elected component leads. Plans that break a leader need this.
///
/// # Errors
/// If the API does not answer, or nobody leads.
pub async fn read_leaders(client: &kube::Client) -> Result<BTreeMap<Leader, String>> {
    let nodes = try_join_all(Leader::ALL.map(|leader| leader_lease::leader(client, leader))).await?;
    Ok(Leader::ALL.into_iter().zip(nodes).collect())
}

/// Version of Kubernetes on a node, such as `v1.34.4`.
async fn version(engine: &Engine, node: &NodeId) -> Result<String> {
    let told = match file(engine, node, "/kind/version").await? {
        Some(text) => Some(text),
        None => stdout(engine, node, &["kubelet", "--version"]).await?.map(|text| text.replace("Kubernetes ", "")),
    };
    let told = told.map(|text| text.trim().to_owned()).filter(|text| text.starts_with('v'));
    told.ok_or_else(|| Error::could_not_run(format!("{} tells no version of Kubernetes", node.name)))
}

/// A file of a node; `None` if it is not there.
async fn file(engine: &Engine, node: &NodeId, path: &str) -> Result<Option<String>> {
    stdout(engine, node, &["cat", "--", path]).await
}

/// Standard output of a command in a node; `None` if the command fails.
async fn stdout(engine: &Engine, node: &NodeId, argv: &[&str]) -> Result<Option<String>> {
    let output = engine.exec(node, argv, None, READ_FILE).await?;
    Ok((output.code == 0).then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_memory_of_the_engines_machine_outlives_the_node() {
        let mounts = BTreeSet::from(["/var".to_owned(), "/var/lib/etcd".to_owned()]);
        assert_eq!(lost_with_it("/run /run/etcd", &mounts), Some("/run/etcd".into()));
        assert_eq!(lost_with_it("/var/lib/other /var/lib/other/data", &mounts), Some("/var/lib/other/data".into()));
        assert_eq!(lost_with_it("/var/lib/etcd /var/lib/etcd", &mounts), None);
    }
}
