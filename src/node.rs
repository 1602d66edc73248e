//! The nodes of a kind cluster, as data: containers that have a role.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Role of a kind node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Runs the control plane.
    ControlPlane,
    /// Runs workloads only.
    Worker,
    /// kind's load balancer in front of several control planes (a kind artefact, not a Kubernetes node).
    LoadBalancer,
}

/// A node's container. It comes from a list filtered by kind's cluster label, and is re-inspected by id before anything
/// is changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeId {
    /// Full container id.
    pub id: String,
    /// Container name, which is also the Kubernetes node's name.
    pub name: String,
}

/// Restart policy of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Never restarted.
    No,
    /// Always restarted, unless it was stopped through the engine.
    Always,
    /// Like `Always`, but not restarted at engine start if it was stopped before.
    UnlessStopped,
    /// Restarted after a non-zero exit, at most this many times (0: without limit).
    OnFailure(u32),
}

impl fmt::Display for RestartPolicy {
    /// Writes the policy as `docker update --restart=` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("no"),
            Self::Always => f.write_str("always"),
            Self::UnlessStopped => f.write_str("unless-stopped"),
            Self::OnFailure(0) => f.write_str("on-failure"),
            Self::OnFailure(n) => write!(f, "on-failure:{n}"),
        }
    }
}
