//! Time that a busy machine lost.
//!
//! Observers and cluster share one machine. Windows allow for a busy one ([`SLACK`]), but if observers saw that it lost
//! more, then Kubernetes was late for a reason that is not Kubernetes', and nothing follows from its being late. It may
//! be later by more than what was lost: a controller manager that can't renew its lease starts anew.

use std::time::Duration;

use crate::clock::Mono;
use crate::event::{Outcome, Phase, Sample};
use crate::history::History;
use crate::plan::{Edge, Operator, PlannedClaim, SLACK};
use crate::scenario::{ProbeSource, Role};

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

/// The time between two moments in which an observer had no time, or in which the API said nothing although nothing was
/// done to a control plane.
fn lost(history: &History, from: Mono, to: Mono) -> Duration {
    let plan = history.plan();
    let role = |node: &str| plan.facts.nodes.get(node).map(|n| n.role);
    let api_is_left_alone = plan.faults.iter().all(|f| role(&f.node.name) == Some(Role::Worker));
    let mut spells = Vec::new();
    for (index, probe) in plan.probes.iter().enumerate() {
        let must_answer = api_is_left_alone && probe.spec.source() == ProbeSource::Lists;
        let is_lost = |sample: &&Sample| match &sample.outcome {
            Outcome::Unknown(_) => must_answer || sample.outcome.is_starved(),
            Outcome::Saw(_) | Outcome::Failed(_) => false,
        };
        let samples = history.series(index).flat_map(|(_, samples)| samples.iter().copied());
        spells.extend(samples.filter(is_lost).map(|s| (s.due, s.end.min(to))));
    }
    spells.sort_unstable();
    let mut lost = Duration::ZERO;
    let mut counted = from;
    for (begin, end) in spells {
        lost += end.since(begin.max(counted));
        counted = counted.max(end);
    }
    lost
}
