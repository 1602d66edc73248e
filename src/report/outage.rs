//! What requests went through while the fault was in and after it: the outages that each series measured, with error bounds.
//!
//! A good sample proves that it worked at some instant of the sample, a bad one that it failed at some instant. So an outage begins
//! between the start of the last good sample before it and the end of its first bad one, and it ends between the start of its last bad
//! one and the end of the next good one. Samples that could not look prove nothing and widen the bounds by being skipped.

use std::collections::BTreeMap;

use super::fold::{Clock, at_least};
use super::{Down, Outage, words};
use crate::clock::Mono;
use crate::event::{Event, EventKind, Outcome, Phase, Sample};
use crate::plan::Plan;
use crate::scenario::{Arm, ProbeSpec};

/// Samples of one series from the fault on; and the last good one before it, which is where an outage may have begun.
#[derive(Default)]
struct Series<'a> {
    failed: u64,
    samples: u64,
    good_before: Option<&'a Sample>,
    /// First and last bad sample of an outage that is not over yet.
    open: Option<(&'a Sample, &'a Sample)>,
    longest: Option<Down>,
    /// The last good sample before the first outage, that outage's first bad sample, and the newest bad one with the good one after it.
    first: Option<(Option<&'a Sample>, &'a Sample)>,
    last: Option<(&'a Sample, Option<&'a Sample>)>,
}

/// The longest outage of every series of every probe that makes requests, in the order of the plan.
pub(super) fn measure(events: &[Event], plan: &Plan, clock: Clock) -> Vec<Outage> {
    let mut all: BTreeMap<(usize, &str), Series> = BTreeMap::new();
    let mut broken = false;
    let mut samples: Vec<&Sample> = Vec::new();
    let mut since = Mono(u64::MAX);
    for event in events {
        match &event.kind {
            EventKind::Injecting { .. } if !broken => (broken, since) = (true, event.at),
            EventKind::Phase(Phase::Cleanup) => break,
            EventKind::Sampled(sample) if requests(plan, sample.probe) => samples.push(sample),
            _ => {}
        }
    }
    // Series arrive interleaved, and a slow sample after a quick later one: outages are a matter of when samples began.
    samples.sort_by_key(|s| (s.start, s.slot));
    for sample in samples {
        let series = all.entry((sample.probe, sample.series.as_str())).or_default();
        let counts = sample.end >= since;
        match &sample.outcome {
            Outcome::Unknown(_) => {}
            Outcome::Saw(_) => {
                series.samples += u64::from(counts);
                series.close(Some(sample), clock);
                series.good_before = Some(sample);
            }
            Outcome::Failed(_) => {
                series.samples += u64::from(counts);
                series.failed += u64::from(counts);
                if counts {
                    series.open = Some((series.open.map_or(sample, |(first, _)| first), sample));
                }
            }
        }
    }
    all.into_iter()
        .map(|((probe, name), mut series)| {
            series.close(None, clock);
            Outage {
                probe: words::planned_probe(plan, probe),
                series: name.to_owned(),
                arms: arms(plan, probe),
                failed: series.failed,
                samples: series.samples,
                failing: series.first.zip(series.last).map(|(first, last)| down(first, last, clock)),
                longest: series.longest,
            }
        })
        .collect()
}

impl<'a> Series<'a> {
    /// Ends the open outage with the next good sample, or without one: then observation ended first.
    fn close(&mut self, good: Option<&'a Sample>, clock: Clock) {
        let Some((first, last)) = self.open.take() else { return };
        let down = down((self.good_before, first), (last, good), clock);
        if self
            .longest
            .as_ref()
            .is_none_or(|l| l.took.at_least < down.took.at_least || l.to.is_some() && down.to.is_none())
        {
            self.longest = Some(down);
        }
        self.first.get_or_insert((self.good_before, first));
        self.last = Some((last, good));
    }
}

/// What is proven about the time between the good samples around the bad ones.
fn down(
    (good_before, first): (Option<&Sample>, &Sample),
    (last, good_after): (&Sample, Option<&Sample>),
    clock: Clock,
) -> Down {
    let began = (good_before.map_or(first.start, |s| s.start), first.end);
    Down {
        from: clock.bounds(began.0, began.1),
        to: good_after.map(|g| clock.bounds(last.start, g.end)),
        took: at_least(last.start.since(began.1), good_after.map(|g| g.end.since(began.0))),
    }
}

fn requests(plan: &Plan, probe: usize) -> bool {
    matches!(plan.probes.get(probe).map(|p| &p.spec), Some(ProbeSpec::Requests { .. } | ProbeSpec::PodRequests { .. }))
}

fn arms(plan: &Plan, probe: usize) -> Vec<Arm> {
    let mut arms: Vec<Arm> = plan.claims.iter().filter(|c| c.probe == probe).filter_map(|c| c.arm).collect();
    arms.sort_unstable();
    arms.dedup();
    arms
}
