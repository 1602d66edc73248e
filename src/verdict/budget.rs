//! Outages held against a budget.
//!
//! Here an outage is over once every request has been answered for a while ([`QUIET`]): of two replicas one is dead, and every other request
//! fails; to those who ask, that is one outage and not a hundred short ones. What begins in a phase counts there, however late it ends.
//!
//! Its edges are known as well as samples come. So it has a shortest time, by the failures that were seen, and a longest, if every slot that
//! decided nothing was a failure as well. The shortest alone can refute, the longest alone can uphold: a sample more makes the two meet, and
//! never turns one verdict into the other.

use std::time::Duration;

use crate::clock::Mono;
use crate::event::{Phase, Sample};
use crate::history::History;

use super::outage::{Look, Outage, fold};
use super::truth::{Standard, Truth};

/// How long every request must be answered for an outage to be over.
const QUIET: Duration = Duration::from_secs(3);

/// What the outages of one series say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Budget {
    /// All were over in time; the longest of them, if there were any.
    Kept(Option<Outage>),
    /// This one may have been over in time, and may have not.
    Uncertain(Outage),
    /// This one was longer.
    Exceeded(Outage),
    /// Nobody looked for so long that an outage may have gone unseen.
    Unseen,
}

/// Whose outages are judged: every one belongs to the fault, or to the recovery, by when it began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Causes {
    /// When the fault may have begun at the earliest. What was out before is none of its outages, not even the beginning of one.
    fault: Mono,
    /// When the undo did, if it has.
    undo: Option<Mono>,
    /// The claim is about the recovery.
    recovery: bool,
    /// Until when its phase went. What began later is of no phase that is judged.
    until: Mono,
}

impl Causes {
    /// The causes of a run, for a claim on this phase; `None` if nothing was broken in it.
    pub(super) fn of(history: &History, phase: Phase) -> Option<Self> {
        let undo = history.cause(Phase::Recovery).map(|undo| undo.start);
        let until = history.span(phase)?.until;
        Some(Self { fault: history.cause(Phase::Fault)?.start, undo, recovery: phase == Phase::Recovery, until })
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
    let ours = |outages: Vec<Outage>| outages.into_iter().filter(|o| causes.are_of(o)).collect::<Vec<_>>();
    let certain = ours(fold(looks.iter().filter_map(|(look, good)| Some((*look, (*good)?))), QUIET));
    let possible = ours(fold(looks.iter().map(|(look, good)| (*look, *good == Some(true))), QUIET));
    if let Some(outage) = certain.iter().filter(|o| o.duration().0 > budget).max_by_key(|o| o.duration().0) {
        return Budget::Exceeded(*outage);
    }
    let Some(perhaps) = possible.iter().find(|o| o.duration().1.is_none_or(|longest| longest > budget)) else {
        return Budget::Kept(certain.into_iter().max_by_key(|o| o.duration().1));
    };
    let seen = looks
        .iter()
        .any(|(look, good)| *good == Some(false) && (perhaps.slots.0..=perhaps.slots.1).contains(&look.slot));
    if seen { Budget::Uncertain(*perhaps) } else { Budget::Unseen }
}

/// Every slot from the first sample to the last, in the order in which they were due, and whether it was good; `None` if nothing was decided.
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
