//! A scenario file: which sentences of the page it puts to the test, what it breaks, and what must then be seen.
//!
//! Takes YAML text, gives a [`Scenario`] or diagnostics with line, column and a suggestion. Scenario files are data: no sleeps,
//! loops, templates or shell. Nothing here knows a cluster; [`crate::plan`] resolves a scenario against one.

mod address;
mod check;
mod contradiction;
mod diagnostic;
mod flag;
mod library;
mod load;
mod name;
mod schema;
mod shape;
mod tree;

pub use address::{Address, NotAnAddress};
pub use diagnostic::Diagnostics;
pub use flag::{Flag, NotAFlag};
pub use library::{builtin, find, open, split_variant};
pub use load::{MAX_FILE, load};
pub use name::{MAX_NAME, Name, NotAName};
pub use schema::schema;

use std::collections::BTreeMap;
use std::fmt;
use std::mem::discriminant;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// One documented failure and the claims made about it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Scenario {
    /// Name on the command line and in reports; the file is `NAME.yaml`.
    pub scenario: Name,
    /// What breaks and what is expected to hold, in a sentence or two.
    pub summary: String,
    /// The kind config (by name, from `kind-configs/`, or a path) of the cluster this scenario needs.
    pub topology: String,
    /// Nodes by role, under the names that faults and probes use.
    #[schemars(extend("minProperties" = 1))]
    pub targets: BTreeMap<Name, Target>,
    /// What runs in the cluster while it is broken, under the names that probes use.
    #[serde(default)]
    pub workloads: BTreeMap<Name, Workload>,
    /// What is broken, by variant. The first variant is the one that runs when none is named.
    #[schemars(length(min = 1))]
    pub variants: Vec<Variant>,
    /// What must be seen.
    #[schemars(length(min = 1))]
    pub claims: Vec<Claim>,
}

impl Scenario {
    /// The variant of this name, or the first one.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn variant(&self, name: Option<&str>) -> Result<&Variant> {
        let names = self.variants.iter().map(|v| v.name.as_str());
        let found = match name {
            None => self.variants.first(),
            Some(name) => self.variants.iter().find(|v| v.name == name),
        };
        found.ok_or_else(|| {
            let name = name.unwrap_or_default();
            let near = diagnostic::nearest(name, names.clone()).map(|n| format!("did you mean `{n}`? "));
            Error::usage(format!("scenario `{}` has no variant {}", self.scenario, diagnostic::quoted(name)))
                .next(format!("{}it has {}", near.unwrap_or_default(), names.collect::<Vec<_>>().join(", ")))
        })
    }

    /// The variant that is the other arm of this one's mitigations, if they are in two: its control, or the one whose control it is.
    pub fn other_arm<'s>(&'s self, variant: &'s Variant) -> Option<&'s Name> {
        let names_it = |v: &&Variant| v.control.as_ref() == Some(&variant.name);
        let treatment = || self.variants.iter().find(names_it).map(|v| &v.name);
        variant.control.as_ref().or_else(treatment)
    }

    /// Does this variant break a node that is chosen for what leads there?
    pub fn breaks_a_leader(&self, variant: &str) -> bool {
        let broken = self.variants.iter().filter(|v| v.name == variant).flat_map(|v| v.fault.nodes());
        broken.filter_map(|name| self.targets.get(name.as_str())).any(|target| target.leads.is_some())
    }

    /// The claims that are made about a variant.
    pub fn claims_about(&self, variant: &Name) -> impl Iterator<Item = &Claim> {
        self.claims.iter().filter(move |c| c.is_about(variant))
    }

    /// The scenario as if it had this variant only.
    #[must_use]
    pub fn narrowed_to(mut self, variant: &Name) -> Self {
        self.variants.retain(|v| v.name == *variant);
        self.claims.retain(|c| c.is_about(variant));
        self
    }

    /// The topology, as seen from the working directory: a path in a scenario file is relative to that file.
    pub fn topology_from(&self, source: &str) -> String {
        let is_path =
            self.topology.contains('/') || self.topology.ends_with(".yaml") || self.topology.ends_with(".yml");
        match Path::new(source).parent() {
            Some(directory) if is_path => directory.join(&self.topology).display().to_string(),
            _ => self.topology.clone(),
        }
    }
}

/// A node chosen by role when the plan is made; the seed decides between equals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Target {
    /// Role of the node.
    pub role: Role,
    /// Only the control plane on which this component leads. Such a target is chosen only where the fault breaks it, so that two of them may
    /// lead on one node.
    #[serde(default)]
    pub leads: Option<Leader>,
}

/// A component of the control plane of which one instance leads and the others wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Leader {
    /// The controller manager.
    KubeControllerManager,
    /// The scheduler.
    KubeScheduler,
}

impl Leader {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::KubeControllerManager, Self::KubeScheduler];

    /// Its name, as that of its lease in `kube-system`.
    pub fn name(self) -> &'static str {
        match self {
            Self::KubeControllerManager => Component::KubeControllerManager.name(),
            Self::KubeScheduler => Component::KubeScheduler.name(),
        }
    }
}

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

/// Something that runs in the cluster during the experiment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Workload {
    /// Which controller owns the pods.
    pub kind: WorkloadKind,
    /// Number of pods (a DaemonSet has one on each schedulable node, a bare pod is one).
    #[serde(default = "one")]
    pub replicas: u32,
    /// Target whose node the pods are placed on. Without it the scheduler decides.
    #[serde(default)]
    pub on: Option<String>,
    /// Keep the replicas on different nodes, a target's among them. A wish to the scheduler, so that replacements can land while a node is
    /// down; that it was fulfilled is verified before anything is broken.
    #[serde(default)]
    pub spread: bool,
    /// What the containers do.
    #[serde(default)]
    pub app: App,
    /// Where the app keeps its state (`app: keeper` only).
    #[serde(default)]
    pub state: Option<State>,
    /// Restart policy of the pods; only a bare pod may have another one than `Always`.
    #[serde(default)]
    pub restart: Restart,
    /// Put a Service in front of the pods.
    #[serde(default)]
    pub service: bool,
    /// Stay on a node that is not ready or unreachable for ever, instead of Kubernetes' default tolerations.
    #[serde(default)]
    pub tolerate_node_loss: bool,
    /// Put into the cluster once the fault is in, not before. At the very beginning of the fault there is nothing of it yet.
    #[serde(default)]
    pub late: bool,
    /// Put into the cluster only once the snapshot is taken that a `remedy` restores, so that it is not in it.
    #[serde(default)]
    pub after_snapshot: bool,
}

impl Workload {
    /// When it is put into the cluster.
    pub fn stage(&self) -> Stage {
        match (self.late, self.after_snapshot) {
            (true, _) => Stage::WithTheFault,
            (false, true) => Stage::AfterSnapshot,
            (false, false) => Stage::First,
        }
    }
}

/// When a workload is put into the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Before anything else.
    First,
    /// When the snapshot is taken that a remedy restores.
    AfterSnapshot,
    /// Once the fault is in.
    WithTheFault,
}

fn one() -> u32 {
    1
}

/// Which controller owns a workload's pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WorkloadKind {
    /// A pod without a controller.
    Pod,
    /// A Deployment (hence a ReplicaSet).
    Deployment,
    /// A StatefulSet.
    StatefulSet,
    /// A DaemonSet.
    DaemonSet,
}

/// What a workload's containers do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum App {
    /// Kubernetes' own test server: agnhost `netexec`, answers HTTP with its host name.
    #[default]
    Netexec,
    /// Keeps a random token, made at its very first start, and answers HTTP with it: whoever gets another token has seen state lost.
    Keeper,
}

/// Where a keeper app has its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// In the process' memory.
    Memory,
    /// On an `emptyDir` volume, which lives as long as the pod.
    EmptyDir,
    /// On a persistent volume claim.
    Claim,
}

/// Restart policy of a pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub enum Restart {
    /// Containers are always restarted by their kubelet.
    #[default]
    Always,
    /// Containers are never restarted.
    Never,
}

/// One way to break the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Variant {
    /// Name of the variant: `kchaos run SCENARIO/VARIANT`.
    pub name: Name,
    /// The fault.
    pub fault: FaultSpec,
    /// End the fault before this Kubernetes window begins (an outage too short to be noticed). Without it the fault lasts until
    /// every claim about it is decided.
    #[serde(default)]
    pub ends_before: Option<WindowName>,
    /// Keep the fault in until this Kubernetes window would be over, counted as if a node were lost (an outage long enough that something could
    /// have come of it).
    #[serde(default)]
    pub lasts_beyond: Option<WindowName>,
    /// The variant that is this one without its mitigation: they differ in one thing, and each is one arm of it, in a run of its own. Whatever
    /// mitigation only one of them makes claims on is such a pair.
    #[serde(default)]
    pub control: Option<Name>,
    /// What is done about it, as an operator would, once every claim about the fault itself is decided. What follows is the `remedy` phase; the
    /// fault is undone after that all the same.
    #[serde(default)]
    pub remedy: Option<Remedy>,
}

/// What an operator does about a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Remedy {
    /// The API server's storage is restored from a snapshot that was taken before the fault, when the workloads ran (those that are
    /// `after-snapshot` excepted).
    RestoreSnapshot,
}

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
    /// The nodes are cut off from all others by packet filters inside of them, without a word to either side. They still reach each other.
    Partition {
        /// Targets that are cut off.
        #[schemars(length(min = 1))]
        nodes: Vec<String>,
        /// Which of their traffic is dropped.
        #[serde(default)]
        drops: Dropped,
    },
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
    /// Does it end by itself at once, so that nothing is left to be seen of it but that it has happened?
    pub fn heals_itself(&self) -> bool {
        match self {
            Self::Restart { store: StoreOfRestarted::Kept, .. }
            | Self::KubeletKill { restart: true, .. }
            | Self::KubeletFreeze { watchdog: true, .. }
            | Self::ComponentKill { .. } => true,
            Self::PowerOff { .. }
            | Self::Stop { .. }
            | Self::Pause { .. }
            | Self::KubeletStop { .. }
            | Self::KubeletFreeze { watchdog: false, .. }
            | Self::KubeletKill { restart: false, .. }
            | Self::KubeletCrash { .. }
            | Self::KubeletConfig { .. }
            | Self::ComponentDown { .. }
            | Self::ComponentFreeze { .. }
            | Self::ComponentFlag { .. }
            | Self::StoreLoss { .. }
            | Self::Restart { store: StoreOfRestarted::Lost, .. }
            | Self::Partition { .. } => false,
        }
    }

    /// Does Kubernetes lose sight of the nodes that it breaks, so that what it does about lost nodes follows?
    pub fn hides_nodes(&self) -> bool {
        match self {
            Self::Partition { drops, .. } => *drops != Dropped::ToKubelet,
            _ => self.component().is_none(),
        }
    }

    /// The component of the control plane that it breaks, if it does.
    pub fn component(&self) -> Option<Component> {
        match self {
            Self::ComponentDown { component, .. }
            | Self::ComponentKill { component, .. }
            | Self::ComponentFreeze { component, .. }
            | Self::ComponentFlag { component, .. } => Some(*component),
            Self::StoreLoss { .. } => Some(Component::Etcd),
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

    /// Names of the targets that it breaks.
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
            | Self::StoreLoss { node, .. } => std::slice::from_ref(node),
            Self::Partition { nodes, .. } => nodes,
        }
    }
}

/// One thing that must be seen, and the sentence of the page that says so.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Claim {
    /// Unique name within the file.
    pub claim: Name,
    /// Id of the page sentence (see `scenarios/page.yaml`).
    #[schemars(schema_with = "schema::sentence_ids")]
    pub sentence: String,
    /// The claim in words.
    pub says: String,
    /// Side of a mitigation pair: `treatment` has the mitigation, `control` lacks it. Only claims on a mitigation (`m.…`) have one.
    #[serde(default)]
    pub arm: Option<Arm>,
    /// Variants the claim is made for; all when absent.
    #[serde(default)]
    #[schemars(schema_with = "schema::some_names")]
    pub variants: Option<Vec<Name>>,
    /// What is looked at.
    pub probe: ProbeSpec,
    /// The expectation holds at every sample of the window.
    #[serde(default)]
    pub always: Option<Expect>,
    /// The expectation holds at no sample of the window.
    #[serde(default)]
    pub never: Option<Expect>,
    /// The expectation holds at some sample of the window.
    #[serde(default)]
    pub eventually: Option<Expect>,
    /// The value stays what it was in the baseline.
    #[serde(default)]
    #[schemars(schema_with = "schema::only_true")]
    pub unchanged: Option<Whole>,
    /// The claim is about this window.
    #[serde(default)]
    pub during: Option<WindowName>,
    /// The claim is about the time from the start of the window's phase to the start of the window.
    #[serde(default)]
    pub before: Option<WindowName>,
    /// The claim is about the time from the end of the window to the end of its phase.
    #[serde(default)]
    pub after: Option<WindowName>,
    /// Line in the file, from 1.
    #[serde(skip)]
    pub line: u32,
}

impl Claim {
    /// Is it made about this variant?
    pub fn is_about(&self, variant: &Name) -> bool {
        self.variants.as_ref().is_none_or(|only| only.contains(variant))
    }
}

/// The `true` of `unchanged: true`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Whole(pub bool);

/// Side of a mitigation pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Arm {
    /// With the mitigation.
    Treatment,
    /// Without the mitigation.
    Control,
}

/// What a probe looks at. Each gives one small value per sample.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ProbeSpec {
    /// From below: what the engine says of the node's container (`running`, `exited`, `paused`, …).
    NodeState(String),
    /// From below: number of processes in the node's container.
    NodeProcesses(String),
    /// From below: number of processes of a component of the control plane in the node's container.
    ComponentProcesses {
        /// Target.
        node: String,
        /// Of which component.
        component: Component,
    },
    /// From below: does the node's kubelet answer on its port when asked from another node?
    KubeletAnswers(String),
    /// From below: does an API server answer when asked from the node, where the node's kubelet asks it?
    ApiAnswers(String),
    /// From below: number of a workload's containers that run in the nodes, whatever the API or a kubelet believes.
    Containers {
        /// Workload.
        of: String,
        /// Only those on this target's node.
        #[serde(default)]
        on: Option<String>,
    },
    /// From below: ids of a workload's containers that run in the nodes.
    ContainerIdentities {
        /// Workload.
        of: String,
        /// Only those on this target's node.
        #[serde(default)]
        on: Option<String>,
    },
    /// Believed: status of the node's `Ready` condition (`True`, `False`, `Unknown`), or `absent`.
    NodeReady(String),
    /// Believed: taints of the node, as `key:Effect`.
    NodeTaints(String),
    /// Believed: number of pods.
    Pods {
        /// Workload.
        of: String,
        /// Only those that are …
        #[serde(default)]
        that: PodState,
        /// Only those on this target's node.
        #[serde(default)]
        on: Option<String>,
        /// Only those that are not on this target's node.
        #[serde(default)]
        off: Option<String>,
    },
    /// Believed: identities of the pods, as `name/uid`.
    PodIdentities {
        /// Workload.
        of: String,
    },
    /// Believed: total of container restarts of the workload's pods.
    Restarts {
        /// Workload.
        of: String,
    },
    /// Believed: number of ready endpoints of the workload's Service.
    Endpoints {
        /// Workload.
        of: String,
        /// Only those on this target's node.
        #[serde(default)]
        on: Option<String>,
    },
    /// Requests at a fixed rate to the workload's Service, from pods on every node that the fault does not touch.
    Requests {
        /// Workload.
        to: String,
        /// From a pod on this target's node instead.
        #[serde(default)]
        from: Option<String>,
    },
    /// Requests at a fixed rate to the addresses that the workload's pods had in the baseline, from pods on every node that the fault does
    /// not touch.
    PodRequests {
        /// Workload.
        to: String,
        /// From a pod on this target's node instead.
        #[serde(default)]
        from: Option<String>,
    },
    /// Requests at a fixed rate to something of your own; whatever answers, unless by an error of the server (HTTP status 500 and above), is
    /// an answer. A Service is asked from pods on every node that the fault does not touch, a URL from this machine.
    Reach(Address),
    /// Does the API give the log of this bare pod, for which an API server asks the kubelet of the pod's node?
    Log {
        /// Workload.
        of: String,
    },
    /// The token with which the keeper app answers through its Service.
    Token {
        /// Workload.
        of: String,
    },
    /// Does the API serve, asked where users ask: through the load balancer if there is one?
    Api(ApiVerb),
    /// Does the API server of this control plane serve, asked past the load balancer?
    ApiOf {
        /// Target.
        node: String,
        /// What is asked.
        verb: ApiVerb,
    },
    /// Believed: number of writes, made by this scenario's `api: write` and `api-of`, that …
    Writes(WriteState),
    /// Believed: the node on which this component leads.
    Leader(Leader),
}

impl ProbeSpec {
    /// Where its samples come from. The one place that says so: who samples, how a series is named, and what a failure means follow from it.
    pub fn source(&self) -> ProbeSource<'_> {
        match self {
            Self::NodeState(_)
            | Self::NodeProcesses(_)
            | Self::ComponentProcesses { .. }
            | Self::KubeletAnswers(_)
            | Self::ApiAnswers(_)
            | Self::Containers { .. }
            | Self::ContainerIdentities { .. } => ProbeSource::Engine,
            Self::NodeReady(_)
            | Self::NodeTaints(_)
            | Self::Pods { .. }
            | Self::PodIdentities { .. }
            | Self::Restarts { .. }
            | Self::Endpoints { .. }
            | Self::Leader(_) => ProbeSource::Lists,
            Self::Api(verb) => ProbeSource::Api { of: None, verb: *verb },
            Self::ApiOf { node, verb } => ProbeSource::Api { of: Some(node), verb: *verb },
            Self::Writes(state) => ProbeSource::Ledger(*state),
            Self::Log { of } => ProbeSource::Log(of),
            Self::Reach(address) => ProbeSource::Address(address),
            Self::Requests { to: workload, .. } | Self::Token { of: workload } => ProbeSource::Service(workload),
            Self::PodRequests { to, .. } => ProbeSource::EachPod(to),
        }
    }

    /// Target from whose node it asks, if not from where the fault does not reach.
    pub fn from(&self) -> Option<&str> {
        match self {
            Self::Requests { from, .. } | Self::PodRequests { from, .. } => from.as_deref(),
            _ => None,
        }
    }

    /// Name of the workload that it looks at.
    pub fn workload(&self) -> Option<&str> {
        match self {
            Self::Containers { of, .. }
            | Self::ContainerIdentities { of, .. }
            | Self::Pods { of, .. }
            | Self::PodIdentities { of }
            | Self::Restarts { of }
            | Self::Endpoints { of, .. }
            | Self::Requests { to: of, .. }
            | Self::PodRequests { to: of, .. }
            | Self::Log { of }
            | Self::Token { of } => Some(of),
            Self::NodeState(_)
            | Self::NodeProcesses(_)
            | Self::ComponentProcesses { .. }
            | Self::KubeletAnswers(_)
            | Self::ApiAnswers(_)
            | Self::NodeReady(_)
            | Self::NodeTaints(_)
            | Self::Reach(_)
            | Self::Api(_)
            | Self::ApiOf { .. }
            | Self::Writes(_)
            | Self::Leader(_) => None,
        }
    }

    /// Does it look at the same thing in the same way, if perhaps elsewhere, so that what is seen can be compared?
    pub fn is_like(&self, other: &Self) -> bool {
        match (self.source(), other.source()) {
            (ProbeSource::Api { verb: a, .. }, ProbeSource::Api { verb: b, .. }) => a == b,
            _ => discriminant(self) == discriminant(other),
        }
    }

    /// Does it make requests at a rate that is fine enough to measure outages by?
    pub fn measures_outages(&self) -> bool {
        matches!(self, Self::Requests { .. } | Self::PodRequests { .. } | Self::Reach(_))
    }

    /// Does a failure come from the very thing that is asked, rather than from the one who tells about it?
    pub fn is_data_plane(&self) -> bool {
        matches!(self.source(), ProbeSource::Service(_) | ProbeSource::EachPod(_) | ProbeSource::Address(_))
    }
}

/// Where a probe's samples come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeSource<'a> {
    /// From below, through the container engine: what is.
    Engine,
    /// From lists of objects in the API: what is believed.
    Lists,
    /// From asking the API itself.
    Api {
        /// Target whose own API server is asked. Without it, whoever answers users is.
        of: Option<&'a str>,
        /// What is asked.
        verb: ApiVerb,
    },
    /// From comparing what the API has with the writes that it acknowledged.
    Ledger(WriteState),
    /// From asking the API for the log of this workload's pod.
    Log(&'a str),
    /// From samplers in pods, which ask this workload's Service.
    Service(&'a str),
    /// From samplers in pods, which ask this Service of the user's, or from asking a URL.
    Address(&'a Address),
    /// From samplers in pods, which ask each pod of this workload at the address it had in the baseline.
    EachPod(&'a str),
}

/// Which pods a `pods` probe counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PodState {
    /// All of them.
    #[default]
    Existing,
    /// Ready and not being deleted.
    Ready,
    /// Being deleted (deletionTimestamp set).
    Terminating,
    /// Not being deleted.
    Live,
    /// In phase `Failed` or `Succeeded`.
    Ended,
    /// Not one of its containers has ever started.
    Unstarted,
}

/// What is asked of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ApiVerb {
    /// A read, of what was made before the fault, that can't come from a cache (resourceVersion unset).
    Read,
    /// The same of what every cluster has, even an empty one: the namespace `default`.
    ReadDefault,
    /// A write; only an acknowledged one counts.
    Write,
}

/// Which writes a `writes` probe counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WriteState {
    /// Acknowledged, and yet not there.
    Lost,
}

/// What a sample is held against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Expect {
    /// The value is this text.
    Is(String),
    /// The value is this number.
    Equals(u64),
    /// The value is a number not less than this.
    AtLeast(u64),
    /// The value is a number not greater than this.
    AtMost(u64),
    /// The value is a set that contains this.
    Has(String),
    /// The value is a set that does not contain this.
    Lacks(String),
    /// There was an answer (`true`), or none (`false`).
    Answers(bool),
    /// The value is (`true`), or is not (`false`), what it was in the baseline.
    AsBefore(bool),
}

impl fmt::Display for Expect {
    /// What is wanted, in words that fit "always …", "never …", "at some time …".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(text) => write!(f, "“{text}”"),
            Self::Equals(n) => write!(f, "{n}"),
            Self::AtLeast(n) => write!(f, "{n} or more"),
            Self::AtMost(n) => write!(f, "{n} or fewer"),
            Self::Has(item) => write!(f, "with “{item}”"),
            Self::Lacks(item) => write!(f, "without “{item}”"),
            Self::Answers(true) => f.write_str("answered"),
            Self::Answers(false) => f.write_str("unanswered"),
            Self::AsBefore(true) => f.write_str("as before the fault"),
            Self::AsBefore(false) => f.write_str("other than before the fault"),
        }
    }
}

/// A span of an experiment that a claim is about. Phases, or what Kubernetes does by timers read off the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WindowName {
    /// The quiet time before the fault.
    Baseline,
    /// From the proof of the fault's effect to its remedy or undo.
    Fault,
    /// From the end of the remedy to the undo.
    Remedy,
    /// From the undo to the end of observation.
    Recovery,
    /// When the node lifecycle controller marks the node `Ready=Unknown`.
    NodeUnknown,
    /// When the `unreachable` taints are set.
    Taint,
    /// When the node's endpoints are withdrawn and the service proxies have followed.
    EndpointsWithdrawn,
    /// When pods that tolerate the loss for the default time are evicted.
    Eviction,
    /// When replacements for evicted pods are ready.
    Replacement,
    /// When the load balancer has noticed that it can't reach an API server any more.
    ApiFailover,
    /// When another instance of a component leads.
    LeaderFailover,
    /// When what that component does is done again, pods made meanwhile started included.
    WorkResumed,
    /// After the remedy: when what it brings back is there.
    Restored,
    /// After the undo: when the node is Ready again and its taints are gone.
    NodeReturn,
    /// After the undo: when evicted pods are gone and workloads are as specified.
    Settled,
}
