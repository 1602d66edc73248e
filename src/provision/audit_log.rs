//! Has the API servers of a cluster with several control planes log what leaders write, and the renewals of nodes'
//! leases.
//!
//! Only such a log shows what a leader writes that has lost its lease without knowing, and which API server a kubelet
//! reports to. kubeadm turns none on, and takes a policy for it only from a file that is in the node beforehand. One that
//! the cluster's config asks for is left as it is. Where it can't be turned on, a cluster does without: claims that need it
//! are then unsupported.

use std::fmt;
use std::time::Duration;

use futures::future::try_join_all;

use crate::cluster::Cluster;
use crate::error::Result;
use crate::node::NodeId;

const SCRIPT: &str = include_str!("audit-log.sh");
/// How long this may take in a node.
const WITHIN: Duration = Duration::from_secs(30);

/// Turns the logs on. They are written once the nodes have been stopped and started again.
///
/// # Errors
/// If the engine does not answer.
pub(super) async fn keep(cluster: &Cluster, say: &mut impl FnMut(fmt::Arguments<'_>)) -> Result<()> {
    let planes: Vec<_> = cluster.control_planes().collect();
    if planes.len() < 2 {
        return Ok(());
    }
    let turn_on = async |plane: &&NodeId| cluster.engine.exec(plane, &["sh", "-c", SCRIPT], None, WITHIN).await;
    let outputs = try_join_all(planes.iter().map(turn_on)).await?;
    for (plane, output) in planes.iter().zip(outputs).filter(|(_, output)| output.code != 0) {
        say(format_args!("the API server of {} keeps no audit log: {}", plane.name, output.stderr.trim()));
    }
    Ok(())
}
