//! How many of a run's writes to the API were acknowledged, and how many of these were lost.

use super::Writes;
use crate::event::{Event, EventKind};
use crate::plan::Plan;
use crate::sample::{Outcome, Value};
use crate::scenario::{ApiVerb, ProbeSource, WriteState};

/// Counts the writes of a run. `None` if it made none, or did not look for them.
pub(super) fn count(events: &[Event], plan: &Plan) -> Option<Writes> {
    let source = |probe: usize| plan.probes.get(probe).map(|probe| probe.spec.source());
    let mut acknowledged = 0;
    let mut lost = None;
    for event in events {
        let EventKind::Sampled(sample) = &event.kind else { continue };
        match (source(sample.probe), &sample.outcome) {
            (Some(ProbeSource::Api { verb: ApiVerb::Write, .. }), Outcome::Saw(_)) => acknowledged += 1,
            // What counts is what was seen last.
            (Some(ProbeSource::Ledger(WriteState::Lost)), Outcome::Saw(Value::Count(n))) => lost = Some(*n),
            _ => {}
        }
    }
    Some(Writes { acknowledged, lost: lost? })
}
