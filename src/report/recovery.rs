//! What recovering the cluster's store by hand took and lost, as users see it: what is called the recovery time and the
//! recovery point. The drill of a run measures both.

use super::fold::at_least;
use super::{AtLeast, Recovery};
use crate::clock::Mono;
use crate::event::{Event, EventKind, Outcome, Sample, Value};
use crate::plan::Plan;
use crate::scenario::{ApiVerb, ProbeSpec, Remedy, WriteState};

/// Measures the recovery of a run. `None` if its remedy recovers no store, or was not begun.
pub(super) fn measure(events: &[Event], plan: &Plan) -> Option<Recovery> {
    let stores = [Remedy::RestoreSnapshot, Remedy::RecoverFromSurvivor];
    plan.remedy.as_ref().filter(|remedy| stores.contains(&remedy.does))?;
    let at = |is: fn(&EventKind) -> bool| events.iter().find(|e| is(&e.kind)).map(|e| e.at);
    let begun = at(|kind| matches!(kind, EventKind::Remedying { .. }))?;
    let done = at(|kind| matches!(kind, EventKind::Remedied { error: None, .. }));
    let broken = at(|kind| matches!(kind, EventKind::Injecting { .. }));
    let saved = at(|kind| matches!(kind, EventKind::Saved { .. }));
    let saving = at(|kind| matches!(kind, EventKind::Prepared { .. }));
    Some(Recovery {
        time: acknowledged_again(events, plan, begun),
        point: broken.zip(saved).zip(saving).map(|((broken, saved), saving)| between((saving, saved), broken)),
        writes_lost: done.and_then(|done| lost(events, plan, done)),
    })
}

/// The time since a moment that lies in an interval.
fn between((from, to): (Mono, Mono), until: Mono) -> AtLeast {
    at_least(until.since(to), Some(until.since(from)))
}

/// How long after `begun` users could write again: after the last write that failed, and at the first that was
/// acknowledged after that.
fn acknowledged_again(events: &[Event], plan: &Plan, begun: Mono) -> Option<AtLeast> {
    let mut failed: Option<&Sample> = None;
    for sample in samples(events, plan, &ProbeSpec::Api(ApiVerb::Write)).filter(|sample| sample.start >= begun) {
        match (&sample.outcome, failed) {
            (Outcome::Failed(_), _) => failed = Some(sample),
            (Outcome::Saw(_), Some(failed)) => {
                return Some(at_least(failed.start.since(begun), Some(sample.end.since(begun))));
            }
            _ => {}
        }
    }
    None
}

/// How many writes that had been acknowledged were missing in the end.
fn lost(events: &[Event], plan: &Plan, done: Mono) -> Option<u64> {
    let counts = samples(events, plan, &ProbeSpec::Writes(WriteState::Lost)).filter(|sample| sample.start >= done);
    counts.filter_map(|sample| if let Outcome::Saw(Value::Count(n)) = sample.outcome { Some(n) } else { None }).last()
}

/// The samples of a probe, in the order of their slots.
fn samples<'a>(events: &'a [Event], plan: &Plan, spec: &ProbeSpec) -> impl Iterator<Item = &'a Sample> + use<'a> {
    let probe = plan.probes.iter().position(|probe| probe.spec == *spec);
    let of_it = |event: &'a Event| match &event.kind {
        EventKind::Sampled(sample) => Some(sample),
        _ => None,
    };
    let mut found: Vec<&Sample> = events.iter().filter_map(of_it).filter(|s| Some(s.probe) == probe).collect();
    found.sort_by_key(|sample| sample.slot);
    found.into_iter()
}
