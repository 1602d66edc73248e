//! How many of a run's writes to the API were acknowledged, and how many of these were lost.

use super::Writes;
use super::store_recovery::undo_begins;
use crate::event::{Event, EventKind};
use crate::plan::Plan;
use crate::sample::{Outcome, Value};
use crate::scenario::{ApiVerb, ProbeSource, Remedy, WriteState};

/// Counts the writes of a run. `None` if it made none, or did not look for them.
pub(super) fn count(events: &[Event], plan: &Plan) -> Option<Writes> {
    let source = |probe: usize| plan.probes.get(probe).map(|probe| probe.spec.source());
    let mut acknowledged = 0;
    let mut lost = None;
    // Where the store is lost or replaced, the undo puts back the one that the run had found, without what was written
    // since. That is kchaos' own doing.
    let is_lost = plan.faults.iter().any(|fault| fault.spec.store_left().is_some());
    let replaced = is_lost || plan.does() == Some(Remedy::RestoreSnapshot);
    let until = undo_begins(events).filter(|_| replaced);
    for event in events {
        let EventKind::Sampled(sample) = &event.kind else { continue };
        if until.is_some_and(|until| sample.end > until) {
            continue;
        }
        match (source(sample.probe), &sample.outcome) {
            (Some(ProbeSource::Api { verb: ApiVerb::Write, .. }), Outcome::Saw(_)) => acknowledged += 1,
            // What counts is what was seen last.
            (Some(ProbeSource::Ledger(WriteState::Lost)), Outcome::Saw(Value::Count(n))) => lost = Some(*n),
            _ => {}
        }
    }
    Some(Writes { acknowledged, lost: lost? })
}
