//! Outages: how long something was out, and how well that is known.

use std::time::Duration;

use crate::clock::Mono;
use crate::sample::{Outcome, Sample};

/// A time in which a series of samples saw nothing but failures.
///
/// A good sample proves that the target worked at some instant during the sample; a bad one proves that it failed at
/// some instant. So the outage began between the start of the last good sample before it and the end of its first bad
/// sample. It ended between the start of its last bad sample and the end of the next good one. An outage shorter than
/// the interval of the samples may be missed altogether.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// Slots of the first and the last bad sample.
    pub slots: (u64, u64),
    /// Number of bad samples.
    pub failures: usize,
    /// Earliest and latest possible start; the earliest is `None` if nothing worked before.
    pub began: (Option<Mono>, Mono),
    /// Earliest and latest possible end; the latest is `None` if nothing has worked since.
    pub ended: (Mono, Option<Mono>),
}

impl Outage {
    /// Shortest and longest possible duration; the longest is `None` if a bound is unknown.
    pub fn duration(&self) -> (Duration, Option<Duration>) {
        let longest = self.began.0.zip(self.ended.1).map(|(from, to)| to.since(from));
        (self.ended.0.since(self.began.1), longest)
    }
}

/// Whether a request was answered; `None` if the probe could not look, which proves nothing.
pub fn worked(sample: &Sample) -> Option<bool> {
    match sample.outcome {
        Outcome::Saw(_) => Some(true),
        Outcome::Failed(_) => Some(false),
        Outcome::Unknown(_) => None,
    }
}

/// The outages of one series, earliest first.
///
/// `worked` says whether a sample is good or bad, or `None` if it proves nothing. Such samples are skipped, which
/// widens the bounds.
pub fn outages<'a>(
    samples: impl IntoIterator<Item = &'a Sample>,
    worked: impl Fn(&Sample) -> Option<bool>,
) -> Vec<Outage> {
    let mut decided: Vec<(&Sample, bool)> = samples.into_iter().filter_map(|s| worked(s).map(|w| (s, w))).collect();
    decided.sort_by_key(|(s, _)| (s.start, s.slot));
    fold(decided.into_iter().map(|(s, good)| (Look { slot: s.slot, from: s.start, to: s.end }, good)), Duration::ZERO)
}

/// A slot, and when it was sampled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub slot: u64,
    pub from: Mono,
    pub to: Mono,
}

/// Combines bad looks into outages, earliest first. A bad look that starts less than `quiet` after the previous one
/// belongs to the same outage, even if there are good looks in between.
pub(super) fn fold(looks: impl Iterator<Item = (Look, bool)>, quiet: Duration) -> Vec<Outage> {
    let mut outages: Vec<Outage> = Vec::new();
    let mut last_good = None;
    for (look, good) in looks {
        if good {
            if let Some(outage) = outages.last_mut() {
                outage.ended.1.get_or_insert(look.to);
            }
            last_good = Some(look.from);
            continue;
        }
        match outages.last_mut() {
            Some(outage) if outage.ended.1.is_none() || look.from.since(outage.ended.0) < quiet => {
                outage.slots.1 = look.slot;
                outage.failures += 1;
                outage.ended = (outage.ended.0.max(look.from), None);
                // A quick failure after one that took long to time out is a tighter bound on when the outage began.
                outage.began.1 = outage.began.1.min(look.to);
            }
            _ => outages.push(Outage {
                slots: (look.slot, look.slot),
                failures: 1,
                began: (last_good, look.to),
                ended: (look.from, None),
            }),
        }
    }
    outages
}
