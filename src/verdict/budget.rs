//! Comparing outages with a budget.
//!
//! Here an outage is over once every request has been answered for a while ([`QUIET`]). If one of two replicas is dead,
//! every other request fails; to a client, that is one outage and not a hundred short ones. An outage belongs to the
//! phase in which it begins, however late it ends.
//!
//! The edges of an outage are known only as well as the samples allow. So it has a shortest duration, given by the
//! failures that were seen, and a longest duration, as if every undecided slot had been a failure too (but for slots after
//! the recovery, of an outage of which no failure was seen). Only the shortest can refute a claim, and only the longest
//! can uphold it. More samples bring the two together, and never turn one verdict into the other.

use std::time::Duration;

use crate::clock::Mono;
use crate::event::Phase;
use crate::run_history::History;
use crate::sample::Sample;

use super::outage::{Look, Outage, fold};
use super::sample_truth::{Standard, Truth};

/// How long every request must be answered before an outage counts as over.
const QUIET: Duration = Duration::from_secs(3);

/// What the outages of one series say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Budget {
    /// All outages were within the budget; the longest of them, if there were any.
    Kept(Option<Outage>),
    /// This outage may or may not have been within the budget.
    Uncertain(Outage),
    /// This outage was longer than the budget.
    Exceeded(Outage),
    /// Nobody looked for so long that an outage over the budget may have gone unseen.
    Unseen,
}

/// Which outages are judged: each belongs to the fault or to the recovery, depending on when it began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Causes {
    /// The earliest moment at which the fault may have begun. Failures before it do not count, not even as the
    /// beginning of an outage.
    fault: Mono,
    /// The earliest moment at which the undo may have begun, if it has.
    undo: Option<Mono>,
    /// Whether the claim is about the recovery.
    recovery: bool,
    /// The end of the claim's phase. An outage that begins later belongs to no phase that is judged.
    until: Mono,
}

impl Causes {
    /// The causes of a run, for a claim about this phase; `None` if the run broke nothing.
    pub(super) fn of(history: &History, phase: Phase) -> Option<Self> {
        let undo = history.cause(Phase::Recovery).map(|undo| undo.start);
        let until = history.span(phase)?.until;
        Some(Self { fault: history.cause(Phase::Fault)?.start, undo, recovery: phase == Phase::Recovery, until })
    }

    /// Those of the outages that belong to the claim's phase.
    fn own(&self, mut outages: Vec<Outage>) -> Vec<Outage> {
        outages.retain(|outage| self.are_of(outage));
        outages
    }

    fn are_of(&self, outage: &Outage) -> bool {
        let later = self.recovery && outage.began.0.is_some_and(|earliest| earliest >= self.until);
        self.undo.is_some_and(|undo| outage.began.1 >= undo) == self.recovery && !later
    }
}

/// Judges the outages that began in the claim's phase.
pub(super) fn judge(
    samples: &[&Sample],
    interval: Duration,
    standard: &Standard,
    causes: &Causes,
    budget: Duration,
) -> Budget {
    let mut looks = looks(samples, interval, standard);
    looks.retain(|(look, good)| look.to >= causes.fault || *good == Some(true));
    let certain = causes.own(fold(looks.iter().filter_map(|(look, good)| Some((*look, (*good)?))), QUIET));
    if let Some(outage) = certain.iter().filter(|o| o.duration().0 > budget).max_by_key(|o| o.duration().0) {
        return Budget::Exceeded(*outage);
    }
    if let Some(outage) = perhaps_too_long(&looks, causes, budget).into_iter().find(|o| is_seen(o, &looks)) {
        return Budget::Uncertain(outage);
    }
    // One that nobody saw is not made longer by looks that were missed after the recovery: the last one of a run may be.
    looks.retain(|(look, good)| good.is_some() || !causes.recovery || look.from < causes.until);
    match perhaps_too_long(&looks, causes, budget).is_empty() {
        true => Budget::Kept(certain.into_iter().max_by_key(|o| o.duration().1)),
        false => Budget::Unseen,
    }
}

/// The outages that were longer than the budget if every undecided slot was a failure.
fn perhaps_too_long(looks: &[(Look, Option<bool>)], causes: &Causes, budget: Duration) -> Vec<Outage> {
    let mut outages = causes.own(fold(looks.iter().map(|(look, good)| (*look, *good == Some(true))), QUIET));
    outages.retain(|o| o.duration().1.is_none_or(|longest| longest > budget));
    outages
}

/// Has anybody seen a failure in it?
fn is_seen(outage: &Outage, looks: &[(Look, Option<bool>)]) -> bool {
    let (first, last) = outage.slots;
    looks.iter().any(|(look, good)| *good == Some(false) && (first..=last).contains(&look.slot))
}

/// Every slot from the first sample to the last, in the order in which they were due, and whether it was good; `None`
/// if it is undecided.
fn looks(samples: &[&Sample], interval: Duration, standard: &Standard) -> Vec<(Look, Option<bool>)> {
    let mut looks: Vec<(Look, Option<bool>)> = Vec::with_capacity(samples.len());
    for sample in samples {
        if let Some((last, _)) = looks.last().copied() {
            let step = |slot: u64| interval * u32::try_from(slot - last.slot).unwrap_or(u32::MAX);
            let missing = (last.slot + 1..sample.slot).map(|slot| {
                let due = last.from + step(slot);
                (Look { slot, from: due, to: due }, None)
            });
            looks.extend(missing);
        }
        let good = match standard.judge(sample) {
            Truth::Yes => Some(true),
            Truth::No => Some(false),
            Truth::NoValue | Truth::Undecided(_) => None,
        };
        looks.push((Look { slot: sample.slot, from: sample.start, to: sample.end }, good));
    }
    looks
}
