//! The closed set of repairs.
//!
//! An undo is written down before the fault that it repairs. It holds the prior state and is idempotent. It needs
//! nothing but the container engine: no process of the run that recorded it, and no API server unless it undoes what
//! was done through the API.
//!
//! [`crate::unwind`] applies them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::in_node::InNode;
use crate::node::{NodeId, RestartPolicy};

/// One repair, with the state to go back to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Undo {
    /// Unfreeze the node's container.
    Unpause {
        /// The container, by id, so that it is never taken for a namesake.
        node: NodeId,
    },
    /// Start the node's container, at the address it had.
    Start {
        /// The container, by id.
        node: NodeId,
        /// The IPv4 addresses that it must keep, as (network name, address).
        addresses: Vec<(String, String)>,
    },
    /// Give the node's container its restart policy back.
    SetRestartPolicy {
        /// The container, by id.
        node: NodeId,
        /// The policy it had.
        policy: RestartPolicy,
    },
    /// Put back what was changed inside the node. The node's dead man's switch does the same.
    InNode(InNode),
}

impl Undo {
    /// The container that the undo repairs.
    pub fn node(&self) -> &NodeId {
        match self {
            Self::Unpause { node } | Self::Start { node, .. } | Self::SetRestartPolicy { node, .. } => node,
            Self::InNode(change) => &change.node,
        }
    }
}

impl fmt::Display for Undo {
    /// The engine command that does the same by hand.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unpause { node } => write!(f, "docker unpause {}", node.name),
            Self::Start { node, .. } => write!(f, "docker start {}", node.name),
            Self::SetRestartPolicy { node, policy } => write!(f, "docker update --restart={policy} {}", node.name),
            Self::InNode(change) => change.fmt(f),
        }
    }
}
