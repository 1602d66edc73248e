//! The residue audit: what differs between the cluster before the fault and after everything was put back.
//!
//! Takes two [`Census`]es, gives the [`Difference`]s. A census is taken from below (containers, addresses, restart policies, firewall
//! rules, units) and from the API (taints, leftover objects); it is a flat map so that a difference always has a name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Everything the audit compares, as `kind/owner/item` → value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Census(pub BTreeMap<String, String>);

/// One item that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Name of the item, as in [`Census`].
    pub item: String,
    /// Value before the fault; `None` if it was absent.
    pub before: Option<String>,
    /// Value now; `None` if it is absent.
    pub now: Option<String>,
}

/// Stub until merged.
pub async fn audit(_e: &crate::cluster::docker::Engine, _p: &crate::plan::Plan, _b: &Census) -> Vec<Difference> {
    todo!()
}
impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {:?} → {:?}", self.item, self.before, self.now)
    }
}
