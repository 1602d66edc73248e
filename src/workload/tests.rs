//! Manifests without a cluster: a snapshot to review, and rules that hold for every pod.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};

use super::agnhost;
use super::manifest::{self, Object};
use super::sampler::{self, Watched};
use crate::cluster::agent_image::ImageRef;
use crate::cluster::facts::{Facts, NodeFacts};
use crate::node::{NodeId, RestartPolicy, Role};
use crate::plan::{Plan, Span};
use crate::sample::{Failure, Outcome, Value};
use crate::scenario::{App, Name, Restart, Stage, State, Workload, WorkloadKind, Writes};

fn node(name: &str) -> NodeId {
    NodeId { id: name.repeat(4), name: name.into() }
}

fn plan(workloads: &[(&str, Workload)]) -> Plan {
    let facts = |(name, role): &(&str, Role)| {
        let facts = NodeFacts {
            node: node(name),
            role: *role,
            addresses: BTreeMap::new(),
            pinned: true,
            restart_policy: RestartPolicy::No,
            store_in_memory: None,
            pods: 0,
        };
        ((*name).to_owned(), facts)
    };
    let span = Span { at_least: Duration::ZERO, at_most: Duration::ZERO };
    Plan {
        scenario: "node-shutdown".into(),
        variant: "power-off".into(),
        other_arm: None,
        summary: String::new(),
        source: "node-shutdown.yaml".into(),
        seed: 1,
        facts: Facts {
            cluster: "k".into(),
            engine: "e".into(),
            kubernetes: "v1.34.4".into(),
            nodes: [("cp", Role::ControlPlane), ("w1", Role::Worker), ("w2", Role::Worker)].iter().map(facts).collect(),
            clocks: BTreeMap::new(),
            leaders: BTreeMap::new(),
            audit_log: None,
            reporting: BTreeMap::new(),
        },
        namespace: "kchaos-node-shutdown-00000001".into(),
        targets: [("victim".into(), node("w1"))].into(),
        workloads: workloads.iter().map(|(name, w)| ((*name).to_owned(), w.clone())).collect(),
        observers: vec![node("cp"), node("w2")],
        faults: Vec::new(),
        probes: Vec::new(),
        claims: Vec::new(),
        fault_for: span,
        over_within: None,
        remedy: None,
        recovery_for: span,
        majority_of: None,
        keep_alive: Vec::new(),
        manifests: None,
    }
}

fn workload(kind: WorkloadKind) -> Workload {
    Workload {
        kind,
        replicas: 1,
        on: None,
        spread: false,
        app: App::Netexec,
        state: None,
        restart: Restart::Always,
        service: false,
        lingers: false,
        tolerate_node_loss: false,
        writes: Writes::AtItsStart,
        late: false,
        after_snapshot: false,
        min_available: None,
        starts_on: None,
    }
}

fn keeper(kind: WorkloadKind, state: State) -> Workload {
    Workload { app: App::Keeper, state: Some(state), on: Some("victim".into()), service: true, ..workload(kind) }
}

fn everything() -> Vec<(&'static str, Workload)> {
    use WorkloadKind::{DaemonSet, Deployment, Pod, StatefulSet};
    vec![
        ("web", Workload { replicas: 2, spread: true, service: true, ..workload(Deployment) }),
        ("patient", Workload { service: true, lingers: true, ..workload(Deployment) }),
        ("lone", Workload { on: Some("victim".into()), service: true, ..workload(Pod) }),
        ("agent", workload(DaemonSet)),
        ("durable", keeper(StatefulSet, State::Claim)),
        ("forgetful", keeper(Deployment, State::EmptyDir)),
        ("single", keeper(Pod, State::Claim)),
        ("unforgiving", Workload { restart: Restart::Never, tolerate_node_loss: true, ..keeper(Pod, State::Memory) }),
    ]
}

fn image() -> ImageRef {
    ImageRef::of(b"agent")
}

/// The objects that come first.
fn manifests(plan: &Plan, agent: &ImageRef) -> crate::error::Result<Vec<Object>> {
    Ok([manifest::foundation(plan), manifest::of_stage(plan, agent, Stage::First)?].concat())
}

fn spec_of(template: &PodTemplateSpec) -> &PodSpec {
    template.spec.as_ref().unwrap()
}

fn pod_specs(objects: &[Object]) -> Vec<&PodSpec> {
    fn spec(object: &Object) -> Option<&PodSpec> {
        match object {
            Object::Pod(o) => o.spec.as_ref(),
            Object::Deployment(o) => Some(spec_of(&o.spec.as_ref().unwrap().template)),
            Object::StatefulSet(o) => Some(spec_of(&o.spec.as_ref().unwrap().template)),
            Object::DaemonSet(o) => Some(spec_of(&o.spec.as_ref().unwrap().template)),
            Object::Namespace(_)
            | Object::ServiceAccount(_)
            | Object::ConfigMap(_)
            | Object::PersistentVolumeClaim(_)
            | Object::PodDisruptionBudget(_)
            | Object::Service(_) => None,
        }
    }
    objects.iter().filter_map(spec).collect()
}

/// The part of a pod that differs between workloads, as a line of its own.
fn outline(object: &Object) -> serde_json::Value {
    let mut value = serde_json::to_value(object).unwrap();
    // The same for all pods, and checked by the rules below.
    fn prune(value: &mut serde_json::Value) {
        const SAME: [&str; 9] = [
            "securityContext",
            "resources",
            "automountServiceAccountToken",
            "enableServiceLinks",
            "serviceAccountName",
            "terminationGracePeriodSeconds",
            "readinessProbe",
            "ports",
            "app.kubernetes.io/managed-by",
        ];
        match value {
            serde_json::Value::Object(map) => {
                map.retain(|key, _| !SAME.contains(&key.as_str()));
                map.values_mut().for_each(prune);
            }
            serde_json::Value::Array(list) => list.iter_mut().for_each(prune),
            _ => {}
        }
    }
    prune(&mut value);
    value
}

#[test]
fn manifests_are_as_they_were_reviewed() {
    let objects = manifests(&plan(&everything()), &image()).unwrap();
    let outline: Vec<_> = objects.iter().map(outline).collect();
    let text = serde_json::to_string_pretty(&outline).unwrap() + "\n";
    snapbox::assert_data_eq!(text, snapbox::file!["../../tests/snapshots/workloads.json"].raw());
}

#[test]
fn no_pod_of_kchaos_has_a_right_it_does_not_need() {
    let plan = plan(&everything());
    let objects = manifests(&plan, &image()).unwrap();
    let target = "10.0.0.1:80/50/500".parse().unwrap();
    let watched = Watched { probe: 0, series: "w2".into(), target, asked: Some("web".into()), token: false };
    let sampler = sampler::pod(&plan, &node("w2"), &image(), "200m", &[watched]);
    let mut specs = pod_specs(&objects);
    specs.push(sampler.spec.as_ref().unwrap());
    assert_eq!(specs.len(), everything().len() + 1);
    for spec in specs {
        assert_eq!(spec.automount_service_account_token, Some(false));
        assert_eq!((spec.host_network, spec.host_pid, spec.host_ipc), (None, None, None));
        let pod = spec.security_context.as_ref().unwrap();
        assert_eq!(pod.run_as_non_root, Some(true));
        assert_eq!(pod.seccomp_profile.as_ref().unwrap().type_, "RuntimeDefault");
        let lifecycle = spec.containers[0].lifecycle.as_ref();
        let lingers = lifecycle.map_or(0, |of| of.pre_stop.as_ref().unwrap().sleep.as_ref().unwrap().seconds);
        // It is given the time in which it lingers, and then ends quickly.
        assert!((1..=2).contains(&(spec.termination_grace_period_seconds.unwrap() - lingers)), "{spec:?}");
        for volume in spec.volumes.iter().flatten() {
            assert!(volume.host_path.is_none(), "{volume:?}");
        }
        for container in &spec.containers {
            let context = container.security_context.as_ref().unwrap();
            assert_eq!(context.allow_privilege_escalation, Some(false));
            assert_eq!(context.read_only_root_filesystem, Some(true));
            assert_eq!(context.privileged, None);
            assert_eq!(context.capabilities.as_ref().unwrap().drop.as_deref(), Some(&["ALL".to_owned()][..]));
            let limits = container.resources.as_ref().unwrap().limits.as_ref().unwrap();
            assert!(limits.contains_key("cpu") && limits.contains_key("memory"));
            let image = container.image.as_deref().unwrap();
            assert!(
                image.starts_with("registry.k8s.io/e2e-test-images/agnhost:") || image == self::image().to_string()
            );
        }
    }
}

#[test]
fn a_container_is_called_as_its_workload_and_no_sampler_as_any() {
    let plan = plan(&everything());
    for object in &manifests(&plan, &image()).unwrap() {
        for spec in pod_specs(std::slice::from_ref(object)) {
            let object = serde_json::to_value(object).unwrap();
            let [container] = &spec.containers[..] else { panic!("{spec:?}") };
            assert_eq!(object["metadata"]["name"], container.name[..]);
        }
    }
    let sampler = sampler::pod(&plan, &node("w2"), &image(), "200m", &[]);
    let [container] = &sampler.spec.as_ref().unwrap().containers[..] else { panic!("{sampler:?}") };
    // Kubernetes allows this name, and no workload can have it.
    assert!(container.name.len() <= 63 && container.name.parse::<Name>().is_err());
}

#[test]
fn late_workloads_are_left_out_and_kept_for_later() {
    let name = |object: &Object| serde_json::to_value(object).unwrap()["metadata"]["name"].as_str().unwrap().to_owned();
    let late = Workload { late: true, on: Some("victim".into()), ..workload(WorkloadKind::Deployment) };
    let with = plan(&[("lone", workload(WorkloadKind::Pod)), ("newcomer", late)]);
    let without = plan(&[("lone", workload(WorkloadKind::Pod))]);
    assert_eq!(manifests(&with, &image()).unwrap(), manifests(&without, &image()).unwrap());
    let later = manifest::of_stage(&with, &image(), Stage::WithTheFault).unwrap();
    assert_eq!(later.iter().map(name).collect::<Vec<_>>(), ["newcomer"]);
    assert_eq!(manifest::of_stage(&without, &image(), Stage::WithTheFault).unwrap(), []);
}

#[test]
fn what_no_object_can_have_is_refused_with_the_workload_s_name() {
    use WorkloadKind::{DaemonSet, Deployment, Pod};
    for (wrong, says) in [
        (Workload { restart: Restart::Never, ..workload(Deployment) }, "only a bare pod"),
        (Workload { state: Some(State::Memory), ..workload(Pod) }, "only `app: keeper`"),
        (Workload { replicas: 2, ..workload(Pod) }, "a bare pod is one"),
        (Workload { replicas: 2, ..keeper(Deployment, State::Claim) }, "stateful-set"),
        (keeper(DaemonSet, State::Claim), "stateful-set"),
        (Workload { on: Some("nobody".into()), ..workload(Pod) }, "names no target"),
    ] {
        let error = manifests(&plan(&[("it", wrong)]), &image()).unwrap_err().to_string();
        assert!(error.contains("workload `it`") && error.contains(says), "{error}");
    }
}

#[test]
fn agnhost_is_the_one_that_the_node_image_preloads() {
    let pins = include_str!("../../node-image/versions.env");
    let mut seen = 0;
    for pin in pins.lines().filter(|l| l.contains("AGNHOST_VERSION=")) {
        let minor = pin.split(".*)").next().unwrap().trim();
        let tag = pin.split("AGNHOST_VERSION=").nth(1).unwrap().split(' ').next().unwrap();
        let image = agnhost(&format!("v{minor}.7"));
        assert!(image.ends_with(&format!(":{tag}")), "Kubernetes {minor}: {image}, preloaded is {tag}");
        seen += 1;
    }
    assert!(seen >= 2, "no pins found in versions.env");
}

#[test]
fn an_answer_counts_only_from_whoever_was_asked() {
    let watched = |token| Watched {
        probe: 0,
        series: "w2".into(),
        target: "10.0.0.1:80/50/500".parse().unwrap(),
        asked: Some("lone".into()),
        token,
    };
    let saw = |text: &str| Outcome::Saw(Value::Text(text.into()));
    assert_eq!(watched(false).take(saw("lone")), saw("lone"));
    assert_eq!(watched(false).take(saw("lone-x1 cafe")), saw("lone-x1"));
    assert_eq!(watched(true).take(saw("lone-0 cafe")), saw("cafe"));
    for stranger in ["durable-0 cafe", "lonely", ""] {
        assert!(matches!(watched(true).take(saw(stranger)), Outcome::Failed(_)), "{stranger}");
    }
    assert_eq!(watched(true).take(Outcome::Failed(Failure::Timeout)), Outcome::Failed(Failure::Timeout));
}
