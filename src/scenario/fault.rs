//! The faults that scenario files name.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Flag, ObjectName, Percent};
use crate::component::Component;
use crate::node::Role;

/// What is done to the cluster. Every fault has an effect proof by an independent witness, and an undo (see
/// [`crate::fault`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FaultSpec {
    /// The node loses its power: its init is killed from outside with SIGKILL, and the container is kept from
    /// restarting.
    PowerOff {
        /// Target to break.
        node: String,
    },
    /// The node is shut down cleanly (the engine's stop: the node's init gets its stop signal).
    Stop {
        /// Target to break.
        node: String,
    },
    /// The node is frozen, like a paused virtual machine.
    Pause {
        /// Target to break.
        node: String,
    },
    /// The node is killed and comes back at once by a restart policy, like a machine that its provider restarts
    /// automatically.
    Restart {
        /// Target to break.
        node: String,
        /// What happens to the data that its etcd has stored.
        #[serde(default)]
        store: StoreOfRestarted,
    },
    /// The node crashes and starts over and over: each time it is started, it is killed again in its boot, before its
    /// kubelet gets to report.
    RestartLoop {
        /// Target to break.
        node: String,
    },
    /// The node's kubelet is stopped; its containers keep running.
    KubeletStop {
        /// Target to break.
        node: String,
    },
    /// The node's kubelet is frozen: its process exists but does nothing.
    KubeletFreeze {
        /// Target to break.
        node: String,
        /// First make systemd watch the kubelet (`WatchdogSec`, which kubelets answer since Kubernetes 1.32).
        #[serde(default)]
        watchdog: bool,
    },
    /// The node's kubelet is killed once.
    KubeletKill {
        /// Target to break.
        node: String,
        /// If true, its unit starts another one (kind's own setting); if false, the unit is first set not to.
        restart: bool,
    },
    /// The node's kubelet is killed every time it is started.
    KubeletCrash {
        /// Target to break.
        node: String,
    },
    /// The node's kubelet is restarted with a configuration that it can't use.
    KubeletConfig {
        /// Target to break.
        node: String,
        /// What happens to its configuration file.
        file: BadConfig,
    },
    /// A component of the control plane is down: its static pod is taken away from the node's kubelet.
    ComponentDown {
        /// Target to break.
        node: String,
        /// The component that is down.
        component: Component,
    },
    /// A component of the control plane is killed once; the node's kubelet restarts it.
    ComponentKill {
        /// Target to break.
        node: String,
        /// The component that is killed.
        component: Component,
    },
    /// A component of the control plane is frozen: its process exists but does nothing, until the kubelet finds it dead
    /// and starts another.
    ComponentFreeze {
        /// Target to break.
        node: String,
        /// The component that is frozen.
        component: Component,
    },
    /// A component of the control plane is restarted with a wrong flag, as an operator might set it: one that it does
    /// not know, or one that makes it do something else.
    ComponentFlag {
        /// Target to break.
        node: String,
        /// The component that is restarted.
        component: Component,
        /// The flag. It replaces the component's own flag of the same name.
        flag: Flag,
    },
    /// The API server's storage is lost: etcd's data directory on this node, where etcd has only one member. etcd is
    /// killed with it and restarted by its kubelet, and so is the API server if it is not kept.
    StoreLoss {
        /// Target to break.
        node: String,
        /// What is left of the storage.
        left: StoreLeft,
        /// What becomes of the API server.
        #[serde(default, rename = "api-server")]
        api_server: ApiServerOfStore,
    },
    /// One of three or more etcd members is lost with its data, as if its disk had failed: etcd is down on this node,
    /// and its data directory is gone.
    MemberLoss {
        /// Target to break.
        node: String,
    },
    /// The nodes are cut off from all others by packet filters inside them, which drop packets silently for both sides.
    /// The nodes can still reach each other.
    Partition {
        /// Targets to cut off.
        #[schemars(length(min = 1))]
        nodes: Vec<String>,
        /// Which of their traffic is dropped.
        #[serde(default)]
        drops: Dropped,
    },
    /// The network of the node is bad: of all packets that it exchanges with other nodes, each may get lost, silently.
    PacketLoss {
        /// Target to break.
        node: String,
        /// How many packets of a hundred get lost, in each direction.
        percent: Percent,
    },
    /// A certificate has expired: it is replaced by a similar one for the same key whose validity is over. The
    /// component that presents it is restarted.
    CertificateExpired {
        /// Target to break.
        node: String,
        /// Whose certificate it is.
        of: CertificateOf,
    },
    /// The data that a workload has stored on its volume on this node is lost, or nothing can be added to it. Its
    /// container is killed, so that it is restarted with what is left.
    VolumeLoss {
        /// Target to break.
        node: String,
        /// Workload, with its state on a claim, whose pods are on that node.
        of: String,
        /// What is left of the volume.
        left: VolumeLeft,
    },
    /// The containers of a workload on this node are killed once; the node's kubelet starts others.
    ContainerKill {
        /// Target to break.
        node: String,
        /// Workload whose pods are on that node.
        of: String,
    },
    /// An operator drains the nodes: no more pods are scheduled there, and the pods of this scenario's workloads are
    /// evicted as far as their budgets allow. The drain keeps trying until the undo.
    Drain {
        /// Targets to drain.
        #[schemars(length(min = 1))]
        nodes: Vec<String>,
    },
    /// An operator deletes a workload: its controller or bare pod, and its Service.
    Delete {
        /// Workload to delete.
        workload: String,
        /// First give its objects a finalizer that nobody ever removes, as one whose controller is gone.
        #[serde(default)]
        held: bool,
        /// Delete the claim of its volume, too, whose reclaim policy is this.
        #[serde(default)]
        reclaim: Option<Reclaim>,
    },
    /// An operator deletes the namespace of this scenario's workloads, and with it all that is in it.
    DeleteNamespace {},
    /// An operator deletes a ClusterRoleBinding, and with it the rights that it grants.
    DeleteBinding {
        /// Name of the binding. `kubeadm:cluster-admins` grants all rights to the user of kubeadm's `admin.conf`.
        name: ObjectName,
    },
    /// An operator makes every write to the API need the approval of a webhook that nobody serves.
    DeadWebhook {
        /// What happens to a write that nobody has approved.
        unanswered: Unanswered,
    },
}

/// Where a fault is made. How it is undone and who can see it depend on this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The node's container, through the engine.
    Container,
    /// Inside the node.
    Inside,
    /// The API, as an operator who is logged in to a control plane.
    Api,
}

/// Who presents a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateOf {
    /// The API server, to its clients.
    KubeApiserver,
    /// The kubelet, to the API server.
    Kubelet,
    /// etcd, to the other members of its cluster.
    EtcdPeer,
}

impl CertificateOf {
    /// The component of the control plane that presents it, if one does.
    pub fn component(self) -> Option<Component> {
        match self {
            Self::KubeApiserver => Some(Component::KubeApiserver),
            Self::EtcdPeer => Some(Component::Etcd),
            Self::Kubelet => None,
        }
    }

    /// Where it is in a node of kubeadm.
    pub fn file(self) -> &'static str {
        match self {
            Self::KubeApiserver => "/etc/kubernetes/pki/apiserver.crt",
            Self::EtcdPeer => "/etc/kubernetes/pki/etcd/peer.crt",
            Self::Kubelet => "/var/lib/kubelet/pki/kubelet-client-current.pem",
        }
    }
}

/// What happens to a write when the webhook that should approve it does not answer (its `failurePolicy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unanswered {
    /// The write is refused (`Fail`, Kubernetes' default).
    Refuses,
    /// The write is let through (`Ignore`).
    LetsThrough,
}

/// What is left of a volume that was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeLeft {
    /// Nothing: its directory is gone.
    Nothing,
    /// A similar directory with nothing in it.
    Empty,
    /// All data, to be read only, as on a disk that its system has stopped writing to after an error.
    ReadOnly,
    /// All data, and no room for any more.
    Full,
}

/// What becomes of a volume whose claim is deleted (its `persistentVolumeReclaimPolicy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Reclaim {
    /// It is deleted, with all that is on it.
    Delete,
    /// It stays, and whoever knows of it can have it again.
    Retain,
}

/// What is left of a store that was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StoreLeft {
    /// Nothing: etcd creates an empty store.
    Nothing,
    /// Files that etcd can't read.
    Garbage,
}

/// What becomes of an API server whose storage is lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ApiServerOfStore {
    /// It is restarted, too, and knows what the storage knows.
    #[default]
    Restarted,
    /// It runs on, and remembers what there was.
    Kept,
}

/// What happens to etcd's storage when its node is restarted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StoreOfRestarted {
    /// It is on a disk that outlives the machine.
    #[default]
    Kept,
    /// It is lost with the machine: etcd finds nothing, as on a disk that is recreated with the machine, or in memory.
    /// Only where etcd has one member.
    Lost,
}

/// Which traffic a partition drops.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Dropped {
    /// All traffic of the nodes and their pods, in both directions.
    #[default]
    Everything,
    /// Only what the nodes and their pods send to API servers.
    ToApi,
    /// Only what control planes send to the nodes' kubelets.
    ToKubelet,
    /// Only what the etcd members on the nodes send to other members over connections that they opened themselves. They
    /// still answer requests from other members.
    ToEtcd,
    /// Only what comes to the nodes' API servers from outside of the cluster, as users' requests do. The cluster's own
    /// nodes and pods still reach them.
    FromUsers,
}

/// What happens to a configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BadConfig {
    /// It can't be read: it is not even YAML.
    Invalid,
    /// It is removed.
    Removed,
}

impl FaultSpec {
    /// Where the fault is made.
    pub fn place(&self) -> Place {
        match self {
            Self::PowerOff { .. }
            | Self::Stop { .. }
            | Self::Pause { .. }
            | Self::Restart { .. }
            | Self::RestartLoop { .. } => Place::Container,
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
            | Self::PacketLoss { .. }
            | Self::VolumeLoss { .. }
            | Self::ContainerKill { .. }
            | Self::CertificateExpired { .. } => Place::Inside,
            Self::Drain { .. }
            | Self::Delete { .. }
            | Self::DeleteNamespace {}
            | Self::DeleteBinding { .. }
            | Self::DeadWebhook { .. } => Place::Api,
        }
    }

    /// Does the fault end by itself at once, so that the only thing left to observe is that it happened?
    pub fn heals_itself(&self) -> bool {
        matches!(
            self,
            Self::Restart { store: StoreOfRestarted::Kept, .. }
                | Self::KubeletKill { restart: true, .. }
                | Self::KubeletFreeze { watchdog: true, .. }
                | Self::ComponentKill { .. }
                | Self::ContainerKill { .. }
        )
    }

    /// Is the fault made again and again, as long as it is in?
    pub fn is_repeated(&self) -> bool {
        matches!(self, Self::RestartLoop { .. })
    }

    /// Does Kubernetes lose sight of the nodes that the fault breaks, and so react as to lost nodes?
    pub fn hides_nodes(&self) -> bool {
        match self {
            Self::Partition { drops, .. } => matches!(drops, Dropped::Everything | Dropped::ToApi),
            // What a bad network hides, and when, is a matter of luck.
            Self::PacketLoss { .. } | Self::VolumeLoss { .. } | Self::ContainerKill { .. } => false,
            _ => self.component().is_none() && self.place() != Place::Api,
        }
    }

    /// May the fault keep kubelets that go on running from the API, at least for a while? If the node that it breaks is a
    /// control plane, or the load balancer in front of several, so is the way to the API that kubelets have.
    pub fn hides_api(&self, of: Role) -> bool {
        match self {
            Self::Partition { drops, .. } => matches!(drops, Dropped::Everything | Dropped::ToApi),
            Self::PacketLoss { .. } => true,
            _ if self.place() == Place::Container => of != Role::Worker,
            _ => matches!(self.component(), Some(Component::KubeApiserver | Component::Etcd)),
        }
    }

    /// The component of the control plane that the fault breaks, if any.
    pub fn component(&self) -> Option<Component> {
        match self {
            Self::ComponentDown { component, .. }
            | Self::ComponentKill { component, .. }
            | Self::ComponentFreeze { component, .. }
            | Self::ComponentFlag { component, .. } => Some(*component),
            Self::StoreLoss { .. } | Self::MemberLoss { .. } => Some(Component::Etcd),
            Self::CertificateExpired { of, .. } => of.component(),
            _ => None,
        }
    }

    /// What the fault leaves of etcd's storage, if it takes any of it.
    pub fn store_left(&self) -> Option<StoreLeft> {
        match self {
            Self::StoreLoss { left, .. } => Some(*left),
            Self::Restart { store: StoreOfRestarted::Lost, .. } => Some(StoreLeft::Nothing),
            _ => None,
        }
    }

    /// Names of the targets that the fault breaks. A fault made through the API breaks no node of its own.
    pub fn nodes(&self) -> &[String] {
        match self {
            Self::PowerOff { node }
            | Self::Stop { node }
            | Self::Pause { node }
            | Self::Restart { node, .. }
            | Self::RestartLoop { node }
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
            | Self::PacketLoss { node, .. }
            | Self::VolumeLoss { node, .. }
            | Self::ContainerKill { node, .. }
            | Self::CertificateExpired { node, .. } => std::slice::from_ref(node),
            Self::Partition { nodes, .. } | Self::Drain { nodes } => nodes,
            Self::Delete { .. } | Self::DeleteNamespace {} | Self::DeleteBinding { .. } | Self::DeadWebhook { .. } => {
                &[]
            }
        }
    }
}
