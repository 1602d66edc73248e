//! One line of a sampler's output, as written in the pod and read by the tool.

use serde::{Deserialize, Serialize};

use crate::clock::Mono;
use crate::sample::Outcome;

/// One slot of one target, and what it gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Position of the target on the sampler's command line.
    #[serde(rename = "t")]
    pub target: usize,
    /// Number of the slot.
    #[serde(rename = "k")]
    pub slot: u64,
    /// When the slot was due.
    pub due: Mono,
    /// When the sample was begun.
    pub start: Mono,
    /// When its outcome was known.
    pub end: Mono,
    /// What came of it.
    #[serde(rename = "o")]
    pub outcome: Outcome,
}
