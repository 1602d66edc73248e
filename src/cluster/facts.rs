//! What was read off a running cluster: the settings that bound every window, and what the machine can do.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::docker::{NodeId, RestartPolicy};
use crate::scenario::Role;

/// Everything a plan needs to know of a cluster. Read from below (engine, files in the nodes), so it can be had with the API down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Name of the kind cluster.
    pub cluster: String,
    /// The engine's own id.
    pub engine: String,
    /// Kubernetes version, as `v1.34.4`.
    pub kubernetes: String,
    /// Nodes by name.
    pub nodes: BTreeMap<String, NodeFacts>,
    /// Clocks by name. Every clock that a window needs is here, with where it was read.
    pub clocks: BTreeMap<Clock, Setting>,
    /// Names of capabilities this cluster and machine lack, with the reason.
    pub lacks: BTreeMap<String, String>,
}

/// What was read of one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// Its container.
    pub node: NodeId,
    /// Its role.
    pub role: Role,
    /// IPv4 address by network name.
    pub addresses: BTreeMap<String, String>,
    /// Is its address fixed by configuration, so that it survives restarts?
    pub pinned: bool,
    /// Its container's restart policy.
    pub restart_policy: RestartPolicy,
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
    /// The same for a not-ready node.
    NotReadyToleration,
    /// How often a kubelet reports its status.
    NodeStatusUpdate,
    /// How often a service proxy applies changes at the most.
    ProxyMinSync,
}

/// The value of a setting and where it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The value in force.
    pub value: Duration,
    /// Where it was read, for people: `kube-controller-manager --node-monitor-grace-period`, or `default of v1.34`.
    pub source: String,
}
