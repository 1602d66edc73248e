//! A scenario file: the sentences of the page that it tests, the faults, and the expected observations.
//!
//! [`load()`] reads YAML text into a [`Scenario`], or returns diagnostics with line, column and a suggestion. Scenario
//! files are data: they hold no sleeps, loops, templates or shell. Nothing here knows a cluster; [`crate::plan`]
//! resolves a scenario against one.

mod address;
mod check;
mod contradiction;
mod diagnostic;
mod fault;
mod flag;
mod library;
mod load;
mod name;
mod object_name;
mod overlap;
mod percent;
mod probe;
mod schema;
mod shape;
mod tree;

pub(crate) use address::SERVICE;
pub use address::{Address, NotAnAddress, ServiceRequest};
pub use diagnostic::Diagnostics;
pub use fault::{
    ApiServerOfStore, BadConfig, CertificateOf, Dropped, FaultSpec, Place, Reclaim, StoreLeft, StoreOfRestarted,
    Unanswered, VolumeLeft,
};
pub use flag::{Flag, NotAFlag};
pub use library::{builtin, find, open, split_variant};
pub use load::{MAX_FILE, load};
pub use name::{MAX_NAME, Name, NotAName};
pub use object_name::{NotAnObjectName, ObjectName, Objects};
pub use overlap::Clash;
pub use percent::{NotAPercent, Percent};
pub use probe::{ApiVerb, KubeletService, PodState, ProbeSource, ProbeSpec, Way, WriteOutcome, WriteState};
pub use schema::schema;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU8;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::component::Leader;
use crate::error::{Error, Result};
use crate::node::Role;

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
    /// How many control planes there must be at least, if claims are about the others, too: on a cluster with fewer of
    /// them nothing is run.
    #[serde(default)]
    pub control_planes: Option<NonZeroU8>,
    /// Nodes by role, under the names that faults and probes use.
    #[schemars(extend("minProperties" = 1))]
    pub targets: BTreeMap<Name, Target>,
    /// What runs in the cluster during the experiment, under the names that probes use.
    #[serde(default)]
    pub workloads: BTreeMap<Name, Workload>,
    /// The ways to break the cluster. If none is named on the command line, the first one runs.
    #[schemars(length(min = 1))]
    pub variants: Vec<Variant>,
    /// The expected observations.
    #[schemars(length(min = 1))]
    pub claims: Vec<Claim>,
}

impl Scenario {
    /// The variant of this name, or the first one if no name is given.
    ///
    /// # Errors
    /// If the scenario has no variant of this name.
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

    /// How many control planes the scenario is about at least, if that is more than this many.
    pub(crate) fn more_control_planes_than(&self, planes: usize) -> Option<NonZeroU8> {
        self.control_planes.filter(|least| planes < usize::from(least.get()))
    }

    /// The other arm of a mitigation whose arms are two variants: the control of this variant, or the variant whose
    /// control it is.
    pub fn other_arm<'s>(&'s self, variant: &'s Variant) -> Option<&'s Name> {
        let names_it = |v: &&Variant| v.control.as_ref() == Some(&variant.name);
        let treatment = || self.variants.iter().find(names_it).map(|v| &v.name);
        variant.control.as_ref().or_else(treatment)
    }

    /// Does this variant break a node that was chosen because a component leads there?
    pub fn breaks_a_leader(&self, variant: &str) -> bool {
        let broken = self.variants.iter().filter(|v| v.name == variant).flat_map(Variant::nodes);
        broken.filter_map(|name| self.targets.get(name.as_str())).any(|target| target.leads.is_some())
    }

    /// Does a claim about this variant depend on which API server each kubelet reports to?
    pub fn asks_who_reports_where(&self, variant: &str) -> bool {
        let variants = self.variants.iter().filter(|v| v.name == variant);
        variants
            .flat_map(|v| self.claims_about(&v.name))
            .any(|claim| matches!(claim.probe, ProbeSpec::NodesMissed { .. }))
    }

    /// The claims about a variant.
    pub fn claims_about(&self, variant: &Name) -> impl Iterator<Item = &Claim> {
        self.claims.iter().filter(move |c| c.is_about(variant))
    }

    /// The targets that a run of the variant needs: those that it breaks, those that its claims look at, and those on
    /// which workloads are placed.
    pub fn targets_of<'s>(&'s self, variant: &'s Variant) -> impl Iterator<Item = (&'s Name, &'s Target)> {
        let is_broken = |name: &Name| variant.nodes().any(|broken| *broken == name[..]);
        let is_named = |name: &Name| {
            let placed = self.workloads.values().flat_map(|w| w.on.iter().chain(&w.starts_on));
            let looked_at = self.claims_about(&variant.name).flat_map(|claim| claim.probe.targets());
            placed.map(String::as_str).chain(looked_at).any(|named| named == &name[..])
        };
        self.targets.iter().filter(move |(name, t)| is_broken(name) || t.leads.is_none() && is_named(name))
    }

    /// The scenario with this variant only, the claims about it, and the targets that it needs.
    ///
    /// # Errors
    /// If the scenario has no such variant.
    pub fn narrowed_to(mut self, variant: &str) -> Result<Self> {
        let only = self.variant(Some(variant))?.clone();
        let needed: BTreeSet<Name> = self.targets_of(&only).map(|(name, _)| name.clone()).collect();
        self.targets.retain(|name, _| needed.contains(name));
        self.claims.retain(|claim| claim.is_about(&only.name));
        self.variants = vec![only];
        Ok(self)
    }

    /// The topology as seen from the working directory. A path in a scenario file is relative to that file.
    pub fn topology_from(&self, source: &str) -> String {
        let is_path =
            self.topology.contains('/') || self.topology.ends_with(".yaml") || self.topology.ends_with(".yml");
        match Path::new(source).parent() {
            Some(directory) if is_path => directory.join(&self.topology).display().to_string(),
            _ => self.topology.clone(),
        }
    }
}

/// A node that is chosen by its role when the plan is made. The seed decides between equal nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Target {
    /// Role of the node.
    pub role: Role,
    /// Only the control plane on which this component leads when the run is planned. Such a target is chosen only by
    /// variants that break it, so a scenario may have two of them even if both components lead on the same node.
    #[serde(default)]
    pub leads: Option<Leader>,
}

/// Pods that run in the cluster during the experiment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Workload {
    /// Which controller owns the pods.
    pub kind: WorkloadKind,
    /// Number of pods. A DaemonSet has one on each schedulable node; a bare pod is always one.
    #[serde(default = "one")]
    pub replicas: u32,
    /// The target on whose node the pods are placed. Without it the scheduler decides.
    #[serde(default)]
    pub on: Option<String>,
    /// The target on whose node the pods are when the fault goes in; replacements may run elsewhere. This is a
    /// preference for the scheduler, and the result is verified before anything is broken.
    #[serde(default)]
    pub starts_on: Option<String>,
    /// A PodDisruptionBudget: this many pods must stay available when pods are evicted on purpose, for example by a
    /// drain.
    #[serde(default)]
    pub min_available: Option<u32>,
    /// Keep the replicas on different nodes, one of which is a target's. This is a preference for the scheduler, so
    /// that replacements can be placed while a node is down. The result is verified before anything is broken.
    #[serde(default)]
    pub spread: bool,
    /// What the containers do.
    #[serde(default)]
    pub app: App,
    /// Where the app keeps its state (only for `app: keeper`).
    #[serde(default)]
    pub state: Option<State>,
    /// When a keeper whose state is on a volume writes to it.
    #[serde(default)]
    pub writes: Writes,
    /// Restart policy of the pods. Only a bare pod may have another policy than `Always`.
    #[serde(default)]
    pub restart: Restart,
    /// Put a Service in front of the pods.
    #[serde(default)]
    pub service: bool,
    /// Go on serving for 5 s once a pod is told to end (a `preStop` hook), while Services forget it. Without this, a pod
    /// ends at once.
    #[serde(default)]
    pub lingers: bool,
    /// Keep the pods on a node that is not ready or unreachable for ever, instead of using Kubernetes' default
    /// tolerations.
    #[serde(default)]
    pub tolerate_node_loss: bool,
    /// Create the workload only once the fault is in. At the very beginning of the fault it does not exist yet.
    #[serde(default)]
    pub late: bool,
    /// Create the workload only after the snapshot that the `remedy` restores was taken, so that the snapshot does not
    /// contain it.
    #[serde(default)]
    pub after_snapshot: bool,
}

impl Workload {
    /// Name of the account of all pods.
    pub(crate) const ACCOUNT: &str = "workload";

    /// Name of the persistent volume claim of the workload with this name, if all its pods share one.
    pub(crate) fn claim_of(name: &str) -> String {
        format!("{name}-state")
    }

    /// Name of the Service by which the pods of the StatefulSet with this name find each other.
    pub(crate) fn peers_of(name: &str) -> String {
        format!("{name}-peers")
    }

    /// When the workload is created.
    pub fn stage(&self) -> Stage {
        match (self.late, self.after_snapshot) {
            (true, _) => Stage::WithTheFault,
            (false, true) => Stage::AfterSnapshot,
            (false, false) => Stage::First,
        }
    }
}

/// When a workload is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Before anything else.
    First,
    /// After the snapshot that a remedy restores was taken.
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
    /// Kubernetes' own test server: agnhost `netexec`, which answers HTTP with its host name.
    #[default]
    Netexec,
    /// Makes a random token at its very first start, keeps it, and answers HTTP with it. A different token shows that
    /// the state was lost.
    Keeper,
    /// Asks the API server before each answer to HTTP, and answers with an error unless it has one: an app that depends
    /// on the Kubernetes API.
    ApiClient,
    /// Does nothing, and answers nobody (agnhost `pause`): a pod that is only there, and costs next to nothing.
    Pause,
}

/// Where a keeper app keeps its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// In the memory of the process.
    Memory,
    /// On an `emptyDir` volume, which lives as long as the pod.
    EmptyDir,
    /// On a persistent volume claim.
    Claim,
}

/// When a keeper writes to its volume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Writes {
    /// Its token, safely (`fsync`), before it is first served. After that it only reads.
    #[default]
    AtItsStart,
    /// The same, and something before each answer, which is an error if that can't be written.
    BeforeEachAnswer,
    /// Nothing until it is told to end (SIGTERM): until then its token is in its memory only.
    AtItsEnd,
}

/// Restart policy of a pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub enum Restart {
    /// The kubelet always restarts containers.
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
    /// The first fault, or the only one.
    pub fault: FaultSpec,
    /// Further faults, which go in after the first in this order.
    #[serde(default)]
    pub and: Vec<FaultSpec>,
    /// End the fault before this Kubernetes window begins: an outage too short to be noticed. If the outage lasts
    /// longer after all, the claims about it are inconclusive. Without this field the fault lasts until every claim
    /// about it is decided.
    #[serde(default)]
    pub ends_before: Option<WindowName>,
    /// Keep the fault in until this Kubernetes window would be over if a node were lost: an outage long enough for
    /// consequences to show.
    #[serde(default)]
    pub lasts_beyond: Option<WindowName>,
    /// The targets that this variant breaks are all nodes of this role. The variant is not run on a cluster with more
    /// of them.
    #[serde(default)]
    pub all_of: Option<Role>,
    /// The targets that this variant breaks leave no majority of the nodes of this role. The variant is not run on a
    /// cluster with more of them.
    #[serde(default)]
    pub majority_of: Option<Role>,
    /// The variant that is this one without its mitigation. The two variants differ in one thing; each is one arm of
    /// the mitigation, in a run of its own. A mitigation with `treatment` claims about one and `control` claims about
    /// the other is compared across the pair.
    #[serde(default)]
    pub control: Option<Name>,
    /// What is done about the fault, as an operator would, once every claim about the fault itself is decided. It
    /// begins the `remedy` phase. The fault is undone afterwards all the same.
    #[serde(default)]
    pub remedy: Option<Remedy>,
}

impl Variant {
    /// The faults, in the order in which they go in.
    pub fn faults(&self) -> impl Iterator<Item = &FaultSpec> {
        std::iter::once(&self.fault).chain(&self.and)
    }

    /// Names of the targets that the variant breaks. A target that is broken twice appears twice.
    pub fn nodes(&self) -> impl Iterator<Item = &String> {
        self.faults().flat_map(FaultSpec::nodes)
    }

    /// Does Kubernetes lose sight of a node?
    pub fn hides_nodes(&self) -> bool {
        self.faults().any(FaultSpec::hides_nodes)
    }

    /// Do all faults end by themselves at once?
    pub fn heals_itself(&self) -> bool {
        self.faults().all(FaultSpec::heals_itself)
    }
}

/// What an operator does about a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Remedy {
    /// The nodes get the taint `node.kubernetes.io/out-of-service`, by which an operator says that they are off and
    /// will not come back by themselves. Kubernetes then gives up the pods there.
    OutOfService,
    /// The nodes are deleted from the API, which also makes Kubernetes give up the pods there.
    DeleteNode,
    /// The API server's storage is restored from a snapshot that was taken before the fault, while the workloads ran.
    /// Workloads with `after-snapshot` are not in it.
    RestoreSnapshot,
    /// The workload's volume is filled from a copy that was taken before the fault, while the workload ran.
    RestoreCopy,
    /// The etcd member that lost its data is removed and added anew; it gets everything from the other members.
    ReplaceMember,
    /// The only etcd member that did not lose its data becomes a cluster of its own. Then those that did are added
    /// anew, one after the other, and get everything from it.
    RecoverFromSurvivor,
}

impl Remedy {
    /// Is the remedy done through the API, so that it works on nodes that are gone?
    pub fn is_by_api(self) -> bool {
        match self {
            Self::OutOfService | Self::DeleteNode => true,
            Self::RestoreSnapshot | Self::RestoreCopy | Self::ReplaceMember | Self::RecoverFromSurvivor => false,
        }
    }

    /// Does it need something that is saved before the fault?
    pub fn needs_copy(self) -> bool {
        matches!(self, Self::RestoreSnapshot | Self::RestoreCopy)
    }

    /// Does the operator do something on a control plane that is not broken?
    pub fn needs_operator(self) -> bool {
        self.is_by_api() || self == Self::RecoverFromSurvivor
    }

    /// Is what the operator does there done once, rather than once for each fault?
    pub fn is_done_once(self) -> bool {
        self == Self::RecoverFromSurvivor
    }
}

/// One expected observation, and the sentence of the page that it tests.
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
    /// The arm of a mitigation: `treatment` has the mitigation, `control` lacks it. Only claims on a mitigation (`m.…`)
    /// have one.
    #[serde(default)]
    pub arm: Option<Arm>,
    /// Variants that the claim is made for; all of them if absent.
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
    /// Is the claim made about this variant?
    pub fn is_about(&self, variant: &Name) -> bool {
        self.variants.as_ref().is_none_or(|only| only.contains(variant))
    }
}

/// The `true` of `unchanged: true`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Whole(pub bool);

/// The arm of a mitigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Arm {
    /// With the mitigation.
    Treatment,
    /// Without the mitigation.
    Control,
}

/// What each sample is compared with.
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
    /// There was an answer (`true`) or none (`false`).
    Answers(bool),
    /// The API's answer was a refusal with this HTTP status.
    Status(u16),
    /// The value is (`true`) or is not (`false`) what it was in the baseline.
    AsBefore(bool),
}

impl fmt::Display for Expect {
    /// The expectation in words that fit "always …", "never …" and "at some time …".
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
            Self::Status(status) => write!(f, "refused with HTTP status {status}"),
            Self::AsBefore(true) => f.write_str("as before the fault"),
            Self::AsBefore(false) => f.write_str("other than before the fault"),
        }
    }
}

/// A span of an experiment that a claim is about: a phase, or something that Kubernetes does by timers read from the
/// cluster.
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
    /// The fault phase, and before it the time in which the faults are injected, one after another, and proven.
    FromInjection,
    /// The recovery, and before it the time in which the faults are undone.
    FromUndo,
    /// When the node lifecycle controller marks the node `Ready=Unknown`.
    NodeUnknown,
    /// The same even if the controller manager that leads is lost, too: the next one counts the grace period from its own
    /// start.
    NodeUnknownAfterFailover,
    /// When the `unreachable` taints are set.
    Taint,
    /// When the node's endpoints are withdrawn and the service proxies have followed.
    EndpointsWithdrawn,
    /// When pods that tolerate the loss for the default time are evicted.
    Eviction,
    /// When replacements for evicted pods are ready.
    Replacement,
    /// When the load balancer has noticed that it can no longer reach an API server.
    ApiFailover,
    /// When a component of the control plane whose flags or certificate the fault has changed answers again.
    ComponentRestarted,
    /// When another instance of a component has become the leader.
    LeaderFailover,
    /// When the new leader does the component's work again, including the start of pods made meanwhile.
    WorkResumed,
    /// After the remedy: when what it brings back exists again.
    Restored,
    /// After the remedy: when what it brings back runs and serves again.
    RunningAgain,
    /// After the remedy: when the pods of nodes that were given up are gone and replaced.
    Released,
    /// After the undo: when a leader that was frozen has found that it leads no more, and ended.
    LeaderGivesUp,
    /// After the undo: when the node is Ready again and its taints are gone.
    NodeReturn,
    /// After that: the time in which pods would be evicted because nodes could not report during the fault.
    EvictionAfterReturn,
    /// After the undo: when evicted pods are gone and workloads are as specified.
    Settled,
}
