//! The objects of a run's workloads. Pure: it takes a plan and returns the objects to create, in the order of creation.
//!
//! The workloads live in one namespace of the run and what observes in another. The cluster itself holds both to
//! Kubernetes' `restricted` pod security standard. What the user brings is in a third (see `users`). Pods of workloads
//! are placed through the scheduler, never by `nodeName`, so that replacements of evicted pods behave like anybody's.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, Deployment, DeploymentSpec, StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, ConfigMap, Container, ContainerPort, EmptyDirVolumeSource, HTTPGetAction, Lifecycle,
    LifecycleHandler, Namespace, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
    PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimVolumeSource, Pod, PodAffinityTerm,
    PodAntiAffinity, PodSecurityContext, PodSpec, PodTemplateSpec, PreferredSchedulingTerm, Probe,
    ResourceRequirements, SeccompProfile, SecurityContext, Service, ServiceAccount, ServicePort, ServiceSpec,
    SleepAction, Toleration, TopologySpreadConstraint, Volume, VolumeMount, VolumeResourceRequirements,
    WeightedPodAffinityTerm,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{Resource, ResourceExt};
use serde::Serialize;

use crate::cluster::agent_image::ImageRef;
use crate::error::{Error, Result};
use crate::node::Role;
use crate::plain_http;
use crate::plan::{Plan, PlannedProbe};
use crate::scenario::{App, ProbeSpec, Restart, Stage, State, Way, Workload, WorkloadKind, Writes};

/// Label on every object of a run, except those that the user brings: the name of its namespace.
pub const RUN: &str = "kchaos.io/run";
/// Label on every pod of a workload: the workload's name.
pub const WORKLOAD: &str = "kchaos.io/workload";
/// Name of an object that is always there, for probes that read.
pub const CANARY: &str = "canary";
/// Port that every app answers on; its Service's is 80.
pub const PORT: u16 = 8080;

/// The repository of Kubernetes' own test server.
const AGNHOST: &str = "registry.k8s.io/e2e-test-images/agnhost";
const HOSTNAME: &str = "kubernetes.io/hostname";
/// Share of a CPU that an app gets when the node is busy.
const CPU: &str = "50m";
/// The same for one that does nothing. A hundred of them must fit beside others.
const CPU_OF_PAUSE: &str = "1m";
const STATE_DIR: &str = "/state";
/// Seconds for which a pod that lingers goes on serving: more than it takes until no Service sends anything to it.
const LINGERS: i64 = 5;
/// The user `nobody`: kchaos needs no user of its own in a pod.
const UID: i64 = 65_534;

/// An object that is created for a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "named after what they hold")]
pub enum Object {
    Namespace(Namespace),
    ServiceAccount(ServiceAccount),
    ConfigMap(ConfigMap),
    PersistentVolumeClaim(PersistentVolumeClaim),
    Service(Service),
    PodDisruptionBudget(PodDisruptionBudget),
    Pod(Box<Pod>),
    Deployment(Box<Deployment>),
    StatefulSet(Box<StatefulSet>),
    DaemonSet(Box<DaemonSet>),
}

impl fmt::Display for Object {
    /// Its kind and name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn named<K: Resource<DynamicType = ()>>(f: &mut fmt::Formatter<'_>, object: &K) -> fmt::Result {
            write!(f, "{} {}", K::kind(&()), object.name_any())
        }
        match self {
            Self::Namespace(o) => named(f, o),
            Self::ServiceAccount(o) => named(f, o),
            Self::ConfigMap(o) => named(f, o),
            Self::PersistentVolumeClaim(o) => named(f, o),
            Self::Service(o) => named(f, o),
            Self::PodDisruptionBudget(o) => named(f, o),
            Self::Pod(o) => named(f, &**o),
            Self::Deployment(o) => named(f, &**o),
            Self::StatefulSet(o) => named(f, &**o),
            Self::DaemonSet(o) => named(f, &**o),
        }
    }
}

/// The objects of the workloads of a stage.
///
/// # Errors
/// If a workload asks for something that no such object can have.
pub(super) fn of_stage(plan: &Plan, agent: &ImageRef, stage: Stage) -> Result<Vec<Object>> {
    let mut objects = Vec::new();
    for (name, workload) in plan.workloads.iter().filter(|(_, w)| w.stage() == stage) {
        Maker { plan, agent, name, workload }.objects(&mut objects)?;
    }
    Ok(objects)
}

/// The agnhost image that Kubernetes' own tests of the cluster's version use, since that is the one people have
/// preloaded.
pub fn agnhost(kubernetes: &str) -> String {
    let minor = kubernetes.trim_start_matches("v1.").split('.').next().and_then(|m| m.parse::<u32>().ok());
    let tag = match minor {
        Some(..=33) => "2.53",
        Some(34) => "2.56",
        Some(35) => "2.59",
        _ => "2.63.0",
    };
    format!("{AGNHOST}:{tag}")
}

/// The objects that come before all others, in this order: the namespaces of the workloads and of what observes, and
/// what pods and probes need there.
pub(super) fn foundation(plan: &Plan) -> Vec<Object> {
    let watch = plan.watch_namespace();
    let of_namespace = |name: &str| {
        let mut namespace = namespace(name);
        let labels = namespace.metadata.labels.get_or_insert_default();
        labels.insert("pod-security.kubernetes.io/enforce".into(), "restricted".into());
        // Not the namespace's `default` account, which a controller makes in its own time.
        let account = ServiceAccount {
            metadata: meta_in(name, Workload::ACCOUNT),
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        };
        [Object::Namespace(namespace), Object::ServiceAccount(account)]
    };
    let canary = ConfigMap { metadata: meta_in(&watch, CANARY), ..ConfigMap::default() };
    let namespaces = [of_namespace(&plan.namespace), of_namespace(&watch)];
    namespaces.into_iter().flatten().chain([Object::ConfigMap(canary)]).collect()
}

/// A namespace of a run, recognizable by its label.
pub(super) fn namespace(name: &str) -> Namespace {
    Namespace { metadata: ObjectMeta { namespace: None, ..meta_in(name, name) }, ..Namespace::default() }
}

/// Name, namespace and labels of an object of the run.
pub(super) fn meta_in(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        labels: Some(labels([
            (RUN, namespace),
            ("app.kubernetes.io/managed-by", "kchaos"),
            ("app.kubernetes.io/name", name),
        ])),
        ..ObjectMeta::default()
    }
}

/// What every pod of kchaos has in common: no rights, unless it asks for them no token, and a quick end.
pub(super) fn pod_spec(container: Container) -> PodSpec {
    PodSpec {
        containers: vec![container],
        service_account_name: Some(Workload::ACCOUNT.into()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(1),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(UID),
            run_as_group: Some(UID),
            fs_group: Some(UID),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), ..SeccompProfile::default() }),
            ..PodSecurityContext::default()
        }),
        ..PodSpec::default()
    }
}

/// What every container of kchaos has in common. `cpu` is its share when the node is busy.
pub(super) fn container(name: &str, image: String, pull: &str, cpu: &str, args: Vec<String>) -> Container {
    let resources = |cpu: &str, memory: &str| {
        let quantities = [("cpu", cpu), ("memory", memory)];
        Some(quantities.map(|(k, v)| (k.to_owned(), Quantity(v.to_owned()))).into())
    };
    Container {
        name: name.to_owned(),
        image: Some(image),
        image_pull_policy: Some(pull.to_owned()),
        args: Some(args),
        resources: Some(ResourceRequirements {
            requests: resources(cpu, "16Mi"),
            limits: resources("1", "128Mi"),
            ..ResourceRequirements::default()
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), ..Capabilities::default() }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

pub(super) fn labels<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
}

/// Makes the objects of one workload.
struct Maker<'a> {
    plan: &'a Plan,
    agent: &'a ImageRef,
    name: &'a str,
    workload: &'a Workload,
}

impl Maker<'_> {
    fn objects(&self, objects: &mut Vec<Object>) -> Result<()> {
        self.check()?;
        let name = self.name;
        let workload = self.workload;
        let selector = LabelSelector { match_labels: Some(self.selector()), ..LabelSelector::default() };
        let replicas = i32::try_from(workload.replicas)
            .map_err(|_| self.wrong(format!("{} replicas are more than Kubernetes can count", workload.replicas)))?;
        if workload.service {
            objects.push(Object::Service(self.service(name, None)));
        }
        if workload.state == Some(State::Claim) && workload.kind != WorkloadKind::StatefulSet {
            objects.push(Object::PersistentVolumeClaim(self.claim()));
        }
        if let Some(min) = workload.min_available {
            let min =
                i32::try_from(min).map_err(|_| self.wrong(format!("{min} pods are more than Kubernetes can count")))?;
            objects.push(Object::PodDisruptionBudget(PodDisruptionBudget {
                metadata: self.meta(name),
                spec: Some(PodDisruptionBudgetSpec {
                    min_available: Some(IntOrString::Int(min)),
                    selector: Some(selector.clone()),
                    ..PodDisruptionBudgetSpec::default()
                }),
                ..PodDisruptionBudget::default()
            }));
        }
        let metadata = self.meta(name);
        let object = match workload.kind {
            WorkloadKind::Pod => Object::Pod(Box::new(Pod { metadata, spec: Some(self.pod()?), ..Pod::default() })),
            WorkloadKind::Deployment => Object::Deployment(Box::new(Deployment {
                metadata,
                spec: Some(DeploymentSpec {
                    replicas: Some(replicas),
                    selector,
                    template: self.template()?,
                    ..DeploymentSpec::default()
                }),
                ..Deployment::default()
            })),
            WorkloadKind::DaemonSet => Object::DaemonSet(Box::new(DaemonSet {
                metadata,
                spec: Some(DaemonSetSpec { selector, template: self.template()?, ..DaemonSetSpec::default() }),
                ..DaemonSet::default()
            })),
            WorkloadKind::StatefulSet => {
                let peers = Workload::peers_of(name);
                objects.push(Object::Service(self.service(&peers, Some("None"))));
                Object::StatefulSet(Box::new(StatefulSet {
                    metadata,
                    spec: Some(StatefulSetSpec {
                        replicas: Some(replicas),
                        selector,
                        service_name: Some(peers),
                        template: self.template()?,
                        volume_claim_templates: (workload.state == Some(State::Claim)).then(|| vec![self.claim()]),
                        ..StatefulSetSpec::default()
                    }),
                    ..StatefulSet::default()
                }))
            }
        };
        objects.push(object);
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let workload = self.workload;
        let kind = workload.kind;
        if workload.restart == Restart::Never && kind != WorkloadKind::Pod {
            return Err(self.wrong("only a bare pod may have `restart: Never`"));
        }
        if workload.state.is_some() && workload.app != App::Keeper {
            return Err(self.wrong("only `app: keeper` has a `state`"));
        }
        if kind == WorkloadKind::Pod && workload.replicas != 1 {
            return Err(self.wrong("a bare pod is one; `replicas` needs a controller"));
        }
        // Every other kind has one claim for all its pods, and a second node can't mount it.
        let shared = kind == WorkloadKind::DaemonSet || kind == WorkloadKind::Deployment && workload.replicas > 1;
        if workload.state == Some(State::Claim) && shared {
            return Err(
                self.wrong("several pods with `state: claim` need `kind: stateful-set`, which gives each its own")
            );
        }
        Ok(())
    }

    fn wrong(&self, what: impl AsRef<str>) -> Error {
        Error::usage(format!("workload `{}`: {}", self.name, what.as_ref()))
            .next(format!("change it in {}", self.plan.source))
    }

    fn meta(&self, name: &str) -> ObjectMeta {
        let mut meta = meta_in(&self.plan.namespace, name);
        meta.labels.get_or_insert_default().extend(self.selector());
        meta
    }

    fn selector(&self) -> BTreeMap<String, String> {
        labels([(WORKLOAD, self.name)])
    }

    fn service(&self, name: &str, cluster_ip: Option<&str>) -> Service {
        let port = ServicePort {
            name: Some("http".into()),
            port: 80,
            target_port: Some(IntOrString::Int(PORT.into())),
            ..ServicePort::default()
        };
        let at_node_port = |probe: &PlannedProbe| matches!(&probe.spec, ProbeSpec::Requests { to, by: Way::NodePort, .. } if to == name);
        let spec = ServiceSpec {
            type_: self.plan.probes.iter().any(at_node_port).then(|| "NodePort".into()),
            cluster_ip: cluster_ip.map(str::to_owned),
            selector: Some(self.selector()),
            ports: Some(vec![port]),
            ..ServiceSpec::default()
        };
        Service { metadata: self.meta(name), spec: Some(spec), ..Service::default() }
    }

    fn claim(&self) -> PersistentVolumeClaim {
        let wanted = [("storage".to_owned(), Quantity("16Mi".into()))].into();
        let mut metadata = self.meta(&self.claim_name());
        // A StatefulSet's claims are made in its own namespace, whatever the template says.
        if self.workload.kind == WorkloadKind::StatefulSet {
            metadata.namespace = None;
        }
        PersistentVolumeClaim {
            metadata,
            spec: Some(PersistentVolumeClaimSpec {
                access_modes: Some(vec!["ReadWriteOnce".into()]),
                resources: Some(VolumeResourceRequirements {
                    requests: Some(wanted),
                    ..VolumeResourceRequirements::default()
                }),
                ..PersistentVolumeClaimSpec::default()
            }),
            ..PersistentVolumeClaim::default()
        }
    }

    fn claim_name(&self) -> String {
        match self.workload.kind {
            WorkloadKind::StatefulSet => "state".into(),
            _ => Workload::claim_of(self.name),
        }
    }

    fn template(&self) -> Result<PodTemplateSpec> {
        let metadata = ObjectMeta { labels: self.meta(self.name).labels, ..ObjectMeta::default() };
        Ok(PodTemplateSpec { metadata: Some(metadata), spec: Some(self.pod()?) })
    }

    fn pod(&self) -> Result<PodSpec> {
        let mut app = self.app();
        let volume = match self.workload.state {
            None | Some(State::Memory) => None,
            Some(State::EmptyDir) => {
                Some(Volume { empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() })
            }
            Some(State::Claim) if self.workload.kind == WorkloadKind::StatefulSet => None,
            Some(State::Claim) => Some(Volume {
                persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                    claim_name: self.claim_name(),
                    ..PersistentVolumeClaimVolumeSource::default()
                }),
                ..Volume::default()
            }),
        };
        if matches!(self.workload.state, Some(State::EmptyDir | State::Claim)) {
            let mount = VolumeMount { name: "state".into(), mount_path: STATE_DIR.into(), ..VolumeMount::default() };
            app.volume_mounts = Some(vec![mount]);
        }
        if self.workload.lingers {
            let sleep = Some(SleepAction { seconds: LINGERS });
            let pre_stop = Some(LifecycleHandler { sleep, ..LifecycleHandler::default() });
            app.lifecycle = Some(Lifecycle { pre_stop, ..Lifecycle::default() });
        }
        let mut spec = pod_spec(app);
        if self.workload.lingers {
            spec.termination_grace_period_seconds = spec.termination_grace_period_seconds.map(|grace| grace + LINGERS);
        }
        // Of all apps, only one has any business with the API.
        spec.automount_service_account_token = Some(self.workload.app == App::ApiClient);
        spec.volumes = volume.map(|v| vec![Volume { name: "state".into(), ..v }]);
        spec.affinity = self.affinity()?;
        spec.restart_policy = Some(match self.workload.restart {
            Restart::Always => "Always".into(),
            Restart::Never => "Never".into(),
        });
        if self.workload.spread {
            spec.topology_spread_constraints = Some(vec![TopologySpreadConstraint {
                max_skew: 1,
                topology_key: HOSTNAME.into(),
                when_unsatisfiable: "ScheduleAnyway".into(),
                label_selector: Some(LabelSelector { match_labels: Some(self.selector()), ..LabelSelector::default() }),
                ..TopologySpreadConstraint::default()
            }]);
        }
        if self.workload.tolerate_node_loss {
            spec.tolerations = Some(
                ["node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"]
                    .map(|taint| Toleration {
                        key: Some(taint.into()),
                        operator: Some("Exists".into()),
                        effect: Some("NoExecute".into()),
                        ..Toleration::default()
                    })
                    .into(),
            );
        }
        Ok(spec)
    }

    /// The workload's container. It has the workload's name: by that name and the namespace, it is found in a node's
    /// container runtime.
    fn app(&self) -> Container {
        let mut app = match self.workload.app {
            App::Netexec => {
                let args = ["netexec", "--http-port=8080", "--udp-port=-1"].map(str::to_owned).into();
                container(self.name, agnhost(&self.plan.facts.kubernetes), "IfNotPresent", CPU, args)
            }
            App::Pause => {
                let agnhost = agnhost(&self.plan.facts.kubernetes);
                return container(self.name, agnhost, "IfNotPresent", CPU_OF_PAUSE, vec!["pause".to_owned()]);
            }
            App::ApiClient => {
                let args = ["agent", "api-client", "--port=8080"].map(str::to_owned).into();
                container(self.name, self.agent.to_string(), "Never", CPU, args)
            }
            App::Keeper => {
                let mut args: Vec<String> = ["agent", "keeper", "--port=8080"].map(str::to_owned).into();
                if matches!(self.workload.state, Some(State::EmptyDir | State::Claim)) {
                    args.push(format!("--state={STATE_DIR}/token"));
                    args.extend(match self.workload.writes {
                        Writes::AtItsStart => None,
                        Writes::BeforeEachAnswer => Some("--record".to_owned()),
                        Writes::AtItsEnd => Some("--buffer".to_owned()),
                    });
                }
                container(self.name, self.agent.to_string(), "Never", CPU, args)
            }
        };
        app.ports = Some(vec![ContainerPort {
            name: Some("http".into()),
            container_port: PORT.into(),
            ..ContainerPort::default()
        }]);
        app.readiness_probe = Some(Probe {
            http_get: Some(HTTPGetAction {
                path: Some(plain_http::PATH.into()),
                port: IntOrString::Int(PORT.into()),
                ..HTTPGetAction::default()
            }),
            period_seconds: Some(1),
            timeout_seconds: Some(1),
            ..Probe::default()
        });
        app
    }

    /// Where the scheduler places the pods.
    ///
    /// `on` is a must. `starts-on` and `spread` are wishes, since replacements must be able to land while a node is
    /// down; they are verified before the fault. The two wishes for spreading outweigh the third, which makes sure that
    /// a target's node has a replica to lose.
    fn affinity(&self) -> Result<Option<Affinity>> {
        if let Some(on) = &self.workload.on {
            let node = self.plan.targets.get(on).ok_or_else(|| self.wrong(format!("`on: {on}` names no target")))?;
            let required = NodeSelector { node_selector_terms: vec![on_any_of(vec![node.name.clone()])] };
            let node_affinity = NodeAffinity {
                required_during_scheduling_ignored_during_execution: Some(required),
                ..NodeAffinity::default()
            };
            return Ok(Some(Affinity { node_affinity: Some(node_affinity), ..Affinity::default() }));
        }
        if let Some(target) = &self.workload.starts_on {
            let node = self.plan.targets.get(target);
            let node = node.ok_or_else(|| self.wrong(format!("`starts-on: {target}` names no target")))?;
            let wish = PreferredSchedulingTerm { weight: 100, preference: on_any_of(vec![node.name.clone()]) };
            let node_affinity = NodeAffinity {
                preferred_during_scheduling_ignored_during_execution: Some(vec![wish]),
                ..NodeAffinity::default()
            };
            return Ok(Some(Affinity { node_affinity: Some(node_affinity), ..Affinity::default() }));
        }
        if !self.workload.spread {
            return Ok(None);
        }
        let apart = WeightedPodAffinityTerm {
            weight: 100,
            pod_affinity_term: PodAffinityTerm {
                topology_key: HOSTNAME.into(),
                label_selector: Some(LabelSelector { match_labels: Some(self.selector()), ..LabelSelector::default() }),
                ..PodAffinityTerm::default()
            },
        };
        let targets: Vec<String> =
            self.plan.targets.values().filter(|n| self.is_worker(&n.name)).map(|n| n.name.clone()).collect();
        let node_affinity = (!targets.is_empty()).then(|| NodeAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![PreferredSchedulingTerm {
                weight: 1,
                preference: on_any_of(targets),
            }]),
            ..NodeAffinity::default()
        });
        Ok(Some(Affinity {
            node_affinity,
            pod_anti_affinity: Some(PodAntiAffinity {
                preferred_during_scheduling_ignored_during_execution: Some(vec![apart]),
                ..PodAntiAffinity::default()
            }),
            ..Affinity::default()
        }))
    }

    fn is_worker(&self, node: &str) -> bool {
        self.plan.facts.nodes.get(node).is_some_and(|n| n.role == Role::Worker)
    }
}

fn on_any_of(nodes: Vec<String>) -> NodeSelectorTerm {
    NodeSelectorTerm {
        match_expressions: Some(vec![NodeSelectorRequirement {
            key: HOSTNAME.into(),
            operator: "In".into(),
            values: Some(nodes),
        }]),
        ..NodeSelectorTerm::default()
    }
}
