//! Starts what is down of a cluster.

use futures::future::try_join_all;

use crate::cluster::Cluster;
use crate::cluster::docker::{ContainerState, Node};
use crate::error::Result;

/// Starts the nodes that don't run. Returns what they were, in words, or nothing if all run.
///
/// # Errors
/// If the engine does not answer, or does not start one of them.
pub(super) async fn what_is_down(cluster: &Cluster) -> Result<String> {
    let engine = &cluster.engine;
    let states = try_join_all(cluster.nodes.iter().map(|n| engine.state(&n.id))).await?;
    let down: Vec<_> = cluster.nodes.iter().zip(&states).filter(|(_, s)| s.status != "running").collect();
    let start = async |(node, state): &(&Node, &ContainerState)| match state.status.as_str() {
        "paused" => engine.unpause(&node.id).await,
        _ => engine.start(&node.id).await,
    };
    try_join_all(down.iter().map(start)).await?;
    Ok(down.iter().map(|(n, s)| format!("{} ({})", n.id.name, s.status)).collect::<Vec<_>>().join(", "))
}
