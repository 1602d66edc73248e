//! What recovering the cluster's store by hand took and lost, as users see it: what is called the recovery time and the
//! recovery point. The drill of a run measures both.

use super::fold::at_least;
use super::{AtLeast, Recovery};
use crate::clock::Mono;
use crate::event::{Event, EventKind, Phase};
use crate::plan::{Plan, PlannedFault};
use crate::sample::{Outcome, Sample, Value};
use crate::scenario::{ApiServerOfStore, ApiVerb, FaultSpec, ProbeSpec, Remedy, StoreLeft, WriteState};

/// Measures the recovery of a run. `None` if its remedy recovers no store, or was not begun.
///
/// What counts is what was seen before the undo, which puts the store back that the run had found.
pub(super) fn measure(events: &[Event], plan: &Plan) -> Option<Recovery> {
    let stores = [Remedy::RestoreSnapshot, Remedy::RecoverFromSurvivor];
    plan.remedy.as_ref().filter(|remedy| stores.contains(&remedy.does))?;
    let at = |is: fn(&EventKind) -> bool| events.iter().filter(move |e| is(&e.kind)).map(|e| e.at);
    let begun = at(|kind| matches!(kind, EventKind::Remedying { .. })).next()?;
    let failed = at(|kind| matches!(kind, EventKind::Remedied { error: Some(_), .. })).next().is_some();
    let done = at(|kind| matches!(kind, EventKind::Remedied { .. })).max().filter(|_| !failed);
    let undo = undo_begins(events).unwrap_or(Mono(u64::MAX));
    let saved = at(|kind| matches!(kind, EventKind::Saved { .. })).next();
    let saving = at(|kind| matches!(kind, EventKind::Prepared { .. })).next();
    // Writes are acknowledged until their store is lost, or replaced by the snapshot. An API server that is kept goes on
    // acknowledging them when its store is another one, and empty.
    let takes_no_more = |fault: &PlannedFault| {
        use {ApiServerOfStore::Kept, StoreLeft::Nothing};
        let goes_on = matches!(fault.spec, FaultSpec::StoreLoss { left: Nothing, api_server: Kept, .. });
        fault.spec.store_left().is_some() && !goes_on
    };
    let broken = at(|kind| matches!(kind, EventKind::Injecting { .. })).next();
    let written_until = if plan.faults.iter().any(takes_no_more) { broken } else { Some(begun) };
    Some(Recovery {
        time: done.and_then(|_| acknowledged_again(events, plan, (begun, undo))),
        point: written_until.zip(saved).zip(saving).map(|((until, saved), saving)| between((saving, saved), until)),
        writes_lost: done.and_then(|done| lost(events, plan, (done, undo))),
    })
}

/// When the run begins to put back. If it has nothing to undo, that is its cleanup.
pub(super) fn undo_begins(events: &[Event]) -> Option<Mono> {
    let is_it = |event: &&Event| matches!(event.kind, EventKind::Phase(Phase::Undo | Phase::Cleanup));
    events.iter().find(is_it).map(|event| event.at)
}

/// The time since a moment that lies in an interval.
fn between((from, to): (Mono, Mono), until: Mono) -> AtLeast {
    at_least(until.since(to), Some(until.since(from)))
}

/// How long after the beginning of a time users could write again: after the last write in it that failed, and at the
/// first that was acknowledged after that.
fn acknowledged_again(events: &[Event], plan: &Plan, (begun, end): (Mono, Mono)) -> Option<AtLeast> {
    let writes = samples(events, plan, &ProbeSpec::Api(ApiVerb::Write), (begun, end));
    let failed = writes.iter().rposition(|sample| matches!(sample.outcome, Outcome::Failed(_)))?;
    let acknowledged = writes[failed..].iter().find(|sample| matches!(sample.outcome, Outcome::Saw(_)))?;
    Some(at_least(writes[failed].start.since(begun), Some(acknowledged.end.since(begun))))
}

/// How many writes that had been acknowledged were missing at the end of a time.
fn lost(events: &[Event], plan: &Plan, within: (Mono, Mono)) -> Option<u64> {
    let counts = samples(events, plan, &ProbeSpec::Writes(WriteState::Lost), within);
    counts
        .iter()
        .rev()
        .find_map(|sample| if let Outcome::Saw(Value::Count(n)) = sample.outcome { Some(n) } else { None })
}

/// The samples of a probe that were taken in a time, in the order of their slots.
fn samples<'a>(events: &'a [Event], plan: &Plan, spec: &ProbeSpec, (from, to): (Mono, Mono)) -> Vec<&'a Sample> {
    let probe = plan.probes.iter().position(|probe| probe.spec == *spec);
    let of_it = |event: &'a Event| match &event.kind {
        EventKind::Sampled(sample) if Some(sample.probe) == probe && sample.start >= from && sample.end <= to => {
            Some(sample)
        }
        _ => None,
    };
    let mut found: Vec<&Sample> = events.iter().filter_map(of_it).collect();
    found.sort_by_key(|sample| sample.slot);
    found
}
