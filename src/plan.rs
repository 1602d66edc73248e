//! A plan: a scenario resolved against one cluster's facts and a seed.
//!
//! Pure. Takes a [`Scenario`](crate::scenario::Scenario), [`Facts`] and a seed, gives a [`Plan`]: concrete nodes, probes, and every
//! window in seconds with the settings it was computed from. The plan is the first record of the journal, so whoever judges a run needs nothing else.

mod every_node;
mod keep_alive;
mod resolve;
mod window;

pub use every_node::{breakable, breaking};
pub use keep_alive::{KEEP_ALIVE, KeepAlive, Kept};
pub use resolve::{breaks_enough, resolve};

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cluster::docker::NodeId;
use crate::cluster::facts::Facts;
use crate::event::Phase;
use crate::manifests::Manifests;
use crate::scenario::{Arm, Expect, FaultSpec, MAX_NAME, ObjectName, Place, ProbeSpec, Remedy, Workload};

/// What the namespace of the user's own workload has behind the name of the run's other one.
const OWN: &str = "-own";
// A namespace is `kchaos-SCENARIO-SEED`, with or without this, and Kubernetes allows 63 characters.
const _: () = assert!("kchaos-".len() + MAX_NAME + "-01234567".len() + OWN.len() <= 63);

/// A scenario variant resolved against a cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Name of the scenario.
    pub scenario: String,
    /// Name of the variant.
    pub variant: String,
    /// The variant that is the other arm of this one's mitigations, in a run of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_arm: Option<String>,
    /// The scenario's summary.
    pub summary: String,
    /// Where the scenario was read from, for references such as `FILE:LINE`.
    pub source: String,
    /// Seed of every random choice.
    pub seed: u64,
    /// What was read off the cluster.
    pub facts: Facts,
    /// Kubernetes namespace of the run's workloads and samplers.
    pub namespace: String,
    /// The node that each target name stands for.
    pub targets: BTreeMap<String, NodeId>,
    /// Workloads by name.
    pub workloads: BTreeMap<String, Workload>,
    /// Nodes that carry a sampler pod: every node that runs pods and is no target.
    pub observers: Vec<NodeId>,
    /// Faults in the order of injection.
    pub faults: Vec<PlannedFault>,
    /// Probes, each sampled once however many claims look at it.
    pub probes: Vec<PlannedProbe>,
    /// Claims in the order of the file.
    pub claims: Vec<PlannedClaim>,
    /// How long the fault stays in.
    pub fault_for: Span,
    /// If it is to end before Kubernetes does something about it: when that may be, at the earliest, after the injection. What lasts longer is another
    /// fault than the one that was planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_within: Option<Duration>,
    /// What an operator does about the fault, before it is undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<PlannedRemedy>,
    /// How long recovery is watched.
    pub recovery_for: Span,
    /// What is to be kept alive beside what the scenario claims. It is among the claims, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep_alive: Vec<KeepAlive>,
    /// The user's own workload, if one is put in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifests: Option<PlannedManifests>,
}

/// The user's own workload: what is recorded of it. Its objects may hold secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedManifests {
    /// The directory, as it was named.
    pub path: String,
    /// Over the contents of its files.
    pub sha256: String,
    /// Namespace of the run that they are put into. It is not that of the run's own workloads, whose pods may do less.
    pub namespace: String,
}

impl Plan {
    /// What an operator does about the fault, if anything.
    pub fn does(&self) -> Option<Remedy> {
        self.remedy.as_ref().map(|remedy| remedy.does)
    }

    /// Has the user's own workload put in, too.
    pub fn bring(&mut self, manifests: &Manifests) {
        self.manifests = Some(PlannedManifests {
            path: manifests.path.clone(),
            sha256: manifests.sha256.clone(),
            namespace: format!("{}{OWN}", self.namespace),
        });
    }

    /// Is this node broken?
    pub fn breaks(&self, node: &str) -> bool {
        self.faults.iter().any(|fault| fault.node.name == node)
    }

    /// Is a snapshot taken before the fault, for the remedy?
    pub fn takes_snapshot(&self) -> bool {
        self.does() == Some(Remedy::RestoreSnapshot)
    }

    /// The fault that shuts the node in which this one lies, once this one is in. From then on nobody can look at it any more, and nothing there
    /// changes: it lasts as long as that one does.
    pub fn shut_in_by(&self, fault: usize) -> Option<usize> {
        let PlannedFault { spec, node, .. } = &self.faults[fault];
        let later = (fault + 1..self.faults.len()).filter(|_| spec.place() == Place::Inside);
        let mut shutting = later.filter(|later| {
            let PlannedFault { spec, node: of, .. } = &self.faults[*later];
            spec.shuts_node() && of == node
        });
        shutting.next()
    }
}

/// How long a phase lasts: at least, so that every window in it is worth something, and at most; it ends in between as soon as every
/// claim about it is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Not shorter than this.
    pub at_least: Duration,
    /// Not longer than this.
    pub at_most: Duration,
}

impl Span {
    /// What of it is left when so much of it has gone by.
    #[must_use]
    pub fn less(self, gone: Duration) -> Self {
        Self { at_least: self.at_least.saturating_sub(gone), at_most: self.at_most.saturating_sub(gone) }
    }
}

/// A remedy, and how long what follows is watched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedRemedy {
    /// What is done.
    pub does: Remedy,
    /// How long it is watched.
    pub watched_for: Span,
}

/// A fault with its concrete target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedFault {
    /// What is done.
    pub spec: FaultSpec,
    /// To which node; of what is done to the API alone, the operator's.
    pub node: NodeId,
    /// The nodes that it is cut off from, if it is a partition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<NodeId>,
    /// The control plane in whose node an operator is logged in who does it, or its remedy, through the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<NodeId>,
    /// The run's own objects that it is done to, if it is done to a workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<Objects>,
}

/// Objects of one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objects {
    /// Its name.
    pub namespace: ObjectName,
    /// Each with its kind, as kubectl calls it.
    pub objects: Vec<(ObjectName, ObjectName)>,
}

impl PlannedFault {
    /// A fault of a node that needs nothing else.
    pub fn of(spec: FaultSpec, node: NodeId) -> Self {
        Self { spec, node, peers: Vec::new(), operator: None, objects: None }
    }
}

/// A probe with its rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedProbe {
    /// What is looked at.
    pub spec: ProbeSpec,
    /// Time between slots.
    pub interval: Duration,
    /// Deadline of a sample.
    pub timeout: Duration,
    /// The longest time that may pass from one sample that saw something to the next: what lasts shorter may go unseen. Samples are lost
    /// on a busy machine, and one lost sample must not make a claim undecidable that is about half a minute.
    pub resolution: Duration,
}

impl PlannedProbe {
    /// How many slots in a row may be lost.
    pub fn slots_that_may_be_lost(&self) -> u64 {
        let slots = self.resolution.as_micros() / self.interval.as_micros().max(1);
        u64::try_from(slots).unwrap_or(u64::MAX).saturating_sub(1)
    }
}

/// A claim with its window in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedClaim {
    /// Unique name within the scenario.
    pub id: String,
    /// Id of the page sentence.
    pub sentence: String,
    /// The claim in words.
    pub says: String,
    /// Side of a mitigation pair.
    pub arm: Option<Arm>,
    /// Line in the scenario file.
    pub line: u32,
    /// Index of the probe in the plan.
    pub probe: usize,
    /// What must hold.
    pub operator: Operator,
    /// When.
    pub window: Window,
    /// Missing capability that makes this claim impossible to judge on this cluster.
    pub unsupported: Option<String>,
}

/// What must hold of the samples in a window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operator {
    /// At every sample.
    Always(Expect),
    /// At no sample.
    Never(Expect),
    /// At some sample.
    Eventually(Expect),
    /// The value is the baseline's at every sample.
    Unchanged,
    /// No outage that begins in the window's phase lasts longer than this, whenever it ends.
    OutageAtMost(Duration),
}

/// A span of the run. It is closed: an `Eventually` that has not happened by the end of a closed window has not happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// What the scenario file says: `node-unknown`, `before node-unknown`, …
    pub name: String,
    /// Phase it lies in: `Baseline`, `Fault`, `Remedy` or `Recovery`.
    pub phase: Phase,
    /// Where it begins.
    pub from: Edge,
    /// Where it ends.
    pub to: Edge,
    /// How it was computed, with the names of the settings: `grace − 1.04 × renew … grace + 2 × period + slack`.
    pub formula: String,
    /// The setting that bounds it and its value as read, for people: `node-monitor-grace-period = 12s (kube-controller-manager flag)`.
    pub bounded_by: Vec<String>,
}

/// An edge of a window, relative to the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Edge {
    /// Start of the phase: for the fault phase the proof of the effect, for the remedy's and for recovery the end of the remedy or the undo.
    PhaseStart,
    /// End of the phase: for the fault phase the start of the remedy, or of the undo.
    PhaseEnd,
    /// This long after the phase's cause. The cause is an interval, not an instant (the call that injects, or undoes, takes time), and what
    /// is uncertain never refutes a claim: where something must happen once, the lower edge counts from the cause's start and the upper one
    /// from its end, so that the window is as wide as it may be; where it must hold throughout, the other way round.
    After(Duration),
}
