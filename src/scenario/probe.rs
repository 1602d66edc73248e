//! The probes that scenario files name.

use std::mem::discriminant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Address;
use crate::component::{Component, Leader};

/// What a probe looks at. A probe gives one small value per sample.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ProbeSpec {
    /// From below: the state that the engine reports for the node's container (`running`, `exited`, `paused`, …).
    NodeState(String),
    /// From below: number of processes in the node's container.
    NodeProcesses(String),
    /// From below: number of processes of a component of the control plane in the node's container.
    ComponentProcesses {
        /// Target.
        node: String,
        /// The component.
        component: Component,
    },
    /// From below: ids of a component's processes in the node's container, which tell a restarted process from the
    /// original one.
    ComponentIdentities {
        /// Target.
        node: String,
        /// The component.
        component: Component,
    },
    /// From below: does the node's kubelet answer on its port when asked from another node?
    KubeletAnswers(String),
    /// From below: does an API server answer when asked from the node, at the address that the node's kubelet uses?
    ApiAnswers(String),
    /// From below: how often the node's kubelet has written into its log, in the last ten seconds, that it could not
    /// report to the API.
    KubeletComplaints(String),
    /// From below: number of a workload's containers that run in the nodes, whatever the API or a kubelet believes.
    Containers {
        /// Workload.
        of: String,
        /// Only those on this target's node.
        #[serde(default)]
        on: Option<String>,
    },
    /// From below: ids of a workload's containers that run in the nodes.
    ContainerIdentities {
        /// Workload.
        of: String,
        /// Only those on this target's node.
        #[serde(default)]
        on: Option<String>,
    },
    /// Believed: status of the node's `Ready` condition (`True`, `False`, `Unknown`), or `absent`.
    NodeReady(String),
    /// Believed: taints of the node, as `key:Effect`.
    NodeTaints(String),
    /// Believed: number of nodes that are not Ready, or were not since the first look, though no fault affects them, and
    /// whose kubelets report to an API server other than that of this control plane. Which one each reports to is read
    /// from the API servers' audit logs before the run; without these, claims about it can't be tested.
    NodesMissed {
        /// Target.
        #[serde(rename = "not-reporting-to")]
        not_reporting_to: String,
    },
    /// Believed: number of pods.
    Pods {
        /// Workload.
        of: String,
        /// Only those in this state.
        #[serde(default)]
        that: PodState,
        /// Only those on this target's node.
        #[serde(default)]
        on: Option<String>,
        /// Only those that are not on this target's node.
        #[serde(default)]
        off: Option<String>,
    },
    /// Believed: identities of the pods, as `name/uid`.
    PodIdentities {
        /// Workload.
        of: String,
    },
    /// Believed: total number of container restarts of the workload's pods.
    Restarts {
        /// Workload.
        of: String,
    },
    /// Believed: number of ready endpoints of the workload's Service.
    Endpoints {
        /// Workload.
        of: String,
        /// Only those on this target's node.
        #[serde(default)]
        on: Option<String>,
    },
    /// Requests at a fixed rate to the workload's Service, from pods on every node that the fault does not touch.
    Requests {
        /// Workload.
        to: String,
        /// From a pod on this target's node instead.
        #[serde(default)]
        from: Option<String>,
        /// How the Service is found.
        #[serde(default)]
        by: Way,
    },
    /// Requests at a fixed rate to the addresses that the workload's pods had in the baseline, from pods on every node
    /// that the fault does not touch.
    PodRequests {
        /// Workload.
        to: String,
        /// From a pod on this target's node instead.
        #[serde(default)]
        from: Option<String>,
    },
    /// Requests at a fixed rate to something of your own. Every response is an answer, unless it is a server error
    /// (HTTP status 500 and above). A Service is asked from pods on every node that the fault does not touch, a URL
    /// from this machine.
    Reach(Address),
    /// Does the API return the log of this bare pod? An API server must ask the kubelet of the pod's node for it.
    Log {
        /// Workload.
        of: String,
    },
    /// Does the API run a command in the container of this bare pod? An API server must ask the kubelet of the pod's node
    /// to do it.
    Exec {
        /// Workload.
        of: String,
    },
    /// The token that the keeper app returns through its Service.
    Token {
        /// Workload.
        of: String,
    },
    /// Does the API serve when asked where users ask, which is through the load balancer if there is one?
    Api(ApiVerb),
    /// Does the API server of this control plane serve when asked directly, not through the load balancer?
    ApiOf {
        /// Target.
        node: String,
        /// What is asked.
        verb: ApiVerb,
    },
    /// Believed: number of writes by this scenario's `api: write` and `api-of` probes that are in this state.
    Writes(WriteState),
    /// Believed: the node on which this component leads.
    Leader(Leader),
    /// From the API servers' audit logs: number of writes in the last ten seconds by instances of this component that do
    /// not lead, made while another one did. Without audit logs in files, claims about it can't be tested.
    StaleWrites {
        /// The component.
        by: Leader,
        /// What became of the writes.
        that: WriteOutcome,
    },
}

impl ProbeSpec {
    /// Where its samples come from. This is the only place that says so; who samples, how a series is named, and what a
    /// failure means follow from it.
    pub fn source(&self) -> ProbeSource<'_> {
        match self {
            Self::NodeState(_)
            | Self::NodeProcesses(_)
            | Self::ComponentProcesses { .. }
            | Self::ComponentIdentities { .. }
            | Self::KubeletAnswers(_)
            | Self::ApiAnswers(_)
            | Self::KubeletComplaints(_)
            | Self::Containers { .. }
            | Self::ContainerIdentities { .. } => ProbeSource::Engine,
            Self::NodeReady(_)
            | Self::NodeTaints(_)
            | Self::NodesMissed { .. }
            | Self::Pods { .. }
            | Self::PodIdentities { .. }
            | Self::Restarts { .. }
            | Self::Endpoints { .. }
            | Self::Leader(_) => ProbeSource::Lists,
            Self::Api(verb) => ProbeSource::Api { of: None, verb: *verb },
            Self::ApiOf { node, verb } => ProbeSource::Api { of: Some(node), verb: *verb },
            Self::Writes(state) => ProbeSource::Ledger(*state),
            Self::StaleWrites { by, .. } => ProbeSource::AuditLog(*by),
            Self::Log { of } => ProbeSource::ApiToKubelet { pod: of, wants: KubeletService::Log },
            Self::Exec { of } => ProbeSource::ApiToKubelet { pod: of, wants: KubeletService::Exec },
            Self::Reach(address) => ProbeSource::Address(address),
            Self::Requests { to: workload, .. } | Self::Token { of: workload } => ProbeSource::Service(workload),
            Self::PodRequests { to, .. } => ProbeSource::EachPod(to),
        }
    }

    /// The target from whose node the probe asks, or `None` if it asks from nodes that the fault does not reach.
    pub fn from(&self) -> Option<&str> {
        match self {
            Self::Requests { from, .. } | Self::PodRequests { from, .. } => from.as_deref(),
            _ => None,
        }
    }

    /// The targets that the probe names.
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        let named: [Option<&String>; 2] = match self {
            Self::NodeState(node)
            | Self::NodeProcesses(node)
            | Self::ComponentProcesses { node, .. }
            | Self::ComponentIdentities { node, .. }
            | Self::KubeletAnswers(node)
            | Self::ApiAnswers(node)
            | Self::KubeletComplaints(node)
            | Self::NodeReady(node)
            | Self::NodeTaints(node)
            | Self::NodesMissed { not_reporting_to: node }
            | Self::ApiOf { node, .. } => [Some(node), None],
            Self::Containers { on, .. } | Self::ContainerIdentities { on, .. } | Self::Endpoints { on, .. } => {
                [on.as_ref(), None]
            }
            Self::Pods { on, off, .. } => [on.as_ref(), off.as_ref()],
            Self::Requests { from, .. } | Self::PodRequests { from, .. } => [from.as_ref(), None],
            Self::PodIdentities { .. }
            | Self::Restarts { .. }
            | Self::Reach(_)
            | Self::Log { .. }
            | Self::Exec { .. }
            | Self::Token { .. }
            | Self::Api(_)
            | Self::Writes(_)
            | Self::Leader(_)
            | Self::StaleWrites { .. } => [None, None],
        };
        named.into_iter().flatten().map(String::as_str)
    }

    /// Name of the workload that the probe looks at.
    pub fn workload(&self) -> Option<&str> {
        match self {
            Self::Containers { of, .. }
            | Self::ContainerIdentities { of, .. }
            | Self::Pods { of, .. }
            | Self::PodIdentities { of }
            | Self::Restarts { of }
            | Self::Endpoints { of, .. }
            | Self::Requests { to: of, .. }
            | Self::PodRequests { to: of, .. }
            | Self::Log { of }
            | Self::Exec { of }
            | Self::Token { of } => Some(of),
            Self::NodeState(_)
            | Self::NodeProcesses(_)
            | Self::ComponentProcesses { .. }
            | Self::ComponentIdentities { .. }
            | Self::KubeletAnswers(_)
            | Self::ApiAnswers(_)
            | Self::KubeletComplaints(_)
            | Self::NodeReady(_)
            | Self::NodeTaints(_)
            | Self::NodesMissed { .. }
            | Self::Reach(_)
            | Self::Api(_)
            | Self::ApiOf { .. }
            | Self::Writes(_)
            | Self::Leader(_)
            | Self::StaleWrites { .. } => None,
        }
    }

    /// Does it look at the same thing in the same way, though perhaps elsewhere, so that the values can be compared?
    pub fn is_like(&self, other: &Self) -> bool {
        match (self.source(), other.source()) {
            (ProbeSource::Api { verb: a, .. }, ProbeSource::Api { verb: b, .. }) => a == b,
            _ => discriminant(self) == discriminant(other),
        }
    }

    /// Does it ask repeatedly, so that outages can be measured as finely as it asks?
    pub fn measures_outages(&self) -> bool {
        matches!(
            self,
            Self::Requests { .. } | Self::PodRequests { .. } | Self::Reach(_) | Self::Api(_) | Self::ApiOf { .. }
        )
    }

    /// Does a failure come from the very thing that is asked, rather than from an intermediary that reports on it?
    pub fn is_data_plane(&self) -> bool {
        matches!(self.source(), ProbeSource::Service(_) | ProbeSource::EachPod(_) | ProbeSource::Address(_))
    }
}

/// How requests find a Service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// At its own address (`clusterIP`).
    #[default]
    Address,
    /// By its name, which the cluster's DNS is asked for anew each time.
    Name,
    /// At the port that every node opens for it, of the node that is asked from.
    NodePort,
}

impl Way {
    /// In words, after the name of the Service.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Address => "",
            Self::Name => " by its name",
            Self::NodePort => " at its node port",
        }
    }
}

/// Where a probe's samples come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeSource<'a> {
    /// Through the container engine, from below: what is actually there.
    Engine,
    /// From lists of objects in the API: what is believed.
    Lists,
    /// From asking the API itself.
    Api {
        /// Target whose own API server is asked. Without it, the API is asked where users ask.
        of: Option<&'a str>,
        /// What is asked.
        verb: ApiVerb,
    },
    /// From comparing what the API has with the writes that it acknowledged.
    Ledger(WriteState),
    /// From what this component wrote, according to the API servers' audit logs.
    AuditLog(Leader),
    /// From asking the API for what only the kubelet of a pod's node can do.
    ApiToKubelet {
        /// Workload that is the pod.
        pod: &'a str,
        /// What is asked for.
        wants: KubeletService,
    },
    /// From samplers in pods, which ask this workload's Service.
    Service(&'a str),
    /// From samplers in pods, which ask this Service of the user's, or from requests to a URL.
    Address(&'a Address),
    /// From samplers in pods, which ask each pod of this workload at the address it had in the baseline.
    EachPod(&'a str),
}

/// Which pods a `pods` probe counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PodState {
    /// All of them.
    #[default]
    Existing,
    /// Ready and not being deleted.
    Ready,
    /// Being deleted (deletionTimestamp set).
    Terminating,
    /// Not being deleted.
    Live,
    /// In phase `Failed` or `Succeeded`.
    Ended,
    /// None of their containers has ever started.
    Unstarted,
}

/// What an API server asks the kubelet of a pod's node for when a user wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KubeletService {
    /// The end of the log of the pod's container.
    Log,
    /// That a command is run in the pod's container.
    Exec,
}

/// What is asked of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ApiVerb {
    /// A read of something that was made before the fault. It can't come from a cache (resourceVersion unset).
    Read,
    /// The same read, content with what the API server remembers (`resourceVersion=0`), as most controllers and kubelets
    /// ask when they start.
    ReadCached,
    /// The same read of something that every cluster has, even an empty one: the namespace `default`.
    ReadDefault,
    /// The same read by an operator with the key for the last resort (kubeadm's `super-admin.conf`), whose rights no
    /// object in the cluster gives.
    ReadByOperator,
    /// A write. Only an acknowledged write counts.
    Write,
}

/// Which writes a `writes` probe counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WriteState {
    /// Acknowledged, but not there.
    Lost,
    /// Refused, but there.
    Refused,
}

/// What became of a write, as far as an audit log tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WriteOutcome {
    /// It was done.
    Accepted,
    /// It was not done (HTTP status 4xx), for instance because what it was to change had changed since.
    Refused,
}

impl WriteOutcome {
    /// Its name in scenario files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
        }
    }
}
