//! Which faults of one variant can be in together, and in which order they can go in.
//!
//! Pure logic on two faults, of which one goes in before the other. Takes targets by their names: different ones are different nodes. What a cluster
//! lacks for one of them (a control plane for an operator) is for the plan to say.

use super::{CertificateOf, Component, Dropped, FaultSpec, Place, StoreOfRestarted, Unanswered};

/// Why a fault can't go in after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clash {
    /// Both change this: each would take the other's work for what was there before, and neither could be undone beside the other.
    Same(&'static str),
    /// It lies inside of a node into which nothing can be put any more, or not yet again.
    Shut,
    /// It takes the power off the node, and with that ends the other one, which lives no longer than the node runs.
    EndsTheOther,
    /// It is in effect only once the node's kubelet has started something anew, and the other one has left none that would.
    NoKubelet,
    /// It waits for pods to end, and the other one has left no kubelet that is heard to end any.
    NoEnd,
    /// It is a write to the API, and the other one has all of them refused.
    Refused,
}

impl FaultSpec {
    /// Why `later` can't go in after this fault; `None` if it can.
    pub fn clash_with(&self, later: &Self) -> Option<Clash> {
        let changes = self.changes();
        if let Some((_, what)) = later.changes().into_iter().find(|change| changes.contains(change)) {
            return Some(Clash::Same(what));
        }
        if let (Self::DeadWebhook { unanswered: Unanswered::Refuses }, Place::Api) = (self, later.place()) {
            return Some(Clash::Refused);
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

    /// Does it leave a node into which nobody can look any more until it is undone?
    pub fn shuts_node(&self) -> bool {
        matches!(self, Self::PowerOff { .. } | Self::Stop { .. } | Self::Pause { .. })
    }

    /// What it changes. Packet filters may be changed by several, as each has a chain of its own; the same packets can be dropped only once.
    fn changes(&self) -> Vec<(&str, &'static str)> {
        let each = |what| self.nodes().iter().map(move |node| (node.as_str(), what)).collect();
        let (to_api, to_kubelet) = ("what of the node's traffic reaches API servers", "what reaches its kubelet");
        let to_etcd = "what of its traffic reaches other members of etcd";
        match self {
            Self::PowerOff { .. }
            | Self::Stop { .. }
            | Self::Pause { .. }
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
                vec![(node, Component::Etcd.name()), (node, Component::KubeApiserver.name())]
            }
            Self::MemberLoss { node } => vec![(node, Component::Etcd.name())],
            Self::Partition { drops: Dropped::ToApi, .. } => each(to_api),
            Self::Partition { drops: Dropped::ToKubelet, .. } => each(to_kubelet),
            Self::Partition { drops: Dropped::ToEtcd, .. } => each(to_etcd),
            Self::Partition { drops: Dropped::Everything, .. } => {
                [each(to_api), each(to_kubelet), each(to_etcd)].concat()
            }
            Self::VolumeLoss { of, .. } => vec![(of, "the volume")],
            Self::Drain { .. } => each("whether pods are scheduled there"),
            Self::Delete { workload } => vec![(workload, "the workload")],
            Self::DeleteBinding { name } => vec![(name.as_str(), "the binding")],
            Self::DeadWebhook { .. } => vec![("", "the webhook")],
        }
    }

    /// Does it live no longer than the node runs, being of processes, units that are not on disk, and packet filters?
    fn ends_with_power(&self) -> bool {
        matches!(
            self,
            Self::KubeletStop { .. }
                | Self::KubeletFreeze { .. }
                | Self::KubeletKill { .. }
                | Self::KubeletCrash { .. }
                | Self::ComponentKill { .. }
                | Self::ComponentFreeze { .. }
                | Self::Partition { .. }
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
                | Self::CertificateExpired { of: CertificateOf::KubeApiserver, .. }
                | Self::VolumeLoss { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Faults of one node, or of what belongs to it, each in a line of YAML under a short name.
    const FAULTS: [(&str, &str); 22] = [
        ("off", "power-off: {node: a}"),
        ("paused", "pause: {node: a}"),
        ("restarted", "restart: {node: a}"),
        ("kubelet stopped", "kubelet-stop: {node: a}"),
        ("kubelet killed", "kubelet-kill: {node: a, restart: true}"),
        ("kubelet config", "kubelet-config: {node: a, file: removed}"),
        ("certificate", "certificate-expired: {node: a, of: kubelet}"),
        ("scheduler down", "component-down: {node: a, component: kube-scheduler}"),
        ("scheduler frozen", "component-freeze: {node: a, component: kube-scheduler}"),
        ("etcd flag", "component-flag: {node: a, component: etcd, flag: --a=b}"),
        ("store", "store-loss: {node: a, left: nothing}"),
        ("member", "member-loss: {node: a}"),
        ("volume", "volume-loss: {node: a, of: w, left: empty}"),
        ("cut off", "partition: {nodes: [a, b]}"),
        ("cut off from api", "partition: {nodes: [a], drops: to-api}"),
        ("cut off from plane", "partition: {nodes: [a], drops: to-kubelet}"),
        ("cut off from etcd", "partition: {nodes: [a], drops: to-etcd}"),
        ("drained", "drain: {nodes: [a]}"),
        ("deleted", "delete: {workload: w}"),
        ("webhook", "dead-webhook: {unanswered: refuses}"),
        ("webhook ignored", "dead-webhook: {unanswered: lets-through}"),
        ("another off", "power-off: {node: c}"),
    ];
    /// Row: what is in. Column: what is to go in after it, in the same order. `=` both change the same, `/` shut, `!` ends the other, `k` no kubelet,
    /// `e` no end of pods, `w` refused, `.` it can.
    const CAN: &str = "
        = = = / / / / / / / / / / / / / / e . . . .
        = = = / / / / / / / / / / / / / / e . . . .
        = = = / / / / / / / / / / / / / / . . . . .
        ! . ! = = = = . . k k . k . . . . e . . . .
        ! . ! = = = = . . . . . . . . . . . . . . .
        . . . = = = = . . k k . k . . . . e . . . .
        . . . = = = = . . k k . k . . . . e . . . .
        . . . . . . . = = . . . . . . . . . . . . .
        ! . ! . . . . = = . . . . . . . . . . . . .
        . . . . . . . . . = = = . . . . . . . . . .
        . . . . . . . . . = = = . . . . . . . . . .
        . . . . . . . . . = = = . . . . . . . . . .
        . . . . . . . . . . . . = . . . . . . . . .
        ! . ! . . . . . . . . . . = = = = e . . . .
        ! . ! . . . . . . . . . . = = . . e . . . .
        ! . ! . . . . . . . . . . = . = . . . . . .
        ! . ! . . . . . . . . . . = . . = . . . . .
        . . . . . . . . . . . . . . . . . = . . . .
        . . . . . . . . . . . . . . . . . . = . . .
        . . . . . . . . . . . . . . . . . w w = = .
        . . . . . . . . . . . . . . . . . . . = = .
        . . . . . . . . . . . . . . . . . . . . . =";

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
