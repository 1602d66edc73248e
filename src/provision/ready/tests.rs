use serde_json::json;

use super::*;

const STARTED: &str = "2026-11-24T09:00:10.700Z";
const NOW: &str = "2026-11-24T09:00:31Z";

fn expected() -> Vec<Expected> {
    [("cp", Role::ControlPlane), ("w", Role::Worker), ("lb", Role::LoadBalancer)]
        .map(|(name, role)| Expected { name: name.into(), role, started: STARTED.parse().unwrap() })
        .into()
}

fn node(name: &str, ready: &str, heartbeat: &str) -> Node {
    let condition = json!({"type": "Ready", "status": ready, "lastHeartbeatTime": heartbeat});
    serde_json::from_value(json!({"metadata": {"name": name}, "status": {"conditions": [condition]}})).unwrap()
}

fn lease(name: &str, renewed: &str) -> Lease {
    let spec = json!({"leaseDurationSeconds": 8, "renewTime": renewed});
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
}

/// A CoreDNS Deployment of two pods: the generation that its controller has observed, the number of pods of the newest
/// template, and the number of all pods.
fn deployment(observed: i64, updated: i32, all: i32) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": "coredns", "generation": 2},
        "spec": {"replicas": 2, "selector": {}, "template": {}},
        "status": {"observedGeneration": observed, "updatedReplicas": updated, "replicas": all},
    }))
    .unwrap()
}

fn pod(name: &str, node: &str, ready: &str, started: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "kube-system", "creationTimestamp": "2026-11-24T08:00:00Z"},
        "spec": {"nodeName": node, "containers": []},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": ready}],
            "containerStatuses": [{
                "name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 1,
                "state": {"running": {"startedAt": started}},
            }],
        },
    }))
    .unwrap()
}

/// A cluster that is Ready.
fn ready() -> Seen {
    let mut pods: Vec<_> =
        STATIC_PODS.iter().map(|p| pod(&format!("{p}-cp"), "cp", "True", "2026-11-24T09:00:15Z")).collect();
    pods.push(pod("coredns", "w", "True", "2026-11-24T09:00:16Z"));
    Seen {
        nodes: vec![node("cp", "True", "2026-11-24T09:00:20Z"), node("w", "True", "2026-11-24T09:00:10Z")],
        pods,
        deployments: vec![deployment(2, 2, 2)],
        leases: ["cp", "w", "kube-controller-manager", "kube-scheduler"]
            .map(|l| lease(l, "2026-11-24T09:00:29.000000Z"))
            .into(),
        serving: vec!["cp".into()],
    }
}

fn look_at(seen: &Seen, renewals: &mut BTreeMap<String, Timestamp>) -> Vec<String> {
    missing(&expected(), seen, renewals, NOW.parse().unwrap()).into_iter().map(|m| m.what).collect()
}

/// What is missing after one thing was spoilt in a Ready cluster.
fn spoilt(spoil: impl FnOnce(&mut Seen)) -> Vec<String> {
    let mut seen = ready();
    spoil(&mut seen);
    look_at(&seen, &mut BTreeMap::new())
}

#[test]
fn a_cluster_that_has_reported_since_its_start_is_ready() {
    assert_eq!(spoilt(|_| {}), Vec::<String>::new());
}

#[test]
fn what_was_reported_before_the_start_does_not_count() {
    assert_eq!(
        spoilt(|s| s.nodes[1] = node("w", "True", "2026-11-24T09:00:09Z")),
        ["w has not reported since its start"]
    );
    assert_eq!(spoilt(|s| s.leases[0] = lease("cp", "2026-11-24T09:00:09.900000Z")), ["cp has not renewed its lease"]);
    assert_eq!(
        spoilt(|s| s.leases[2] = lease("kube-controller-manager", "2026-11-24T09:00:09.900000Z")),
        ["no kube-controller-manager leads"]
    );
    assert_eq!(
        spoilt(|s| s.pods[4] = pod("coredns", "w", "True", "2026-11-24T08:59:00Z")),
        ["coredns has not been seen since its node's start"]
    );
}

#[test]
fn whatever_is_absent_or_not_ready_is_named() {
    assert_eq!(spoilt(|s| drop(s.nodes.pop())), ["w is not registered"]);
    assert_eq!(spoilt(|s| s.nodes[0] = node("cp", "Unknown", "2026-11-24T09:00:20Z")), ["cp is not Ready"]);
    assert_eq!(spoilt(|s| drop(s.leases.remove(1))), ["w has not renewed its lease"]);
    assert_eq!(spoilt(|s| drop(s.leases.pop())), ["no kube-scheduler leads"]);
    assert_eq!(spoilt(|s| s.serving.clear()), ["the API server of cp is not ready"]);
    assert_eq!(spoilt(|s| drop(s.pods.remove(0))), ["etcd-cp is not there"]);
    assert_eq!(spoilt(|s| s.pods[4] = pod("coredns", "w", "False", "2026-11-24T09:00:16Z")), ["coredns is not Ready"]);
}

#[test]
fn a_change_on_its_way_is_waited_out() {
    for (observed, updated, all) in [(1, 2, 2), (2, 1, 2), (2, 2, 3)] {
        let changing = spoilt(|s| s.deployments[0] = deployment(observed, updated, all));
        assert_eq!(changing, ["coredns is being rolled out"], "{observed} {updated} {all}");
    }
}

#[test]
fn a_taint_that_keeps_pods_away_is_waited_out() {
    let taint = |key: &str| {
        let mut node = node("w", "True", "2026-11-24T09:00:20Z");
        node.spec = serde_json::from_value(json!({"taints": [{"key": key, "effect": "NoExecute"}]})).unwrap();
        spoilt(|s| s.nodes[1] = node)
    };
    assert_eq!(taint("node.kubernetes.io/unreachable"), ["w is still tainted"]);
    assert_eq!(taint("example.org/of-the-user"), Vec::<String>::new());
}

#[test]
fn an_old_lease_counts_only_once_it_is_seen_to_be_renewed() {
    // As if our clock were an hour behind the engine's, which is possible if the engine is in a virtual machine.
    let mut seen = ready();
    let mut renewals = BTreeMap::new();
    seen.leases[1] = lease("w", "2026-11-24T10:00:00.000000Z");
    assert_eq!(look_at(&seen, &mut renewals), ["w has not renewed its lease"]);
    assert_eq!(look_at(&seen, &mut renewals), ["w has not renewed its lease"]);
    seen.leases[1] = lease("w", "2026-11-24T10:00:02.000000Z");
    assert_eq!(look_at(&seen, &mut renewals), Vec::<String>::new());
}

#[test]
fn pods_that_have_ended_are_not_waited_for_and_those_being_deleted_are() {
    let phase = |phase: &str| {
        let mut pod = pod("job", "w", "False", "2026-11-24T09:00:16Z");
        pod.status.as_mut().unwrap().phase = Some(phase.into());
        spoilt(|s| s.pods.push(pod))
    };
    assert_eq!(phase("Succeeded"), Vec::<String>::new());
    assert_eq!(phase("Failed"), Vec::<String>::new());
    assert_eq!(phase("Pending"), ["job is not Ready"]);
    let deleted = spoilt(|s| s.pods[4].metadata.deletion_timestamp = serde_json::from_value(json!(NOW)).unwrap());
    assert_eq!(deleted, ["coredns is being deleted"]);
}

#[test]
fn a_static_pod_counts_by_its_process_and_not_by_its_slow_probes() {
    let with = |started: &str| {
        let mut pod = pod("etcd-cp", "cp", "False", started);
        let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": "cp", "uid": "u", "controller": true}]);
        pod.metadata.owner_references = serde_json::from_value(owner).unwrap();
        spoilt(|s| s.pods[0] = pod)
    };
    assert_eq!(with("2026-11-24T09:00:15Z"), Vec::<String>::new());
    assert_eq!(with("2026-11-24T08:59:00Z"), ["etcd-cp has not been seen since its node's start"]);
}

#[test]
fn only_a_controlled_pod_that_has_run_may_be_replaced() {
    let stuck = |pod: &Pod| pod_missing(pod, &expected()).unwrap().stuck;
    let outlived = |outlived| Some(Stuck { namespace: "kube-system".into(), name: "coredns".into(), outlived });
    let mut waiting = pod("coredns", "w", "False", "2026-11-24T09:00:16Z");
    assert_eq!(stuck(&waiting), None, "nobody would make another one");
    for kind in ["DaemonSet", "ReplicaSet"] {
        let owner = json!([{"apiVersion": "apps/v1", "kind": kind, "name": "r", "uid": "u", "controller": true}]);
        waiting.metadata.owner_references = serde_json::from_value(owner).unwrap();
        assert_eq!(stuck(&waiting), outlived(true), "{kind}");
    }
    waiting.metadata.creation_timestamp = serde_json::from_value(json!("2026-11-24T09:00:12Z")).unwrap();
    assert_eq!(stuck(&waiting), outlived(false));
    let container = &mut waiting.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0];
    container.state = serde_json::from_value(json!({"waiting": {"reason": "CrashLoopBackOff"}})).unwrap();
    assert_eq!(stuck(&waiting), outlived(false), "it waits for its kubelet's back-off");
    let container = &mut waiting.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0];
    container.restart_count = 0;
    assert_eq!(stuck(&waiting), None, "its image is still being pulled");
}

fn stuck_pod(name: &str, outlived: bool) -> Missing {
    let stuck = Some(Stuck { namespace: "kube-system".into(), name: name.into(), outlived });
    Missing { what: format!("{name} is not Ready"), stuck }
}

/// Names of pods that are replaced, at so many seconds from the beginning.
fn lost(patience: &mut Patience, began: Instant, at: u64, missing: &[Missing]) -> Vec<String> {
    patience.lost_with(missing, began + Duration::from_secs(at)).into_iter().map(|pod| pod.name).collect()
}

#[test]
fn what_outlived_the_start_is_replaced_at_once_and_what_is_new_when_it_takes_longer_than_a_fresh_one() {
    let (mut patience, began) = (Patience::new(), Instant::now());
    let mut lost = |at, missing: &[Missing]| lost(&mut patience, began, at, missing);
    let none = Vec::<String>::new();
    let (old, new) = (stuck_pod("old", true), stuck_pod("new", false));
    assert_eq!(lost(0, &[old, "the API server of cp is not ready".to_owned().into()]), none, "it needs that");
    assert_eq!(lost(10, &[stuck_pod("old", true), new]), ["old"]);
    assert_eq!(lost(17, &[stuck_pod("old", true), stuck_pod("new", false)]), none, "each once");
    assert_eq!(lost(18, &[stuck_pod("new", false)]), ["new"]);
    assert_eq!(lost(19, &[stuck_pod("next", false)]), none);
    assert_eq!(lost(34, &[stuck_pod("next", false)]), none, "it may be slow");
    assert_eq!(lost(35, &[stuck_pod("next", false)]), ["next"]);
}

#[test]
fn time_in_which_anything_else_is_missing_is_not_held_against_a_pod() {
    let (mut patience, began) = (Patience::new(), Instant::now());
    let mut lost = |at, missing: &[Missing]| lost(&mut patience, began, at, missing);
    assert_eq!(lost(0, &[stuck_pod("new", false)]), Vec::<String>::new());
    assert_eq!(lost(1, &[stuck_pod("new", false), "w is not Ready".to_owned().into()]), Vec::<String>::new());
    assert_eq!(lost(9, &[stuck_pod("new", false)]), Vec::<String>::new());
    assert_eq!(lost(10, &[stuck_pod("other", false)]), Vec::<String>::new());
    assert_eq!(lost(17, &[stuck_pod("new", false)]), Vec::<String>::new(), "it was Ready meanwhile");
    assert_eq!(lost(25, &[stuck_pod("new", false)]), ["new"]);
}

#[test]
fn a_long_list_is_cut_short() {
    let list: Vec<Missing> = ["a", "b", "c", "d", "e"].map(|what| what.to_owned().into()).into();
    assert_eq!(summary(&list), "a, b, c and 2 more");
    assert_eq!(summary(&list[..2]), "a, b");
}
