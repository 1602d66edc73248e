//! What kchaos changes inside of a node, and how it is put back: by kchaos, or by the node itself.
//!
//! A [`Change`] is two shell functions of `in_node/`, `inject` and `undo`, and what they share with their like (`lib-….sh`); if an operator can do something about it, a third, `remedy`, and a
//! fourth, `snapshot`, that saves what this one needs. They need nothing but what every kind node has: a shell, systemd, util-linux. A dead man's switch (`in_node/switch.sh`), a timer of the node's own systemd, goes
//! with each: it undoes the change when kchaos gives no sign of life for the length of its lease. So a change ends without an engine,
//! without a network and without any process of kchaos; and once a switch has gone off, nothing is injected under it any more, however
//! late a kchaos that was stopped goes on. An [`ApiChange`] is one as well, of what the API holds, made with kubectl by an operator who is logged into the
//! node of a control plane: to end it, that takes an API that answers.
//!
//! Everything is done through `docker exec`. The scripts are part of this program; a journal only names them.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cluster::docker::{Engine, NodeId, Output};
use crate::error::{Error, Result};
use crate::plan::Objects;
use crate::scenario::{CertificateOf, Component, Dropped, Flag, ObjectName, StoreLeft, Unanswered, VolumeLeft};

/// Shell: etcd's own tools in a node, as `tool_of_etcd NAME` and `ask_etcd ARGUMENT…`.
pub(crate) const ETCD: &str = include_str!("in_node/lib-etcd.sh");
/// Shell: where a workload's volume is on a node, as `volume_of NAMESPACE WORKLOAD`.
pub(crate) const VOLUME: &str = include_str!("in_node/lib-volume.sh");
/// Shell: the API, asked by an operator, as `ask_api ARGUMENT…`.
pub(crate) const KUBECTL: &str = include_str!("in_node/lib-kubectl.sh");
/// Time for one call in a node. Most start or stop a unit; the longest makes a store of another.
const WITHIN: Duration = Duration::from_secs(60);
/// Signs of life in the length of a lease.
const SIGNS: u32 = 4;

/// A change of something inside of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// The kubelet's unit is stopped.
    KubeletStopped,
    /// The kubelet's process is frozen: it is there and does nothing.
    KubeletFrozen,
    /// The same with systemd watching over it, which ends a kubelet that does not say that it lives.
    KubeletFrozenWatched,
    /// The kubelet is killed once; its unit starts another.
    KubeletKilled,
    /// The kubelet is killed once, and its unit starts none.
    KubeletKilledForGood,
    /// The kubelet is killed as often as it is started.
    KubeletCrashing,
    /// The kubelet's configuration file can't be read, and it ends with an error at each start.
    KubeletConfigInvalid,
    /// The kubelet's configuration file is gone, and it is not started.
    KubeletConfigRemoved,
    /// The manifest of a static pod is taken away.
    ComponentDown(Component),
    /// A static pod is made anew with a flag that is set wrong.
    ComponentFlag {
        /// Of which pod.
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
    /// It will be found lost when the node, which is about to be killed, is back.
    StorePutAside,
    /// One member of etcd, of several, is lost with what it had stored.
    MemberLost,
    /// Packets from and to other nodes are dropped.
    Partition {
        /// Addresses of the other nodes.
        peers: Vec<IpAddr>,
        /// Which packets.
        drops: Dropped,
    },
    /// A certificate is replaced by one that has expired.
    CertificateExpired {
        /// Whose.
        of: CertificateOf,
        /// The one in its place.
        certificate: Certificate,
    },
    /// A workload's volume is lost.
    VolumeLost {
        /// Namespace of the workload.
        namespace: ObjectName,
        /// The workload.
        workload: ObjectName,
        /// What is left of it.
        left: VolumeLeft,
    },
    /// Done to the API by an operator who is logged into this node.
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
    /// A ClusterRoleBinding is deleted.
    BindingDeleted {
        /// Its name.
        binding: ObjectName,
    },
    /// Writes must be approved by a webhook that nobody serves.
    WebhookDead {
        /// What becomes of them.
        unanswered: Unanswered,
    },
    /// A remedy: a node that is off is said to be out of service.
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
    /// Is it what an operator does about a fault, rather than the fault?
    pub fn is_remedy(&self) -> bool {
        matches!(self, Self::Api(ApiChange::OutOfService { .. } | ApiChange::NodeDeleted { .. }))
    }

    /// Is it of the node's kubelet, so that nothing is started there while it is in?
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

    /// The functions `inject` and `undo`.
    fn functions(&self) -> &'static [&'static str] {
        const CONFIG: &str = include_str!("in_node/lib-kubelet-config.sh");
        const FORGET_BACKOFF: &str = include_str!("in_node/lib-forget-backoff.sh");
        const MANIFEST: &str = include_str!("in_node/lib-manifest.sh");
        const ETCD_DATA: &str = include_str!("in_node/lib-etcd-data.sh");
        const STORE: &str = include_str!("in_node/lib-store.sh");
        const DROP_IN: &str = include_str!("in_node/lib-kubelet-drop-in.sh");
        match self {
            Self::KubeletStopped => &[include_str!("in_node/kubelet-stopped.sh")],
            Self::KubeletFrozen => &[include_str!("in_node/kubelet-frozen.sh")],
            Self::KubeletFrozenWatched => &[DROP_IN, include_str!("in_node/kubelet-frozen-watched.sh")],
            Self::KubeletKilled => &[include_str!("in_node/kubelet-killed.sh")],
            Self::KubeletKilledForGood => &[DROP_IN, include_str!("in_node/kubelet-killed-for-good.sh")],
            Self::KubeletCrashing => &[include_str!("in_node/kubelet-crashing.sh")],
            Self::KubeletConfigInvalid => &[CONFIG, include_str!("in_node/kubelet-config-invalid.sh")],
            Self::KubeletConfigRemoved => &[CONFIG, include_str!("in_node/kubelet-config-removed.sh")],
            Self::ComponentDown(_) => &[FORGET_BACKOFF, MANIFEST, include_str!("in_node/component-down.sh")],
            Self::ComponentFlag { .. } => &[FORGET_BACKOFF, MANIFEST, include_str!("in_node/component-flag.sh")],
            Self::ComponentKilled(_) => &[FORGET_BACKOFF, include_str!("in_node/component-killed.sh")],
            Self::ComponentFrozen(_) => &[FORGET_BACKOFF, include_str!("in_node/component-frozen.sh")],
            Self::StoreLost(StoreLeft::Nothing) => &[ETCD, ETCD_DATA, STORE, include_str!("in_node/store-wiped.sh")],
            Self::StoreLost(StoreLeft::Garbage) => &[ETCD, ETCD_DATA, STORE, include_str!("in_node/store-corrupt.sh")],
            Self::StorePutAside => &[ETCD, ETCD_DATA, STORE, include_str!("in_node/store-lost-with-node.sh")],
            Self::MemberLost => &[ETCD, ETCD_DATA, include_str!("in_node/member-lost.sh")],
            Self::Partition { .. } => &[include_str!("in_node/partition.sh")],
            Self::CertificateExpired { of: CertificateOf::KubeApiserver, .. } => {
                &[FORGET_BACKOFF, include_str!("in_node/certificate-of-kube-apiserver.sh")]
            }
            Self::CertificateExpired { of: CertificateOf::Kubelet, .. } => {
                &[include_str!("in_node/certificate-of-kubelet.sh")]
            }
            Self::VolumeLost { .. } => &[VOLUME, include_str!("in_node/volume-lost.sh")],
            Self::Api(ApiChange::Drained { .. }) => &[KUBECTL, include_str!("in_node/node-drained.sh")],
            Self::Api(ApiChange::WorkloadDeleted(_)) => {
                &[ETCD, ETCD_DATA, STORE, KUBECTL, include_str!("in_node/workload-deleted.sh")]
            }
            Self::Api(ApiChange::BindingDeleted { .. }) => &[KUBECTL, include_str!("in_node/binding-deleted.sh")],
            Self::Api(ApiChange::WebhookDead { .. }) => {
                &[FORGET_BACKOFF, KUBECTL, include_str!("in_node/webhook-dead.sh")]
            }
            Self::Api(ApiChange::OutOfService { .. }) => &[KUBECTL, include_str!("in_node/node-out-of-service.sh")],
            Self::Api(ApiChange::NodeDeleted { .. }) => &[KUBECTL, include_str!("in_node/node-deleted.sh")],
        }
    }

    /// What the functions need to know, as assignments. No value can hold anything that a shell takes for more than a word.
    fn variables(&self) -> String {
        let (peers, drops) = match self {
            Self::Partition { peers, drops } => (peers, drops),
            Self::ComponentDown(component) | Self::ComponentKilled(component) | Self::ComponentFrozen(component) => {
                return format!("component={}\n", component.name());
            }
            Self::ComponentFlag { component, flag } => return format!("component={} flag={flag}\n", component.name()),
            Self::CertificateExpired { certificate, .. } => return format!("certificate='{certificate}'\n"),
            Self::VolumeLost { namespace, workload, left } => {
                let left = match left {
                    VolumeLeft::Nothing => "nothing",
                    VolumeLeft::Empty => "empty",
                };
                return format!("namespace={namespace} workload={workload} left={left}\n");
            }
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
        };
        format!("drops={drops} peers_v4='{}' peers_v6='{}'\n", family(false), family(true))
    }

    /// All that runs in the node.
    fn program(&self) -> String {
        self.variables() + &self.functions().concat() + include_str!("in_node/switch.sh")
    }
}

impl ApiChange {
    /// The command that undoes it where there is nothing left of what was kept for that; `None` if then nothing is missed.
    pub fn elsewhere(&self, switch: &SwitchName) -> Option<String> {
        Some(match self {
            Self::Drained { node } => format!("kubectl uncordon {node}"),
            Self::OutOfService { node } => format!("kubectl taint node {node} node.kubernetes.io/out-of-service-"),
            Self::NodeDeleted { node } => format!("kubectl get node {node}; if it is not there, restart its kubelet"),
            Self::BindingDeleted { binding } => format!("kubectl create clusterrolebinding {binding} …, as it was"),
            Self::WebhookDead { .. } => format!("kubectl delete validatingwebhookconfiguration {}", switch.0),
            Self::WorkloadDeleted(_) => return None,
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
            Self::WorkloadDeleted(Objects { namespace, objects }) => {
                let objects: Vec<String> = objects.iter().map(|(kind, name)| format!("{kind}/{name}")).collect();
                format!("namespace={namespace} objects='{}'\n", objects.join(" "))
            }
        }
    }
}

/// A certificate in PEM, which is no secret. Its text can hold nothing that a shell takes for more than a word.
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

/// Name of a switch, of its units and of its directory in the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SwitchName(String);

impl SwitchName {
    const PREFIX: &str = "kchaos-";

    /// A name that no other switch has.
    pub fn unique() -> Self {
        Self(format!("{}{:016x}", Self::PREFIX, rand::random::<u64>()))
    }
}

impl TryFrom<String> for SwitchName {
    type Error = String;

    /// It becomes part of paths in a node, and a journal could name anything.
    fn try_from(name: String) -> Result<Self, String> {
        let digits = name.strip_prefix(Self::PREFIX).unwrap_or_default();
        match digits.len() == 16 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            true => Ok(Self(name)),
            false => Err(format!("{name:?} is not the name of a switch")),
        }
    }
}

impl From<SwitchName> for String {
    fn from(name: SwitchName) -> Self {
        name.0
    }
}

/// A change in one node, under one switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct InNode {
    /// The node's container, by id: never a namesake.
    pub node: NodeId,
    /// What is changed.
    pub change: Change,
    /// The dead man's switch.
    pub switch: SwitchName,
}

/// Who put a change back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutBack {
    /// This call, or one before it.
    Here,
    /// The node itself: its switch had gone off.
    ByTheNode,
}

impl InNode {
    /// Sets the switch, then makes the change. Made again, it changes nothing.
    ///
    /// # Errors
    /// If the switch can't be set or has gone off, or the change fails. It may have been made all the same.
    pub async fn inject(&self, engine: &Engine, lease: Duration) -> Result<()> {
        self.call(engine, "arm", Some(lease)).await?;
        self.call(engine, "change", None).await.map(drop)
    }

    /// Saves what a remedy will need, before the change. Sets the switch, so that it does not stay. Tells what was saved.
    ///
    /// # Errors
    /// If there is nothing to save, or it can't be saved.
    pub async fn save(&self, engine: &Engine, lease: Duration) -> Result<String> {
        self.call(engine, "arm", Some(lease)).await?;
        let output = self.call(engine, "snapshot", None).await?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Does what an operator would do about the change. Done again, it changes nothing; [`InNode::undo`] undoes it, too.
    ///
    /// # Errors
    /// If the switch has gone off, or the remedy fails.
    pub async fn remedy(&self, engine: &Engine) -> Result<()> {
        self.call(engine, "remedy", None).await.map(drop)
    }

    /// Gives signs of life as long as it is driven. One that hangs does not keep the next one from being given, and none brings a switch
    /// back that has gone off.
    pub async fn keep(self, engine: Engine, lease: Duration) {
        let mut again = tokio::time::interval(lease / SIGNS);
        again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            again.tick().await;
            match tokio::time::timeout(lease / SIGNS, self.call(&engine, "renew", None)).await {
                Ok(Ok(_)) => {}
                // An engine that is away may be back before the lease is over.
                Ok(Err(error)) => tracing::debug!("{error}"),
                Err(_) => tracing::debug!("no answer to a sign of life in {}", self.node.name),
            }
        }
    }

    /// Undoes the change, checks that it is undone, and removes the switch. Done again, it changes nothing.
    ///
    /// # Errors
    /// If it is not seen to be undone; then the switch stays, and goes off in time.
    pub async fn undo(&self, engine: &Engine) -> Result<PutBack> {
        let output = self.call(engine, "restore", None).await?;
        if !String::from_utf8_lossy(&output.stdout).lines().any(|line| line == "gone-off") {
            return Ok(PutBack::Here);
        }
        // From here on it is known. What can't be removed, the audit finds.
        if let Err(error) = self.call(engine, "forget", None).await {
            tracing::warn!("{error}; once more");
            if let Err(again) = self.call(engine, "forget", None).await {
                tracing::warn!("{again}");
            }
        }
        Ok(PutBack::ByTheNode)
    }

    /// What was changed by a program of another version is undone by that one, as long as it is there.
    fn by_its_own(&self) -> String {
        let program = format!("/var/lib/kchaos/{}/program", self.switch.0);
        format!("[ ! -e {program} ] || exec sh {program} \"$@\"\n")
    }

    async fn call(&self, engine: &Engine, call: &str, lease: Option<Duration>) -> Result<Output> {
        let program = match call {
            "restore" | "forget" => format!("{}{}", self.by_its_own(), self.change.program()),
            _ => self.change.program(),
        };
        let mut argv = vec!["sh", "-c", &program, "kchaos", call, &self.switch.0];
        let seconds = lease.map(|lease| format!("{:.3}s", lease.as_secs_f64()));
        if let Some(seconds) = &seconds {
            argv.extend([seconds.as_str(), &program]);
        }
        let output = engine.exec_changing(&self.node, &argv, WITHIN).await?;
        match output.code {
            0 => Ok(output),
            code => Err(Error::could_not_run(format!(
                "could not {call} {} in {}: code {code}: {}",
                self.switch.0,
                self.node.name,
                output.stderr.trim()
            ))),
        }
    }
}

impl fmt::Display for InNode {
    /// The command that undoes it by hand.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&by_hand(&self.node, &self.switch))
    }
}

/// What was left in a node, as the commands that put it back by hand.
///
/// # Errors
/// If the node can't be looked into.
pub async fn left_in(engine: &Engine, node: &NodeId) -> Result<Vec<String>> {
    let look = "[ ! -e /var/lib/kchaos ] || ls /var/lib/kchaos";
    let output = engine.exec(node, &["sh", "-c", look], None, WITHIN).await?;
    if output.code != 0 {
        return Err(Error::could_not_run(format!("could not look into {}: {}", node.name, output.stderr.trim())));
    }
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    let switches = names.lines().filter_map(|name| SwitchName::try_from(name.to_owned()).ok());
    Ok(switches.map(|switch| by_hand(node, &switch)).collect())
}

fn by_hand(node: &NodeId, SwitchName(switch): &SwitchName) -> String {
    let program = format!("sh /var/lib/kchaos/{switch}/program");
    format!("docker exec {} sh -c '{program} restore {switch} && rm -rf /var/lib/kchaos/{switch}'", node.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_can_not_name_anything_but_a_switch() {
        let name = SwitchName::unique();
        assert_eq!(serde_json::from_str::<SwitchName>(&serde_json::to_string(&name).unwrap()).unwrap(), name);
        for bad in [
            "",
            "kchaos-",
            "kchaos-0123",
            "../../etc",
            "kchaos-0123456789abcdeF",
            "kchaos-0123456789abc/ef",
            "kchaos-0123456789abcdef0",
        ] {
            assert!(serde_json::from_value::<SwitchName>(bad.into()).is_err(), "{bad}");
        }
    }

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
            Change::StorePutAside,
            Change::MemberLost,
            Change::Partition { peers: Vec::new(), drops: Dropped::Everything },
            Change::CertificateExpired { of: CertificateOf::KubeApiserver, certificate: certificate() },
            Change::CertificateExpired { of: CertificateOf::Kubelet, certificate: certificate() },
            Change::VolumeLost { namespace: name("a"), workload: name("b"), left: VolumeLeft::Empty },
            Change::Api(ApiChange::Drained { node: name("a") }),
            Change::Api(ApiChange::WorkloadDeleted(Objects {
                namespace: name("a"),
                objects: vec![(name("b"), name("c"))],
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
