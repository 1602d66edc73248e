//! Pseudo-nodes that are machines: the node image with its systemd, and in place of the kubelet a program that faults
//! can't tell from one. There are three, with the names and roles of the topology `single`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use kchaos::cluster::facts::Facts;
use kchaos::node::NodeId;

use crate::BRIEF;
use crate::lab::{Lab, docker, facts_of, standing};

const MACHINE: &str = include_str!("machine.sh");
const KUBELET: &str = include_str!("kubelet.pl");
/// Everything in a node that a fault could change and an undo could forget, read by tools that share no code with
/// either. Directories are left out, because systemd removes those that a disabled unit leaves empty.
const BYTES: &str = r#"
find /etc/kubernetes /var/lib/kubelet /etc/systemd/system /run/systemd/system ! -type d -printf '%p %y %m %u:%g %l\n' | sort
find /etc/kubernetes /var/lib/kubelet /etc/systemd/system /run/systemd/system -type f -exec sha256sum {} + | sort -k 2
for tool in iptables ip6tables; do $tool-save -t filter | grep -e '^-' -e '^:kchaos' || :; done
ls -A /var/lib/kchaos /run/systemd/transient 2>&1 | grep kchaos
systemctl list-units --all --plain --no-legend 'kchaos*' --state=failed
systemctl show kubelet -P ActiveState -P Restart -P WatchdogUSec -P DropInPaths
pgrep -a -f '^kube-' | cut -d' ' -f2- | sort"#;

pub struct Machines {
    pub lab: Lab,
    pub nodes: Vec<NodeId>,
    pub facts: Facts,
}

impl Machines {
    pub async fn set_up() -> Option<Self> {
        let lab = Lab::set_up().await?;
        let made = [("control-plane", "control-plane"), ("worker", "worker"), ("worker2", "worker")];
        let nodes = side_by_side(&made, |(suffix, role)| lab.machine(suffix, role));
        let plane = nodes[0].clone();
        join_all(nodes.iter().map(|node| started(&lab, node))).await;
        let authority = becomes(&lab, &plane, "control-plane", &plane, None).await;
        join_all(nodes[1..].iter().map(|node| becomes(&lab, node, "worker", &plane, Some(authority.clone())))).await;
        let facts = facts_of(&lab.engine, &lab.cluster).await;
        Some(Self { lab, nodes, facts })
    }

    /// What an undo must bring back on every node, byte for byte.
    pub fn seen(&self) -> String {
        let of = |node: &NodeId| format!("{}\n{}", standing(&node.id), docker(&["exec", &node.id, "sh", "-c", BYTES]));
        side_by_side(&self.nodes, of).join("\n----\n")
    }
}

fn side_by_side<T: Sync, U: Send>(all: &[T], of: impl Fn(&T) -> U + Sync) -> Vec<U> {
    std::thread::scope(|threads| {
        let begun: Vec<_> = all.iter().map(|one| threads.spawn(|| of(one))).collect();
        begun.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Installs what makes the node a machine of the cluster, and returns the cluster's authority.
async fn becomes(lab: &Lab, node: &NodeId, role: &str, plane: &NodeId, authority: Option<Bytes>) -> Bytes {
    let put = "mkdir /opt/pseudo && cat >/opt/pseudo/kubelet && chmod +x /opt/pseudo/kubelet";
    run(lab, node, &["sh", "-c", put], Some(KUBELET.into())).await;
    run(lab, node, &["sh", "-c", MACHINE, "sh", role, &plane.name], authority).await
}

/// Waits until the node's systemd takes orders.
async fn started(lab: &Lab, node: &NodeId) {
    let begin = Instant::now();
    let asked = ["systemctl", "show", "--property=Version"];
    while lab.engine.exec(node, &asked, None, BRIEF).await.unwrap().code != 0 {
        assert!(begin.elapsed() < BRIEF, "{} does not boot", node.name);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn run(lab: &Lab, node: &NodeId, argv: &[&str], stdin: Option<Bytes>) -> Bytes {
    let output = lab.engine.exec(node, argv, stdin, Duration::from_secs(20)).await.unwrap();
    assert_eq!(output.code, 0, "{argv:?}: {}", output.stderr);
    output.stdout
}
