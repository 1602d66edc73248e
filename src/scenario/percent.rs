//! A share of packets.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Percent, from 5 to 95. Less than that would take hundreds of packets to be seen at all; all of them is a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Percent(u8);

/// Why a number is not a [`Percent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a share of lost packets is from {MIN} to {MAX} percent; to lose all of them is a `partition`")]
pub struct NotAPercent;

const MIN: u8 = 5;
const MAX: u8 = 95;

impl Percent {
    /// The same as a probability.
    pub fn probability(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

impl TryFrom<u64> for Percent {
    type Error = NotAPercent;

    fn try_from(number: u64) -> Result<Self, NotAPercent> {
        u8::try_from(number).ok().filter(|n| (MIN..=MAX).contains(n)).map(Self).ok_or(NotAPercent)
    }
}

impl From<Percent> for u64 {
    fn from(percent: Percent) -> Self {
        percent.0.into()
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.0)
    }
}

impl JsonSchema for Percent {
    fn schema_name() -> Cow<'static, str> {
        "Percent".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "description": "Percent.", "minimum": MIN, "maximum": MAX })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_and_all_are_no_share() {
        for (number, probability) in
            [(5, Some(0.05)), (95, Some(0.95)), (4, None), (96, None), (0, None), (100, None), (300, None)]
        {
            assert_eq!(Percent::try_from(number).ok().map(Percent::probability), probability, "{number}");
        }
    }
}
