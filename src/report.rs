//! What a run found, for people and for programs.
//!
//! Takes the events of a run, gives a [`Report`]: a pure fold, so the same journal gives the same bytes in every format. The formats
//! (terminal, JSON, JUnit, Markdown) take nothing but a `Report`; none of them judges, and all of them carry the same verdicts.
//! The live display ([`live`]) is the one that sees events as they come.

mod fold;
pub mod json;
pub mod junit;
pub mod live;
pub mod markdown;
mod outage;
pub mod terminal;
pub mod text;
mod words;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::error::{Error, Exit, Result};
use crate::event::{Checkpoint, End, Phase};
use crate::residue::Difference;
use crate::scenario::{Arm, Role};
use crate::verdict::{Reason, Verdict};

/// Everything that is to be said about one run. Field by field in `docs/report.md`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What was run.
    pub run: Run,
    /// What it was run on.
    pub cluster: Cluster,
    /// What was found, claim by claim, in the order of the scenario file.
    pub claims: Vec<Claim>,
    /// What was broken, and the proof that it was.
    pub faults: Vec<Fault>,
    /// Treatment and control of each mitigation.
    pub mitigations: Vec<Mitigation>,
    /// What each request probe measured while the fault was in and after it.
    pub outages: Vec<Outage>,
    /// When each phase was.
    pub phases: Vec<PhaseSpan>,
    /// What cut the run short.
    pub interrupted: Option<String>,
    /// What disturbed the run, in words.
    pub disturbances: Vec<String>,
    /// How the cluster was left.
    pub cleanup: Cleanup,
    /// Where the time went.
    pub time: Time,
}

/// What was run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// Name of the scenario.
    pub scenario: String,
    /// Name of the variant.
    pub variant: String,
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
    /// Capabilities that are missing, with the reason.
    pub lacks: BTreeMap<String, String>,
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
    /// From the first proof of the effect to the last one before the undo.
    pub proven_for: Option<Seconds>,
    /// What the witnesses said.
    pub proofs: Vec<Proof>,
    /// The undos that were written down before.
    pub undo: Vec<UndoStep>,
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

/// What a run comes to, all in all. The gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The cluster was left differing from what it was before, or may have been.
    Dirty,
    /// A signal cut the run short; everything was undone.
    Interrupted,
    /// A claim is refuted.
    Refuted,
    /// A claim is neither upheld nor refuted.
    Inconclusive,
    /// Some claims could not be put to the test, all others are upheld.
    Unsupported,
    /// Every claim is upheld.
    Upheld,
    /// There was no claim.
    NothingSelected,
}

/// How many claims have which verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Seen to hold.
    pub upheld: usize,
    /// Seen to fail.
    pub refuted: usize,
    /// Neither.
    pub inconclusive: usize,
    /// Could not be put to the test.
    pub unsupported: usize,
}

impl Counts {
    /// All claims.
    pub fn all(self) -> usize {
        self.upheld + self.refuted + self.inconclusive + self.unsupported
    }
}

impl Report {
    /// How many claims have which verdict.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for claim in &self.claims {
            match claim.verdict {
                Verdict::Upheld => counts.upheld += 1,
                Verdict::Refuted => counts.refuted += 1,
                Verdict::Inconclusive => counts.inconclusive += 1,
                Verdict::Unsupported => counts.unsupported += 1,
            }
        }
        counts
    }

    /// What the run comes to.
    pub fn outcome(&self) -> Outcome {
        let counts = self.counts();
        if self.left_dirty() {
            return Outcome::Dirty;
        }
        match self.claims.iter().map(|c| c.verdict).max() {
            _ if self.interrupted.as_deref().is_some_and(by_signal) => Outcome::Interrupted,
            None => Outcome::NothingSelected,
            Some(Verdict::Refuted) => Outcome::Refuted,
            Some(Verdict::Inconclusive) => Outcome::Inconclusive,
            Some(Verdict::Unsupported) if counts.upheld == 0 => Outcome::Inconclusive,
            Some(Verdict::Unsupported) => Outcome::Unsupported,
            Some(Verdict::Upheld) => Outcome::Upheld,
        }
    }

    /// Does the cluster differ from what it was, as far as the journal tells? Any sign of it is enough.
    fn left_dirty(&self) -> bool {
        self.cleanup.end == Some(End::Dirty)
            || self.cleanup.residue.as_ref().is_some_and(|r| !r.is_empty())
            || self.faults.iter().flat_map(|f| &f.undo).any(|u| u.error.is_some())
            // No end in the journal: whatever went in may still be in.
            || self.cleanup.end.is_none() && self.faults.iter().any(|f| f.injected.is_some())
    }

    /// The exit code. With `allow_unsupported`, claims that can't be put to the test are no failure as long as another one was upheld.
    pub fn exit(&self, allow_unsupported: bool) -> Exit {
        match self.outcome() {
            Outcome::Dirty => Exit::Dirty,
            Outcome::Interrupted => Exit::Interrupted,
            Outcome::Refuted => Exit::Refuted,
            Outcome::Unsupported if allow_unsupported => Exit::Upheld,
            Outcome::Inconclusive | Outcome::Unsupported => Exit::Inconclusive,
            Outcome::Upheld => Exit::Upheld,
            Outcome::NothingSelected => Exit::NothingSelected,
        }
    }
}

/// Was it a signal that cut the run short? Other causes (the engine gone, the journal full) are no wish of the user's to stop.
fn by_signal(why: &str) -> bool {
    why.starts_with("a signal") || why.starts_with("SIG")
}

/// Writes `report.json`, `report.xml` (JUnit) and `report.md` into the run's directory; each is there whole or not at all.
///
/// # Errors
/// If the directory can't be written to.
pub fn write_all(report: &Report, dir: &Path) -> Result<()> {
    write(dir, "report.json", &json::render(report)?)?;
    write(dir, "report.xml", &junit::render(std::slice::from_ref(report))?)?;
    write(dir, "report.md", &markdown::render(report))
}

fn write(dir: &Path, name: &str, content: &str) -> Result<()> {
    let path = dir.join(name);
    let partial = dir.join(format!("{name}.partial"));
    let written = File::create(&partial).and_then(|mut file| {
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, &path)?;
        File::open(dir)?.sync_all()
    });
    written.map_err(|e| {
        // What is half written is of no use; if even that can't be removed, the error tells where it is.
        let _ = fs::remove_file(&partial);
        Error::could_not_run(format!("cannot write the report {}: {e}", path.display()))
            .next("the journal is beside it: `kchaos judge` makes the report again once there is room")
    })
}
