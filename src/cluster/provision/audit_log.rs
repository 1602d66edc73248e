//! Has the API servers of a cluster with several control planes log what leaders write.
//!
//! Only such a log shows what a leader writes that has lost its lease without knowing. kubeadm turns none on, and takes
//! a policy for it only from a file that is in the node beforehand. One that the cluster's config asks for is left as it
//! is.

use std::time::Duration;

use futures::future::try_join_all;

use super::super::Cluster;
use super::super::docker::NodeId;
use crate::error::{Error, Result};

const SCRIPT: &str = include_str!("audit-log.sh");
/// How long this may take in a node.
const WITHIN: Duration = Duration::from_secs(30);

/// Turns the logs on. They are written once the nodes have been stopped and started again.
///
/// # Errors
/// If a node's manifest of the API server is not one of kubeadm's, or the engine does not answer.
pub(super) async fn keep(cluster: &Cluster) -> Result<()> {
    let planes: Vec<_> = cluster.control_planes().collect();
    if planes.len() < 2 {
        return Ok(());
    }
    let turn_on = async |plane: &&NodeId| {
        let output = cluster.engine.exec(plane, &["sh", "-c", SCRIPT], None, WITHIN).await?;
        match output.code {
            0 => Ok(()),
            _ => Err(Error::could_not_run(format!(
                "the API server of {} can't be made to keep an audit log: {}",
                plane.name,
                output.stderr.trim()
            ))),
        }
    };
    try_join_all(planes.iter().map(turn_on)).await.map(drop)
}
