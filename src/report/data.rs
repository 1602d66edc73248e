//! The parts of a report: plain data, serialized as `docs/report.md` says.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::event::{Checkpoint, End, Phase};
use crate::residue::Difference;
use crate::scenario::{Arm, Role};
use crate::verdict::{Reason, Verdict};

/// What was run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// Name of the scenario.
    pub scenario: String,
    /// Name of the variant.
    pub variant: String,
    /// The variant that is the other arm of this one's mitigations, in a run of its own.
    pub other_arm: Option<String>,
    /// The scenario's summary.
    pub summary: String,
    /// Where the scenario was read from.
    pub source: String,
    /// Seed of every random choice.
    pub seed: u64,
    /// Command that does the same again.
    pub command: String,
    /// Start, as RFC 3339 in UTC.
    pub started: String,
    /// Version of kchaos that recorded the run.
    pub version: String,
}

/// What the run was made on.
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
    /// The settings that windows were computed from, by name.
    pub settings: BTreeMap<String, Setting>,
}

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// Name of the target it stood for in this run.
    pub target: Option<String>,
}

/// A setting read off the cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setting {
    /// Its value.
    pub value: Seconds,
    /// Where it was read.
    pub source: String,
}

/// What was found of one claim.
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
    /// Its reason: a stable id.
    pub reason: Reason,
    /// The reason in words, with figures.
    pub because: String,
    /// What was expected, in words.
    pub expected: String,
    /// When it was expected.
    pub window: Window,
    /// What was observed, in words.
    pub observed: String,
    /// When it was observed, counted as the window is.
    pub observed_at: Option<Bounds>,
    /// What lasted shorter than this may have gone unseen, where the verdict rests on all samples.
    pub unseen: Option<Seconds>,
    /// What was looked at, in words.
    pub probe: String,
    /// The samples that decided.
    pub evidence: Vec<Evidence>,
    /// The scenario file.
    pub file: String,
    /// Line of the claim in the scenario file.
    pub line: u32,
}

/// When something was expected. Times count from the phase's cause: the fault (fault phase) or its undo (recovery).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Window {
    /// Name, as in the scenario file.
    pub name: String,
    /// The phase it lies in.
    pub phase: Phase,
    /// Its start; absent where the phase's start is meant.
    pub from: Option<Seconds>,
    /// Its end; absent where the phase's end is meant.
    pub to: Option<Seconds>,
    /// How it was computed.
    pub formula: String,
    /// The settings that bound it, with value and place where they were read.
    pub bounded_by: Vec<String>,
}

/// A sample that decided a claim. Times count from the start of the run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evidence {
    /// Series of the probe (an observer, a pod's address); empty if it has only one.
    pub series: String,
    /// Slot of the sample.
    pub slot: u64,
    /// When the sample was begun.
    pub from: Seconds,
    /// When its outcome was known.
    pub to: Seconds,
    /// What it gave, in words.
    pub outcome: String,
}

/// A fault, and the proof of its effect.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fault {
    /// What was done, in words.
    pub what: String,
    /// To which node.
    pub node: String,
    /// Between when and when it went in, from the start of the run. Absent if it never did.
    pub injected: Option<Span>,
    /// Why the call that injects failed.
    pub error: Option<String>,
    /// What an operator did about it.
    pub remedy: Option<Remedied>,
    /// From the first proof of the effect to the last one at the end of the fault phase.
    pub proven_for: Option<Seconds>,
    /// What the witnesses said.
    pub proofs: Vec<Proof>,
    /// The undos that were written down before.
    pub undo: Vec<UndoStep>,
}

/// A remedy, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Remedied {
    /// What was to be done, in words.
    pub what: String,
    /// What was saved for it before the fault, in words.
    pub saved: Option<String>,
    /// Between when and when it was done, from the start of the run. Absent if it was not begun.
    pub done: Option<Span>,
    /// Why it was not done.
    pub error: Option<String>,
}

/// What the witnesses said at one checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Proof {
    /// When in the run.
    pub checkpoint: Checkpoint,
    /// Did all of them say what this checkpoint needs?
    pub as_needed: bool,
    /// Each of them.
    pub witnesses: Vec<Witness>,
}

/// What one witness said.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Witness {
    /// What was looked at.
    pub what: String,
    /// What was seen.
    pub seen: String,
    /// Is the effect there? Absent if the witness could not look.
    pub effect: Option<bool>,
    /// When it looked, from the start of the run.
    pub at: Span,
}

/// An undo and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UndoStep {
    /// The engine's command that does the same by hand.
    pub by_hand: String,
    /// Was it applied?
    pub done: bool,
    /// Why not.
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

/// What the requests to one thing went through, from the fault on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outage {
    /// What was requested, in words.
    pub probe: String,
    /// From where, or which address.
    pub series: String,
    /// The mitigation arms that look at it.
    pub arms: Vec<Arm>,
    /// Failed and all decided samples.
    pub failed: u64,
    /// See `failed`.
    pub samples: u64,
    /// From the first failure to the last, with whatever was answered in between; absent if nothing failed.
    pub failing: Option<Down>,
    /// The longest time in which nothing was answered.
    pub longest: Option<Down>,
}

/// One outage, with error bounds. Times count from the start of the run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Down {
    /// When it began.
    pub from: Bounds,
    /// When it was over; absent if it was not when observation ended.
    pub to: Option<Bounds>,
    /// How long it was; a lower bound only (`latest` absent) if it was not over.
    pub took: AtLeast,
}

impl Down {
    /// Of several, the greatest is the longest: one that was not over, whatever its length.
    pub(super) fn gravity(&self) -> (bool, Seconds, Option<Seconds>) {
        (self.to.is_none(), self.took.at_least, self.took.at_most)
    }
}

/// A phase of the run, counted from its start.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PhaseSpan {
    /// Which.
    pub phase: Phase,
    /// Its begin and end.
    #[serde(flatten)]
    pub span: Span,
}

/// How the cluster was left.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cleanup {
    /// How the run ended for the cluster; absent if its journal has no end.
    pub end: Option<End>,
    /// What differs from before; absent if there was no audit.
    pub residue: Option<Vec<Difference>>,
}

/// Where the time of a run went.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Time {
    /// All of it.
    pub total: Seconds,
    /// Waiting for Kubernetes: for workloads, a quiet baseline, its reaction to the fault, its recovery.
    pub waiting: Seconds,
    /// The rest.
    pub harness: Seconds,
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

/// Something that lasted, counted from the start of the run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Span {
    /// Begin.
    pub from: Seconds,
    /// End.
    pub to: Seconds,
}

/// A point in time, or a length, that is known to lie between two bounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bounds {
    /// Not before this.
    pub earliest: Seconds,
    /// Not after this.
    pub latest: Seconds,
}

/// A length of which perhaps only a lower bound is known.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AtLeast {
    /// Not shorter than this.
    pub at_least: Seconds,
    /// Not longer than this; absent if it can't be told.
    pub at_most: Option<Seconds>,
}
