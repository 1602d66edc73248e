//! Time that a busy machine lost.
//!
//! Observers and cluster share one machine, often with others. Windows allow for a busy one ([`SLACK`]), but if it was
//! seen to lose more, then Kubernetes was late for a reason that is not Kubernetes', and nothing follows from its being
//! late. It may be later by more than what was lost: a controller manager that can't renew its lease starts anew.

use std::time::Duration;

use crate::clock::Mono;
use crate::event::{Outcome, Phase, ProcessorUse, Sample};
use crate::history::History;
use crate::plan::{Edge, Operator, Plan, PlannedClaim, PlannedFault, SLACK};
use crate::scenario::{FaultSpec, Place, ProbeSource, Remedy, Role};

use super::window::Resolved;

/// Shorter spells are what any machine is like, and delay nobody for long.
const NOTICED: Duration = Duration::from_millis(500);

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

/// Whether the API should answer in spite of the faults. A fault that is made through the API breaks no node, whichever
/// node it is made from; a snapshot is restored without the API.
fn api_is_left_alone(plan: &Plan) -> bool {
    let by = |fault: &PlannedFault| match fault.spec.place() {
        Place::Api => !matches!(fault.spec, FaultSpec::DeadWebhook { .. }),
        Place::Container | Place::Inside => {
            plan.facts.nodes.get(&fault.node.name).is_some_and(|node| node.role == Role::Worker)
        }
    };
    let restores = plan.remedy.as_ref().is_some_and(|remedy| remedy.does == Remedy::RestoreSnapshot);
    plan.faults.iter().all(by) && !restores
}

/// The time between two moments in which an observer had no time, in which the API said nothing although it should
/// have, or by which others set the cluster back.
fn lost(history: &History, from: Mono, to: Mono) -> Duration {
    let stalls = stalls(history);
    // What others took in a time in which a stall counts already is the reason of the stall, as far as it goes.
    let behind = |usage: &&ProcessorUse| {
        let (begin, end) = (usage.from.max(from), usage.to.min(to));
        let taken = end.since(begin).mul_f64(usage.contended());
        taken.saturating_sub(covered(&stalls, begin, end))
    };
    covered(&stalls, from, to) + history.processors().iter().map(behind).sum::<Duration>()
}

/// When an observer had no time, or the API said nothing although it should have, ordered by beginning.
fn stalls(history: &History) -> Vec<(Mono, Mono)> {
    let plan = history.plan();
    let mut spells = Vec::new();
    for (index, probe) in plan.probes.iter().enumerate() {
        // Who asks from a node that is broken has no time because of that.
        if probe.spec.from().is_some() {
            continue;
        }
        let must_answer = probe.spec.source() == ProbeSource::Lists && api_is_left_alone(plan);
        let is_lost = |sample: &Sample| match &sample.outcome {
            Outcome::Unknown(_) => must_answer || sample.outcome.had_no_time(),
            Outcome::Saw(_) | Outcome::Failed(_) => false,
        };
        for (_, samples) in history.series(index) {
            let in_a_row = samples.chunk_by(|one, next| is_lost(one) && is_lost(next));
            let lost = in_a_row.filter_map(|row| match row {
                [first, ..] if is_lost(first) => Some((first.due, row.last()?.end)),
                _ => None,
            });
            spells.extend(lost.filter(|(begin, end)| end.since(*begin) >= NOTICED));
        }
    }
    spells.sort_unstable();
    spells
}

/// How much of the time between two moments spells cover that are ordered by beginning.
fn covered(spells: &[(Mono, Mono)], from: Mono, to: Mono) -> Duration {
    let mut sum = Duration::ZERO;
    let mut counted = from;
    for (begin, end) in spells {
        let end = (*end).min(to);
        sum += end.since((*begin).max(counted));
        counted = counted.max(end);
    }
    sum
}

/// Whether a silence between two moments, in which nobody answered, was no longer than a machine can be busy: what it
/// lost in that time, and what windows allow a busy machine anyway.
pub(super) fn explains(history: &History, from: Mono, to: Mono) -> bool {
    let silent = to.since(from);
    silent <= SLACK || silent <= SLACK + lost(history, from, to)
}
