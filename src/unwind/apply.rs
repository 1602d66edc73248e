//! Applies one undo and checks its effect.

use crate::cluster::docker::Engine;
use crate::error::{Error, Result};
use crate::in_node::PutBack;
use crate::undo::Undo;

/// What an undo found when it was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The fault was in, or there was nothing left to undo.
    AsExpected,
    /// The node had put itself back: its dead man's switch had gone off.
    GoneOff,
}

/// Applies an undo and checks its effect. Calling it again changes nothing. The engine's connection must be bound to
/// the cluster.
///
/// # Errors
/// If the prior state is not seen to be back: the container is gone or not the cluster's, its address is taken, or the
/// engine does not answer.
pub async fn apply(engine: &Engine, undo: &Undo) -> Result<Applied> {
    match undo {
        Undo::Unpause { node } => {
            if engine.state(node).await?.status == "paused" {
                engine.unpause(node).await?;
            }
            if engine.state(node).await?.status == "paused" {
                return Err(Error::could_not_run(format!("{} is still paused", node.name)));
            }
        }
        Undo::Start { node, addresses } => engine.start_at(node, addresses).await?,
        Undo::SetRestartPolicy { node, policy } => {
            if engine.state(node).await?.restart_policy != *policy {
                engine.set_restart_policy(node, *policy).await?;
            }
        }
        Undo::InNode(change) => {
            if change.undo(engine).await? == PutBack::ByTheNode {
                return Ok(Applied::GoneOff);
            }
        }
    }
    Ok(Applied::AsExpected)
}
