//! Faults of a kubelet, all of them changes inside of its node.

use std::time::Duration;

use crate::cluster::docker::{Engine, NodeId};
use crate::error::{Error, Result};
use crate::in_node::{Change, InNode, SwitchName};
use crate::undo::Undo;

/// Time for a look in the node.
const LOOK: Duration = Duration::from_secs(10);
/// Says what is in the way of a fault, if anything is: a switch of another run would undo it in the middle.
const IN_THE_WAY: &str = "systemctl is-active --quiet kubelet || echo 'its kubelet is not active'
[ -e /var/lib/kubelet/config.yaml ] || echo 'its kubelet has no configuration file'
command -v flock >/dev/null || echo 'it has no flock'
for left in /var/lib/kchaos/*; do
	[ ! -e \"$left\" ] || echo \"something is changed in it already: $(basename \"$left\")\"
done";

pub(super) async fn prepare(engine: &Engine, node: &NodeId, change: Change) -> Result<Vec<Undo>> {
    let output = engine.exec(node, &["sh", "-c", IN_THE_WAY], None, LOOK).await?;
    let found = String::from_utf8_lossy(&output.stdout);
    let why: Vec<&str> = found.lines().chain(output.stderr.lines()).collect();
    if output.code != 0 || !why.is_empty() {
        return Err(Error::could_not_run(format!("{} can't be broken: {}", node.name, why.join("; ")))
            .next("put it back first: kchaos rollback --all; what no journal knows of, `kchaos doctor` names"));
    }
    Ok(vec![Undo::InNode(InNode { node: node.clone(), change, switch: SwitchName::unique() })])
}
