//! Outages that each series of requests measured while the fault was in and afterwards, with error bounds.
//!
//! This module takes the samples of the probes that make requests and returns one [`Outage`] for each series. The judge
//! defines what an outage is and how well its edges are known ([`verdict::outages`]); here the outages are summed up.

use std::collections::BTreeMap;

use super::fold::{Clock, at_least};
use super::{Down, Outage, words};
use crate::clock::Mono;
use crate::event::{Event, EventKind, Phase};
use crate::plan::Plan;
use crate::sample::Sample;
use crate::scenario::Arm;
use crate::verdict;

/// Measures the outages of every series of every request probe from the first fault on, in the order of the plan.
pub(super) fn measure(events: &[Event], plan: &Plan, clock: Clock) -> Vec<Outage> {
    let mut all: BTreeMap<(usize, &str), Vec<&Sample>> = BTreeMap::new();
    let mut broken: Option<Mono> = None;
    let measures = |probe: usize| plan.probes.get(probe).is_some_and(|p| p.spec.measures_outages());
    for event in events {
        match &event.kind {
            EventKind::Injecting { .. } => broken = broken.or(Some(event.at)),
            EventKind::Phase(Phase::Cleanup) => break,
            EventKind::Sampled(sample) if measures(sample.probe) => {
                all.entry((sample.probe, sample.series.as_str())).or_default().push(sample);
            }
            _ => {}
        }
    }
    all.into_iter()
        .map(|((probe, name), samples)| {
            let (failed, samples, downs) = sum_up(&samples, broken);
            Outage {
                probe: words::planned_probe(plan, probe),
                series: name.to_owned(),
                arms: arms(plan, probe),
                failed,
                samples,
                failing: downs
                    .first()
                    .zip(downs.last())
                    .map(|(first, last)| down(&verdict::Outage { ended: last.ended, ..*first }, clock)),
                // Reversed, so that the first of equals wins: `max_by_key` takes the last.
                longest: downs.iter().rev().map(|outage| down(outage, clock)).max_by_key(Down::gravity),
            }
        })
        .collect()
}

/// The number of failed samples, the number of all decided samples, and the outages, all since the first fault.
///
/// A failure before the fault is no consequence of it. But the last good sample before the fault bounds when an outage
/// began.
fn sum_up(samples: &[&Sample], broken: Option<Mono>) -> (u64, u64, Vec<verdict::Outage>) {
    let counts = |sample: &Sample| broken.is_some_and(|since| sample.end >= since);
    let worked = |sample: &Sample| verdict::worked(sample).filter(|good| *good || counts(sample));
    let (mut failed, mut all) = (0, 0);
    for good in samples.iter().filter(|s| counts(s)).filter_map(|s| verdict::worked(s)) {
        failed += u64::from(!good);
        all += 1;
    }
    (failed, all, verdict::outages(samples.iter().copied(), worked))
}

/// Converts an outage for the report. If no good sample precedes it, it may have begun as early as the run did.
fn down(outage: &verdict::Outage, clock: Clock) -> Down {
    let (shortest, longest) = outage.duration();
    Down {
        from: clock.bounds(outage.began.0.unwrap_or(clock.start), outage.began.1),
        to: outage.ended.1.map(|latest| clock.bounds(outage.ended.0, latest)),
        took: at_least(shortest, longest),
    }
}

fn arms(plan: &Plan, probe: usize) -> Vec<Arm> {
    let mut arms: Vec<Arm> = plan.claims.iter().filter(|c| c.probe == probe).filter_map(|c| c.arm).collect();
    arms.sort_unstable();
    arms.dedup();
    arms
}
