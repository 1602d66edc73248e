//! Fixed time slots: slot `k` is due `k` intervals after the first, whatever happened to the earlier slots (an open
//! loop).

use std::ops::Range;
use std::time::Duration;

use crate::clock::Mono;

/// The slots of one series.
#[derive(Debug)]
pub(crate) struct Slots {
    first: Mono,
    interval: Duration,
    next: u64,
}

/// A slot whose time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    /// The slot's number.
    pub number: u64,
    /// When the slot was due, less than an interval ago.
    pub due: Mono,
    /// Earlier slots that were not served. They are never made up for: a burst of late samples says nothing about the
    /// time that it missed.
    pub missed: Range<u64>,
}

impl Slot {
    /// The last of the missed slots, at most so many.
    pub(crate) fn last_missed(&self, at_most: u64) -> Range<u64> {
        self.missed.start.max(self.missed.end.saturating_sub(at_most))..self.missed.end
    }
}

impl Slots {
    /// Slots from `first` on. An interval of less than a millisecond counts as one millisecond.
    pub(crate) fn new(first: Mono, interval: Duration) -> Self {
        Self { first, interval: interval.max(Duration::from_millis(1)), next: 0 }
    }

    /// When the slot is due.
    pub(crate) fn due(&self, slot: u64) -> Mono {
        self.first + Duration::from_micros(self.micros().saturating_mul(slot))
    }

    /// Waits for the next slot. Dropping the future before it is done loses nothing.
    pub(crate) async fn next(&mut self) -> Slot {
        tokio::time::sleep(self.due(self.next).since(Mono::now())).await;
        self.take(Mono::now())
    }

    fn take(&mut self, now: Mono) -> Slot {
        let elapsed = u64::try_from(now.since(self.first).as_micros()).unwrap_or(u64::MAX);
        let number = (elapsed / self.micros()).max(self.next);
        let missed = self.next..number;
        self.next = number + 1;
        Slot { number, due: self.due(number), missed }
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.interval.as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const I: Duration = Duration::from_millis(10);

    #[test]
    fn slots_that_nobody_was_there_for_are_missed_and_not_made_up_for() {
        let mut slots = Slots::new(Mono(1_000), I);
        assert_eq!(slots.take(Mono(1_000)), Slot { number: 0, due: Mono(1_000), missed: 0..0 });
        assert_eq!(slots.take(Mono(11_500)), Slot { number: 1, due: Mono(11_000), missed: 1..1 });
        assert_eq!(slots.take(Mono(2_001_000 + 9_999)), Slot { number: 200, due: Mono(2_001_000), missed: 2..200 });
        assert_eq!(slots.take(Mono(2_011_000)), Slot { number: 201, due: Mono(2_011_000), missed: 201..201 });
    }

    #[test]
    fn a_timer_that_fires_early_takes_no_slot_twice() {
        let mut slots = Slots::new(Mono(1_000), I);
        slots.take(Mono(1_000));
        assert_eq!(slots.take(Mono(10_999)).number, 1);
        assert_eq!(slots.take(Mono(11_001)).number, 2);
    }
}
