//! Faults as scenario files name them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Flag, ObjectName};

/// What is done to the cluster. Every fault has an effect proof by an independent witness and an undo (see [`crate::fault`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FaultSpec {
    /// The node loses its power: its init is killed from outside with SIGKILL and the container is kept from restarting.
    PowerOff {
        /// Target to break.
        node: String,
    },
    /// The node is shut down cleanly (the engine's stop: the node's init gets its stop signal).
    Stop {
        /// Target to break.
        node: String,
    },
    /// The node is frozen, as a paused virtual machine is.
    Pause {
        /// Target to break.
        node: String,
    },
    /// The node is killed and comes back at once by a restart policy, as a machine does that its provider restarts automatically.
    Restart {
        /// Target to break.
        node: String,
        /// What becomes of what its etcd has stored.
        #[serde(default)]
        store: StoreOfRestarted,
    },
    /// The node's kubelet is stopped; its containers run on.
    KubeletStop {
        /// Target to break.
        node: String,
    },
    /// The node's kubelet is frozen: its process is there and does nothing.
    KubeletFreeze {
        /// Target to break.
        node: String,
        /// Before that, systemd is set to watch over it (`WatchdogSec`, which kubelets answer from Kubernetes 1.32 on).
        #[serde(default)]
        watchdog: bool,
    },
    /// The node's kubelet is killed, once.
    KubeletKill {
        /// Target to break.
        node: String,
        /// Its unit starts another one (kind's own setting); if not, the unit is set so before.
        restart: bool,
    },
    /// The node's kubelet is killed as often as it is started.
    KubeletCrash {
        /// Target to break.
        node: String,
    },
    /// The node's kubelet is started again with a configuration that it can't use.
    KubeletConfig {
        /// Target to break.
        node: String,
        /// What becomes of its configuration file.
        file: BadConfig,
    },
    /// A component of the control plane is down: its static pod is taken away from the node's kubelet.
    ComponentDown {
        /// Target to break.
        node: String,
        /// What is down.
        component: Component,
    },
    /// A component of the control plane is killed, once; the node's kubelet starts it again.
    ComponentKill {
        /// Target to break.
        node: String,
        /// What is killed.
        component: Component,
    },
    /// A component of the control plane is frozen: its process is there and does nothing, until its kubelet finds it dead and starts another.
    ComponentFreeze {
        /// Target to break.
        node: String,
        /// What is frozen.
        component: Component,
    },
    /// A component of the control plane is started anew with a flag that is set wrong, as an operator would: one that it does not know, or
    /// that makes it do something else.
    ComponentFlag {
        /// Target to break.
        node: String,
        /// What is started anew.
        component: Component,
        /// The flag, in the place of the one of that name that it has.
        flag: Flag,
    },
    /// The API server's storage is lost: etcd's data directory on this node, the only one. The API server and etcd are killed with it, and started
    /// again by their kubelet.
    StoreLoss {
        /// Target to break.
        node: String,
        /// What is left of the storage.
        left: StoreLeft,
    },
    /// One member of etcd, of three or more, is lost with what it had stored, as with the disk under it: etcd is down on this node, and its data
    /// directory is not there.
    MemberLoss {
        /// Target to break.
        node: String,
    },
    /// The nodes are cut off from all others by packet filters inside of them, without a word to either side. They still reach each other.
    Partition {
        /// Targets that are cut off.
        #[schemars(length(min = 1))]
        nodes: Vec<String>,
        /// Which of their traffic is dropped.
        #[serde(default)]
        drops: Dropped,
    },
    /// A certificate has expired: it is replaced by one like it, for the same key, whose time is over; whoever shows it is started anew.
    CertificateExpired {
        /// Target to break.
        node: String,
        /// Whose certificate.
        of: CertificateOf,
    },
    /// What a workload has stored on its volume on this node is lost, and its container killed, so that it is started again with what is left.
    VolumeLoss {
        /// Target to break.
        node: String,
        /// Workload, with its state on a claim, whose pods are on that node.
        of: String,
        /// What is left of the volume.
        left: VolumeLeft,
    },
    /// An operator drains the nodes: nothing more is scheduled there, and the pods of this scenario's workloads are evicted as far as their
    /// budgets allow. It goes on trying until the undo.
    Drain {
        /// Targets that are drained.
        #[schemars(length(min = 1))]
        nodes: Vec<String>,
    },
    /// An operator deletes a workload: its controller, or the bare pod, and its Service.
    Delete {
        /// Workload.
        workload: String,
    },
    /// An operator deletes a ClusterRoleBinding, and with it the rights that it gives.
    DeleteBinding {
        /// Its name. `kubeadm:cluster-admins` gives whoever uses kubeadm's `admin.conf` all his rights.
        name: ObjectName,
    },
    /// An operator has every write to the API approved by a webhook that nobody serves.
    DeadWebhook {
        /// What is to become of a write that nobody has approved.
        unanswered: Unanswered,
    },
}

/// Where a fault is made; how it is undone, and who can see it, follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The node's container, through the engine.
    Container,
    /// Inside of the node.
    Inside,
    /// The API, as an operator who is logged into a control plane.
    Api,
}

/// Who shows a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateOf {
    /// The API server, to its clients.
    KubeApiserver,
    /// The kubelet, to the API server.
    Kubelet,
}

/// What becomes of a write that is to be approved by a webhook which does not answer (its `failurePolicy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unanswered {
    /// It is refused (`Fail`, Kubernetes' default).
    Refuses,
    /// It is let through (`Ignore`).
    LetsThrough,
}

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
    /// Its name, as that of its manifest and of its program.
    pub fn name(self) -> &'static str {
        match self {
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::Etcd => "etcd",
        }
    }

    /// What the kernel calls its process: the first 15 bytes of its name.
    pub fn comm(self) -> &'static str {
        let name = self.name();
        &name[..name.len().min(15)]
    }
}

/// What is left of a volume that was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeLeft {
    /// Nothing at all: its directory is gone.
    Nothing,
    /// A directory like it, with nothing in it.
    Empty,
}

/// What is left of a store that was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StoreLeft {
    /// Nothing: etcd makes an empty one.
    Nothing,
    /// Files that etcd can't read.
    Garbage,
}

/// What becomes of etcd's storage when its node is restarted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StoreOfRestarted {
    /// It is on a disk that outlives the machine.
    #[default]
    Kept,
    /// It goes with the machine: etcd finds nothing there, as on a disk that is made anew with it, or in memory. Only where etcd has one member.
    Lost,
}

/// Which traffic a partition drops.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Dropped {
    /// All of it, both ways: of the nodes and of their pods.
    #[default]
    Everything,
    /// Only what the nodes, and their pods, send to API servers.
    ToApi,
    /// Only what control planes send to the nodes' kubelets.
    ToKubelet,
    /// Only what the nodes' members of etcd send to others over connections that they have made themselves. Who asks them is answered.
    ToEtcd,
}

/// What becomes of a configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BadConfig {
    /// It can't be read: not even YAML.
    Invalid,
    /// It is gone.
    Removed,
}

impl FaultSpec {
    /// Where it is made.
    pub fn place(&self) -> Place {
        match self {
            Self::PowerOff { .. } | Self::Stop { .. } | Self::Pause { .. } | Self::Restart { .. } => Place::Container,
            Self::KubeletStop { .. }
            | Self::KubeletFreeze { .. }
            | Self::KubeletKill { .. }
            | Self::KubeletCrash { .. }
            | Self::KubeletConfig { .. }
            | Self::ComponentDown { .. }
            | Self::ComponentKill { .. }
            | Self::ComponentFreeze { .. }
            | Self::ComponentFlag { .. }
            | Self::StoreLoss { .. }
            | Self::MemberLoss { .. }
            | Self::Partition { .. }
            | Self::VolumeLoss { .. }
            | Self::CertificateExpired { .. } => Place::Inside,
            Self::Drain { .. } | Self::Delete { .. } | Self::DeleteBinding { .. } | Self::DeadWebhook { .. } => {
                Place::Api
            }
        }
    }

    /// Does it end by itself at once, so that nothing is left to be seen of it but that it has happened?
    pub fn heals_itself(&self) -> bool {
        matches!(
            self,
            Self::Restart { store: StoreOfRestarted::Kept, .. }
                | Self::KubeletKill { restart: true, .. }
                | Self::KubeletFreeze { watchdog: true, .. }
                | Self::ComponentKill { .. }
        )
    }

    /// Does Kubernetes lose sight of the nodes that it breaks, so that what it does about lost nodes follows?
    pub fn hides_nodes(&self) -> bool {
        match self {
            Self::Partition { drops, .. } => matches!(drops, Dropped::Everything | Dropped::ToApi),
            Self::VolumeLoss { .. } => false,
            _ => self.component().is_none() && self.place() != Place::Api,
        }
    }

    /// The component of the control plane that it breaks, if it does.
    pub fn component(&self) -> Option<Component> {
        match self {
            Self::ComponentDown { component, .. }
            | Self::ComponentKill { component, .. }
            | Self::ComponentFreeze { component, .. }
            | Self::ComponentFlag { component, .. } => Some(*component),
            Self::StoreLoss { .. } | Self::MemberLoss { .. } => Some(Component::Etcd),
            Self::CertificateExpired { of: CertificateOf::KubeApiserver, .. } => Some(Component::KubeApiserver),
            _ => None,
        }
    }

    /// What it leaves of etcd's storage, if it takes any of it.
    pub fn store_left(&self) -> Option<StoreLeft> {
        match self {
            Self::StoreLoss { left, .. } => Some(*left),
            Self::Restart { store: StoreOfRestarted::Lost, .. } => Some(StoreLeft::Nothing),
            _ => None,
        }
    }

    /// Names of the targets that it breaks. What is done to the API breaks no node of its own.
    pub fn nodes(&self) -> &[String] {
        match self {
            Self::PowerOff { node }
            | Self::Stop { node }
            | Self::Pause { node }
            | Self::Restart { node, .. }
            | Self::KubeletStop { node }
            | Self::KubeletFreeze { node, .. }
            | Self::KubeletKill { node, .. }
            | Self::KubeletCrash { node }
            | Self::KubeletConfig { node, .. }
            | Self::ComponentDown { node, .. }
            | Self::ComponentKill { node, .. }
            | Self::ComponentFreeze { node, .. }
            | Self::ComponentFlag { node, .. }
            | Self::StoreLoss { node, .. }
            | Self::MemberLoss { node }
            | Self::VolumeLoss { node, .. }
            | Self::CertificateExpired { node, .. } => std::slice::from_ref(node),
            Self::Partition { nodes, .. } | Self::Drain { nodes } => nodes,
            Self::Delete { .. } | Self::DeleteBinding { .. } | Self::DeadWebhook { .. } => &[],
        }
    }
}
