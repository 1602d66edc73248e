//! Starts what is down of a cluster.

use std::fmt;

use futures::future::try_join_all;

use super::super::Cluster;
use super::super::docker::{ContainerState, Node};
use crate::error::Result;

/// Starts the nodes that don't run.
///
/// # Errors
/// If the engine does not answer, or does not start one of them.
pub(super) async fn what_is_down(cluster: &Cluster, say: &mut impl FnMut(fmt::Arguments<'_>)) -> Result<()> {
    let engine = &cluster.engine;
    let states = try_join_all(cluster.nodes.iter().map(|n| engine.state(&n.id))).await?;
    let down: Vec<_> = cluster.nodes.iter().zip(&states).filter(|(_, s)| s.status != "running").collect();
    if !down.is_empty() {
        let names: Vec<_> = down.iter().map(|(n, s)| format!("{} ({})", n.id.name, s.status)).collect();
        say(format_args!("starting {}", names.join(", ")));
    }
    let start = async |(node, state): &(&Node, &ContainerState)| match state.status.as_str() {
        "paused" => engine.unpause(&node.id).await,
        _ => engine.start(&node.id).await,
    };
    try_join_all(down.iter().map(start)).await.map(drop)
}
