//! Which faults of one variant can be in together, and in which order they can go in.
//!
//! This is pure logic on two faults, one of which goes in before the other. Targets are compared by name: different
//! names are different nodes. Whether a cluster has what a fault needs (a control plane for an operator) is for the
//! plan to check.

use super::{CertificateOf, Dropped, FaultSpec, Place, StoreOfRestarted, Unanswered, VolumeLeft};
use crate::component::Component;

/// Why a fault can't go in after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clash {
    /// Both faults change this. Each would take the other's change for the prior state, and neither could be undone
    /// while the other is in.
    Same(&'static str),
    /// It is inside a node that is off or frozen, or not yet back, so nothing can be put into it.
    Shut,
    /// It takes the power off the node. That ends the other fault, which lasts only while the node runs.
    EndsTheOther,
    /// It takes effect only when the node's kubelet restarts something, and the other fault leaves no kubelet that
    /// would.
    NoKubelet,
    /// It waits for pods to end, and the other fault leaves no reachable kubelet that could end them.
    NoEnd,
    /// It is a write to the API, and the other fault makes the API refuse all writes.
    Refused,
}

impl FaultSpec {
    /// Why `later` can't go in after this fault; `None` if it can.
    pub fn clash_with(&self, later: &Self) -> Option<Clash> {
        let changes = self.changes();
        if let Some((_, what)) = later.changes().into_iter().find(|change| changes.contains(change)) {
            return Some(Clash::Same(what));
        }
        if self.takes_namespace_of(later) || later.takes_namespace_of(self) {
            return Some(Clash::Same("the workload"));
        }
        if let (Self::DeadWebhook { unanswered: Unanswered::Refuses }, Place::Api) = (self, later.place()) {
            return Some(Clash::Refused);
        }
        // Nobody ends the pods on a node that is lost, and the namespace goes with the last of them.
        if matches!(later, Self::DeleteNamespace {}) && self.hides_nodes() && !self.heals_itself() {
            return Some(Clash::NoEnd);
        }
        if !self.nodes().iter().any(|node| later.nodes().contains(node)) {
            return None;
        }
        let of_node = |fault: &Self| fault.place() == Place::Container;
        if of_node(self) && later.place() == Place::Inside {
            Some(Clash::Shut)
        } else if of_node(later) && !matches!(later, Self::Pause { .. }) && self.ends_with_power() {
            Some(Clash::EndsTheOther)
        } else if self.leaves_no_kubelet() && later.needs_kubelet() {
            Some(Clash::NoKubelet)
        } else if matches!(later, Self::Drain { .. }) && self.hides_nodes() && !self.heals_itself() {
            Some(Clash::NoEnd)
        } else {
            None
        }
    }

    /// Does the fault leave a node that nobody can look into until the undo?
    pub fn shuts_node(&self) -> bool {
        matches!(self, Self::PowerOff { .. } | Self::Stop { .. } | Self::Pause { .. } | Self::RestartLoop { .. })
    }

    /// What the fault changes. Several faults may change packet filters, since each has a chain of its own; but the
    /// same packets can be dropped only once.
    fn changes(&self) -> Vec<(&str, &'static str)> {
        let each = |what| self.nodes().iter().map(move |node| (node.as_str(), what)).collect();
        let (to_api, to_kubelet) = ("what of the node's traffic reaches API servers", "what reaches its kubelet");
        let to_etcd = "what of its traffic reaches other members of etcd";
        match self {
            Self::PowerOff { .. }
            | Self::Stop { .. }
            | Self::Pause { .. }
            | Self::RestartLoop { .. }
            | Self::Restart { store: StoreOfRestarted::Kept, .. } => each("the node itself"),
            Self::Restart { node, store: StoreOfRestarted::Lost } => {
                vec![(node, "the node itself"), (node, Component::Etcd.name())]
            }
            Self::KubeletStop { .. }
            | Self::KubeletFreeze { .. }
            | Self::KubeletKill { .. }
            | Self::KubeletCrash { .. }
            | Self::KubeletConfig { .. }
            | Self::CertificateExpired { of: CertificateOf::Kubelet, .. } => each("the kubelet"),
            Self::ComponentDown { component, .. }
            | Self::ComponentKill { component, .. }
            | Self::ComponentFreeze { component, .. }
            | Self::ComponentFlag { component, .. } => each(component.name()),
            Self::CertificateExpired { of: CertificateOf::KubeApiserver, .. } => each(Component::KubeApiserver.name()),
            Self::StoreLoss { node, .. } => {
                // An API server that is kept is still given another storage.
                vec![(node, Component::Etcd.name()), (node, Component::KubeApiserver.name())]
            }
            Self::MemberLoss { .. } | Self::CertificateExpired { of: CertificateOf::EtcdPeer, .. } => {
                each(Component::Etcd.name())
            }
            Self::Partition { drops: Dropped::ToApi, .. } => each(to_api),
            Self::Partition { drops: Dropped::ToKubelet, .. } => each(to_kubelet),
            Self::Partition { drops: Dropped::ToEtcd, .. } => each(to_etcd),
            Self::Partition { drops: Dropped::FromUsers, .. } => each("what of users' traffic reaches its API server"),
            Self::Partition { drops: Dropped::Everything, .. } | Self::PacketLoss { .. } => {
                [each(to_api), each(to_kubelet), each(to_etcd)].concat()
            }
            Self::VolumeLoss { of, .. } => vec![(of, "the volume"), (of, "the containers")],
            Self::ContainerKill { of, .. } => vec![(of, "the containers")],
            Self::Drain { .. } => each("whether pods are scheduled there"),
            Self::Delete { workload, reclaim: None, .. } => vec![(workload, "the workload")],
            Self::Delete { workload, reclaim: Some(_), .. } => {
                vec![(workload, "the workload"), (workload, "the volume")]
            }
            Self::DeleteNamespace {} => vec![("", "the namespace")],
            Self::DeleteBinding { name } => vec![(name.as_str(), "the binding")],
            Self::DeadWebhook { .. } => vec![("", "the webhook")],
        }
    }

    /// Does the fault delete the namespace of something that the other one changes?
    fn takes_namespace_of(&self, other: &Self) -> bool {
        matches!(self, Self::DeleteNamespace {})
            && matches!(other, Self::Delete { .. } | Self::VolumeLoss { .. } | Self::ContainerKill { .. })
    }

    /// Does the fault last only while the node runs, because it consists of processes, units that are not on disk,
    /// packet filters or mounts?
    fn ends_with_power(&self) -> bool {
        matches!(
            self,
            Self::KubeletStop { .. }
                | Self::KubeletFreeze { .. }
                | Self::KubeletKill { .. }
                | Self::KubeletCrash { .. }
                | Self::ComponentKill { .. }
                | Self::ContainerKill { .. }
                | Self::ComponentFreeze { .. }
                | Self::Partition { .. }
                | Self::PacketLoss { .. }
                | Self::VolumeLoss { left: VolumeLeft::ReadOnly | VolumeLeft::Full, .. }
        )
    }

    fn leaves_no_kubelet(&self) -> bool {
        self.changes().iter().any(|(_, what)| *what == "the kubelet") && !self.heals_itself()
    }

    fn needs_kubelet(&self) -> bool {
        matches!(
            self,
            Self::ComponentFlag { .. }
                | Self::StoreLoss { .. }
                | Self::Restart { store: StoreOfRestarted::Lost, .. }
                | Self::CertificateExpired { of: CertificateOf::KubeApiserver | CertificateOf::EtcdPeer, .. }
                | Self::VolumeLoss { .. }
                | Self::ContainerKill { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Faults of one node, or of something that belongs to it, each as a line of YAML with a short name.
    const FAULTS: [(&str, &str); 30] = [
        ("off", "power-off: {node: a}"),
        ("paused", "pause: {node: a}"),
        ("restarted", "restart: {node: a}"),
        ("in a loop", "restart-loop: {node: a}"),
        ("kubelet stopped", "kubelet-stop: {node: a}"),
        ("kubelet killed", "kubelet-kill: {node: a, restart: true}"),
        ("kubelet config", "kubelet-config: {node: a, file: removed}"),
        ("certificate", "certificate-expired: {node: a, of: kubelet}"),
        ("scheduler down", "component-down: {node: a, component: kube-scheduler}"),
        ("scheduler frozen", "component-freeze: {node: a, component: kube-scheduler}"),
        ("etcd flag", "component-flag: {node: a, component: etcd, flag: --a=b}"),
        ("store", "store-loss: {node: a, left: nothing}"),
        ("member", "member-loss: {node: a}"),
        ("peer certificate", "certificate-expired: {node: a, of: etcd-peer}"),
        ("volume", "volume-loss: {node: a, of: w, left: empty}"),
        ("volume full", "volume-loss: {node: a, of: w, left: full}"),
        ("container killed", "container-kill: {node: a, of: w}"),
        ("cut off", "partition: {nodes: [a, b]}"),
        ("lossy", "packet-loss: {node: a, percent: 10}"),
        ("cut off from api", "partition: {nodes: [a], drops: to-api}"),
        ("cut off from plane", "partition: {nodes: [a], drops: to-kubelet}"),
        ("cut off from etcd", "partition: {nodes: [a], drops: to-etcd}"),
        ("cut off from users", "partition: {nodes: [a], drops: from-users}"),
        ("drained", "drain: {nodes: [a]}"),
        ("deleted", "delete: {workload: w}"),
        ("deleted with its claim", "delete: {workload: w, reclaim: retain}"),
        ("deleted with its namespace", "delete-namespace: {}"),
        ("webhook", "dead-webhook: {unanswered: refuses}"),
        ("webhook ignored", "dead-webhook: {unanswered: lets-through}"),
        ("another off", "power-off: {node: c}"),
    ];
    /// Row: the fault that is in. Column: the fault to go in after it, in the same order. `=` both change the same, `/`
    /// shut, `!` ends the other, `k` no kubelet, `e` no end of pods, `w` refused, `.` possible.
    const CAN: &str = "
        = = = = / / / / / / / / / / / / / / / / / / / e . . e . . .
        = = = = / / / / / / / / / / / / / / / / / / / e . . e . . .
        = = = = / / / / / / / / / / / / / / / / / / / . . . . . . .
        = = = = / / / / / / / / / / / / / / / / / / / e . . e . . .
        ! . ! ! = = = = . . k k . k k k k . . . . . . e . . e . . .
        ! . ! ! = = = = . . . . . . . . . . . . . . . . . . . . . .
        . . . . = = = = . . k k . k k k k . . . . . . e . . e . . .
        . . . . = = = = . . k k . k k k k . . . . . . e . . e . . .
        . . . . . . . . = = . . . . . . . . . . . . . . . . . . . .
        ! . ! ! . . . . = = . . . . . . . . . . . . . . . . . . . .
        . . . . . . . . . . = = = = . . . . . . . . . . . . . . . .
        . . . . . . . . . . = = = = . . . . . . . . . . . . . . . .
        . . . . . . . . . . = = = = . . . . . . . . . . . . . . . .
        . . . . . . . . . . = = = = . . . . . . . . . . . . . . . .
        . . . . . . . . . . . . . . = = = . . . . . . . . = = . . .
        ! . ! ! . . . . . . . . . . = = = . . . . . . . . = = . . .
        ! . ! ! . . . . . . . . . . = = = . . . . . . . . . = . . .
        ! . ! ! . . . . . . . . . . . . . = = = = = . e . . e . . .
        ! . ! ! . . . . . . . . . . . . . = = = = = . . . . . . . .
        ! . ! ! . . . . . . . . . . . . . = = = . . . e . . e . . .
        ! . ! ! . . . . . . . . . . . . . = = . = . . . . . . . . .
        ! . ! ! . . . . . . . . . . . . . = = . . = . . . . . . . .
        ! . ! ! . . . . . . . . . . . . . . . . . . = . . . . . . .
        . . . . . . . . . . . . . . . . . . . . . . . = . . . . . .
        . . . . . . . . . . . . . . . . . . . . . . . . = = = . . .
        . . . . . . . . . . . . . . = = . . . . . . . . = = = . . .
        . . . . . . . . . . . . . . = = = . . . . . . . = = = . . .
        . . . . . . . . . . . . . . . . . . . . . . . w w w w = = .
        . . . . . . . . . . . . . . . . . . . . . . . . . . . = = .
        . . . . . . . . . . . . . . . . . . . . . . . . . . e . . =";

    #[test]
    fn what_can_go_in_after_what() {
        let specs = FAULTS.map(|(_, yaml)| serde_saphyr::from_str::<FaultSpec>(&format!("{{{yaml}}}")).unwrap());
        let row = |earlier: &FaultSpec| {
            let letter = |later: &FaultSpec| match earlier.clash_with(later) {
                None => ".",
                Some(Clash::Same(_)) => "=",
                Some(Clash::Shut) => "/",
                Some(Clash::EndsTheOther) => "!",
                Some(Clash::NoKubelet) => "k",
                Some(Clash::NoEnd) => "e",
                Some(Clash::Refused) => "w",
            };
            specs.iter().map(letter).collect::<Vec<_>>().join(" ")
        };
        for (((name, _), spec), wanted) in FAULTS.iter().zip(&specs).zip(CAN.trim().lines()) {
            assert_eq!(row(spec), wanted.trim(), "after: {name}");
        }
        assert_eq!(CAN.trim().lines().count(), FAULTS.len());
    }
}
