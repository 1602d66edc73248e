//! How long an observer was kept from its work. Its null probe, which asks nobody and must never be late, measures
//! this.
//!
//! A sample that timed out on a starved observer says nothing about its target, so it may wait for longer.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Mono;

/// Number of spells kept. At the shortest interval of a null probe, 10 ms, they cover more than half a minute, longer
/// than any sample's deadline.
const KEPT: usize = 4096;

/// The longest that a sample of a starved observer waits, in deadlines.
pub(crate) const PATIENCE: u32 = 2;

/// Recent measurements of the null probe.
#[derive(Debug, Default)]
pub(crate) struct Lag {
    spells: VecDeque<Spell>,
    /// When the null probe is due that is not recorded yet, if that is known.
    expected: Option<Mono>,
}

#[derive(Debug)]
struct Spell {
    due: Mono,
    end: Mono,
}

impl Lag {
    /// Records that the null probe was due at `due` and done at `end`. Spells come in order of time and do not overlap.
    pub(crate) fn record(&mut self, due: Mono, end: Mono) {
        if self.spells.len() == KEPT {
            self.spells.pop_front();
        }
        self.spells.push_back(Spell { due, end });
    }

    /// The time within the span from `from` to `to` that was lost.
    pub(crate) fn lost(&self, from: Mono, to: Mono) -> Duration {
        let recent = self.spells.iter().rev().skip_while(|s| s.due > to).take_while(|s| s.end >= from);
        let recorded: Duration = recent.map(|s| s.end.min(to).since(s.due.max(from))).sum();
        recorded + self.expected.map_or(Duration::ZERO, |due| to.since(due.max(from)))
    }

    /// Is a timeout of a sample over this span, with this deadline, no evidence against its target? Yes, if the sample
    /// had less than half of its deadline, since that may not have been enough for an answer. Time lost after the
    /// deadline, before the observer noticed the deadline, does not count as time that the sample had.
    pub(crate) fn excuses(&self, from: Mono, to: Mono, deadline: Duration) -> bool {
        !self.lacks(from, to, deadline).is_zero()
    }

    /// What such a sample lacks to be evidence.
    fn lacks(&self, from: Mono, to: Mono, deadline: Duration) -> Duration {
        let had = to.since(from).saturating_sub(self.lost(from, to));
        (deadline / 2).saturating_sub(had)
    }
}

/// Measurements that are made while samples are under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedLag(Arc<Mutex<Lag>>);

impl SharedLag {
    /// Records that the null probe was due at `due` and done at `end`. What is late of the next one, due at `next`, is
    /// lost before it is recorded.
    pub(crate) fn record(&self, due: Mono, end: Mono, next: Mono) {
        self.with(|lag| {
            lag.record(due, end);
            // The next one is due while this one is still under way if this one took longer than an interval.
            lag.expected = Some(next.max(end));
        });
    }

    /// See [`Lag::excuses`].
    pub(crate) fn excuses(&self, from: Mono, to: Mono, deadline: Duration) -> bool {
        self.with(|lag| lag.excuses(from, to, deadline))
    }

    /// Waits until a sample that was due at `due`, and is asked now, need not wait for an answer any more: until its
    /// deadline is over, or for as much longer as a timeout would be excused, but at most for twice the deadline.
    pub(crate) async fn over(&self, due: Mono, deadline: Duration) {
        let give_up = Mono::now() + deadline * PATIENCE;
        tokio::time::sleep(deadline).await;
        loop {
            let now = Mono::now();
            let lacks = self.with(|lag| lag.lacks(due, now, deadline)).min(give_up.since(now));
            if lacks.is_zero() {
                break;
            }
            tokio::time::sleep(lacks).await;
        }
    }

    fn with<T>(&self, then: impl FnOnce(&mut Lag) -> T) -> T {
        then(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Duration = Duration::from_micros(500);

    #[test]
    fn lost_time_counts_as_far_as_it_lies_in_the_span() {
        let mut lag = Lag::default();
        for (due, end) in [(0, 10), (100, 400), (500, 510)] {
            lag.record(Mono(due), Mono(end));
        }
        assert_eq!(lag.lost(Mono(20), Mono(90)), Duration::ZERO);
        assert_eq!(lag.lost(Mono(20), Mono(100)), Duration::ZERO);
        assert_eq!(lag.lost(Mono(20), Mono(150)), Duration::from_micros(50));
        assert_eq!(lag.lost(Mono(300), Mono(505)), Duration::from_micros(105));
        assert_eq!(lag.lost(Mono(0), Mono(600)), Duration::from_micros(320));
        assert_eq!(lag.lost(Mono(600), Mono(900)), Duration::ZERO);
    }

    #[test]
    fn a_timeout_is_excused_if_less_than_half_of_its_deadline_was_left() {
        let mut lag = Lag::default();
        lag.record(Mono(100), Mono(350));
        assert!(!lag.excuses(Mono(50), Mono(550), T));
        lag.record(Mono(400), Mono(401));
        assert!(lag.excuses(Mono(50), Mono(550), T));
    }

    #[test]
    fn time_is_lost_as_soon_as_the_next_null_probe_is_late() {
        let lag = SharedLag::default();
        lag.record(Mono(100), Mono(110), Mono(200));
        let lost = |to| lag.with(|lag| lag.lost(Mono(0), Mono(to)));
        assert_eq!(lost(200), Duration::from_micros(10));
        assert_eq!(lost(450), Duration::from_micros(260));
        assert!(lag.excuses(Mono(50), Mono(550), T));
        lag.record(Mono(200), Mono(201), Mono(300));
        assert_eq!(lost(300), Duration::from_micros(11));
        assert!(!lag.excuses(Mono(20), Mono(520), T));
    }

    #[tokio::test]
    async fn a_sample_that_had_no_time_waits_for_longer_but_not_for_ever() {
        let (lag, deadline) = (SharedLag::default(), Duration::from_millis(300));
        let waits = async |late: bool| {
            let begin = Mono::now();
            let next = if late { begin } else { begin + Duration::from_secs(60) };
            lag.record(begin, begin, next);
            lag.over(begin, deadline).await;
            Mono::now().since(begin)
        };
        let (in_time, late) = (waits(false).await, waits(true).await);
        assert!(in_time >= deadline && late >= deadline * PATIENCE, "{in_time:?}, {late:?}");
        assert!(in_time < deadline * PATIENCE, "{in_time:?}");
    }

    #[test]
    fn a_stall_that_only_hid_the_end_of_the_deadline_excuses_nothing() {
        let mut lag = Lag::default();
        lag.record(Mono(300), Mono(1_000));
        assert!(!lag.excuses(Mono(50), Mono(1_000), T));
        assert!(lag.excuses(Mono(51), Mono(1_000), T));
    }
}
