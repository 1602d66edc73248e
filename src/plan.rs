//! A plan: a scenario resolved against one cluster's facts and a seed.
//!
//! This module is pure. It takes a [`Scenario`](crate::scenario::Scenario), [`Facts`] and a seed, and returns a
//! [`Plan`]: concrete nodes, probes, and every window in seconds with the settings it was computed from. The plan is
//! the first record of the journal, so a run can be judged from its journal alone.

mod every_node;
mod keep_alive;
mod resolve;
mod window;

pub use every_node::{breakable, breaking};
pub use keep_alive::{KEEP_ALIVE, KeepAlive, Kept};
pub use resolve::{fits, loses_nothing_for_good, resolve};
pub(crate) use window::SLACK;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cluster::facts::Facts;
use crate::node::{NodeId, Role};
use crate::scenario::{Arm, Dropped, Expect, FaultSpec, MAX_NAME, Objects, Place, ProbeSpec, Remedy, Workload};
use crate::user_manifests::Manifests;

/// Suffix of the namespace that holds the user's own workload.
const OWN: &str = "-own";
/// Suffix of the namespace of what observes.
const WATCH: &str = "-watch";
// A namespace is `kchaos-SCENARIO-SEED`, with or without a suffix. Kubernetes allows 63 characters.
const _: () = assert!("kchaos-".len() + MAX_NAME + "-01234567".len() + WATCH.len() <= 63);
const _: () = assert!(OWN.len() <= WATCH.len());

/// A scenario variant resolved against a cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Name of the scenario.
    pub scenario: String,
    /// Name of the variant.
    pub variant: String,
    /// The variant that is the other arm of this variant's mitigations. It runs separately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_arm: Option<String>,
    /// The scenario's summary.
    pub summary: String,
    /// Where the scenario was read from, for references such as `FILE:LINE`.
    pub source: String,
    /// Seed of every random choice.
    pub seed: u64,
    /// The facts read from the cluster.
    pub facts: Facts,
    /// Kubernetes namespace of the scenario's workloads.
    pub namespace: String,
    /// The node that each target name stands for.
    pub targets: BTreeMap<String, NodeId>,
    /// Workloads by name.
    pub workloads: BTreeMap<String, Workload>,
    /// Nodes that run a sampler pod: every node that runs pods and that the variant does not break.
    pub observers: Vec<NodeId>,
    /// Faults in the order of injection.
    pub faults: Vec<PlannedFault>,
    /// Probes. Each is sampled once, however many claims use it.
    pub probes: Vec<PlannedProbe>,
    /// Claims in the order of the file.
    pub claims: Vec<PlannedClaim>,
    /// How long the fault lasts.
    pub fault_for: Span,
    /// With `ends-before`: the earliest time after the injection at which Kubernetes may react. A fault that lasts
    /// longer is not the one that was planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_within: Option<Duration>,
    /// The role whose nodes are left without a majority: more is lost than the cluster is meant to carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub majority_of: Option<Role>,
    /// The remedy that an operator applies to the fault before it is undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<PlannedRemedy>,
    /// How long recovery is watched.
    pub recovery_for: Span,
    /// What the user wants kept alive, in addition to what the scenario claims. [`Plan::claims`] contains the claims
    /// about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep_alive: Vec<KeepAlive>,
    /// The user's own workload, if the run adds one to the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifests: Option<PlannedManifests>,
}

/// What the plan records of the user's own workload. The objects themselves are left out, because they may hold
/// secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedManifests {
    /// The directory, as given on the command line.
    pub path: String,
    /// SHA-256 of the contents of the directory's files.
    pub sha256: String,
    /// The run's namespace for these objects. It is separate from the namespace of the scenario's workloads, whose pods
    /// are more restricted.
    pub namespace: String,
}

/// The nodes that none of these faults affects, each with the one whose API server its kubelet reports to.
fn reporting<'p>(facts: &'p Facts, faults: &'p [PlannedFault]) -> impl Iterator<Item = (&'p str, &'p str)> {
    let is_affected = |node: &str| faults.iter().any(|fault| fault.node.name == node);
    let all = facts.reporting.iter().map(|(node, to)| (node.as_str(), to.as_str()));
    all.filter(move |(node, _)| !is_affected(node))
}

impl Plan {
    /// The remedy, if there is one.
    pub fn does(&self) -> Option<Remedy> {
        self.remedy.as_ref().map(|remedy| remedy.does)
    }

    /// Whether the API should answer in spite of the faults. A fault that is made through the API breaks no node,
    /// whichever node it is made from; a snapshot is restored without the API.
    pub fn leaves_the_api_alone(&self) -> bool {
        let by = |fault: &PlannedFault| match fault.spec.place() {
            Place::Api => !matches!(fault.spec, FaultSpec::DeadWebhook { .. }),
            Place::Container | Place::Inside => {
                self.facts.nodes.get(&fault.node.name).is_some_and(|node| node.role == Role::Worker)
            }
        };
        self.does() != Some(Remedy::RestoreSnapshot) && self.faults.iter().all(by)
    }

    /// The nodes that no fault affects and whose kubelets report to the API server of this one. They hang with it if it
    /// leaves them without an answer. Empty unless that was read.
    pub fn kubelets_of(&self, plane: &NodeId) -> Vec<&str> {
        self.reporting().filter(|(_, to)| *to == plane.name).map(|(node, _)| node).collect()
    }

    /// The nodes that no fault affects and whose kubelets report to another API server than this one.
    pub fn kubelets_elsewhere_than<'p>(&'p self, plane: &'p NodeId) -> impl Iterator<Item = &'p str> {
        self.reporting().filter(|(_, to)| *to != plane.name).map(|(node, _)| node)
    }

    /// The nodes that no fault affects, each with the one whose API server its kubelet reports to. Empty unless that was
    /// read.
    pub fn reporting(&self) -> impl Iterator<Item = (&str, &str)> {
        reporting(&self.facts, &self.faults)
    }

    /// The control planes whose etcd may have no leader because partitions cut some of them from others: a minority for as
    /// long as that lasts, and a majority until it has elected one.
    pub fn may_lack_leader(&self) -> BTreeSet<&str> {
        let planes = self.facts.nodes.iter().filter(|(_, facts)| facts.role == Role::ControlPlane);
        let planes: BTreeSet<&str> = planes.map(|(name, _)| name.as_str()).collect();
        let cuts = |fault: &PlannedFault| match fault.spec {
            FaultSpec::Partition { drops, .. } => matches!(drops, Dropped::Everything | Dropped::ToEtcd),
            _ => false,
        };
        let is_plane = |node: &NodeId| planes.contains(node.name.as_str());
        let between = |fault: &PlannedFault| is_plane(&fault.node) && fault.peers.iter().any(is_plane);
        match self.faults.iter().any(|fault| cuts(fault) && between(fault)) {
            true => planes,
            false => BTreeSet::new(),
        }
    }

    /// Namespace of what observes: the samplers, and what the `api` probes read and write. It is there even if the
    /// workloads' namespace is deleted.
    pub fn watch_namespace(&self) -> String {
        format!("{}{WATCH}", self.namespace)
    }

    /// Adds the user's own workload to the plan.
    pub fn bring(&mut self, manifests: &Manifests) {
        self.manifests = Some(PlannedManifests {
            path: manifests.path.clone(),
            sha256: manifests.sha256.clone(),
            namespace: format!("{}{OWN}", self.namespace),
        });
    }

    /// Whether a fault of this plan breaks the node.
    pub fn breaks(&self, node: &str) -> bool {
        self.faults.iter().any(|fault| fault.node.name == node)
    }

    /// Whether the run saves something before the fault, for the remedy to restore.
    pub fn saves(&self) -> bool {
        self.does().is_some_and(Remedy::needs_copy)
    }

    /// The later fault that shuts the node inside which this fault lies, if there is one.
    ///
    /// Once that later fault is in, nobody can look inside the node, and nothing changes there. So this fault lasts as
    /// long as the later one.
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

/// The minimum and maximum length of a phase.
///
/// The minimum makes every window of the phase meaningful. After it, the phase ends as soon as every claim about it is
/// decided, and at the latest at the maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Not shorter than this.
    pub at_least: Duration,
    /// Not longer than this.
    pub at_most: Duration,
}

impl Span {
    /// The rest of the span after `gone` has passed.
    #[must_use]
    pub fn less(self, gone: Duration) -> Self {
        Self { at_least: self.at_least.saturating_sub(gone), at_most: self.at_most.saturating_sub(gone) }
    }

    /// The same, with this floor under both ends.
    #[must_use]
    pub fn no_shorter_than(self, floor: Duration) -> Self {
        Self { at_least: self.at_least.max(floor), at_most: self.at_most.max(floor) }
    }
}

/// A remedy, and how long its result is watched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedRemedy {
    /// The remedy.
    pub does: Remedy,
    /// How long the cluster is watched after the remedy.
    pub watched_for: Span,
}

/// A fault with its concrete target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedFault {
    /// The fault.
    pub spec: FaultSpec,
    /// The target node; for API-only faults, the node the operator is logged in to.
    pub node: NodeId,
    /// For a fault of the network between nodes: those at the other end; if users are cut off, those that are let in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<NodeId>,
    /// The control plane from which an operator applies the faults and the remedy, if any of them needs one: those made
    /// through the API, and those that need the cluster's certificate authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<NodeId>,
    /// For a fault of a workload: the run's own objects that it affects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<Objects>,
}

impl PlannedFault {
    /// A fault that needs nothing but its target node.
    pub fn of(spec: FaultSpec, node: NodeId) -> Self {
        Self { spec, node, peers: Vec::new(), operator: None, objects: None }
    }
}

/// A probe with its rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedProbe {
    /// What the probe looks at.
    pub spec: ProbeSpec,
    /// Time between slots.
    pub interval: Duration,
    /// Deadline of a sample.
    pub timeout: Duration,
    /// The longest allowed time from one sample that saw something to the next; anything shorter may go unseen.
    ///
    /// It is longer than the interval because samples get lost on a busy machine, and one lost sample must not make a
    /// claim about half a minute undecidable.
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
    /// What must hold of the samples.
    pub operator: Operator,
    /// When it must hold.
    pub window: Window,
    /// Why this claim can't be judged on this cluster: the missing capability.
    pub unsupported: Option<String>,
}

/// What a claim says of the samples in its window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operator {
    /// At every sample.
    Always(Expect),
    /// At no sample.
    Never(Expect),
    /// At some sample.
    Eventually(Expect),
    /// Every sample has the value of the baseline.
    Unchanged,
    /// No outage that begins in the window's phase lasts longer than this, even if it ends after the phase.
    OutageAtMost(Duration),
}

/// A phase of a run. Phases only go forward, and every run that injects a fault goes through `Undo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The run deploys workloads and samplers.
    Setup,
    /// Nothing is broken and the probes show the steady state.
    Baseline,
    /// The fault is in.
    Fault,
    /// The fault is in, and the remedy (what an operator would do about the fault) was applied.
    Remedy,
    /// The fault is being undone.
    Undo,
    /// The fault is out, and the cluster is watched while it recovers.
    Recovery,
    /// Samples that began before are still recorded; samples that begin now do not count.
    Collect,
    /// The run removes workloads and samplers and audits the residue.
    Cleanup,
}

/// A closed span of the run: an `Eventually` that has not happened by the end of the window has not happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// What the scenario file says: `node-unknown`, `before node-unknown`, …
    pub name: String,
    /// The phase that contains it: `Baseline`, `Fault`, `Remedy` or `Recovery`.
    pub phase: Phase,
    /// Whether it follows from Kubernetes' losing sight of nodes. If so, times count from the faults that make it.
    #[serde(default)]
    pub follows_lost_nodes: bool,
    /// Where it begins.
    pub from: Edge,
    /// Where it ends.
    pub to: Edge,
    /// The formula, with the names of the settings: `grace − 1.04 × renew … grace + 2 × period + slack`.
    pub formula: String,
    /// The settings that bound it, for people, each with the value that was read:
    /// `node-monitor-grace-period = 12s (kube-controller-manager flag)`.
    pub bounded_by: Vec<String>,
}

/// An edge of a window, relative to the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Edge {
    /// The earliest moment at which the phase's cause may have begun: of several faults, the first.
    CauseStart,
    /// Start of the phase: in the fault phase, the proof of the effect; in the remedy phase, the end of the remedy; in
    /// recovery, the end of the undo.
    PhaseStart,
    /// End of the phase: in the fault phase, the witnesses' last look at the effect, before the remedy or the undo
    /// begins.
    PhaseEnd,
    /// This long after the phase's cause.
    ///
    /// The cause is an interval, not an instant, because the call that injects or undoes takes time. This uncertainty
    /// never refutes a claim. If something must happen once, the lower edge counts from the cause's start and the upper
    /// edge from its end, so that the window is as wide as possible. If something must hold throughout, it is the other
    /// way round.
    After(Duration),
}
