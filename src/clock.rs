//! The one clock for ordering and measuring: the kernel's monotonic clock, in microseconds.
//!
//! Containers share the host kernel's `CLOCK_MONOTONIC`. So the tool, the samplers inside nodes and pods, the guardian
//! and a later `kchaos rollback` stamp their records with comparable times as long as they run in one boot
//! ([`boot_id`]). Wall-clock time is recorded for display only and never compared.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A time of `CLOCK_MONOTONIC`, in microseconds since an arbitrary origin fixed at boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mono(pub u64);

impl Mono {
    /// The current time.
    pub fn now() -> Self {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Self(u64::try_from(t.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(t.tv_nsec).unwrap_or(0) / 1_000)
    }

    /// Time from `earlier` to `self`; zero if `earlier` is later than `self`.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Self;
    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(micros(d)))
    }
}

impl Sub<Duration> for Mono {
    type Output = Self;
    fn sub(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(micros(d)))
    }
}

fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}

/// Wall-clock time in milliseconds since the Unix epoch, for display and never for ordering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Wall(pub u64);

impl Wall {
    /// The current wall-clock time.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(0))
    }
}

impl fmt::Display for Wall {
    /// RFC 3339 in UTC, to the second.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ts = k8s_openapi::jiff::Timestamp::from_millisecond(i64::try_from(self.0).unwrap_or(0)).unwrap_or_default();
        write!(f, "{}", ts.strftime("%Y-%m-%dT%H:%M:%SZ"))
    }
}

/// The kernel's id of this boot. Monotonic times are comparable only within one boot. Empty where the kernel has no
/// such id (not Linux), so it never equals an id recorded on Linux.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|s| s.trim().to_owned()).unwrap_or_default()
}
