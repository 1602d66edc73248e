//! Coverage: which slots of a window are decided, and how long the gaps between them are.

use std::time::Duration;

use crate::clock::Mono;
use crate::sample::Sample;

/// How well the slots that are due in a window are decided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Coverage {
    /// Slots due in the window.
    pub required: u64,
    /// Slots without a sample that decides them.
    pub undecided: u64,
    /// The most undecided slots in a row.
    pub in_a_row: u64,
}

impl Coverage {
    /// The coverage of the slots of a series that are due from `from` to `to`. Slots also exist before the first sample
    /// and after the last.
    pub(super) fn of(
        samples: &[&Sample],
        interval: Duration,
        (from, to): (Mono, Mono),
        decided: impl Fn(&Sample) -> bool,
    ) -> Self {
        let interval = i128::try_from(interval.as_micros()).unwrap_or(i128::MAX).max(1);
        // A series without samples may have its slots anywhere; then one is taken to be due as the window begins.
        let base = samples.first().map_or(i128::from(from.0), |s| i128::from(s.due.0) - i128::from(s.slot) * interval);
        let first = -(base - i128::from(from.0)).div_euclid(interval);
        let last = (i128::from(to.0) - base).div_euclid(interval);
        let mut coverage = Self { required: u64::try_from(last - first + 1).unwrap_or(0), ..Self::default() };
        let mut next = first;
        let mut run = 0;
        for sample in samples.iter().filter(|s| s.due >= from && s.due <= to && decided(s)) {
            let slot = i128::from(sample.slot);
            coverage.skip(&mut run, slot - next);
            run = 0;
            next = slot + 1;
        }
        coverage.skip(&mut run, last + 1 - next);
        coverage
    }

    fn skip(&mut self, run: &mut u64, slots: i128) {
        let slots = u64::try_from(slots).unwrap_or(0);
        *run += slots;
        self.undecided += slots;
        self.in_a_row = self.in_a_row.max(*run);
    }

    /// The longest time from one decided sample to the next: anything shorter may have gone unseen.
    pub(super) fn apart(self, interval: Duration) -> Duration {
        interval * u32::try_from(self.in_a_row + 1).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Outcome, Value};

    fn of(slots: &[u64], from: u64, to: u64) -> (u64, u64, u64) {
        // Slot 0 is due at 1,003, and each next one 10 later.
        let sample = |&slot: &u64| {
            let due = Mono(1_003 + 10 * slot);
            Sample {
                probe: 0,
                series: String::new(),
                slot,
                due,
                start: due,
                end: due,
                outcome: Outcome::Saw(Value::Count(0)),
            }
        };
        let samples: Vec<Sample> = slots.iter().map(sample).collect();
        let samples: Vec<&Sample> = samples.iter().collect();
        let interval = Duration::from_micros(10);
        let found = Coverage::of(&samples, interval, (Mono(from), Mono(to)), |s| s.slot != 13);
        (found.required, found.undecided, found.in_a_row)
    }

    #[test]
    fn slots_are_required_from_edge_to_edge_of_the_window() {
        assert_eq!(of(&[0, 1, 2, 3], 1_003, 1_033), (4, 0, 0));
        assert_eq!(of(&[0, 1, 2, 3], 1_004, 1_032), (2, 0, 0));
        assert_eq!(of(&[0, 1, 2, 3], 1_004, 1_012), (0, 0, 0));
        assert_eq!(of(&[0, 1, 2, 3], 1_033, 1_003), (0, 0, 0));
    }

    #[test]
    fn slots_go_on_before_the_first_sample_and_after_the_last() {
        assert_eq!(of(&[5, 6], 983, 1_103), (13, 11, 7));
        assert_eq!(of(&[], 1_000, 1_040), (5, 5, 5));
    }

    #[test]
    fn what_decides_nothing_is_as_good_as_missing_and_runs_are_counted_through_it() {
        assert_eq!(of(&[11, 12, 13, 15, 16, 18], 1_113, 1_183), (8, 3, 2));
    }
}
