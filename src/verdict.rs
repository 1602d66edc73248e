//! The judge. It is pure: it takes the history of a run and returns one [`Finding`] for each claim of the plan. It
//! knows no cluster and no clock.
//!
//! A claim is judged in three steps. First, the faults of its phase must be proven from beginning to end (`gate`). Then
//! its window is placed on the run's clock (`window`). Then its operator examines the samples in the window
//! (`operator`), each compared with the expectation (`sample_truth`). The judge never makes up what was not seen: a slot
//! without a decided sample can only make a claim inconclusive.
//!
//! For each claim, judging takes one pass over the samples of its probe, besides the sort in [`History::replay`]. That
//! is a few milliseconds for 20,000 samples, so a live display can ask a few times a second.

mod budget;
mod coverage;
mod explain;
mod gate;
mod lost_time;
mod operator;
mod outage;
mod sample_truth;
mod window;
pub(crate) mod words;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::Phase;
use crate::plan::{Edge, Operator, PlannedClaim};
use crate::run_history::History;
use crate::scenario::Arm;

pub use outage::{Outage, outages, worked};

/// The verdict on a claim. Ordered by weight in a summary: one refuted claim outweighs everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Seen to hold, in a proven fault, with samples in all of the window.
    Upheld,
    /// Can't be tested on this cluster: a capability is missing.
    Unsupported,
    /// Neither seen to hold nor seen to fail.
    Inconclusive,
    /// Seen to fail.
    Refuted,
}

/// The reason of a verdict: a stable id for tests and scripts. The text next to it is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Every required sample satisfies the claim.
    Held,
    /// A sample satisfies an `eventually`.
    Happened,
    /// A sample contradicts an `always`, `never` or `unchanged`.
    Counterexample,
    /// The window is covered and closed, and no sample satisfies an `eventually`.
    NeverHappened,
    /// An outage may or may not be within its budget: its edges are not known well enough.
    Indistinct,
    /// The steady state did not hold before the fault, so nothing was injected.
    NoSteadyState,
    /// The witnesses did not see the fault's effect appear, or there was no fault to see: the plan has none, or its
    /// injection failed.
    NoEffect,
    /// The witnesses saw the effect before the fault went in.
    EffectInBaseline,
    /// The effect was gone before the window's end.
    EffectNotHeld,
    /// The fault was planned to end before Kubernetes reacts, and was not seen to be over in time.
    LastedTooLong,
    /// The remedy failed, so nothing follows from it.
    NotRemedied,
    /// An undo failed, or the effect was not seen to be gone after the undo.
    NotUndone,
    /// The window has no samples.
    NoSamples,
    /// More slots of the window in a row than allowed have no decided sample.
    Gaps,
    /// The run ended before the window did.
    Interrupted,
    /// The observer was starved of CPU during the window, others took so much of the machine that a timeout is no
    /// evidence, or it lost so much time since the cause that it proves nothing if something came late or not at all.
    Starved,
    /// The engine, the host or another process disturbed the run during the window.
    Disturbed,
    /// The baseline has no single value to compare with.
    NoBaselineValue,
    /// A capability is missing.
    LacksCapability,
}

/// The verdict on one claim, with the evidence.
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
    /// The reason of the verdict.
    pub reason: Reason,
    /// The reason in words, with figures.
    pub because: String,
    /// What was expected, in words: `always “Unknown”`.
    pub expected: String,
    /// The window as planned, (from, to), counted from the phase's cause; `None` where the phase is the bound.
    pub window: (Option<Duration>, Option<Duration>),
    /// The window's name, formula and settings, for people.
    pub window_because: String,
    /// What was observed, with error bounds, in words.
    pub observed: String,
    /// The earliest and latest possible time of the observation, counted from the phase's cause.
    pub observed_at: Option<(Duration, Duration)>,
    /// The longest time from one sample that saw something to the next: anything shorter may have gone unseen. `None`
    /// if the verdict does not rest on all samples.
    pub unseen: Option<Duration>,
    /// The samples that decided the claim, and some of their neighbours.
    pub evidence: Vec<Evidence>,
}

/// A sample that decided a claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Series of the probe.
    pub series: String,
    /// Slot of the sample.
    pub slot: u64,
    /// Start of the sample, counted from the start of the run.
    pub from: Duration,
    /// End of the sample, counted from the start of the run.
    pub to: Duration,
    /// The outcome, in words.
    pub outcome: String,
}
/// Judges every claim of the plan, in the order of the plan.
pub fn judge(history: &History) -> Vec<Finding> {
    findings(history, gate::proofs)
}

/// Judges a run that is still going on: as [`judge`], but assuming that the effect of the fault lasts, which only the
/// end of the run can tell. This is for people who watch, and is no verdict.
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
    if let Err((reason, because)) =
        gate::all_there(history, claim.window.phase).and_then(|()| gate(history, claim.window.phase))
    {
        (finding.reason, finding.because) = (reason, because);
        return finding;
    }
    let Some(window) = window::resolve(history, claim) else {
        return finding;
    };
    let compares = sample_truth::compares(&claim.operator);
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
    if let Some(excuse) = teller.excuse() {
        (finding.verdict, finding.reason) = (Verdict::Inconclusive, Reason::Starved);
        finding.because = format!("{}; {excuse}", finding.because);
    }
    finding
}

/// The finding on a claim about which nothing is known yet.
fn blank(claim: &PlannedClaim) -> Finding {
    let after = |edge| match edge {
        Edge::After(d) => Some(d),
        Edge::CauseStart | Edge::PhaseStart | Edge::PhaseEnd => None,
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

/// Whether a phase that is going on has nothing left to wait for.
///
/// This is so once every claim about it is decided for good; or can be decided only by the end of the phase, has seen
/// something, and does not wait for the end of an outage; or has a window that is over.
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
        Edge::PhaseEnd => {
            let has_seen = series.iter().all(|s| s.yes + s.no > 0 && !s.is_out());
            !eventually && !series.is_empty() && has_seen
        }
        // Samples of the window's last moments may still be under way.
        Edge::CauseStart | Edge::PhaseStart | Edge::After(_) => {
            window.closed && history.now() >= window::complete_at(history, claim, &window)
        }
    }
}

/// The gravest verdict; `None` if there are no findings, which does not count as a pass.
pub fn summary(findings: &[Finding]) -> Option<Verdict> {
    findings.iter().map(|f| f.verdict).max()
}

/// A mitigation that the page documents, with the results of both arms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mitigation {
    /// Id of the page sentence.
    pub sentence: String,
    /// The gravest verdict on the claims with the mitigation; `None` if there are none.
    pub treatment: Option<Verdict>,
    /// The gravest verdict on the claims without the mitigation; `None` if there are none.
    pub control: Option<Verdict>,
    /// Whether the mitigation made the difference. This requires the claims of both arms to be upheld: the mitigation
    /// helps, and its absence shows.
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
