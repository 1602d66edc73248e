//! The parts of a report: plain data, serialized as described in `docs/report.md`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::census::Difference;
use crate::event::{Checkpoint, End, Phase};
use crate::node::Role;
use crate::scenario::Arm;
use crate::verdict::{Reason, Verdict};

/// What was run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// Name of the scenario.
    pub scenario: String,
    /// Name of the variant.
    pub variant: String,
    /// The variant that is the other arm of this variant's mitigations. It runs separately.
    pub other_arm: Option<String>,
    /// The scenario's summary.
    pub summary: String,
    /// Where the scenario was read from.
    pub source: String,
    /// Seed of every random choice.
    pub seed: u64,
    /// The command that repeats the run.
    pub command: String,
    /// Start of the run, as RFC 3339 in UTC.
    pub started: String,
    /// Version of kchaos that recorded the run.
    pub version: String,
}

/// The cluster that the run used.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cluster {
    /// Name of the kind cluster.
    pub name: String,
    /// Kubernetes version.
    pub kubernetes: String,
    /// The container engine's own id.
    pub engine: String,
    /// Its nodes.
    pub nodes: Vec<Node>,
    /// The settings from which the windows were computed, by name.
    pub settings: BTreeMap<String, Setting>,
}

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// The target that it was in this run, if any.
    pub target: Option<String>,
}

/// A setting read from the cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setting {
    /// Its value.
    pub value: Seconds,
    /// Where it was read from.
    pub source: String,
}

/// The result of one claim.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Claim {
    /// Id of the claim, unique in the scenario.
    pub claim: String,
    /// Id of the page sentence.
    pub sentence: String,
    /// The page sentence itself, if the page has one of that id.
    pub page: Option<String>,
    /// Side of a mitigation pair.
    pub arm: Option<Arm>,
    /// The claim in words.
    pub says: String,
    /// The verdict.
    pub verdict: Verdict,
    /// The reason of the verdict: a stable id.
    pub reason: Reason,
    /// The reason in words, with figures.
    pub because: String,
    /// What was expected, in words.
    pub expected: String,
    /// When it was expected.
    pub window: Window,
    /// What was observed, in words.
    pub observed: String,
    /// The bounds of the time of the observation, counted from the same cause as the window.
    pub observed_at: Option<Bounds>,
    /// Anything shorter than this may have gone unseen; absent if the verdict does not rest on all samples.
    pub unseen: Option<Seconds>,
    /// The probe, in words.
    pub probe: String,
    /// The deciding samples.
    pub evidence: Vec<Evidence>,
    /// The scenario file.
    pub file: String,
    /// Line of the claim in the scenario file.
    pub line: u32,
}

/// When something was expected. Times count from the phase's cause: the fault (fault phase), the remedy (remedy phase)
/// or the undo (recovery).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Window {
    /// Name, as in the scenario file.
    pub name: String,
    /// The phase that contains it.
    pub phase: Phase,
    /// Its start; absent if it starts with the phase.
    pub from: Option<Seconds>,
    /// Its end; absent if it ends with the phase.
    pub to: Option<Seconds>,
    /// How it was computed.
    pub formula: String,
    /// The settings that bound it, with their values and where they were read from.
    pub bounded_by: Vec<String>,
}

/// A sample that decided a claim. Times count from the start of the run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evidence {
    /// Series of the probe (an observer, a pod's address); empty if it has only one.
    pub series: String,
    /// Slot of the sample.
    pub slot: u64,
    /// Start of the sample.
    pub from: Seconds,
    /// When the outcome was known.
    pub to: Seconds,
    /// The outcome, in words.
    pub outcome: String,
}

/// A fault, and the proof of its effect.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fault {
    /// The fault, in words.
    pub what: String,
    /// The node that it affects.
    pub node: String,
    /// The time of the injection, counted from the start of the run; absent if it was not begun.
    pub injected: Option<Span>,
    /// Why the injection failed, if it did.
    pub error: Option<String>,
    /// The remedy that an operator applied, if the plan has one.
    pub remedy: Option<Remedied>,
    /// The nodes whose kubelets report to this node's API server, if a claim depends on that: they may be taken for down
    /// with it.
    pub kubelets: Vec<String>,
    /// The time from the first proof of the effect to the last one at the end of the fault phase.
    pub proven_for: Option<Seconds>,
    /// What the witnesses said.
    pub proofs: Vec<Proof>,
    /// The undo steps that were recorded before the injection.
    pub undo: Vec<UndoStep>,
}

/// A remedy and its result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Remedied {
    /// The remedy, in words.
    pub what: String,
    /// What was saved before the fault so that the remedy could use it, in words.
    pub saved: Option<String>,
    /// The time of the remedy, counted from the start of the run; absent if it was not begun.
    pub done: Option<Span>,
    /// Why the remedy failed, if it did.
    pub error: Option<String>,
}

/// What became of the writes that the run made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Writes {
    /// How many were acknowledged.
    pub acknowledged: u64,
    /// How many of these were not there when they were last looked for.
    pub lost: u64,
}

/// What recovering the cluster's store by hand took and lost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Recovery {
    /// The recovery time: from the beginning of the remedy to the first write acknowledged again; absent if there was
    /// none, or writes never failed.
    pub time: Option<AtLeast>,
    /// The recovery point: from the snapshot to when the store was lost, or replaced by it; absent if there was none.
    pub point: Option<AtLeast>,
    /// Number of acknowledged writes that were missing in the end; absent if they were not counted.
    pub writes_lost: Option<u64>,
}

/// What the witnesses said at one checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Proof {
    /// The checkpoint of the run.
    pub checkpoint: Checkpoint,
    /// Whether all witnesses said what this checkpoint needs.
    pub as_needed: bool,
    /// The witnesses.
    pub witnesses: Vec<Witness>,
}

/// What one witness said.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Witness {
    /// What the witness looked at.
    pub what: String,
    /// What the witness saw.
    pub seen: String,
    /// Whether the effect was there; absent if the witness could not look.
    pub effect: Option<bool>,
    /// When the witness looked, counted from the start of the run.
    pub at: Span,
}

/// An undo step and its result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UndoStep {
    /// The command that does the same by hand.
    pub by_hand: String,
    /// Whether it was applied.
    pub done: bool,
    /// Why it was not applied.
    pub error: Option<String>,
}

/// The two arms of a mitigation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mitigation {
    /// Id of the page sentence.
    pub sentence: String,
    /// Ids of the claims with the mitigation.
    pub treatment: Vec<String>,
    /// Ids of the claims without it.
    pub control: Vec<String>,
}

/// The outages of one series of requests, from the fault on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outage {
    /// What was requested, in words.
    pub probe: String,
    /// The observer that sent the requests, or the address requested.
    pub series: String,
    /// The arms whose claims look at it.
    pub arms: Vec<Arm>,
    /// Number of failed samples.
    pub failed: u64,
    /// Number of all decided samples.
    pub samples: u64,
    /// The time from the first failure to the last, including any answers in between; absent if nothing failed.
    pub failing: Option<Down>,
    /// The longest time in which nothing was answered.
    pub longest: Option<Down>,
}

/// One outage, with error bounds. Times count from the start of the run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Down {
    /// When it began.
    pub from: Bounds,
    /// When it was over; absent if it was not over when observation ended.
    pub to: Option<Bounds>,
    /// How long it lasted; only a lower bound (`at_most` absent) if it was not over.
    pub took: AtLeast,
}

impl Down {
    /// The rank of an outage by length: the greatest is the longest, and one that was not over outranks all others.
    pub(super) fn gravity(&self) -> (bool, Seconds, Option<Seconds>) {
        (self.to.is_none(), self.took.at_least, self.took.at_most)
    }
}

/// A phase of the run, with times counted from the start of the run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PhaseSpan {
    /// The phase.
    pub phase: Phase,
    /// Its start and end.
    #[serde(flatten)]
    pub span: Span,
}

/// How the cluster was left.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cleanup {
    /// How the run left the cluster; absent if the journal has no end.
    pub end: Option<End>,
    /// The differences from before the run; absent if there was no audit.
    pub residue: Option<Vec<Difference>>,
    /// Nodes that somebody has removed since the run began, and that are no differences.
    pub removed: Vec<String>,
}

/// Where the time of a run went.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Time {
    /// The whole run.
    pub total: Seconds,
    /// Time spent waiting for Kubernetes: for workloads, for a quiet baseline, for its reaction to the fault, and for
    /// its recovery.
    pub waiting: Seconds,
    /// The rest: kchaos' own time.
    pub harness: Seconds,
    /// How far the cluster may have fallen behind because others took the machine's processors from it, or control planes
    /// without a majority of etcd's members did; absent if that was not measured.
    pub contended: Option<Seconds>,
}

/// A duration, in JSON as a number of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(pub Duration);

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        // Exact to the microsecond for 285 years: 53 bits.
        #[expect(clippy::cast_precision_loss, reason = "see above")]
        s.serialize_f64(self.0.as_micros() as f64 / 1e6)
    }
}

/// A span of time, counted from the start of the run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Span {
    /// Start.
    pub from: Seconds,
    /// End.
    pub to: Seconds,
}

/// A point in time, or a duration, known to lie between two bounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bounds {
    /// Not before this.
    pub earliest: Seconds,
    /// Not after this.
    pub latest: Seconds,
}

/// A duration of which possibly only a lower bound is known.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AtLeast {
    /// Not shorter than this.
    pub at_least: Seconds,
    /// Not longer than this; absent if unknown.
    pub at_most: Option<Seconds>,
}
