//! The changes that can be made inside a node, as data, and the shell program of each.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::SwitchName;
use crate::component::Component;
use crate::scenario::{CertificateOf, Dropped, Flag, ObjectName, Objects, Percent, StoreLeft, Unanswered, VolumeLeft};

/// Shell: etcd's own tools in a node, as `tool_of_etcd NAME` and `ask_etcd ARGUMENT…`.
pub(crate) const ETCD: &str = include_str!("lib-etcd.sh");
/// Shell: finds a workload's containers on a node, as `containers_of NAMESPACE WORKLOAD`.
pub(crate) const CONTAINERS: &str = include_str!("lib-containers.sh");
/// Shell: finds a workload's volume on a node, as `volume_of NAMESPACE WORKLOAD`. Needs [`CONTAINERS`].
pub(crate) const VOLUME: &str = include_str!("lib-volume.sh");
/// Shell: asks the API as an operator would, as `ask_api ARGUMENT…`.
pub(crate) const KUBECTL: &str = include_str!("lib-kubectl.sh");
/// The finalizer of objects that nobody frees. Kubernetes wants it to look like a path of somebody's domain.
pub(crate) const HELD_BY: &str = "kchaos.io/held";

/// A change of something inside a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// The kubelet's unit is stopped.
    KubeletStopped,
    /// The kubelet's process is frozen: it exists and does nothing.
    KubeletFrozen,
    /// The same with a watchdog of systemd, which ends a kubelet that does not report that it is alive.
    KubeletFrozenWatched,
    /// The kubelet is killed once; its unit starts another.
    KubeletKilled,
    /// The kubelet is killed once, and its unit does not start another.
    KubeletKilledForGood,
    /// The kubelet is killed each time it is started.
    KubeletCrashing,
    /// The kubelet's configuration file can't be read, so the kubelet ends with an error at each start.
    KubeletConfigInvalid,
    /// The kubelet's configuration file is gone, so the kubelet is not started.
    KubeletConfigRemoved,
    /// The manifest of a static pod is taken away.
    ComponentDown(Component),
    /// A static pod is recreated with a flag that is set wrong.
    ComponentFlag {
        /// The component whose pod it is.
        component: Component,
        /// The flag.
        flag: Flag,
    },
    /// A static pod's process is killed once; the kubelet starts another.
    ComponentKilled(Component),
    /// A static pod's process is frozen.
    ComponentFrozen(Component),
    /// The API server's storage is lost.
    StoreLost(StoreLeft),
    /// The same, and the API server is not restarted, so that it goes on with what it remembers.
    StoreLostUnnoticed(StoreLeft),
    /// The API server's storage will be found lost when the node, which is about to be killed, is back.
    StorePutAside,
    /// One of several etcd members is lost, with what it had stored. The others go on.
    MemberLost,
    /// The same, with so many others that the rest is no majority, and may have to go on without them for good.
    MemberLostOfMajority,
    /// A remedy: the etcd member that is left of several becomes the only one.
    SurvivorAlone,
    /// Packets from and to other nodes are dropped.
    Partition {
        /// Addresses of the other nodes: of those whose packets are dropped, or for [`Dropped::FromUsers`] let through.
        peers: Vec<IpAddr>,
        /// Which packets.
        drops: Dropped,
    },
    /// Packets from and to other nodes are dropped at random.
    PacketLoss {
        /// Addresses of the other nodes.
        peers: Vec<IpAddr>,
        /// How many of a hundred.
        percent: Percent,
    },
    /// A certificate is replaced by one that has expired.
    CertificateExpired {
        /// Whose certificate.
        of: CertificateOf,
        /// The expired one that takes its place.
        certificate: Certificate,
    },
    /// A workload's volume is lost.
    VolumeLost {
        /// Namespace of the workload.
        namespace: ObjectName,
        /// The workload.
        workload: ObjectName,
        /// What is left of the volume.
        left: VolumeLeft,
    },
    /// A workload's containers are killed once; the kubelet starts others.
    ContainersKilled {
        /// Namespace of the workload.
        namespace: ObjectName,
        /// The workload.
        workload: ObjectName,
    },
    /// A change that an operator, logged into this node, makes to the API.
    Api(ApiChange),
}

/// A change of what the API holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApiChange {
    /// A node is drained.
    Drained {
        /// Its name.
        node: ObjectName,
    },
    /// A workload's objects are deleted.
    WorkloadDeleted(Objects),
    /// A workload's objects are deleted, and a finalizer that nobody removes holds them.
    WorkloadHeld(Objects),
    /// A workload's objects are deleted, the claim of its volume among them.
    ClaimDeleted {
        /// The objects.
        objects: Objects,
        /// The volume stays. Otherwise it goes, with all that is on it.
        retained: bool,
    },
    /// The namespace of these objects is deleted, with all of them.
    NamespaceDeleted(Objects),
    /// A ClusterRoleBinding is deleted.
    BindingDeleted {
        /// Its name.
        binding: ObjectName,
    },
    /// Writes must be approved by a webhook that nobody serves.
    WebhookDead {
        /// What becomes of writes that it does not answer.
        unanswered: Unanswered,
    },
    /// A remedy: a node that is off is declared out of service.
    OutOfService {
        /// Its name.
        node: ObjectName,
    },
    /// A remedy: a node that is off is deleted.
    NodeDeleted {
        /// Its name.
        node: ObjectName,
    },
}

impl Change {
    /// Is this what an operator does about a fault, rather than the fault itself?
    pub fn is_remedy(&self) -> bool {
        matches!(self, Self::SurvivorAlone | Self::Api(ApiChange::OutOfService { .. } | ApiChange::NodeDeleted { .. }))
    }

    /// Does it break the node's kubelet, so that nothing is started there while it is in?
    pub fn is_of_kubelet(&self) -> bool {
        matches!(
            self,
            Self::KubeletStopped
                | Self::KubeletFrozen
                | Self::KubeletFrozenWatched
                | Self::KubeletKilled
                | Self::KubeletKilledForGood
                | Self::KubeletCrashing
                | Self::KubeletConfigInvalid
                | Self::KubeletConfigRemoved
                | Self::CertificateExpired { of: CertificateOf::Kubelet, .. }
        )
    }

    /// The shell text that defines `inject`, `undo` and what they need.
    fn functions(&self) -> &'static [&'static str] {
        const CONFIG: &str = include_str!("lib-kubelet-config.sh");
        const FORGET_BACKOFF: &str = include_str!("lib-forget-backoff.sh");
        const MANIFEST: &str = include_str!("lib-manifest.sh");
        const ETCD_DATA: &str = include_str!("lib-etcd-data.sh");
        const END_ETCD: &str = include_str!("lib-end-etcd.sh");
        const STORE: &str = include_str!("lib-sole-store.sh");
        const DROP_IN: &str = include_str!("lib-kubelet-drop-in.sh");
        match self {
            Self::KubeletStopped => &[include_str!("kubelet-stopped.sh")],
            Self::KubeletFrozen => &[include_str!("kubelet-frozen.sh")],
            Self::KubeletFrozenWatched => &[DROP_IN, include_str!("kubelet-frozen-watched.sh")],
            Self::KubeletKilled => &[include_str!("kubelet-killed.sh")],
            Self::KubeletKilledForGood => &[DROP_IN, include_str!("kubelet-killed-for-good.sh")],
            Self::KubeletCrashing => &[include_str!("kubelet-crashing.sh")],
            Self::KubeletConfigInvalid => &[CONFIG, include_str!("kubelet-config-invalid.sh")],
            Self::KubeletConfigRemoved => &[CONFIG, include_str!("kubelet-config-removed.sh")],
            Self::ComponentDown(_) => &[FORGET_BACKOFF, MANIFEST, include_str!("component-down.sh")],
            Self::ComponentFlag { .. } => &[FORGET_BACKOFF, MANIFEST, include_str!("component-flag-wrong.sh")],
            Self::ComponentKilled(_) => &[FORGET_BACKOFF, include_str!("component-killed.sh")],
            Self::ComponentFrozen(_) => &[FORGET_BACKOFF, include_str!("component-frozen.sh")],
            Self::StoreLost(StoreLeft::Nothing) | Self::StoreLostUnnoticed(StoreLeft::Nothing) => {
                &[ETCD, ETCD_DATA, END_ETCD, STORE, include_str!("store-wiped.sh")]
            }
            Self::StoreLost(StoreLeft::Garbage) | Self::StoreLostUnnoticed(StoreLeft::Garbage) => {
                &[ETCD, ETCD_DATA, END_ETCD, STORE, include_str!("store-corrupt.sh")]
            }
            Self::StorePutAside => &[ETCD, ETCD_DATA, END_ETCD, STORE, include_str!("store-lost-with-node.sh")],
            Self::MemberLost | Self::MemberLostOfMajority => {
                &[ETCD, ETCD_DATA, END_ETCD, include_str!("member-lost.sh")]
            }
            Self::SurvivorAlone => &[ETCD, ETCD_DATA, END_ETCD, include_str!("remedy-survivor-alone.sh")],
            Self::Partition { .. } | Self::PacketLoss { .. } => &[include_str!("packets-dropped.sh")],
            Self::CertificateExpired { of: CertificateOf::KubeApiserver | CertificateOf::EtcdPeer, .. } => {
                &[FORGET_BACKOFF, include_str!("certificate-expired-of-component.sh")]
            }
            Self::CertificateExpired { of: CertificateOf::Kubelet, .. } => {
                &[include_str!("certificate-expired-of-kubelet.sh")]
            }
            Self::ContainersKilled { .. } => &[CONTAINERS, include_str!("containers-killed.sh")],
            Self::VolumeLost { .. } => &[CONTAINERS, VOLUME, include_str!("volume-lost.sh")],
            Self::Api(ApiChange::Drained { .. }) => &[KUBECTL, include_str!("node-drained.sh")],
            Self::Api(ApiChange::WorkloadDeleted(_) | ApiChange::WorkloadHeld(_) | ApiChange::ClaimDeleted { .. }) => {
                &[ETCD, ETCD_DATA, END_ETCD, STORE, KUBECTL, include_str!("workload-deleted.sh")]
            }
            Self::Api(ApiChange::NamespaceDeleted(_)) => {
                &[ETCD, ETCD_DATA, END_ETCD, STORE, KUBECTL, include_str!("namespace-deleted.sh")]
            }
            Self::Api(ApiChange::BindingDeleted { .. }) => &[KUBECTL, include_str!("binding-deleted.sh")],
            Self::Api(ApiChange::WebhookDead { .. }) => &[FORGET_BACKOFF, KUBECTL, include_str!("webhook-dead.sh")],
            Self::Api(ApiChange::OutOfService { .. }) => &[KUBECTL, include_str!("remedy-node-out-of-service.sh")],
            Self::Api(ApiChange::NodeDeleted { .. }) => &[KUBECTL, include_str!("remedy-node-deleted.sh")],
        }
    }

    /// The values that the functions need, as shell assignments. No value can hold anything that a shell would
    /// interpret.
    fn variables(&self) -> String {
        let (peers, drops, share) = match self {
            Self::Partition { peers, drops } => (peers, *drops, String::new()),
            Self::PacketLoss { peers, percent } => (peers, Dropped::Everything, percent.probability().to_string()),
            Self::ComponentDown(component) | Self::ComponentKilled(component) | Self::ComponentFrozen(component) => {
                return format!("component={}\n", component.name());
            }
            Self::ComponentFlag { component, flag } => return format!("component={} flag={flag}\n", component.name()),
            Self::CertificateExpired { of, certificate } => {
                let component = of.component().map_or("kubelet", Component::name);
                return format!("component={component} shown={} certificate='{certificate}'\n", of.file());
            }
            Self::VolumeLost { namespace, workload, left } => {
                let left = match left {
                    VolumeLeft::Nothing => "nothing",
                    VolumeLeft::Empty => "empty",
                    VolumeLeft::ReadOnly => "read-only",
                    VolumeLeft::Full => "full",
                };
                return format!("namespace={namespace} workload={workload} left={left}\n");
            }
            Self::ContainersKilled { namespace, workload } => {
                return format!("namespace={namespace} workload={workload}\n");
            }
            Self::StoreLost(_) => return "api_server=restarted\n".to_owned(),
            Self::StoreLostUnnoticed(_) => return "api_server=kept\n".to_owned(),
            Self::MemberLost => return "lost=alone\n".to_owned(),
            Self::MemberLostOfMajority => return "lost=with-others\n".to_owned(),
            Self::Api(change) => return change.variables(),
            _ => return String::new(),
        };
        let family = |v6: bool| {
            let of: Vec<String> = peers.iter().filter(|peer| peer.is_ipv6() == v6).map(ToString::to_string).collect();
            of.join(" ")
        };
        let drops = match drops {
            Dropped::Everything => "everything",
            Dropped::ToApi => "to-api",
            Dropped::ToKubelet => "to-kubelet",
            Dropped::ToEtcd => "to-etcd",
            Dropped::FromUsers => "from-users",
        };
        format!("drops={drops} share={share} peers_v4='{}' peers_v6='{}'\n", family(false), family(true))
    }

    /// The whole program that runs in the node.
    pub(super) fn program(&self) -> String {
        self.variables() + &self.functions().concat() + include_str!("dead-mans-switch.sh")
    }
}

impl ApiChange {
    /// The command that undoes the change from elsewhere, when the data kept for its undo is gone. `None` if nothing is
    /// missed then.
    pub fn elsewhere(&self, switch: &SwitchName) -> Option<String> {
        Some(match self {
            Self::Drained { node } => format!("kubectl uncordon {node}"),
            Self::OutOfService { node } => format!("kubectl taint node {node} node.kubernetes.io/out-of-service-"),
            Self::NodeDeleted { node } => format!("kubectl get node {node}; if it is not there, restart its kubelet"),
            Self::BindingDeleted { binding } => format!("kubectl create clusterrolebinding {binding} …, as it was"),
            Self::WebhookDead { .. } => format!("kubectl delete validatingwebhookconfiguration {}", switch.0),
            Self::WorkloadHeld(Objects { namespace, objects }) => {
                let freed = |(kind, name): &(_, _)| {
                    format!(
                        "kubectl patch {kind} {name} -n {namespace} --type=merge -p '{{\"metadata\":{{\"finalizers\":null}}}}'"
                    )
                };
                objects.iter().map(freed).collect::<Vec<_>>().join("; ")
            }
            Self::WorkloadDeleted(_) | Self::NamespaceDeleted(_) | Self::ClaimDeleted { retained: false, .. } => {
                return None;
            }
            Self::ClaimDeleted { objects, retained: true } => format!(
                "kubectl get persistentvolumes; set the policy of the one whose claim is in {} to Delete",
                objects.namespace
            ),
        })
    }

    fn variables(&self) -> String {
        match self {
            Self::Drained { node } | Self::OutOfService { node } | Self::NodeDeleted { node } => {
                format!("node={node}\n")
            }
            Self::BindingDeleted { binding } => format!("binding={binding}\n"),
            Self::WebhookDead { unanswered: Unanswered::Refuses } => "unanswered=Fail\n".to_owned(),
            Self::WebhookDead { unanswered: Unanswered::LetsThrough } => "unanswered=Ignore\n".to_owned(),
            Self::WorkloadDeleted(Objects { namespace, objects })
            | Self::WorkloadHeld(Objects { namespace, objects })
            | Self::NamespaceDeleted(Objects { namespace, objects })
            | Self::ClaimDeleted { objects: Objects { namespace, objects }, .. } => {
                let held = if matches!(self, Self::WorkloadHeld(_)) { HELD_BY } else { "" };
                let reclaim = match self {
                    Self::ClaimDeleted { retained: true, .. } => "Retain",
                    Self::ClaimDeleted { retained: false, .. } => "Delete",
                    _ => "",
                };
                let objects: Vec<String> = objects.iter().map(|(kind, name)| format!("{kind}/{name}")).collect();
                format!("namespace={namespace} objects='{}' held='{held}' reclaim='{reclaim}'\n", objects.join(" "))
            }
        }
    }
}

/// A certificate in PEM, which is no secret. Its text holds nothing that a shell would interpret inside quotes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Certificate(String);

impl TryFrom<String> for Certificate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let body = text
            .trim()
            .strip_prefix("-----BEGIN CERTIFICATE-----\n")
            .and_then(|rest| rest.strip_suffix("\n-----END CERTIFICATE-----"));
        let is_base64 = |b: u8| b.is_ascii_alphanumeric() || b"+/=\n".contains(&b);
        match body.is_some_and(|body| body.bytes().all(is_base64)) {
            true => Ok(Self(text.trim().to_owned())),
            false => Err("that is not a certificate".to_owned()),
        }
    }
}

impl From<Certificate> for String {
    fn from(certificate: Certificate) -> Self {
        certificate.0
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ObjectName {
        text.parse().unwrap()
    }

    fn certificate() -> Certificate {
        "-----BEGIN CERTIFICATE-----\nQQ==\n-----END CERTIFICATE-----\n".to_owned().try_into().unwrap()
    }

    #[test]
    fn only_a_certificate_gets_into_a_program_for_one() {
        assert!(!certificate().to_string().contains('\''));
        for bad in [
            "",
            "QQ==",
            "-----BEGIN CERTIFICATE-----\nQ'; true '\n-----END CERTIFICATE-----",
            "-----BEGIN PRIVATE KEY-----\nQQ==\n-----END PRIVATE KEY-----",
        ] {
            assert!(Certificate::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_change_has_both_functions() {
        for change in [
            Change::KubeletStopped,
            Change::KubeletFrozen,
            Change::KubeletFrozenWatched,
            Change::KubeletKilled,
            Change::KubeletKilledForGood,
            Change::KubeletCrashing,
            Change::KubeletConfigInvalid,
            Change::KubeletConfigRemoved,
            Change::ComponentDown(Component::Etcd),
            Change::ComponentFlag { component: Component::Etcd, flag: "--a=b".parse().unwrap() },
            Change::ComponentKilled(Component::KubeScheduler),
            Change::ComponentFrozen(Component::KubeApiserver),
            Change::StoreLost(StoreLeft::Nothing),
            Change::StoreLost(StoreLeft::Garbage),
            Change::StoreLostUnnoticed(StoreLeft::Nothing),
            Change::StorePutAside,
            Change::MemberLost,
            Change::MemberLostOfMajority,
            Change::SurvivorAlone,
            Change::Partition { peers: Vec::new(), drops: Dropped::Everything },
            Change::PacketLoss { peers: Vec::new(), percent: 10.try_into().unwrap() },
            Change::CertificateExpired { of: CertificateOf::KubeApiserver, certificate: certificate() },
            Change::CertificateExpired { of: CertificateOf::Kubelet, certificate: certificate() },
            Change::CertificateExpired { of: CertificateOf::EtcdPeer, certificate: certificate() },
            Change::VolumeLost { namespace: name("a"), workload: name("b"), left: VolumeLeft::Empty },
            Change::ContainersKilled { namespace: name("a"), workload: name("b") },
            Change::Api(ApiChange::Drained { node: name("a") }),
            Change::Api(ApiChange::WorkloadDeleted(Objects {
                namespace: name("a"),
                objects: vec![(name("b"), name("c"))],
            })),
            Change::Api(ApiChange::WorkloadHeld(Objects {
                namespace: name("a"),
                objects: vec![(name("b"), name("c"))],
            })),
            Change::Api(ApiChange::ClaimDeleted {
                objects: Objects { namespace: name("a"), objects: vec![(name("b"), name("c"))] },
                retained: true,
            }),
            Change::Api(ApiChange::NamespaceDeleted(Objects {
                namespace: name("a"),
                objects: vec![(name("namespace"), name("a"))],
            })),
            Change::Api(ApiChange::BindingDeleted { binding: name("kubeadm:a") }),
            Change::Api(ApiChange::WebhookDead { unanswered: Unanswered::Refuses }),
            Change::Api(ApiChange::OutOfService { node: name("a") }),
            Change::Api(ApiChange::NodeDeleted { node: name("a") }),
        ] {
            let program = change.program();
            for function in ["inject()", "undo()"] {
                assert_eq!(
                    program.lines().filter(|line| line.starts_with(function)).count(),
                    1,
                    "{change:?} {function}"
                );
            }
        }
    }
}
