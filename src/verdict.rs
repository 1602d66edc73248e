//! The judge. Pure: takes a plan and the history of a run, gives one [`Finding`] per claim. Knows no cluster and no clock.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::scenario::Arm;

/// What was found of a claim. Ordered by how much it weighs in a summary: one refuted claim outweighs everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Seen to hold, in a proven fault, with samples in all of the window.
    Upheld,
    /// Can't be put to the test here: a capability is missing.
    Unsupported,
    /// Neither seen to hold nor seen to fail.
    Inconclusive,
    /// Seen to fail.
    Refuted,
}

/// Why a verdict is what it is: a stable id for tests and scripts; the text beside it is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Every required sample satisfied the claim.
    Held,
    /// A sample satisfied an `eventually`.
    Happened,
    /// A sample contradicts an `always`, `never` or `unchanged`.
    Counterexample,
    /// The window was covered and closed, and no sample satisfied an `eventually`.
    NeverHappened,
    /// Probes did not hold before the fault, so nothing was injected.
    NoSteadyState,
    /// The witnesses did not see the fault's effect after injection.
    NoEffect,
    /// The witnesses saw the effect before the fault went in.
    EffectInBaseline,
    /// The effect was gone before the window's end.
    EffectNotHeld,
    /// The window has no samples.
    NoSamples,
    /// Required slots of the window have no decided sample.
    Gaps,
    /// The run ended before the window did.
    Interrupted,
    /// The observer was starved of CPU in the window.
    Starved,
    /// The engine, the host or another process disturbed the run in the window.
    Disturbed,
    /// The baseline has no single value to compare with.
    NoBaselineValue,
    /// A capability is missing.
    LacksCapability,
}

/// What was found of one claim, and the evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Id of the claim.
    pub claim: String,
    /// Id of the page sentence.
    pub sentence: String,
    /// Side of a mitigation pair.
    pub arm: Option<Arm>,
    /// The claim in words.
    pub says: String,
    /// Line of the claim in the scenario file.
    pub line: u32,
    /// The verdict.
    pub verdict: Verdict,
    /// Its reason.
    pub reason: Reason,
    /// The reason in words, with figures.
    pub because: String,
    /// What was expected, in words: `always is "Unknown"`.
    pub expected: String,
    /// The window in seconds from the phase's cause, as computed: (from, to); `None` where the phase bounds it.
    pub window: (Option<Duration>, Option<Duration>),
    /// The window's name, formula and settings, for people.
    pub window_because: String,
    /// What was observed, with error bounds, in words.
    pub observed: String,
    /// When it was observed, counted from the phase's cause: earliest and latest possible.
    pub observed_at: Option<(Duration, Duration)>,
    /// Indices (in the run's order of samples) and excerpts of the deciding samples.
    pub evidence: Vec<Evidence>,
}

/// A sample that decided a claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Series of the probe.
    pub series: String,
    /// Slot of the sample.
    pub slot: u64,
    /// Begin and end of the sample, counted from the start of the run.
    pub from: Duration,
    /// See `from`.
    pub to: Duration,
    /// What it gave, in words.
    pub outcome: String,
}
/// Placeholder until the judge is merged.
pub fn judge(_: &crate::history::History) -> Vec<Finding> {
    Vec::new()
}
