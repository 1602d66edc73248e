//! What probes see: a sample is what came of one slot.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::clock::Mono;

/// One slot of a probe and its outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Index of the probe in the plan.
    pub probe: usize,
    /// The probe's series that the sample belongs to (an observer, a pod's address); empty for a probe with only one
    /// series.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub series: String,
    /// Number of the slot. Slot `k` is due `k` intervals after the first slot of the series.
    pub slot: u64,
    /// When the slot was due.
    pub due: Mono,
    /// When the sample began.
    pub start: Mono,
    /// When the outcome was known.
    pub end: Mono,
    /// The outcome.
    pub outcome: Outcome,
}

/// The outcome of a sample.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The probe saw this value.
    Saw(Value),
    /// The probed target failed to answer, which is evidence about the target.
    Failed(Failure),
    /// The probe could not look or was starved, which is evidence of nothing.
    Unknown(String),
}

impl Outcome {
    const STARVED: &str = "starved";
    const MISSED: &str = "missed: the observer had no time";

    /// The observer had too little time to see an answer.
    pub(crate) fn starved() -> Self {
        Self::Unknown(Self::STARVED.into())
    }

    /// The observer, which was there, had no time for the slot at all.
    pub(crate) fn missed() -> Self {
        Self::Unknown(Self::MISSED.into())
    }

    /// Is it [`Outcome::starved`]?
    pub(crate) fn is_starved(&self) -> bool {
        matches!(self, Self::Unknown(why) if why == Self::STARVED)
    }

    /// Is it [`Outcome::starved`] or [`Outcome::missed`]?
    pub(crate) fn had_no_time(&self) -> bool {
        self.is_starved() || matches!(self, Self::Unknown(why) if why == Self::MISSED)
    }
}

/// A value seen by a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Value {
    /// A word.
    Text(String),
    /// A number.
    Count(u64),
    /// A set of words.
    Set(BTreeSet<String>),
}

/// How a probed target failed to answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// No answer within the sample's deadline. From a starved observer, a timeout proves nothing.
    Timeout,
    /// Connection refused.
    Refused,
    /// Connection reset, or closed before the answer was complete.
    Reset,
    /// No route, or the network is unreachable.
    Unreachable,
    /// An answer with an HTTP status that reports a failure.
    Status(u16),
    /// Any other failure, in words.
    Other(String),
}
