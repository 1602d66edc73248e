//! Workloads, samplers and every kind of probe on a real cluster, while one of its workers goes away for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use kchaos::cluster::Cluster;
use kchaos::cluster::docker::Engine;
use kchaos::cluster::facts::{Facts, NodeFacts};
use kchaos::component::Leader;
use kchaos::event::EventKind;
use kchaos::node::{RestartPolicy, Role};
use kchaos::plan::{Plan, PlannedProbe, Span};
use kchaos::probe::{self, Asking};
use kchaos::sample::{Failure, Outcome, Sample, Value};
use kchaos::scenario::{
    ApiVerb, App, PodState, ProbeSpec, Restart, State, Way, Workload, WorkloadKind, WriteState, Writes,
};
use kchaos::workload;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const VICTIM: &str = "victim";
const PLANE: &str = "plane";
const LOST: ProbeSpec = ProbeSpec::Writes(WriteState::Lost);

async fn facts(cluster: &Cluster) -> Facts {
    let engine = &cluster.engine;
    let mut facts = BTreeMap::new();
    for node in &cluster.nodes {
        let state = engine.state(&node.id).await.unwrap();
        let of_node = NodeFacts {
            node: node.id.clone(),
            role: node.role,
            addresses: state.addresses,
            pinned: false,
            restart_policy: RestartPolicy::No,
            store_in_memory: None,
            pods: 0,
        };
        facts.insert(node.id.name.clone(), of_node);
    }
    Facts {
        cluster: cluster.name.clone(),
        engine: engine.id().await.unwrap(),
        kubernetes: std::env::var("KCHAOS_K8S_VERSION").unwrap_or_else(|_| "v1.34.4".into()),
        nodes: facts,
        clocks: BTreeMap::new(),
        leaders: BTreeMap::new(),
        reporting: Default::default(),
        audit_log: None,
    }
}

fn workloads() -> BTreeMap<String, Workload> {
    let on_victim = Workload {
        kind: WorkloadKind::Pod,
        replicas: 1,
        on: Some(VICTIM.into()),
        spread: false,
        app: App::Netexec,
        state: None,
        restart: Restart::Always,
        service: true,
        lingers: false,
        tolerate_node_loss: true,
        writes: Writes::AtItsStart,
        late: false,
        after_snapshot: false,
        min_available: None,
        starts_on: None,
    };
    let spread = Workload { kind: WorkloadKind::Deployment, replicas: 2, on: None, spread: true, ..on_victim.clone() };
    let durable =
        Workload { kind: WorkloadKind::StatefulSet, app: App::Keeper, state: Some(State::Claim), ..on_victim.clone() };
    let agents = Workload { kind: WorkloadKind::DaemonSet, on: None, service: false, ..on_victim.clone() };
    let all = [("web", spread), ("lone", on_victim), ("durable", durable), ("agents", agents)];
    all.map(|(name, w)| (name.to_owned(), w)).into()
}

fn probes() -> Vec<PlannedProbe> {
    let victim = || VICTIM.to_owned();
    let ready =
        |on: Option<String>, off: Option<String>| ProbeSpec::Pods { of: "web".into(), that: PodState::Ready, on, off };
    let requests = |by| ProbeSpec::Requests { to: "lone".into(), from: None, by };
    let specs = [
        ProbeSpec::NodeState(victim()),
        ProbeSpec::NodeProcesses(victim()),
        ProbeSpec::KubeletAnswers(victim()),
        ProbeSpec::NodeReady(victim()),
        ProbeSpec::NodeTaints(victim()),
        ready(None, None),
        ready(Some(victim()), None),
        ready(None, Some(victim())),
        ProbeSpec::PodIdentities { of: "web".into() },
        ProbeSpec::Restarts { of: "web".into() },
        ProbeSpec::Endpoints { of: "web".into(), on: Some(victim()) },
        requests(Way::Address),
        requests(Way::Name),
        requests(Way::NodePort),
        ProbeSpec::PodRequests { to: "lone".into(), from: None },
        ProbeSpec::Token { of: "durable".into() },
        ProbeSpec::Api(ApiVerb::Read),
        ProbeSpec::Api(ApiVerb::ReadCached),
        ProbeSpec::Api(ApiVerb::Write),
        ProbeSpec::ApiOf { node: PLANE.into(), verb: ApiVerb::Read },
        LOST,
        ProbeSpec::Leader(Leader::KubeScheduler),
    ];
    let planned = |spec| {
        let of_requests =
            matches!(spec, ProbeSpec::Requests { .. } | ProbeSpec::PodRequests { .. } | ProbeSpec::Token { .. });
        let (interval, timeout) = if of_requests { (50, 500) } else { (500, 2_000) };
        let (interval, timeout) = (Duration::from_millis(interval), Duration::from_millis(timeout));
        PlannedProbe { spec, interval, timeout, resolution: interval }
    };
    specs.into_iter().map(planned).collect()
}

fn plan(facts: Facts, namespace: &str, workloads: BTreeMap<String, Workload>, probes: Vec<PlannedProbe>) -> Plan {
    let span = Span { at_least: Duration::ZERO, at_most: Duration::ZERO };
    let a_node = |role| facts.nodes.values().find(|n| n.role == role).unwrap().node.clone();
    let (victim, plane) = (a_node(Role::Worker), a_node(Role::ControlPlane));
    let observers = facts.nodes.values().map(|n| n.node.clone()).filter(|n| *n != victim).collect();
    Plan {
        scenario: "probes".into(),
        variant: "test".into(),
        other_arm: None,
        summary: String::new(),
        source: "probes.yaml".into(),
        seed: 1,
        facts,
        namespace: namespace.into(),
        targets: [(VICTIM.to_owned(), victim), (PLANE.to_owned(), plane)].into(),
        workloads,
        observers,
        faults: Vec::new(),
        probes,
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

fn docker(args: &[&str]) -> String {
    let out = Command::new("docker").args(args).output().unwrap();
    assert!(out.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// What each series gave during a time, without its first and last second, since samples at the edges may belong to
/// either side.
struct Seen(BTreeMap<(usize, String), Vec<Sample>>);

impl Seen {
    async fn collect(observed: &mut mpsc::Receiver<EventKind>, time: Duration) -> Self {
        let begin = kchaos::clock::Mono::now();
        let until = begin + time;
        let mut seen = BTreeMap::<_, Vec<Sample>>::new();
        // Requests to a dead node are decided a second after they begin.
        let end = tokio::time::Instant::now() + time + Duration::from_secs(2);
        while let Ok(Some(observed)) = tokio::time::timeout_at(end, observed.recv()).await {
            let EventKind::Sampled(sample) = observed else { continue };
            let margin = Duration::from_secs(1);
            if sample.start >= begin + margin && sample.end + margin <= until {
                seen.entry((sample.probe, sample.series.clone())).or_default().push(sample);
            }
        }
        Self(seen)
    }

    /// Checks that every sample of the probe satisfies `is`, in every series. A busy machine may keep a few from being
    /// taken.
    fn all(&self, plan: &Plan, spec: impl Fn(&ProbeSpec) -> bool, is: impl Fn(&Outcome) -> bool) {
        for (index, probe) in plan.probes.iter().enumerate().filter(|(_, p)| spec(&p.spec)) {
            let series: Vec<_> = self.0.iter().filter(|((p, _), _)| *p == index).collect();
            assert!(!series.is_empty(), "{:?} gave nothing", probe.spec);
            for ((_, name), samples) in series {
                let late = |o: &Outcome| matches!(o, Outcome::Unknown(why) if !why.starts_with("probe-blind"));
                let (unseen, seen): (Vec<_>, Vec<_>) = samples.iter().map(|s| &s.outcome).partition(|o| late(o));
                assert!(seen.len() > 3 * unseen.len(), "{:?} ({name}): {unseen:?}", probe.spec);
                let wrong: Vec<_> = seen.into_iter().filter(|o| !is(o)).collect();
                assert!(wrong.is_empty(), "{:?} ({name}): {} of {}: {wrong:?}", probe.spec, wrong.len(), samples.len());
            }
        }
    }
}

fn text(outcome: &Outcome, is: &str) -> bool {
    *outcome == Outcome::Saw(Value::Text(is.into()))
}

fn count(outcome: &Outcome, is: impl Fn(u64) -> bool) -> bool {
    matches!(outcome, Outcome::Saw(Value::Count(n)) if is(*n))
}

fn saw(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Saw(_))
}

async fn all_gone(client: &kube::Client, plan: &Plan) {
    for namespace in [&plan.namespace, &plan.watch_namespace()] {
        workload::gone(client, namespace, Duration::from_secs(60)).await.unwrap();
    }
}

/// Every probe of the plan gives the right values while all is well and while the victim is frozen, and nothing is left
/// behind.
pub async fn every_probe_sees_what_is(cluster: &str) {
    let cluster = Cluster::open(&Engine::connect().await.unwrap(), cluster).await.unwrap();
    let engine = &cluster.engine;
    let plan = Arc::new(plan(facts(&cluster).await, "kchaos-probes-test", workloads(), probes()));
    let client = cluster.client().await.unwrap();
    let asking = Asking::of(&plan, &cluster).await.unwrap();

    let begin = Instant::now();
    let deployed = workload::deploy(engine, &client, &plan).await.unwrap();
    println!("deployed after {:?}", begin.elapsed());
    let (send, mut observed) = mpsc::channel(65_536);
    let cancel = CancellationToken::new();
    let series = probe::start(&plan, &deployed, engine, &client, &asking, &send, &cancel);

    // All is well, once every proxy has heard of the new Service. One that was kept from the API a moment ago, by whoever
    // used the cluster before, may ask again a minute later.
    let asks = |p: &usize| matches!(plan.probes[*p].spec, ProbeSpec::Requests { .. } | ProbeSpec::PodRequests { .. });
    let give_up = Instant::now() + Duration::from_secs(120);
    loop {
        let seen = Seen::collect(&mut observed, Duration::from_secs(5)).await;
        let mut last = seen.0.iter().filter(|((p, _), _)| asks(p)).map(|(_, samples)| samples.last());
        if last.all(|sample| sample.is_some_and(|s| text(&s.outcome, "lone"))) || Instant::now() > give_up {
            break;
        }
    }
    let seen = Seen::collect(&mut observed, Duration::from_secs(6)).await;
    let promised: BTreeSet<_> = series.iter().flat_map(|(p, names)| names.iter().map(|n| (*p, n.clone()))).collect();
    assert_eq!(seen.0.keys().cloned().collect::<BTreeSet<_>>(), promised);
    for ((probe, name), samples) in &seen.0 {
        let interval = plan.probes[*probe].interval;
        let due = Duration::from_secs(4).as_micros() / interval.as_micros();
        let slots: BTreeSet<u64> = samples.iter().map(|s| s.slot).collect();
        assert_eq!(slots.len(), samples.len(), "probe {probe} ({name}): a slot twice");
        assert!((slots.len() as u128 + 2) * 10 >= due * 9, "probe {probe} ({name}): {} of {due} slots", slots.len());
    }
    seen.all(&plan, |p| matches!(p, ProbeSpec::NodeState(_)), |o| text(o, "running"));
    seen.all(&plan, |p| matches!(p, ProbeSpec::NodeProcesses(_)), |o| count(o, |n| n > 5));
    seen.all(&plan, |p| matches!(p, ProbeSpec::NodeReady(_)), |o| text(o, "True"));
    seen.all(&plan, |p| matches!(p, ProbeSpec::NodeTaints(_)), |o| *o == Outcome::Saw(Value::Set(BTreeSet::new())));
    seen.all(&plan, |p| matches!(p, ProbeSpec::Pods { on: None, off: None, .. }), |o| count(o, |n| n == 2));
    seen.all(&plan, |p| matches!(p, ProbeSpec::Pods { on: Some(_), .. }), |o| count(o, |n| n == 1));
    seen.all(&plan, |p| matches!(p, ProbeSpec::Pods { off: Some(_), .. }), |o| count(o, |n| n == 1));
    seen.all(&plan, |p| matches!(p, ProbeSpec::Restarts { .. }), |o| count(o, |n| n == 0));
    seen.all(&plan, |p| matches!(p, ProbeSpec::Endpoints { .. }), |o| count(o, |n| n == 1));
    seen.all(&plan, |p| matches!(p, ProbeSpec::Requests { .. } | ProbeSpec::PodRequests { .. }), |o| text(o, "lone"));
    let is_token = |o: &Outcome| matches!(o, Outcome::Saw(Value::Text(t)) if t.len() == 32);
    seen.all(&plan, |p| matches!(p, ProbeSpec::Token { .. }), is_token);
    seen.all(&plan, |p| matches!(p, ProbeSpec::PodIdentities { .. } | ProbeSpec::KubeletAnswers(_)), saw);
    seen.all(&plan, |p| matches!(p, ProbeSpec::Api(_) | ProbeSpec::ApiOf { .. }), saw);
    seen.all(&plan, |p| *p == LOST, |o| count(o, |n| n == 0));
    seen.all(&plan, |p| matches!(p, ProbeSpec::Leader(_)), |o| text(o, &plan.targets[PLANE].name));

    // The victim is frozen, for less than the grace period.
    docker(&["pause", &plan.targets[VICTIM].name]);
    let seen = Seen::collect(&mut observed, Duration::from_secs(5)).await;
    docker(&["unpause", &plan.targets[VICTIM].name]);
    seen.all(&plan, |p| matches!(p, ProbeSpec::NodeState(_)), |o| text(o, "paused"));
    seen.all(&plan, |p| matches!(p, ProbeSpec::NodeReady(_)), |o| text(o, "True"));
    let silent = |o: &Outcome| *o == Outcome::Failed(Failure::Timeout);
    seen.all(&plan, |p| matches!(p, ProbeSpec::KubeletAnswers(_)), silent);
    seen.all(&plan, |p| matches!(p, ProbeSpec::Requests { .. } | ProbeSpec::PodRequests { .. }), silent);
    seen.all(&plan, |p| matches!(p, ProbeSpec::Api(_)), saw);

    // Something that was acknowledged is deleted behind the API's back.
    let written = Api::<ConfigMap>::namespaced(client.clone(), &plan.watch_namespace());
    let is_written = |o: &ConfigMap| o.metadata.name.as_ref().filter(|name| name.starts_with("write-")).cloned();
    let one = written.list(&ListParams::default()).await.unwrap().iter().find_map(is_written).unwrap();
    written.delete(&one, &DeleteParams::default()).await.unwrap();
    let seen = Seen::collect(&mut observed, Duration::from_secs(5)).await;
    seen.all(&plan, |p| *p == LOST, |o| count(o, |n| n == 1));

    // Everything is removed.
    cancel.cancel();
    let begin = Instant::now();
    workload::remove(&client, &plan).await.unwrap();
    println!("removed after {:?}", begin.elapsed());
    all_gone(&client, &plan).await;
    println!("gone after {:?}", begin.elapsed());
    // The process that follows a log ends with the log: when the kubelet has removed the container, at the latest at
    // its next garbage collection.
    for node in &plan.observers {
        let left = || docker(&["exec", &node.name, "sh", "-c", "pgrep -x tail || true"]);
        while !left().trim().is_empty() {
            assert!(begin.elapsed() < Duration::from_secs(120), "left in {}", node.name);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        println!("nobody left in {} after {:?}", node.name, begin.elapsed());
    }
}

/// A node whose kubelet is stopped. It is started again whatever happens to the test.
struct WithoutKubelet(String);

impl WithoutKubelet {
    fn new(node: &str) -> Self {
        docker(&["exec", node, "systemctl", "stop", "kubelet"]);
        Self(node.to_owned())
    }
}

impl Drop for WithoutKubelet {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["exec", &self.0, "systemctl", "start", "kubelet"]).status();
    }
}

/// What the probe shows once it shows something that satisfies `is`.
async fn shows(
    observed: &mut mpsc::Receiver<EventKind>,
    plan: &Plan,
    spec: &ProbeSpec,
    is: impl Fn(&Outcome) -> bool,
) -> Value {
    let probe = plan.probes.iter().position(|p| p.spec == *spec).unwrap();
    let mut last = None;
    let begin = kchaos::clock::Mono::now();
    let give_up = tokio::time::Instant::now() + Duration::from_secs(30);
    while let Ok(Some(observed)) = tokio::time::timeout_at(give_up, observed.recv()).await {
        let EventKind::Sampled(sample) = observed else { continue };
        match sample.outcome {
            Outcome::Saw(value)
                if sample.probe == probe && sample.start > begin && is(&Outcome::Saw(value.clone())) =>
            {
                return value;
            }
            other if sample.probe == probe => last = Some(other),
            _ => {}
        }
    }
    panic!("{spec:?} showed {last:?} at last");
}

/// Containers are seen while no kubelet reports them: those that keep running, one that is killed, and a late one that
/// nobody starts.
pub async fn containers_are_seen_from_below(cluster: &str) {
    let cluster = Cluster::open(&Engine::connect().await.unwrap(), cluster).await.unwrap();
    let engine = &cluster.engine;
    let (web, newcomer) = (|| "web".to_owned(), || "newcomer".to_owned());
    let victim = || Some(VICTIM.to_owned());
    let everywhere = ProbeSpec::Containers { of: web(), on: None };
    let there = ProbeSpec::Containers { of: web(), on: victim() };
    let ids = ProbeSpec::ContainerIdentities { of: web(), on: victim() };
    let late = ProbeSpec::Containers { of: newcomer(), on: None };
    let unstarted = ProbeSpec::Pods { of: newcomer(), that: PodState::Unstarted, on: victim(), off: None };
    let planned = |spec: &ProbeSpec| {
        let (interval, timeout) = (Duration::from_millis(500), Duration::from_secs(4));
        PlannedProbe { spec: spec.clone(), interval, timeout, resolution: interval }
    };
    let probes = [&everywhere, &there, &ids, &late, &unstarted].map(planned).into();
    let deployment = workloads().remove("web").unwrap();
    let waiting =
        Workload { replicas: 1, on: victim(), spread: false, service: false, late: true, ..deployment.clone() };
    let workloads = [(web(), Workload { replicas: 3, ..deployment }), (newcomer(), waiting)].into();
    let plan = Arc::new(plan(facts(&cluster).await, "kchaos-containers-test", workloads, probes));
    let client = cluster.client().await.unwrap();

    let begin = Instant::now();
    let deployed = workload::deploy(engine, &client, &plan).await.unwrap();
    let (send, mut observed) = mpsc::channel(65_536);
    let cancel = CancellationToken::new();
    let asking = Asking::of(&plan, &cluster).await.unwrap();
    probe::start(&plan, &deployed, engine, &client, &asking, &send, &cancel);
    println!("deployed after {:?}", begin.elapsed());

    let node = plan.targets[VICTIM].name.as_str();
    shows(&mut observed, &plan, &everywhere, |o| count(o, |n| n == 3)).await;
    let Value::Count(before) = shows(&mut observed, &plan, &there, saw).await else { unreachable!() };
    let Value::Set(ids_before) = shows(&mut observed, &plan, &ids, saw).await else { unreachable!() };
    assert!(before == 1 || before == 2, "3 pods are spread over two nodes: {before}");
    assert_eq!(ids_before.len() as u64, before);
    shows(&mut observed, &plan, &late, |o| count(o, |n| n == 0)).await;

    let without_kubelet = WithoutKubelet::new(node);
    workload::add(&client, &deployed.late).await.unwrap();
    shows(&mut observed, &plan, &unstarted, |o| count(o, |n| n == 1)).await;
    shows(&mut observed, &plan, &ids, |o| *o == Outcome::Saw(Value::Set(ids_before.clone()))).await;

    let killed = ids_before.first().unwrap();
    docker(&["exec", node, "ctr", "-n", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", killed]);
    shows(&mut observed, &plan, &there, |o| count(o, |n| n == before - 1)).await;
    shows(&mut observed, &plan, &everywhere, |o| count(o, |n| n == 2)).await;
    let without_it = ids_before.iter().filter(|id| *id != killed).cloned().collect();
    shows(&mut observed, &plan, &ids, |o| *o == Outcome::Saw(Value::Set(BTreeSet::clone(&without_it)))).await;
    shows(&mut observed, &plan, &late, |o| count(o, |n| n == 0)).await;

    drop(without_kubelet);
    shows(&mut observed, &plan, &everywhere, |o| count(o, |n| n == 3)).await;
    shows(&mut observed, &plan, &late, |o| count(o, |n| n == 1)).await;
    shows(&mut observed, &plan, &unstarted, |o| count(o, |n| n == 0)).await;
    println!("seen after {:?}", begin.elapsed());

    cancel.cancel();
    workload::remove(&client, &plan).await.unwrap();
    all_gone(&client, &plan).await;
    println!("gone after {:?}", begin.elapsed());
}
