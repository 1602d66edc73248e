//! How long an observer was kept from its work. Its null probe, which asks nobody and must never be late, measures
//! this.
//!
//! A sample that timed out on a starved observer says nothing about its target.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Mono;

/// Number of spells kept. At the shortest interval of a null probe, 10 ms, they cover more than half a minute, longer
/// than any sample's deadline.
const KEPT: usize = 4096;

/// Recent measurements of the null probe.
#[derive(Debug, Default)]
pub(crate) struct Lag(VecDeque<Spell>);

#[derive(Debug)]
struct Spell {
    due: Mono,
    end: Mono,
}

impl Lag {
    /// Records that the null probe was due at `due` and done at `end`. Spells come in order of time and do not overlap.
    pub(crate) fn record(&mut self, due: Mono, end: Mono) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(Spell { due, end });
    }

    /// The time within the span from `from` to `to` that was lost.
    pub(crate) fn lost(&self, from: Mono, to: Mono) -> Duration {
        let recent = self.0.iter().rev().skip_while(|s| s.due > to).take_while(|s| s.end >= from);
        recent.map(|s| s.end.min(to).since(s.due.max(from))).sum()
    }

    /// Is a timeout of a sample over this span, with this deadline, no evidence against its target? Yes, if the sample
    /// had less than half of its deadline, since that may not have been enough for an answer. Time lost after the
    /// deadline, before the observer noticed the deadline, does not count as time that the sample had.
    pub(crate) fn excuses(&self, from: Mono, to: Mono, deadline: Duration) -> bool {
        to.since(from).saturating_sub(self.lost(from, to)) < deadline / 2
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
    fn a_stall_that_only_hid_the_end_of_the_deadline_excuses_nothing() {
        let mut lag = Lag::default();
        lag.record(Mono(300), Mono(1_000));
        assert!(!lag.excuses(Mono(50), Mono(1_000), T));
        assert!(lag.excuses(Mono(51), Mono(1_000), T));
    }
}
