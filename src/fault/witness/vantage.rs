//! Where witnesses stand: who can see a fault.

use super::LOOK;
use super::asked_of_api::Question;
use super::reachability::Ways;
use super::stored_in_etcd::Stored;
use crate::cluster::docker::Engine;
use crate::component::Component;
use crate::error::Result;
use crate::node::NodeId;
use crate::plan::PlannedFault;
use crate::scenario::{CertificateOf, Dropped, FaultSpec, Percent, Place, StoreOfRestarted};

/// How many other nodes are asked. A single one could be ill itself; more than two add cost and no certainty.
const PEERS: usize = 2;
/// A file that kubeadm leaves on every control plane.
pub(super) const API_MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
const ETCD_MANIFEST: &str = "/etc/kubernetes/manifests/etcd.yaml";
/// A file that kubeadm leaves on every node that runs a kubelet.
pub(super) const KUBELET_CONFIG: &str = "/var/lib/kubelet/config.yaml";

/// Where a witness stands, and what it looks at there.
#[derive(Debug, Clone)]
pub(super) enum Vantage {
    Engine,
    Host,
    /// The node's own systemd.
    Systemd,
    /// The node's packet filter.
    Filter,
    /// The node's own list of processes.
    CommandLine,
    /// The node's etcd, asked without going through the API server.
    Store,
    /// The same, and the data of its etcd on the node's disk.
    Member,
    /// The node's disk, and what a process of the workload sees of it.
    Volume,
    /// The node's own list of processes, and which of them are a workload's containers.
    Containers,
    /// The node itself, asking the API server.
    Inside,
    /// The node itself, asking the kubelet of a node that it is cut off from, at this address.
    Beyond(NodeId, String),
    /// Another node: does anything answer?
    Peer(NodeId),
    /// All nodes of a partition: who reaches whom?
    Ways(Ways),
    /// Another node, which opens many connections: are some of their packets lost?
    Loss(NodeId, Percent),
    /// Another node, which verifies the certificate of the API server.
    Verifier(NodeId),
    /// A user outside of the cluster, as kchaos is one: does the API server answer?
    User,
    /// The etcd of the operator's node, asked for what the fault changes there without going through the API server.
    Object(NodeId, Stored),
    /// An API server, asked from the operator's node.
    Question(NodeId, Question),
}

impl Vantage {
    /// All that could see this fault. Whether they can look is seen when they are asked.
    ///
    /// `peers` are nodes that the fault does not touch.
    ///
    /// # Errors
    /// If the engine does not answer.
    pub(super) async fn all_for(engine: &Engine, fault: &PlannedFault, peers: &[NodeId]) -> Result<Vec<Self>> {
        let mut vantages = match fault.spec {
            FaultSpec::Restart { store: StoreOfRestarted::Lost, .. } => vec![Self::Engine, Self::Host, Self::Store],
            FaultSpec::PowerOff { .. }
            | FaultSpec::Stop { .. }
            | FaultSpec::Pause { .. }
            | FaultSpec::Restart { .. }
            | FaultSpec::RestartLoop { .. } => vec![Self::Engine, Self::Host],
            FaultSpec::KubeletStop { .. }
            | FaultSpec::KubeletFreeze { .. }
            | FaultSpec::KubeletKill { .. }
            | FaultSpec::KubeletCrash { .. }
            | FaultSpec::KubeletConfig { .. }
            | FaultSpec::ComponentDown { .. }
            | FaultSpec::ComponentKill { .. }
            | FaultSpec::ComponentFreeze { .. } => vec![Self::Host],
            FaultSpec::ComponentFlag { .. } => vec![Self::Host, Self::CommandLine],
            FaultSpec::StoreLoss { .. } => vec![Self::Host, Self::Store],
            FaultSpec::MemberLoss { .. } => vec![Self::Host, Self::Member],
            FaultSpec::Partition { drops: Dropped::ToKubelet | Dropped::ToEtcd, .. } => vec![Self::Filter],
            FaultSpec::Partition { drops: Dropped::ToApi, .. } => vec![Self::Filter, Self::Inside],
            FaultSpec::Partition { drops: Dropped::FromUsers, .. } => vec![Self::Filter, Self::User],
            FaultSpec::Partition { .. } => {
                // A peer that another fault breaks is silent, whatever this fault does.
                let whole: Vec<_> = fault.peers.iter().filter(|peer| peers.contains(peer)).cloned().collect();
                let beyond = reachable(engine, &whole).await?.map(|(peer, at)| Self::Beyond(peer, at));
                // A control plane's kubelet asks the API server beside it, and can't be cut off from that one.
                let beside = has(engine, &fault.node, API_MANIFEST).await;
                let inside = (!beside && any_has(engine, &whole, API_MANIFEST).await).then_some(Self::Inside);
                [Self::Filter].into_iter().chain(inside).chain(beyond).collect()
            }
            FaultSpec::PacketLoss { percent, .. } => {
                let peer = fault.peers.iter().find(|peer| peers.contains(peer));
                [Self::Filter].into_iter().chain(peer.map(|peer| Self::Loss(peer.clone(), percent))).collect()
            }
            FaultSpec::CertificateExpired { of: CertificateOf::Kubelet, .. } => vec![Self::Host],
            FaultSpec::CertificateExpired { of: CertificateOf::KubeApiserver, .. } => {
                let verifiers = peers.iter().filter(|p| **p != fault.node).take(PEERS);
                verifiers.cloned().map(Self::Verifier).collect()
            }
            FaultSpec::CertificateExpired { of: CertificateOf::EtcdPeer, .. } => {
                // Connections that exist go on until etcd is killed, so that is looked at, too.
                let mut members = vec![Self::Host];
                for peer in peers.iter().filter(|peer| **peer != fault.node) {
                    if members.len() <= PEERS && has(engine, peer, ETCD_MANIFEST).await {
                        members.push(Self::Verifier(peer.clone()));
                    }
                }
                members
            }
            FaultSpec::VolumeLoss { .. } => vec![Self::Volume],
            FaultSpec::ContainerKill { .. } => vec![Self::Containers],
            FaultSpec::Drain { .. }
            | FaultSpec::Delete { .. }
            | FaultSpec::DeleteNamespace {}
            | FaultSpec::DeleteBinding { .. }
            | FaultSpec::DeadWebhook { .. } => {
                let operator = || fault.operator.clone();
                let stored = operator().zip(Stored::of(fault)).map(|(node, stored)| Self::Object(node, stored));
                let asked = operator().zip(Question::of(fault)).map(|(node, asked)| Self::Question(node, asked));
                stored.into_iter().chain(asked).collect()
            }
        };
        vantages.extend(Ways::of(engine, fault, peers).await?.map(Self::Ways));
        // A new kubelet does not prove that the watchdog works: setting the watchdog restarts the unit, too.
        if matches!(fault.spec, FaultSpec::KubeletFreeze { watchdog: true, .. }) {
            vantages.push(Self::Systemd);
        }
        // A node that starts again may answer, and a crashing kubelet answers now and then: other nodes see no lasting
        // effect.
        let silent = match fault.spec {
            FaultSpec::KubeletCrash { .. }
            | FaultSpec::ComponentFlag { .. }
            | FaultSpec::StoreLoss { .. }
            | FaultSpec::Restart { .. }
            | FaultSpec::RestartLoop { .. }
            | FaultSpec::VolumeLoss { .. }
            | FaultSpec::PacketLoss { .. }
            | FaultSpec::CertificateExpired { of: CertificateOf::KubeApiserver | CertificateOf::EtcdPeer, .. }
            | FaultSpec::Partition { drops: Dropped::ToApi | Dropped::ToEtcd | Dropped::FromUsers, .. } => false,
            _ if fault.spec.place() == Place::Api => false,
            // API servers are the only components that other nodes ask.
            _ if fault.spec.component().is_some_and(|component| component != Component::KubeApiserver) => false,
            _ => !fault.spec.heals_itself(),
        };
        // A peer that is not cut off still gets answers.
        let deaf = |peer: &&NodeId| **peer != fault.node && (fault.peers.is_empty() || fault.peers.contains(peer));
        if silent && has(engine, &fault.node, KUBELET_CONFIG).await {
            vantages.extend(peers.iter().filter(deaf).take(PEERS).cloned().map(Self::Peer));
        }
        Ok(vantages)
    }
}

/// Returns the first of these nodes that has a kubelet, and its address.
async fn reachable(engine: &Engine, peers: &[NodeId]) -> Result<Option<(NodeId, String)>> {
    for peer in peers {
        if has(engine, peer, KUBELET_CONFIG).await
            && let Some(address) = engine.state(peer).await?.addresses.into_values().next()
        {
            return Ok(Some((peer.clone(), address)));
        }
    }
    Ok(None)
}

async fn any_has(engine: &Engine, nodes: &[NodeId], file: &str) -> bool {
    futures::future::join_all(nodes.iter().map(|node| has(engine, node, file))).await.contains(&true)
}

/// Does the node have this file? A node without a kubelet's file (a load balancer, a container in a test) has no
/// kubelet that could fall silent.
pub(super) async fn has(engine: &Engine, node: &NodeId, file: &str) -> bool {
    engine.exec(node, &["test", "-e", file], None, LOOK).await.is_ok_and(|output| output.code == 0)
}
