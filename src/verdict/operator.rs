//! The operators: what the samples of a window say of a claim, all else being in order.
//!
//! To a window belong the slots that are due in it, and it requires each of them. A slot is *decided* by a sample that saw enough, in
//! time; a sample that straddles an edge of the window neither decides nor is required. An unknown sample is as good as none. So the
//! verdicts are monotone in information: more evidence turns an inconclusive claim into an upheld or a refuted one, and never one of
//! these into the other.

use crate::clock::Mono;
use crate::event::Sample;
use crate::history::History;
use crate::plan::{Operator, PlannedClaim, PlannedProbe};

use super::truth::{Baseline, Standard, Truth, Why};
use super::window::Resolved;
use super::{Reason, Verdict};

/// What one series says.
#[derive(Debug)]
pub(super) struct Series<'h, 'a> {
    pub name: &'a str,
    pub samples: &'h [&'a Sample],
    pub verdict: Verdict,
    pub reason: Reason,
    /// Index of the sample that decided it, or of the first that is as good as any.
    pub deciding: Option<usize>,
    /// Samples in the window that are as wanted, and that are not.
    pub yes: usize,
    pub no: usize,
    /// Samples in the window that gave no value.
    pub no_value: usize,
    /// Required slots that nothing decided, and why.
    pub undecided: u64,
    pub why: Option<Why>,
    pub baseline: Option<Baseline<'a>>,
}

/// What every series of the claim's probe says, in the order of their names.
pub(super) fn evaluate<'h, 'a>(
    history: &'h History<'a>,
    claim: &'a PlannedClaim,
    window: &Resolved,
) -> Vec<Series<'h, 'a>> {
    let standard = Standard::of(history, claim);
    let probe = &history.plan().probes[claim.probe];
    history
        .series(claim.probe)
        // A series that nobody had announced, and that came into being after the window, has no part in it.
        .filter(|(name, samples)| {
            history.is_announced(claim.probe, name) || samples.first().is_none_or(|first| first.due <= window.to)
        })
        .map(|(name, samples)| one(name, samples, claim, probe, &standard, window))
        .collect()
}

fn one<'h, 'a>(
    name: &'a str,
    samples: &'h [&'a Sample],
    claim: &PlannedClaim,
    probe: &PlannedProbe,
    standard: &Standard<'a>,
    window: &Resolved,
) -> Series<'h, 'a> {
    let once = matches!(claim.operator, Operator::Eventually(_));
    let baseline = standard.baseline(name);
    let mut found = Series {
        name,
        samples,
        verdict: Verdict::Inconclusive,
        reason: Reason::NoSamples,
        deciding: None,
        yes: 0,
        no: 0,
        no_value: 0,
        undecided: missing(samples, probe, window.from, window.to),
        why: None,
        baseline,
    };
    if found.undecided > 0 {
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
        let inside = sample.start >= window.from && sample.end <= window.to;
        let truth = standard.judge(sample);
        let undecided = match truth {
            Truth::Undecided(why) => Some(why),
            _ if standard.is_late(sample) => Some(Why::Starved),
            _ => None,
        };
        if let Some(why) = undecided {
            found.undecided += 1;
            found.why = found.why.max(Some(why));
        }
        if !inside {
            continue;
        }
        match truth {
            Truth::Yes => found.yes += 1,
            Truth::No => found.no += 1,
            Truth::NoValue => found.no_value += 1,
            Truth::Undecided(_) => {}
        }
        // What decides is the earliest: by its end, since that is when it was known.
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
        (None, _) if found.yes + found.no == 0 && (found.undecided == 0 || samples.is_empty()) => {
            (Verdict::Inconclusive, Reason::NoSamples)
        }
        (None, _) if found.undecided > 0 => {
            let starved = found.why == Some(Why::Starved);
            (Verdict::Inconclusive, if starved { Reason::Starved } else { Reason::Gaps })
        }
        (None, true) => (Verdict::Refuted, Reason::NeverHappened),
        (None, false) => (Verdict::Upheld, Reason::Held),
    };
    found
}

/// Slots due in the window that have no sample at all. Slots go on before the first sample and after the last.
fn missing(samples: &[&Sample], probe: &PlannedProbe, from: Mono, to: Mono) -> u64 {
    let interval = u64::try_from(probe.interval.as_micros()).unwrap_or(u64::MAX).max(1);
    if from > to {
        return 0;
    }
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
        return (to.0 - from.0) / interval + 1;
    };
    // Of slots due at `base + n × interval` for n in 1..=count: how many are due in the window?
    let due_in_window = |base: u64, count: u64| {
        let up_to = |at: u64| at.checked_sub(base).map_or(0, |d| (d / interval).min(count));
        up_to(to.0) - from.0.checked_sub(1).map_or(0, up_to)
    };
    // Of slots due at `first − n × interval` for n from 1 on.
    let (nearest, farthest) =
        (first.due.0.saturating_sub(to.0).div_ceil(interval), first.due.0.saturating_sub(from.0) / interval);
    let before = (farthest + 1).saturating_sub(nearest.max(1));
    let between = samples.windows(2).map(|pair| {
        let count = pair[1].slot - pair[0].slot - 1;
        if count == 0 { 0 } else { due_in_window(pair[0].due.0, count) }
    });
    before + between.sum::<u64>() + due_in_window(last.due.0, u64::MAX)
}
