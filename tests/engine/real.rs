//! The same faults on a worker of a real kind cluster, named by `KCHAOS_TEST_CLUSTER`, or of several
//! (`KCHAOS_TEST_CLUSTERS`). They show what the containers of the other tests can't: that a peer sees the kubelet fall
//! silent, and that a census is the same after a node was down.

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kchaos::census::{Census, Difference};
use kchaos::cluster::docker::{Engine, Node};
use kchaos::component::Component;
use kchaos::event::{Checkpoint, Witness};
use kchaos::fault::{self, Witnesses};
use kchaos::in_node::{self, InNode};
use kchaos::node::{NodeId, Role};
use kchaos::plan::PlannedFault;
use kchaos::residue;
use kchaos::scenario::{
    ApiServerOfStore, BadConfig, CertificateOf, Dropped, FaultSpec, Objects, Reclaim, Remedy, StoreLeft, Unanswered,
};
use kchaos::undo::Undo;
use kchaos::unwind::{self, Applied};
use kube::ResourceExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::lab::{docker, try_docker};
use crate::{LEASE, apply_all, pause, power_off, stop};

/// Clusters that no test breaks at the moment: `KCHAOS_TEST_CLUSTER`, and further ones named after it,
/// `KCHAOS_TEST_CLUSTERS` in all.
static CLUSTERS: LazyLock<Option<(Semaphore, Mutex<Vec<String>>)>> = LazyLock::new(|| {
    let name = std::env::var("KCHAOS_TEST_CLUSTER").ok()?;
    let count = std::env::var("KCHAOS_TEST_CLUSTERS").map_or(1, |n| n.parse().expect("a number of clusters"));
    let more = (2..=count).map(|nth| format!("{name}-{nth}"));
    Some((Semaphore::new(count), Mutex::new(more.chain([name.clone()]).collect())))
});

/// A cluster in which this test may break a node. Each cluster has one worker to break.
struct Turn {
    cluster: String,
    of: &'static Mutex<Vec<String>>,
    _permit: SemaphorePermit<'static>,
}

impl Turn {
    async fn take() -> Option<Self> {
        let (turns, free) = CLUSTERS.as_ref()?;
        let permit = turns.acquire().await.ok()?;
        let cluster = free.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        Some(Self { cluster, of: free, _permit: permit })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.of.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(&mut self.cluster));
    }
}

pub struct Real {
    _turn: Turn,
    pub engine: Engine,
    pub cluster: String,
    worker: NodeId,
    peers: Vec<NodeId>,
    pub api: kube::Client,
}

pub async fn real() -> Option<Real> {
    let Some(turn) = Turn::take().await else {
        eprintln!("skipped: KCHAOS_TEST_CLUSTER does not name a kind cluster to be broken");
        return None;
    };
    let cluster = turn.cluster.clone();
    let engine = Engine::connect().await.unwrap().for_cluster(&cluster);
    let nodes = engine.nodes(&cluster).await.unwrap();
    let of = |role| {
        nodes.iter().find(move |n: &&Node| n.role == role).expect("the cluster has a node of each role").id.clone()
    };
    let (worker, plane) = (of(Role::Worker), of(Role::ControlPlane));
    let peers = nodes.iter().filter(|n| n.id != worker).map(|n| n.id.clone()).collect();
    let api = client(&engine, &plane).await;
    Some(Real { _turn: turn, engine, cluster, worker, peers, api })
}

async fn client(engine: &Engine, plane: &NodeId) -> kube::Client {
    let admin =
        engine.exec(plane, &["cat", "/etc/kubernetes/admin.conf"], None, Duration::from_secs(10)).await.unwrap();
    let mut config = Kubeconfig::from_yaml(&String::from_utf8_lossy(&admin.stdout)).unwrap();
    let port = engine.state(plane).await.unwrap().ports["6443/tcp"].port();
    for cluster in &mut config.clusters {
        cluster.cluster.as_mut().unwrap().server = Some(format!("https://127.0.0.1:{port}"));
    }
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
    kube::Client::try_from(config).unwrap()
}

/// Asks until all witnesses agree.
async fn agreed(
    witnesses: &Witnesses,
    engine: &Engine,
    checkpoint: Checkpoint,
    effect: bool,
    within: Duration,
) -> Vec<Witness> {
    let begin = Instant::now();
    loop {
        let said = witnesses.ask(engine, checkpoint).await;
        if said.iter().all(|w| w.effect == Some(effect)) {
            eprintln!("{checkpoint:?}: agreed after {:?}", begin.elapsed());
            return said;
        }
        assert!(begin.elapsed() < within, "{checkpoint:?}: {said:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Witnesses that see no effect yet. A kubelet that was just started by the previous fault looks like one that crashes.
async fn called(engine: &Engine, fault: &PlannedFault, peers: &[NodeId]) -> Witnesses {
    let begin = Instant::now();
    loop {
        let witnesses = Witnesses::call(engine, fault, peers).await.unwrap();
        if witnesses.baseline().iter().all(|w| w.effect == Some(false)) {
            return witnesses;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{witnesses:#?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A census of the cluster once its components have leaders, which may take a while after the previous fault.
pub async fn led_census(real: &Real) -> Census {
    let begin = Instant::now();
    loop {
        let census = residue::census(&real.engine, &real.cluster, Some(&real.api)).await.unwrap();
        let Some(what) = census.not_in_order() else { return census };
        assert!(begin.elapsed() < Duration::from_secs(120), "{what}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn in_and_out(real: &Real, fault: PlannedFault) {
    let Real { engine, cluster, api, .. } = real;
    let peers: Vec<NodeId> =
        real.peers.iter().chain([&real.worker]).filter(|node| **node != fault.node).cloned().collect();
    let census = led_census(real).await;
    assert!(
        census.0.keys().any(|item| item.contains("/firewall/ip"))
            && census.0.keys().any(|item| item.ends_with("/units"))
    );
    let witnesses = called(engine, &fault, &peers).await;
    assert!(witnesses.dismissed().is_empty() && !witnesses.baseline().is_empty(), "{witnesses:#?}");

    let undos = fault::prepare(engine, &fault).await.unwrap();
    let begin = Instant::now();
    fault::inject(engine, &fault, &undos, LEASE).await.unwrap();
    eprintln!("{:?}: injected in {:?}", fault.spec, begin.elapsed());
    agreed(&witnesses, engine, Checkpoint::Injected, true, witnesses.agree_within()).await;
    let broken = residue::census(engine, cluster, Some(api)).await.unwrap();
    assert_ne!(census.differences(&broken), [], "a fault that is in is a difference");

    let begin = Instant::now();
    apply_all(engine, &undos).await;
    eprintln!("undone in {:?}", begin.elapsed());
    agreed(&witnesses, engine, Checkpoint::Undone, false, Duration::from_secs(60)).await;
    let begin = Instant::now();
    let residue: Vec<Difference> =
        residue::wait_until_as(engine, cluster, Some(api), &census, Duration::from_secs(90)).await;
    assert_eq!(residue, [], "after {:?}", begin.elapsed());
    eprintln!("as before after {:?}", begin.elapsed());
}

/// Puts faults in and takes them out, one after another. Those that are `alike` one that runs here, in another test of
/// this program, or in a scenario that `make test` runs, are left to `make soak`, for want of time.
async fn each_in_and_out(
    real: &Real,
    faults: impl IntoIterator<Item = PlannedFault>,
    alike: impl IntoIterator<Item = PlannedFault>,
) {
    let alike = alike.into_iter().filter(|_| std::env::var_os("KCHAOS_SOAK").is_some());
    for fault in faults.into_iter().chain(alike) {
        in_and_out(real, fault).await;
    }
}

/// Faults of the worker's kubelet.
fn of_kubelet(worker: &NodeId) -> [PlannedFault; 8] {
    let node = || "victim".to_owned();
    [
        FaultSpec::KubeletStop { node: node() },
        FaultSpec::KubeletFreeze { node: node(), watchdog: false },
        FaultSpec::KubeletFreeze { node: node(), watchdog: true },
        FaultSpec::KubeletKill { node: node(), restart: true },
        FaultSpec::KubeletKill { node: node(), restart: false },
        FaultSpec::KubeletCrash { node: node() },
        FaultSpec::KubeletConfig { node: node(), file: BadConfig::Invalid },
        FaultSpec::KubeletConfig { node: node(), file: BadConfig::Removed },
    ]
    .map(|spec| PlannedFault::of(spec, worker.clone()))
}

/// Partitions of the worker from all others, or from the control plane one way only, and of the control plane from users;
/// and a network that loses some packets.
fn of_network(real: &Real) -> [PlannedFault; 5] {
    let plane: Vec<NodeId> = real.peers.iter().filter(|peer| peer.name.ends_with("control-plane")).cloned().collect();
    let all: Vec<NodeId> = real.peers.iter().chain([&real.worker]).cloned().collect();
    let cut = |node: &NodeId, drops, peers: &[NodeId]| PlannedFault {
        peers: peers.to_vec(),
        ..PlannedFault::of(FaultSpec::Partition { nodes: vec!["victim".into()], drops }, node.clone())
    };
    [
        cut(&real.worker, Dropped::Everything, &real.peers),
        cut(&real.worker, Dropped::ToApi, &plane),
        cut(&real.worker, Dropped::ToKubelet, &plane),
        cut(&plane[0], Dropped::FromUsers, &all),
        PlannedFault {
            peers: real.peers.clone(),
            ..PlannedFault::of(
                FaultSpec::PacketLoss { node: "victim".into(), percent: 10.try_into().unwrap() },
                real.worker.clone(),
            )
        },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_real_node_each_fault_of_the_network_is_seen_from_outside_and_leaves_nothing() {
    let Some(real) = real().await else { return };
    let [everything, to_api, to_kubelet, from_users, some_packets] = of_network(&real);
    each_in_and_out(&real, [from_users, some_packets], [everything, to_api, to_kubelet]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_real_control_plane_each_fault_of_a_component_is_seen_from_outside_and_leaves_nothing() {
    let Some(real) = real().await else { return };
    let plane = plane(&real);
    let node = || "victim".to_owned();
    let down = |component| FaultSpec::ComponentDown { node: node(), component };
    let flag =
        |component, flag: &str| FaultSpec::ComponentFlag { node: node(), component, flag: flag.parse().unwrap() };
    let planned = |spec| PlannedFault::of(spec, plane.clone());
    let faults = [
        flag(Component::KubeScheduler, "--no-such-flag=true"),
        FaultSpec::ComponentKill { node: node(), component: Component::KubeScheduler },
    ];
    let alike = [
        FaultSpec::ComponentFreeze { node: node(), component: Component::Etcd },
        down(Component::KubeApiserver),
        down(Component::KubeControllerManager),
        flag(Component::KubeApiserver, "--authorization-mode=Node"),
        FaultSpec::StoreLoss { node: node(), left: StoreLeft::Garbage, api_server: ApiServerOfStore::Restarted },
        FaultSpec::StoreLoss { node: node(), left: StoreLeft::Nothing, api_server: ApiServerOfStore::Kept },
    ];
    each_in_and_out(&real, faults.map(planned), alike.map(planned)).await;
}

/// What an operator does through the API, and expired certificates.
fn of_operator(real: &Real) -> [PlannedFault; 5] {
    let plane = plane(real);
    let expired = |of| FaultSpec::CertificateExpired { node: "victim".into(), of };
    let by_operator =
        |spec, node: &NodeId| PlannedFault { operator: Some(plane.clone()), ..PlannedFault::of(spec, node.clone()) };
    [
        by_operator(FaultSpec::DeleteBinding { name: "kubeadm:cluster-admins".parse().unwrap() }, &plane),
        by_operator(FaultSpec::Drain { nodes: vec!["victim".into()] }, &real.worker),
        by_operator(FaultSpec::DeadWebhook { unanswered: Unanswered::LetsThrough }, &plane),
        by_operator(expired(CertificateOf::Kubelet), &real.worker),
        by_operator(expired(CertificateOf::KubeApiserver), &plane),
    ]
}

fn plane(real: &Real) -> NodeId {
    real.peers.iter().find(|peer| peer.name.ends_with("control-plane")).unwrap().clone()
}

/// Runs a script in a control plane, with the credentials of kubeadm's admin, and returns what it prints.
fn kubectl(plane: &NodeId, script: &str) -> String {
    docker(&["exec", &plane.id, "sh", "-c", &format!("export KUBECONFIG=/etc/kubernetes/admin.conf; {script}")])
}

/// The image of pods in the cluster of this control plane.
fn agnhost(plane: &NodeId) -> String {
    kchaos::workload::agnhost(&kubectl(plane, "kubectl version -o yaml | sed -n 's/^  gitVersion: //p' | tail -n 1"))
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_real_cluster_each_error_of_an_operator_is_seen_past_the_api_and_leaves_nothing() {
    let Some(real) = real().await else { return };
    let at_its_root = || docker(&["exec", &plane(&real).id, "ls", "-A", "/"]);
    let before = at_its_root();
    let [binding, drained, webhook, of_kubelet, of_api_server] = of_operator(&real);
    each_in_and_out(&real, [webhook, of_api_server], [drained, binding, of_kubelet]).await;
    assert_eq!(at_its_root(), before);
}

/// What a finalizer holds is deleted and does not go; the undo lets it go, and makes it anew.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_finalizer_holds_is_let_go_even_if_its_namespace_goes() {
    let Some(real) = real().await else { return };
    let plane = plane(&real);
    let held = |namespace: &str| PlannedFault {
        operator: Some(plane.clone()),
        objects: Some(Objects {
            namespace: namespace.parse().unwrap(),
            objects: vec![("configmap".parse().unwrap(), "held".parse().unwrap())],
        }),
        ..PlannedFault::of(FaultSpec::Delete { workload: "held".into(), held: true, reclaim: None }, plane.clone())
    };
    let before = config_map(&real.api, "held").await;
    in_and_out(&real, held("default")).await;
    let after = eventually_there(&real.api, "held").await;
    assert!(after.uid() != before.uid() && after.finalizers().is_empty() && after.data == before.data, "{after:?}");
    config_maps(&real.api).delete("held", &kube::api::DeleteParams::default()).await.unwrap();

    let named = |name: &str| ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
    let namespaces = kube::Api::<Namespace>::all(real.api.clone());
    let going = Namespace { metadata: named("kchaos-test-going"), ..Namespace::default() };
    namespaces.create(&kube::api::PostParams::default(), &going).await.unwrap();
    let inside = kube::Api::<ConfigMap>::namespaced(real.api.clone(), "kchaos-test-going");
    let object = ConfigMap { metadata: named("held"), ..ConfigMap::default() };
    inside.create(&kube::api::PostParams::default(), &object).await.unwrap();
    let fault = held("kchaos-test-going");
    let undos = fault::prepare(&real.engine, &fault).await.unwrap();
    fault::inject(&real.engine, &fault, &undos, LEASE).await.unwrap();
    namespaces.delete("kchaos-test-going", &kube::api::DeleteParams::default()).await.unwrap();
    assert!(inside.get("held").await.unwrap().metadata.deletion_timestamp.is_some());
    apply_all(&real.engine, &undos).await;
    let begin = Instant::now();
    while namespaces.get_opt("kchaos-test-going").await.unwrap().is_some() {
        assert!(begin.elapsed() < Duration::from_secs(60), "the namespace does not go");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A claim is deleted with the pod that uses it. The volume goes with it, or stays and gets its claim again; if the
/// namespace goes meanwhile, the volume goes, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_volume_whose_claim_is_deleted_goes_or_stays_and_is_never_left_behind() {
    let Some(real) = real().await else { return };
    let plane = plane(&real);
    let (kubectl, image) = (|script: &str| kubectl(&plane, script), agnhost(&plane));
    let volumes = || {
        kubectl(
            "kubectl get pv -o custom-columns=:.spec.claimRef.namespace,:.metadata.name,:.status.phase,:.spec.persistentVolumeReclaimPolicy --no-headers | grep kchaos-test-claim || :",
        )
    };
    let claimed = || {
        kubectl(&format!(
            r#"kubectl create namespace kchaos-test-claim >/dev/null; kubectl apply -n kchaos-test-claim -f - >/dev/null <<'END'
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: claimer-state}}
spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 16Mi}}}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: claimer}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{{name: c, image: "{image}", args: [pause], volumeMounts: [{{name: s, mountPath: /s}}]}}]
  volumes: [{{name: s, persistentVolumeClaim: {{claimName: claimer-state}}}}]
END
kubectl wait -n kchaos-test-claim --for=condition=Ready pod/claimer --timeout=90s >/dev/null"#
        ));
        volumes()
    };
    let word = |text: &str| text.parse().unwrap();
    let deleted = |reclaim| PlannedFault {
        operator: Some(plane.clone()),
        objects: Some(Objects {
            namespace: word("kchaos-test-claim"),
            objects: vec![(word("pod"), word("claimer")), (word("persistentvolumeclaim"), word("claimer-state"))],
        }),
        ..PlannedFault::of(
            FaultSpec::Delete { workload: "claimer".into(), held: false, reclaim: Some(reclaim) },
            plane.clone(),
        )
    };
    let until = async |what: &str, is: &dyn Fn() -> bool| {
        let begin = Instant::now();
        while !is() {
            assert!(begin.elapsed() < Duration::from_secs(90), "{what}: {}", volumes());
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let before = claimed();
    in_and_out(&real, deleted(Reclaim::Retain)).await;
    until("the volume that it had is claimed again", &|| volumes() == before).await;
    let injected = async |reclaim| {
        let fault = deleted(reclaim);
        let undos = fault::prepare(&real.engine, &fault).await.unwrap();
        fault::inject(&real.engine, &fault, &undos, LEASE).await.unwrap();
        undos
    };
    let undos = injected(Reclaim::Delete).await;
    until("the volume is gone", &|| volumes().is_empty()).await;
    apply_all(&real.engine, &undos).await;
    until("there is another volume", &|| volumes().contains("Bound") && volumes() != before).await;

    let undos = injected(Reclaim::Retain).await;
    until("the volume has lost its claim", &|| volumes().contains("Released")).await;
    kubectl("kubectl delete namespace kchaos-test-claim --wait=false");
    apply_all(&real.engine, &undos).await;
    until("nothing is left", &|| volumes().is_empty()).await;
    kubectl("kubectl wait --for=delete namespace/kchaos-test-claim --timeout=60s");
}

/// A namespace is deleted with what is in it, and made again. The volume of its claim is another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_deleted_is_made_again_with_all_that_was_in_it() {
    let Some(real) = real().await else { return };
    let plane = plane(&real);
    let (kubectl, image) = (|script: &str| kubectl(&plane, script), agnhost(&plane));
    kubectl(&format!(
        r#"kubectl create namespace kchaos-test-gone >/dev/null; kubectl create namespace kchaos-test-gone-watch >/dev/null
kubectl apply -n kchaos-test-gone -f - >/dev/null <<'END'
apiVersion: v1
kind: ServiceAccount
metadata: {{name: workload}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: it-state}}
spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 16Mi}}}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: it}}
spec: {{selector: {{app: it}}, ports: [{{port: 80}}]}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {{name: it}}
spec: {{minAvailable: 1, selector: {{matchLabels: {{app: it}}}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: it, labels: {{app: it}}}}
spec:
  terminationGracePeriodSeconds: 1
  serviceAccountName: workload
  containers: [{{name: c, image: "{image}", args: [pause], volumeMounts: [{{name: s, mountPath: /s}}]}}]
  volumes: [{{name: s, persistentVolumeClaim: {{claimName: it-state}}}}]
END
kubectl wait -n kchaos-test-gone --for=condition=Ready pod/it --timeout=90s >/dev/null"#
    ));
    let kinds = "serviceaccount/workload persistentvolumeclaim/it-state service/it poddisruptionbudget/it pod/it";
    let there = || {
        let each = "-o=jsonpath='{range .items[*]}{.kind}/{.metadata.name} {.spec.clusterIP}{\"\\n\"}{end}'";
        kubectl(&format!("kubectl get -n kchaos-test-gone {each} {kinds}"))
    };
    let volume = || kubectl("kubectl get -n kchaos-test-gone pvc it-state -o=jsonpath='{.spec.volumeName}'");
    let (before, had) = (there(), volume());
    let word = |text: &str| text.parse().unwrap();
    let objects = ["namespace/kchaos-test-gone"].into_iter().chain(kinds.split(' '));
    let objects = objects.filter_map(|object| object.split_once('/')).map(|(kind, name)| (word(kind), word(name)));
    let fault = PlannedFault {
        operator: Some(plane.clone()),
        objects: Some(Objects { namespace: word("kchaos-test-gone"), objects: objects.collect() }),
        ..PlannedFault::of(FaultSpec::DeleteNamespace {}, plane.clone())
    };
    let witnesses = called(&real.engine, &fault, &real.peers).await;
    let undos = fault::prepare(&real.engine, &fault).await.unwrap();
    fault::inject(&real.engine, &fault, &undos, LEASE).await.unwrap();
    agreed(&witnesses, &real.engine, Checkpoint::Injected, true, witnesses.agree_within()).await;
    apply_all(&real.engine, &undos).await;
    agreed(&witnesses, &real.engine, Checkpoint::Undone, false, Duration::from_secs(10)).await;
    kubectl("kubectl wait -n kchaos-test-gone --for=condition=Ready pod/it --timeout=90s");
    assert_eq!(there(), before);
    assert_ne!(volume(), had);
    // Once the run's other namespace goes, nothing is made again.
    let undos = fault::prepare(&real.engine, &fault).await.unwrap();
    fault::inject(&real.engine, &fault, &undos, LEASE).await.unwrap();
    kubectl("kubectl delete namespace kchaos-test-gone-watch --wait=false");
    apply_all(&real.engine, &undos).await;
    assert_eq!(kubectl("kubectl get namespace kchaos-test-gone --ignore-not-found -o name"), "");
}

/// A healthy node is given up. It must come back as it was, including the pods' network.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_an_operator_has_given_up_is_taken_back_as_it_was() {
    let Some(real) = real().await else { return };
    let Real { engine, cluster, api, worker, .. } = &real;
    let nodes = kube::Api::<k8s_openapi::api::core::v1::Node>::all(api.clone());
    for remedy in [Remedy::OutOfService, Remedy::DeleteNode] {
        let census = led_census(&real).await;
        let fault = PlannedFault { operator: Some(plane(&real)), ..power_off(worker) };
        let undos = fault::prepare_remedy(engine, &fault, remedy).await.unwrap();
        for turn in ["first", "second"] {
            fault::remedy(engine, &fault, remedy, &undos, LEASE).await.unwrap_or_else(|e| panic!("{turn}: {e}"));
        }
        let there = nodes.get_opt(&worker.name).await.unwrap();
        let given_up = there.is_none_or(|node| {
            let taints = node.spec.unwrap().taints.unwrap_or_default();
            taints.iter().any(|taint| taint.key == "node.kubernetes.io/out-of-service")
        });
        assert!(given_up, "{remedy:?}");
        apply_all(engine, &undos).await;
        apply_all(engine, &undos).await;
        let residue = residue::wait_until_as(engine, cluster, Some(api), &census, Duration::from_secs(90)).await;
        assert_eq!(residue, [], "{remedy:?}");
    }
}

/// A partition also cuts an existing connection: not one more byte arrives.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_cuts_connections_that_stand_already() {
    let Some(real) = real().await else { return };
    let Real { engine, peers, worker, .. } = &real;
    let [everything, ..] = of_network(&real);
    let plane = peers.iter().find(|peer| peer.name.ends_with("control-plane")).unwrap();
    let address = engine.state(plane).await.unwrap().addresses.into_values().next().unwrap();
    let (listen, sink) = ("TCP-LISTEN:47011,reuseaddr", "OPEN:/run/kchaos-test,creat,trunc");
    docker(&["exec", "-d", &plane.id, "timeout", "90", "socat", "-u", listen, sink]);
    let speak =
        format!("while echo x; do sleep 0.05; done | timeout 90 socat -u - TCP:{address}:47011,retry=20,interval=0.1");
    docker(&["exec", "-d", &worker.id, "sh", "-c", &speak]);
    let heard = || docker(&["exec", &plane.id, "sh", "-c", "stat -c %s /run/kchaos-test 2>/dev/null || echo 0"]);
    let heard = || heard().parse::<u64>().unwrap();
    let more_than = async |before: u64| {
        let begin = Instant::now();
        while heard() <= before {
            assert!(begin.elapsed() < Duration::from_secs(20), "nothing arrives");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    more_than(10).await;

    let undos = fault::prepare(engine, &everything).await.unwrap();
    fault::inject(engine, &everything, &undos, LEASE).await.unwrap();
    let at_the_cut = heard();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let later = heard();
    apply_all(engine, &undos).await;
    assert_eq!(later, at_the_cut, "it went on arriving");
    // The same connection continues: the filter had held it up.
    more_than(later).await;
}

/// How long after the last sign of life the switch of a change went off, by the node's own clock.
async fn silence_before_switch_went_off(engine: &Engine, undo: &Undo) -> Duration {
    let Undo::InNode(InNode { node, switch, .. }) = undo else { panic!("{undo} has no switch") };
    let switch = String::from(switch.clone());
    let script = format!(
        "systemctl show {switch}.timer --property=ActiveEnterTimestampMonotonic --value
        systemctl show {switch}.service --property=ExecMainStartTimestampMonotonic --value"
    );
    let shown = engine.exec(node, &["sh", "-c", &script], None, Duration::from_secs(10)).await.unwrap();
    let moments: Vec<u64> = String::from_utf8_lossy(&shown.stdout).lines().map(|line| line.parse().unwrap()).collect();
    Duration::from_micros(moments[1] - moments[0])
}

/// Two nodes on a further network, with addresses of both families. It has no way out, so it changes no default route.
struct BothFamilies<'n> {
    network: String,
    nodes: [&'n NodeId; 2],
}

impl<'n> BothFamilies<'n> {
    fn connect(nodes: [&'n NodeId; 2]) -> Self {
        let network = format!("kchaos-test-both-{}", std::process::id());
        docker(&["network", "create", "--internal", "--ipv6", "--subnet", "fd00:6b63:6861:6f73::/64", &network]);
        let both = Self { network, nodes };
        for node in nodes {
            docker(&["network", "connect", &both.network, &node.id]);
        }
        both
    }
}

impl Drop for BothFamilies<'_> {
    fn drop(&mut self) {
        for node in self.nodes {
            let _ = try_docker(&["network", "disconnect", &self.network, &node.id]);
        }
        let _ = try_docker(&["network", "rm", &self.network]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_cuts_both_families() {
    let Some(real) = real().await else { return };
    let Real { engine, peers, worker, .. } = &real;
    let plane = peers.iter().find(|peer| peer.name.ends_with("control-plane")).unwrap();
    let census = led_census(&real).await;
    {
        let _both = BothFamilies::connect([worker, plane]);
        let address = engine.state(plane).await.unwrap().addresses_v6.into_values().next().expect("it has one");
        let kubelet = format!("https://[{address}]:10250/healthz");
        let ask = ["curl", "--silent", "--insecure", "--globoff", "--max-time", "2", &kubelet];
        let answers = async || engine.exec(worker, &ask, None, Duration::from_secs(10)).await.unwrap().code == 0;
        // A new address is first looked for on the network, in case somebody has it already.
        let begin = Instant::now();
        while !answers().await {
            assert!(begin.elapsed() < Duration::from_secs(20), "it never answers");
        }
        let [everything, ..] = of_network(&real);
        let undos = fault::prepare(engine, &everything).await.unwrap();
        fault::inject(engine, &everything, &undos, LEASE).await.unwrap();
        let cut = !answers().await;
        apply_all(engine, &undos).await;
        assert!(cut, "it answers through the partition");
        assert!(answers().await, "it is still cut off");
    }
    let residue =
        residue::wait_until_as(engine, &real.cluster, Some(&real.api), &census, Duration::from_secs(60)).await;
    assert_eq!(residue, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_real_worker_each_fault_of_the_kubelet_is_seen_from_outside_and_leaves_nothing() {
    let Some(real) = real().await else { return };
    let [stopped, frozen, watched, killed, killed_for_good, crashing, invalid, removed] = of_kubelet(&real.worker);
    each_in_and_out(&real, [watched, crashing, invalid], [stopped, frozen, killed, killed_for_good, removed]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_in_a_node_ends_by_itself_when_nobody_keeps_it_and_can_not_be_made_again_then() {
    let Some(real) = real().await else { return };
    let Real { engine, cluster, peers, api, worker, .. } = &real;
    let lease = Duration::from_secs(2);
    let [stopped, .., crashing, _, config_removed] = of_kubelet(worker);
    let [cut_off, ..] = of_network(&real);
    let [binding_deleted, ..] = of_operator(&real);
    for fault in [stopped, crashing, config_removed, cut_off, binding_deleted] {
        let before = led_census(&real).await;
        let witnesses = called(engine, &fault, peers).await;
        let undos = fault::prepare(engine, &fault).await.unwrap();
        fault::inject(engine, &fault, &undos, lease).await.unwrap();
        {
            // A fault that is kept lasts longer than the lease.
            let kept = tokio::spawn(fault::keep(engine.clone(), undos.clone(), lease));
            tokio::time::sleep(3 * lease).await;
            agreed(&witnesses, engine, Checkpoint::WindowEnd, true, Duration::from_secs(4)).await;
            kept.abort();
        }
        let begin = Instant::now();
        agreed(&witnesses, engine, Checkpoint::Undone, false, Duration::from_secs(30)).await;
        eprintln!("{:?}: ended by itself after {:?}", fault.spec, begin.elapsed());
        let silent = silence_before_switch_went_off(engine, &undos[0]).await;
        let in_time = lease..lease + Duration::from_millis(500);
        assert!(
            in_time.contains(&silent),
            "{:?}: the switch went off {silent:?} after the last sign of life",
            fault.spec
        );
        let late = fault::inject(engine, &fault, &undos, lease).await.unwrap_err().to_string();
        assert!(late.contains("gone off"), "{late}");
        let again = fault::prepare(engine, &fault).await.unwrap_err().to_string();
        assert!(again.contains("something is changed in it already"), "{again}");
        for applied in [Applied::GoneOff, Applied::AsExpected] {
            assert_eq!(unwind::apply(engine, &undos[0]).await.unwrap(), applied);
        }
        let residue = residue::wait_until_as(engine, cluster, Some(api), &before, Duration::from_secs(60)).await;
        assert_eq!(residue, [], "{:?}", fault.spec);
    }
}

/// A store is lost and its snapshot damaged; then the snapshot is found again and restored, and finally the old store
/// is put back.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_restored_from_a_good_snapshot_only_and_what_was_there_comes_back_whole() {
    let Some(real) = real().await else { return };
    let Real { engine, cluster, worker, api, .. } = &real;
    let plane = plane(&real);
    let census = led_census(&real).await;
    let api_server = ApiServerOfStore::Restarted;
    let spec = FaultSpec::StoreLoss { node: "victim".into(), left: StoreLeft::Nothing, api_server };
    let fault = PlannedFault::of(spec, plane.clone());
    let witnesses = called(engine, &fault, std::slice::from_ref(worker)).await;
    let undos = fault::prepare(engine, &fault).await.unwrap();
    let in_it = config_map(api, "in-it").await;

    let saved = fault::save(engine, &fault, &undos, LEASE).await.unwrap();
    assert!(saved.contains("revision"), "{saved}");
    let after_it = config_map(api, "after-it").await;
    fault::inject(engine, &fault, &undos, LEASE).await.unwrap();
    agreed(&witnesses, engine, Checkpoint::Injected, true, Duration::from_secs(40)).await;

    let in_plane = |script: &str| docker(&["exec", &plane.name, "sh", "-c", script]);
    let store = || in_plane("until [ -e /var/lib/etcd/member ]; do sleep 0.1; done; ls -id /var/lib/etcd/member");
    assert_eq!(in_plane("stat -c %a /var/lib/kchaos/* /var/lib/kchaos/*/snapshot.db"), "700\n600", "it holds secrets");
    let wiped = store();
    in_plane("cp /var/lib/kchaos/*/snapshot.db /tmp/good.db; echo x >>$(echo /var/lib/kchaos/*/snapshot.db)");
    let refused = fault::remedy(engine, &fault, Remedy::RestoreSnapshot, &undos, LEASE).await.unwrap_err().to_string();
    assert!(refused.contains("the snapshot is not the one that was taken"), "{refused}");
    in_plane("rm /var/lib/kchaos/*/snapshot.db");
    let refused = fault::remedy(engine, &fault, Remedy::RestoreSnapshot, &undos, LEASE).await.unwrap_err().to_string();
    assert!(refused.contains("there is no snapshot"), "{refused}");
    assert_eq!(store(), wiped, "nothing was overwritten");

    in_plane("mv /tmp/good.db $(echo /var/lib/kchaos/*)/snapshot.db");
    fault::remedy(engine, &fault, Remedy::RestoreSnapshot, &undos, LEASE).await.unwrap();
    let restored = eventually_there(api, "in-it").await;
    assert_eq!(identity(&restored), identity(&in_it));
    assert_eq!(config_maps(api).get_opt("after-it").await.unwrap().map(|c| identity(&c)), None);
    let newest = config_map(api, "newest").await;

    let interrupted = killed_at_every_step_of_its_undo(&plane.name);
    assert!(interrupted > 20, "{interrupted} times");
    apply_all(engine, &undos).await;
    agreed(&witnesses, engine, Checkpoint::Undone, false, Duration::from_secs(60)).await;
    for had in [&in_it, &after_it] {
        let there = eventually_there(api, &had.name_any()).await;
        assert_eq!(identity(&there), identity(had), "the very same, down to the revision at which it was written");
    }
    assert_eq!(config_maps(api).get_opt("newest").await.unwrap().map(|c| identity(&c)), None);
    let now = config_map(api, "now").await;
    let revision = |c: &ConfigMap| c.metadata.resource_version.as_ref().unwrap().parse::<u64>().unwrap();
    assert!(revision(&now) > revision(&newest), "whoever watches hears of what comes now");

    for name in ["in-it", "after-it", "now"] {
        config_maps(api).delete(name, &kube::api::DeleteParams::default()).await.unwrap();
    }
    assert_eq!(in_node::left_in(engine, &plane).await.unwrap(), Vec::<String>::new());
    let residue = residue::wait_until_as(engine, cluster, Some(api), &census, Duration::from_secs(150)).await;
    assert_eq!(residue, []);
}

/// Undoes the change in the node in a shell that is killed at its n-th call of `mv` or `rm`, before and after the call
/// has done its work, for every n until there are no more calls. Returns how often it was killed.
fn killed_at_every_step_of_its_undo(node: &str) -> usize {
    let in_node = |script: &str| std::process::Command::new("docker").args(["exec", node, "sh", "-c", script]).status();
    for tool in ["mv", "rm"] {
        let fake = format!(
            r#"mkdir -p /opt/fake; cat >/opt/fake/{tool} <<'END'
#!/bin/sh
n=$(cat /opt/fake/n)
echo $((n - 1)) >/opt/fake/n
[ "$n" != 1 ] || [ -e /opt/fake/after ] || {{ kill -KILL $PPID; exit; }}
/bin/{tool} "$@" || exit
[ "$n" != 1 ] || kill -KILL $PPID
END
chmod +x /opt/fake/{tool}"#
        );
        assert!(in_node(&fake).unwrap().success());
    }
    let mut killed = 0;
    // The seventh call records that the store is back; from then on the steps are different.
    for step in (1..=7).chain(1..40) {
        for when in ["rm -f", "touch"] {
            let undo = format!(
                "cd /var/lib/kchaos/kchaos-* 2>/dev/null || exit 0
                 {when} /opt/fake/after; echo {step} >/opt/fake/n
                 PATH=/opt/fake:$PATH sh ./program restore \"$(basename \"$PWD\")\""
            );
            match in_node(&undo).unwrap().code() {
                Some(0) => {
                    assert!(
                        in_node(r#"rm -rf /opt/fake; [ -z "$(ls /var/lib/kchaos 2>/dev/null)" ]"#).unwrap().success()
                    );
                    return killed;
                }
                Some(137) => killed += 1,
                other => panic!("undone in a shell that was killed at step {step}: {other:?}"),
            }
        }
    }
    panic!("there is no end to it");
}

fn config_maps(api: &kube::Client) -> kube::Api<ConfigMap> {
    kube::Api::namespaced(api.clone(), "default")
}

async fn config_map(api: &kube::Client, name: &str) -> ConfigMap {
    let metadata = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
    let object = ConfigMap { metadata, ..ConfigMap::default() };
    config_maps(api).create(&kube::api::PostParams::default(), &object).await.unwrap()
}

/// Identifies an object, and changes when the object is written again.
fn identity(object: &ConfigMap) -> (Option<String>, Option<String>) {
    (object.uid(), object.resource_version())
}

async fn eventually_there(api: &kube::Client, name: &str) -> ConfigMap {
    let begin = Instant::now();
    loop {
        if let Ok(Some(found)) = config_maps(api).get_opt(name).await {
            eprintln!("{name} is there after {:?}", begin.elapsed());
            return found;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{name} is not there");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_outlives_its_node_is_undone_when_the_node_is_back() {
    let Some(real) = real().await else { return };
    let Real { engine, cluster, peers, api, worker, .. } = &real;
    let before = led_census(&real).await;
    let removed = FaultSpec::KubeletConfig { node: "victim".into(), file: BadConfig::Removed };
    let fault = PlannedFault::of(removed, worker.clone());
    let witnesses = called(engine, &fault, peers).await;
    let undos = fault::prepare(engine, &fault).await.unwrap();
    fault::inject(engine, &fault, &undos, Duration::from_secs(5)).await.unwrap();
    docker(&["kill", "--signal=KILL", &worker.id]);
    let node_off = fault::prepare(engine, &power_off(worker)).await;
    assert!(node_off.is_err(), "it is off");
    engine.start(worker).await.unwrap();
    agreed(&witnesses, engine, Checkpoint::Undone, false, Duration::from_secs(60)).await;
    assert_eq!(unwind::apply(engine, &undos[0]).await.unwrap(), Applied::GoneOff);
    let residue = residue::wait_until_as(engine, cluster, Some(api), &before, Duration::from_secs(90)).await;
    assert_eq!(residue, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_real_worker_each_fault_is_seen_from_outside_and_leaves_nothing() {
    let Some(real) = real().await else { return };
    each_in_and_out(&real, [stop(&real.worker)], [power_off(&real.worker), pause(&real.worker)]).await;
}

/// Neither the engine nor the API is asked for any change, and what is run in nodes only reads.
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_changes_nothing() {
    let Some(real) = real().await else { return };
    let proxy = crate::lab::Proxy::start().await;
    let get = |kinds: &str, version: &str| {
        let each = r#"{range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name} {VERSION}{"\n"}{end}"#;
        let each = each.replace("VERSION", version);
        kubectl(&plane(&real), &format!("kubectl get {kinds} -A -o jsonpath='{each}'"))
    };
    // What a controller reports of its pods changes by itself; its generation changes with what is asked of it.
    let objects = || {
        let kinds =
            "namespaces,services,configmaps,serviceaccounts,clusterroles,clusterrolebindings,secrets,persistentvolumes";
        [get(kinds, ".metadata.resourceVersion"), get("deployments,daemonsets", ".metadata.generation")]
    };
    let before = objects();
    let state = tempfile::tempdir().unwrap();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_kchaos"));
    let single = kchaos::scenario::builtin().iter().filter(|(name, text)| {
        kchaos::scenario::load(name, text.as_bytes()).expect("built-in scenarios load").topology == "single"
    });
    command.arg("run").args(single.map(|(name, _)| name));
    command.args(["--every-variant", "--dry-run", "--cluster", &real.cluster]);
    command.env("DOCKER_HOST", proxy.endpoint().host).env("XDG_STATE_HOME", state.path());
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said_of_many = proxy.heard();
    for (service, missing) in [
        ("service/default/kubernetes:443", None),
        ("service/default/nobody:80", Some("there is no Service nobody in namespace default")),
        ("service/default/kubernetes:444", Some("Service default/kubernetes has no port 444")),
    ] {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_kchaos"));
        command.args(["run", "node-shutdown", "--dry-run", "--cluster", &real.cluster, "--keep-alive", service]);
        command.env("DOCKER_HOST", proxy.endpoint().host).env("XDG_STATE_HOME", state.path());
        let output = command.output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(if missing.is_some() { 3 } else { 0 }), "{said}");
        assert!(said.contains(missing.unwrap_or_default()), "{said}");
    }
    assert_eq!(objects(), before);
    let said = proxy.heard();
    let asked: Vec<&str> =
        said.lines().filter(|line| line.ends_with("HTTP/1.1") && !line.starts_with("GET ")).collect();
    let by_exec = |line: &&str| line.contains("/exec");
    assert_eq!(asked.iter().filter(|line| !by_exec(line)).collect::<Vec<_>>(), Vec::<&&str>::new());
    // What configures the proxy lies somewhere else on each node.
    // What is in memory is asked for where etcd runs.
    let reads = |line: &&str| {
        line.contains(r#""Cmd":["cat","--","#)
            || line.contains(r#""Cmd":["sh","-c","f=$(ls -t /var/lib/kubelet/pods/"#)
            || line.contains(r#""Cmd":["sh","-c","data=$(sed -n 's/^ *- --data-dir=//p' "#)
            || line.contains(r#""Cmd":["ls","-1","/var/lib/kubelet/pods"]"#)
    };
    let other: Vec<_> = said.lines().filter(|line| line.contains("\"Cmd\"") && !reads(line)).collect();
    assert!(other.is_empty(), "{other:#?}");
    // Each of three nodes is asked once, for all plans.
    let reading = said_of_many.lines().filter(reads).count();
    assert!((3..30).contains(&reading), "{reading} that read");
}

/// Workers whose packet filter knows nothing of chance, as where the kernel lacks that part.
struct WithoutChance(Vec<NodeId>);

impl WithoutChance {
    fn of(nodes: Vec<NodeId>) -> Self {
        let lie = r#"printf '#!/bin/sh\ncase "$*" in *statistic*) exit 2 ;; esac\nexec /usr/sbin/iptables "$@"\n' >/usr/local/bin/iptables; chmod +x /usr/local/bin/iptables"#;
        for node in &nodes {
            docker(&["exec", &node.name, "sh", "-c", lie]);
        }
        Self(nodes)
    }
}

impl Drop for WithoutChance {
    fn drop(&mut self) {
        for node in &self.0 {
            let _ = try_docker(&["exec", &node.name, "rm", "-f", "/usr/local/bin/iptables"]);
        }
    }
}

#[tokio::test]
async fn where_packets_can_not_be_dropped_at_random_that_is_said_and_among_many_left_out() {
    let Some(real) = real().await else { return };
    let nodes = real.engine.nodes(&real.cluster).await.unwrap();
    let workers = nodes.into_iter().filter(|node| node.role == Role::Worker).map(|node| node.id);
    let _without = WithoutChance::of(workers.collect());
    let blink = include_str!("../minimal/blink.yaml");
    let variants = blink.lines().filter(|line| line.starts_with("  - {name: "));
    let lossy = "  - {name: lossy, fault: {packet-loss: {node: victim, percent: 10}}, ends-before: node-unknown}";
    let (first, others) = blink.split_once(variants.clone().next().unwrap()).unwrap();
    let rest = variants.skip(1).fold(others.to_owned(), |rest, line| rest.replacen(line, "", 1));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("blink.yaml");
    let rest = rest.replace("before: node-unknown\n", "during: fault\n");
    std::fs::write(&file, format!("{first}{lossy}{rest}")).unwrap();
    let run = async |more: &[&str]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_kchaos"));
        command.arg("run").arg(&file).args(["--cluster", &real.cluster]).args(more);
        let output = command.env("XDG_STATE_HOME", dir.path()).output().await.unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = run(&[]).await;
    assert!(code == Some(3) && said.contains("can't be broken") && said.contains("modprobe xt_statistic"), "{said}");
    let (code, said) = run(&["--every-variant"]).await;
    assert!(code == Some(5) && said.contains("blink/lossy: its kernel") && said.contains("left out"), "{said}");
}
