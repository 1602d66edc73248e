//! The judge. Pure: takes the history of a run, gives one [`Finding`] for each claim of its plan. Knows no cluster and no clock.
//!
//! A claim is judged in three steps. The faults of its phase must be proven, from before to after (`gate`); its window is put on the
//! run's clock (`window`); then its operator looks at the samples in it (`operator`), each held against what is expected (`truth`).
//! What is not seen is never made up: a slot without a decided sample can only make a claim inconclusive.
//!
//! Judging costs one pass over the samples of a probe for each claim that looks at it, besides the sort in [`History::replay`]: a few
//! milliseconds for 20,000 samples, so a live display may well ask a few times a second.

mod budget;
mod coverage;
mod explain;
mod gate;
mod operator;
mod outage;
mod truth;
mod window;
pub(crate) mod words;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::Phase;
use crate::history::History;
use crate::plan::{Edge, Operator, PlannedClaim};
use crate::scenario::Arm;

pub use outage::{Outage, outages, worked};

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
    /// An outage may have been within its budget or beyond it: its edges are not known well enough.
    Indistinct,
    /// Probes did not hold before the fault, so nothing was injected.
    NoSteadyState,
    /// The witnesses did not see the fault's effect after injection.
    NoEffect,
    /// The witnesses saw the effect before the fault went in.
    EffectInBaseline,
    /// The effect was gone before the window's end.
    EffectNotHeld,
    /// The fault was to be over before Kubernetes does something about it, and was not seen to be.
    LastedTooLong,
    /// The remedy could not be done, so nothing follows from it.
    NotRemedied,
    /// The effect was still there after the undo, or nobody could see that it was gone.
    NotUndone,
    /// The window has no samples.
    NoSamples,
    /// More slots of the window in a row than may be lost have no decided sample.
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
    /// What lasted shorter than this may have gone unseen: the longest time from one sample that saw something to the next. `None` where the
    /// verdict does not rest on all samples.
    pub unseen: Option<Duration>,
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
/// Judges every claim of the plan, in the order of the plan.
pub fn judge(history: &History) -> Vec<Finding> {
    findings(history, gate::proofs)
}

/// What stands already, of a run that is still going on: as [`judge`], but taking for granted that the effect of the fault lasts, which
/// can be known only at the end. For people who watch; no verdict.
pub fn outlook(history: &History) -> Vec<Finding> {
    findings(history, gate::proofs_so_far)
}

type Gate = fn(&History, Phase) -> Result<(), gate::Closed>;

fn findings(history: &History, gate: Gate) -> Vec<Finding> {
    history.plan().claims.iter().map(|claim| find(history, claim, gate)).collect()
}

fn find(history: &History, claim: &PlannedClaim, gate: Gate) -> Finding {
    let mut finding = blank(claim);
    if let Some(lack) = &claim.unsupported {
        (finding.verdict, finding.reason) = (Verdict::Unsupported, Reason::LacksCapability);
        finding.because.clone_from(lack);
        return finding;
    }
    if let Err((reason, because)) = gate(history, claim.window.phase) {
        (finding.reason, finding.because) = (reason, because);
        return finding;
    }
    let Some(window) = window::resolve(history, claim) else {
        return finding;
    };
    let compares = truth::compares(&claim.operator);
    if let Err((reason, because)) = gate::undisturbed(history, claim, &window, compares) {
        (finding.reason, finding.because) = (reason, because);
        return finding;
    }
    let series = operator::evaluate(history, claim, &window);
    let merged = explain::merge(&series);
    let teller = explain::Teller { history, claim, window, series, merged };
    (finding.verdict, finding.reason) = (teller.merged.verdict, teller.merged.reason);
    finding.because = teller.because();
    finding.observed = teller.observed();
    finding.observed_at = teller.seen_at();
    finding.unseen = teller.unseen();
    finding.evidence = teller.evidence();
    finding
}

/// A finding of which nothing is known yet.
fn blank(claim: &PlannedClaim) -> Finding {
    let after = |edge| match edge {
        Edge::After(d) => Some(d),
        Edge::PhaseStart | Edge::PhaseEnd => None,
    };
    Finding {
        claim: claim.id.clone(),
        sentence: claim.sentence.clone(),
        arm: claim.arm,
        says: claim.says.clone(),
        line: claim.line,
        verdict: Verdict::Inconclusive,
        reason: Reason::Interrupted,
        because: "the record ends before the phase".into(),
        expected: words::operator(&claim.operator),
        window: (after(claim.window.from), after(claim.window.to)),
        window_because: words::window(&claim.window),
        observed: "nothing that counts".into(),
        observed_at: None,
        unseen: None,
        evidence: Vec::new(),
    }
}

/// Is there nothing more to wait for in a phase that is going on? True once every claim about it is decided for good, or can be decided
/// by the end of the phase only and has seen something, or has a window that is over.
pub fn settled(history: &History, phase: Phase) -> bool {
    history.plan().claims.iter().filter(|c| c.window.phase == phase).all(|claim| is_settled(history, claim))
}

fn is_settled(history: &History, claim: &PlannedClaim) -> bool {
    if claim.unsupported.is_some() {
        return true;
    }
    let Some(window) = window::resolve(history, claim) else { return false };
    let series = operator::evaluate(history, claim, &window);
    let verdict = explain::merge(&series).verdict;
    let eventually = matches!(claim.operator, Operator::Eventually(_));
    let decided = matches!(verdict, Verdict::Upheld | Verdict::Refuted);
    match claim.window.to {
        _ if decided => true,
        Edge::PhaseEnd => !eventually && !series.is_empty() && series.iter().all(|s| s.yes + s.no > 0),
        // Samples of the window's last moments may still be on their way.
        Edge::PhaseStart | Edge::After(_) => {
            window.closed && history.now() >= window::complete_at(history, claim, &window)
        }
    }
}

/// The gravest verdict; `None` of no findings, which is no pass.
pub fn summary(findings: &[Finding]) -> Option<Verdict> {
    findings.iter().map(|f| f.verdict).max()
}

/// A mitigation that the page documents, and what came of it with and without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mitigation {
    /// Id of the page sentence.
    pub sentence: String,
    /// Gravest verdict on what was claimed with the mitigation; `None` if nothing was.
    pub treatment: Option<Verdict>,
    /// The same without it.
    pub control: Option<Verdict>,
    /// Did the mitigation make the difference? Only if what was claimed of both sides is upheld: it helps, and its lack is felt.
    pub shown: bool,
}

/// The mitigations that findings are about, in the order in which they first appear.
pub fn mitigations(findings: &[Finding]) -> Vec<Mitigation> {
    let mut found: Vec<Mitigation> = Vec::new();
    for finding in findings {
        let Some(arm) = finding.arm else { continue };
        let at = found.iter().position(|m| m.sentence == finding.sentence).unwrap_or_else(|| {
            let sentence = finding.sentence.clone();
            found.push(Mitigation { sentence, treatment: None, control: None, shown: false });
            found.len() - 1
        });
        let side = match arm {
            Arm::Treatment => &mut found[at].treatment,
            Arm::Control => &mut found[at].control,
        };
        *side = (*side).max(Some(finding.verdict));
    }
    for mitigation in &mut found {
        mitigation.shown = [mitigation.treatment, mitigation.control] == [Some(Verdict::Upheld); 2];
    }
    found
}
