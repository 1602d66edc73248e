//! The components of a control plane.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A component of the control plane, by the name of its static pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Component {
    /// The API server.
    KubeApiserver,
    /// The controller manager: nodes, replicas, endpoints, evictions.
    KubeControllerManager,
    /// The scheduler.
    KubeScheduler,
    /// The API server's storage.
    Etcd,
}

impl Component {
    /// The component's name, which is also the name of its manifest and its program.
    pub fn name(self) -> &'static str {
        match self {
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::Etcd => "etcd",
        }
    }

    /// The kernel's name for its process: the first 15 bytes of its name.
    pub fn comm(self) -> &'static str {
        let name = self.name();
        &name[..name.len().min(15)]
    }
}

/// A component of the control plane that has one leading instance; the others wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Leader {
    /// The controller manager.
    KubeControllerManager,
    /// The scheduler.
    KubeScheduler,
}

impl Leader {
    /// All leaders.
    pub const ALL: [Self; 2] = [Self::KubeControllerManager, Self::KubeScheduler];

    /// The component's name, which is also the name of its lease in `kube-system`.
    pub fn name(self) -> &'static str {
        match self {
            Self::KubeControllerManager => Component::KubeControllerManager.name(),
            Self::KubeScheduler => Component::KubeScheduler.name(),
        }
    }
}
