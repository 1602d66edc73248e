//! Durations in words. They are rounded outwards, so that a reported bound is never tighter than the measured one: to a
//! millisecond below one second, to a tenth of a second above.

use std::time::Duration;

/// An upper bound, rounded up: `850 ms`, `12.9 s`.
pub(crate) fn up(d: Duration) -> String {
    one(d, true)
}

/// A lower bound, rounded down.
pub(crate) fn down(d: Duration) -> String {
    one(d, false)
}

/// A range, rounded outwards: `12.9–13.3 s`.
pub(crate) fn range(from: Duration, to: Duration) -> String {
    let (from, to, unit) = if to < Duration::from_secs(1) {
        (millis(from, false), millis(to, true), "ms")
    } else {
        (tenths(from, false), tenths(to, true), "s")
    };
    if from == to { format!("{to} {unit}") } else { format!("{from}–{to} {unit}") }
}

fn one(d: Duration, up: bool) -> String {
    if d < Duration::from_secs(1) { format!("{} ms", millis(d, up)) } else { format!("{} s", tenths(d, up)) }
}

fn millis(d: Duration, up: bool) -> String {
    let millis = if up { d.as_micros().div_ceil(1_000) } else { d.as_millis() };
    millis.to_string()
}

fn tenths(d: Duration, up: bool) -> String {
    let tenths = if up { d.as_micros().div_ceil(100_000) } else { d.as_micros() / 100_000 };
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn bounds_are_rounded_outwards() {
        assert_eq!(range(ms(12_949), ms(13_201)), "12.9–13.3 s");
        assert_eq!(range(ms(0), ms(80)), "0–80 ms");
        assert_eq!(range(Duration::from_micros(30_900), Duration::from_micros(80_100)), "30–81 ms");
        assert_eq!(range(ms(500), ms(1_500)), "0.5–1.5 s");
        assert_eq!((down(ms(56_199)), up(ms(56_199))), ("56.1 s".into(), "56.2 s".into()));
        assert_eq!((down(ms(20_000)), up(ms(20_000))), ("20.0 s".into(), "20.0 s".into()));
    }

    #[test]
    fn bounds_that_are_the_same_are_told_once() {
        assert_eq!(range(ms(500), ms(500)), "500 ms");
        assert_eq!(range(ms(2_000), ms(2_000)), "2.0 s");
    }
}
