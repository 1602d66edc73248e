//! Time that a busy machine lost.
//!
//! Observers and cluster share one machine, often with others. Windows allow for a busy one ([`SLACK`]), but if it was
//! seen to lose more, then Kubernetes was late for a reason that is not Kubernetes', and nothing follows from its being
//! late. It may be later by more than what was lost: a controller manager that can't renew its lease starts anew.

use std::time::Duration;

use crate::clock::Mono;
use crate::event::{Phase, ProcessorUse};
use crate::plan::{Edge, Operator, PlannedClaim, SLACK};
use crate::run_history::{History, Interval};

use super::window::Resolved;

/// How much of the time from the cause to `until` was lost, if it is so much that the claim can't be refuted by what
/// came late, or did not come.
pub(super) fn excuses(history: &History, claim: &PlannedClaim, window: &Resolved, until: Mono) -> Option<Duration> {
    let lost = if has_deadline(claim) { lost(history, window.cause.start, until) } else { Duration::ZERO };
    (lost > SLACK).then_some(lost)
}

/// Whether the claim wants something to have happened by a certain time.
fn has_deadline(claim: &PlannedClaim) -> bool {
    let caused = matches!(claim.window.phase, Phase::Fault | Phase::Remedy | Phase::Recovery);
    let by_then = match claim.operator {
        Operator::Eventually(_) | Operator::OutageAtMost(_) => true,
        // What must hold from some time after the cause on must have come about by then.
        Operator::Always(_) | Operator::Never(_) | Operator::Unchanged => matches!(claim.window.from, Edge::After(_)),
    };
    caused && by_then
}

/// The time between two moments in which an observer had no time, in which the API said nothing although it should
/// have, or by which others set the cluster back.
fn lost(history: &History, from: Mono, to: Mono) -> Duration {
    let stalls = history.stalls();
    // What others took in a time in which a stall counts already is the reason of the stall, as far as it goes.
    let behind = |usage: &&ProcessorUse| {
        let (begin, end) = (usage.from.max(from), usage.to.min(to));
        let taken = end.since(begin).mul_f64(usage.contended());
        // Mostly nothing is, and this is asked for each silence of each series.
        if taken.is_zero() { taken } else { taken.saturating_sub(covered(stalls, begin, end)) }
    };
    covered(stalls, from, to) + history.processors().iter().map(behind).sum::<Duration>()
}

/// How much of the time between two moments these spells cover, which are in order and don't overlap.
fn covered(spells: &[Interval], from: Mono, to: Mono) -> Duration {
    let first = spells.partition_point(|spell| spell.end <= from);
    let within = spells[first..].iter().take_while(|spell| spell.start < to);
    within.map(|spell| spell.end.min(to).since(spell.start.max(from))).sum()
}

/// Whether a silence between two moments, in which nobody answered, was no longer than a machine can be busy: what it
/// lost in that time, and what windows allow a busy machine anyway.
pub(super) fn explains(history: &History, from: Mono, to: Mono) -> bool {
    let silent = to.since(from);
    silent <= SLACK || silent <= SLACK + lost(history, from, to)
}
