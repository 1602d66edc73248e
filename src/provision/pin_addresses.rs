//! Fixes the addresses that kind's nodes got, so that the nodes keep them across restarts.
//!
//! The nodes are stopped meanwhile: a running node would find its interface replaced by another one, without the routes
//! that it had set up.

use std::net::Ipv4Addr;
use std::time::Duration;

use futures::future::try_join_all;

use crate::cluster::Cluster;
use crate::error::{Error, Result};

/// How long a node may take to stop cleanly. A control plane takes all of it, since its API server waits for an etcd
/// that has stopped first. Being killed then harms neither: their files are on a disk that goes on.
const GRACE: Duration = Duration::from_secs(2);

/// Fixes the address that each node of a cluster has on a network.
///
/// # Errors
/// If a node has no address there, the engine refuses, or a node comes back at another address. Nodes may then be left
/// disconnected.
pub(super) async fn pin(cluster: &Cluster, network: &str) -> Result<()> {
    let engine = &cluster.engine;
    let address = async |node: &super::Node| {
        let state = engine.state(&node.id).await?;
        let address = state.addresses.get(network).and_then(|text| text.parse::<Ipv4Addr>().ok());
        address
            .ok_or_else(|| Error::could_not_run(format!("{} has no IPv4 address on network {network}", node.id.name)))
    };
    let addresses = try_join_all(cluster.nodes.iter().map(address)).await?;
    try_join_all(cluster.nodes.iter().map(|node| engine.stop(&node.id, GRACE))).await?;
    for (node, address) in cluster.nodes.iter().zip(&addresses) {
        engine.disconnect_network(&node.id, network).await?;
        engine.connect_network(&node.id, network, Some(*address)).await?;
    }
    try_join_all(cluster.nodes.iter().map(|node| engine.start(&node.id))).await?;
    for (node, address) in cluster.nodes.iter().zip(&addresses) {
        let state = engine.state(&node.id).await?;
        let now = state.addresses.get(network);
        if !state.pinned.contains(network) || now != Some(&address.to_string()) {
            let now = now.map_or("none", String::as_str);
            return Err(Error::could_not_run(format!(
                "the address of {} could not be fixed: it was {address} and is {now}",
                node.id.name
            )));
        }
    }
    Ok(())
}
