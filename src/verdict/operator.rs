//! The operators: what the samples of a window say about a claim, provided that all else is in order.
//!
//! A window contains the slots that are due in it. A slot is *decided* by a sample that saw enough, in time. A sample
//! that straddles an edge of the window covers its slot without deciding the claim, unless it failed where it should
//! not have: it may have failed already while the window lasted. An unknown sample counts as none.
//!
//! Decided slots must be so close together that nothing as long as the probe's resolution goes unseen. If the
//! resolution equals the probe's interval, every slot is required, and the verdicts are monotone in information: more
//! evidence turns an inconclusive claim into an upheld or a refuted one, and never one of these into the other. With a
//! coarser resolution, a verdict can turn only if it rests on something shorter than the resolution and the samples
//! that saw it are lost. For this reason, a finding states what may have gone unseen.

use std::time::Duration;

use crate::clock::Mono;
use crate::event::Phase;
use crate::plan::{Operator, PlannedClaim};
use crate::run_history::History;
use crate::sample::{Outcome, Sample};

use super::budget::{self, Budget, Causes};
use super::coverage::Coverage;
use super::sample_truth::{Baseline, Standard, Truth, Why};
use super::window::{Resolved, complete_at};
use super::{Reason, Verdict};

/// What one series says.
#[derive(Debug)]
pub(super) struct Series<'h, 'a> {
    pub name: &'a str,
    pub samples: &'h [&'a Sample],
    pub verdict: Verdict,
    pub reason: Reason,
    /// Index of the sample that decided the series; of several that do, the earliest.
    pub deciding: Option<usize>,
    /// Number of samples in the window that are as wanted (`yes`), and that are not (`no`).
    pub yes: usize,
    pub no: usize,
    /// Number of samples in the window that gave no value.
    pub no_value: usize,
    /// Number of samples in the window that would count against the claim on a machine that is less busy.
    pub excused: usize,
    /// How well the window is covered, and why it is not covered better (`why`).
    pub coverage: Coverage,
    pub why: Option<Why>,
    pub baseline: Option<Baseline<'a>>,
    /// For a claim about outages: how they compare with the budget.
    pub budget: Option<Budget>,
}

/// Evaluates every series of the claim's probe, in the order of their names.
pub(super) fn evaluate<'h, 'a>(
    history: &'h History<'a>,
    claim: &'a PlannedClaim,
    window: &Resolved,
) -> Vec<Series<'h, 'a>> {
    let standard = Standard::of(history, claim);
    let causes = Causes::of(history, claim.window.phase);
    let probe = &history.plan().probes[claim.probe];
    // As long as samples may still be under way, none counts as lost.
    let all_in = history.entered(Phase::Cleanup).is_some() || history.now() >= complete_at(history, claim, window);
    let tolerated = if all_in { probe.slots_that_may_be_lost() } else { 0 };
    history
        .series(claim.probe)
        // A series that was not announced and that began after the window has no part in it.
        .filter(|(name, samples)| {
            history.is_announced(claim.probe, name) || samples.first().is_none_or(|first| first.due <= window.to)
        })
        .map(|(name, samples)| {
            let mut found = one(name, samples, claim, (probe.interval, tolerated), &standard, window);
            if let (Operator::OutageAtMost(allowed), Some(causes)) = (&claim.operator, &causes) {
                found.weigh(
                    budget::judge(samples, probe.interval, &standard, causes, *allowed),
                    *allowed,
                    probe.interval,
                    window,
                );
            }
            found
        })
        .collect()
}

fn one<'h, 'a>(
    name: &'a str,
    samples: &'h [&'a Sample],
    claim: &PlannedClaim,
    (interval, tolerated): (Duration, u64),
    standard: &Standard<'a, '_>,
    window: &Resolved,
) -> Series<'h, 'a> {
    let once = matches!(claim.operator, Operator::Eventually(_));
    let baseline = standard.baseline(name);
    let inside = |sample: &Sample| sample.start >= window.from && sample.end <= window.to;
    let undecided = |sample: &Sample| match standard.judge(sample) {
        Truth::Undecided(why) => Some(why),
        _ if standard.is_late(sample) => Some(Why::Starved),
        Truth::No if !once && !inside(sample) && matches!(sample.outcome, Outcome::Failed(_)) => Some(Why::UnderWay),
        _ => None,
    };
    let coverage = Coverage::of(samples, interval, (window.from, window.to), |s| undecided(s).is_none());
    let mut found = Series {
        name,
        samples,
        verdict: Verdict::Inconclusive,
        reason: Reason::NoSamples,
        deciding: None,
        yes: 0,
        no: 0,
        no_value: 0,
        excused: 0,
        coverage,
        why: None,
        baseline,
        budget: None,
    };
    if coverage.undecided > 0 {
        found.why = Some(Why::Missing);
    }
    if matches!(baseline, Some(Baseline::Nothing | Baseline::Changing(..))) {
        found.reason = Reason::NoBaselineValue;
        return found;
    }
    let mut decider: Option<(usize, (Mono, Mono))> = None;
    for (index, sample) in samples.iter().enumerate() {
        if sample.due < window.from || sample.due > window.to {
            continue;
        }
        let truth = standard.judge(sample);
        found.why = found.why.max(undecided(sample));
        if !inside(sample) {
            continue;
        }
        match truth {
            Truth::Yes => found.yes += 1,
            Truth::No => found.no += 1,
            Truth::NoValue => found.no_value += 1,
            Truth::Undecided(Why::Excused) => found.excused += 1,
            Truth::Undecided(_) => {}
        }
        // The earliest sample decides. Order by its end, because that is when its outcome was known.
        let decides = if once { truth == Truth::Yes } else { truth == Truth::No };
        let known = (sample.end, sample.start);
        if decides && decider.is_none_or(|(_, earliest)| known < earliest) {
            decider = Some((index, known));
        }
    }
    found.deciding = decider.map(|(index, _)| index);
    (found.verdict, found.reason) = match (found.deciding, once) {
        (Some(_), true) => (Verdict::Upheld, Reason::Happened),
        (Some(_), false) => (Verdict::Refuted, Reason::Counterexample),
        (None, _) if !window.closed => (Verdict::Inconclusive, Reason::Interrupted),
        (None, _) if found.yes + found.no == 0 && (coverage.undecided == 0 || samples.is_empty()) => {
            (Verdict::Inconclusive, Reason::NoSamples)
        }
        // Some slots may be lost, but not all of them: without samples, nothing follows.
        (None, _) if coverage.in_a_row > tolerated || found.yes + found.no == 0 => found.undecided(),
        (None, true) => (Verdict::Refuted, Reason::NeverHappened),
        // What is no evidence against the claim is none for it.
        (None, false) if found.excused > 0 => (Verdict::Inconclusive, Reason::Starved),
        (None, false) => (Verdict::Upheld, Reason::Held),
    };
    found
}

impl Series<'_, '_> {
    /// For a claim about outages: whether one has not ended yet that may still be within its budget.
    pub fn is_out(&self) -> bool {
        matches!(self.budget, Some(Budget::Uncertain(outage)) if outage.duration().1.is_none())
    }

    /// Sets the verdict by outages instead of by single samples.
    fn weigh(&mut self, budget: Budget, allowed: Duration, interval: Duration, window: &Resolved) {
        self.budget = Some(budget);
        self.deciding = match budget {
            Budget::Kept(_) | Budget::Unseen => None,
            Budget::Uncertain(outage) | Budget::Exceeded(outage) => {
                self.samples.iter().position(|s| s.slot == outage.slots.0)
            }
        };
        (self.verdict, self.reason) = match budget {
            Budget::Exceeded(_) => (Verdict::Refuted, Reason::Counterexample),
            _ if !window.closed => (Verdict::Inconclusive, Reason::Interrupted),
            // This also covers times before the first sample and after the last in which nobody looked.
            _ if self.yes + self.no == 0 || self.coverage.apart(interval) > allowed.max(2 * interval) => {
                self.undecided()
            }
            Budget::Unseen => self.undecided(),
            Budget::Uncertain(_) => (Verdict::Inconclusive, Reason::Indistinct),
            Budget::Kept(_) => (Verdict::Upheld, Reason::Held),
        };
    }

    /// The verdict if too little was seen.
    fn undecided(&self) -> (Verdict, Reason) {
        let starved = matches!(self.why, Some(Why::Starved | Why::Excused));
        (Verdict::Inconclusive, if starved { Reason::Starved } else { Reason::Gaps })
    }
}
