//! The closed set of repairs. An undo is written down before the fault it repairs, holds the prior state, is idempotent, and needs
//! nothing but the container engine: no API server, no process of the run that recorded it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cluster::docker::{NodeId, RestartPolicy};

/// One repair, with the state to go back to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Undo {
    /// Unfreeze the node's container.
    Unpause {
        /// The container, by id: never a namesake.
        node: NodeId,
    },
    /// Start the node's container, at the address it had.
    Start {
        /// The container, by id.
        node: NodeId,
        /// Its IPv4 address on each network, as (network name, address), to be kept.
        addresses: Vec<(String, String)>,
    },
    /// Give the node's container its restart policy back.
    SetRestartPolicy {
        /// The container, by id.
        node: NodeId,
        /// The policy it had.
        policy: RestartPolicy,
    },
}

impl fmt::Display for Undo {
    /// The engine command that does the same by hand.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unpause { node } => write!(f, "docker unpause {}", node.name),
            Self::Start { node, .. } => write!(f, "docker start {}", node.name),
            Self::SetRestartPolicy { node, policy } => write!(f, "docker update --restart={policy} {}", node.name),
        }
    }
}

/// Stub until merged.
pub async fn rollback(
    _engine: &crate::cluster::docker::Engine,
    _events: &[crate::event::Event],
    _within: std::time::Duration,
    _record: &mut (dyn FnMut(crate::event::EventKind) + Send),
) -> crate::event::End {
    todo!()
}
