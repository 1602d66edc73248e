//! Sabotage from outside, beside a fault that is real: a documented consequence is prevented, or what a mitigation gave
//! is taken away again. The claims about it must be refuted, and those about what was left alone upheld.

use std::time::Duration;

use serde_json::{Value, json};

use super::lab::liar::workers;
use super::lab::{IN_EFFECT, Lab, Ran, UNDO, signal_kubelet, wait_for};
use super::{fake_kubectl, filtered_node, on_plane, on_workers, point_nowhere, real_kubectl};

/// Shell: finds and kills the containers of a workload on a node.
const CONTAINERS: &str = include_str!("../../src/in_node/lib-containers.sh");

/// Somebody binds a pod to a node by hand, which is all that a scheduler does.
pub fn scheduled_by_hand(lab: &Lab) -> Result<(), String> {
    let ran = once_in_effect(lab, "services-crash/scheduler", |lab| {
        let namespace = namespace(lab)?;
        wait_for("the pod that comes with the fault", Duration::from_secs(30), || {
            lab.kubectl(&["get", "pod", "newcomer", "-n", &namespace]).ok()
        })?;
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": "newcomer"},
            "target": {"apiVersion": "v1", "kind": "Node", "name": format!("{}-worker", lab.cluster)},
        });
        let path = format!("/api/v1/namespaces/{namespace}/pods/newcomer/binding");
        create(lab, &format!("--raw {path}"), &binding)
    })?;
    ran.expect_exit(1)?;
    ran.expect("nor-a-bare-pod", "refuted", "counterexample")?;
    ran.expect("nothing-starts", "upheld", "held")?;
    ran.expect("replicas-made", "upheld", "happened")
}

/// While the API server or its storage is lost, somebody ends the containers whose kubelets are said to keep them.
fn containers_ended(lab: &Lab, selection: &str) -> Result<Ran, String> {
    let ran = lab.watched(|lab| {
        let mut running = lab.begin(selection)?;
        running.heard("baseline: ")?;
        let namespace = namespace(lab)?;
        running.heard(IN_EFFECT)?;
        on_workers(lab, &format!("{CONTAINERS}kill_containers_of {namespace} web"))?;
        running.ended()
    })?;
    ran.expect_exit(1)?;
    ran.expect("containers-run-on", "refuted", "counterexample")?;
    Ok(ran)
}

pub fn ended_without_an_api_server(lab: &Lab) -> Result<(), String> {
    let ran = containers_ended(lab, "apiserver-crash/held-down")?;
    ran.expect("nothing-restarted", "refuted", "counterexample")?;
    ran.expect("same-pods", "upheld", "held")?;
    ran.expect("no-writes", "upheld", "held")
}

pub fn ended_without_a_store(lab: &Lab) -> Result<(), String> {
    let ran = containers_ended(lab, "storage-lost/wiped")?;
    ran.expect("knows-nothing", "upheld", "held")?;
    ran.expect("known-again", "upheld", "held")
}

pub fn ended_with_a_corrupt_store(lab: &Lab) -> Result<(), String> {
    let ran = containers_ended(lab, "storage-lost/corrupt")?;
    ran.expect("not-up", "upheld", "held")?;
    ran.expect("software-undone", "upheld", "held")
}

/// With the storage gone, the kubelets of the workers are frozen, and so complain of nothing.
pub fn kubelets_silent(lab: &Lab) -> Result<(), String> {
    let signal = |signal| workers(lab).iter().try_for_each(|worker| signal_kubelet(worker, signal));
    let ran = lab.watched(|lab| {
        let mut running = lab.begin("storage-lost/unavailable")?;
        running.heard(IN_EFFECT)?;
        running.away_until(UNDO, || signal("STOP"), || signal("CONT"))
    })?;
    ran.expect_exit(1)?;
    ran.expect("kubelets-miss-it", "refuted", "never-happened")?;
    ran.expect("serves-on", "upheld", "held")?;
    ran.expect("no-writes", "upheld", "held")
}

/// Once the API server is back, somebody deletes a pod, as an eviction would.
pub fn replaced_after_all(lab: &Lab) -> Result<(), String> {
    let ran = lab.watched(|lab| {
        let mut running = lab.begin("apiserver-crash/held-down")?;
        running.heard("baseline: ")?;
        let namespace = namespace(lab)?;
        running.heard(UNDO)?;
        wait_for("the API server to be back", Duration::from_secs(60), || {
            let pod = lab.kubectl(&["get", "pods", "-n", &namespace, "-l", "kchaos.io/workload=web", "-o", "name"]);
            let pod = pod.ok()?.lines().next()?.to_owned();
            lab.kubectl(&["delete", &pod, "-n", &namespace, "--wait=false"]).ok()
        })?;
        running.ended()
    })?;
    ran.expect_exit(1)?;
    ran.expect("same-pods", "refuted", "counterexample")?;
    ran.expect("serves-on", "upheld", "held")?;
    ran.expect("no-writes", "upheld", "held")
}

/// A machine is restarted, and the scheduler that was on it is not.
pub fn scheduler_not_restarted(lab: &Lab) -> Result<(), String> {
    let (there, aside) = ("/etc/kubernetes/manifests/kube-scheduler.yaml", "/etc/kubernetes/kchaos-test.yaml");
    let take = format!("mv {there} {aside}");
    let give_back = format!("[ ! -e {aside} ] || mv {aside} {there}");
    let ran = lab.watched(|lab| {
        let mut running = lab.begin("apiserver-crash/vm-restarted")?;
        running.heard(IN_EFFECT)?;
        running.away_until(UNDO, || on_plane(lab, &take), || on_plane(lab, &give_back))
    })?;
    ran.expect_exit(1)?;
    ran.expect("scheduler-restarted", "refuted", "counterexample")?;
    ran.expect("manager-restarted", "upheld", "held")?;
    ran.expect("restarted-api-stays", "upheld", "held")
}

/// The storage that is to outlive its machine does, and is then taken away all the same.
pub fn storage_not_reliable(lab: &Lab) -> Result<(), String> {
    // A kubelet may be about to start one that it has seen the manifest of.
    let down = "set -e
        cd /etc/kubernetes/manifests
        for file in etcd.yaml kube-apiserver.yaml; do [ ! -e $file ] || mv $file ..; done
        calm=0
        for turn in $(seq 300); do
            if pkill -KILL -x 'etcd|kube-apiserver'; then calm=0; else calm=$((calm + 1)); fi
            [ $calm -lt 20 ] || break
            sleep 0.1
        done";
    let up = "mv ../etcd.yaml ../kube-apiserver.yaml .";
    let take = format!("{down}\nmv /var/lib/etcd/member /var/lib/etcd/taken\n{up}");
    let give_back = format!(
        "{down}\n[ ! -e /var/lib/etcd/taken ] || {{ rm -rf /var/lib/etcd/member; mv -T /var/lib/etcd/taken /var/lib/etcd/member; }}\n{up}"
    );
    let ran = lab.watched(|lab| {
        let mut running = lab.begin("storage-lost/restarted")?;
        running.heard(IN_EFFECT)?;
        running.away_until(UNDO, || on_plane(lab, &take), || on_plane(lab, &give_back))
    })?;
    ran.expect_exit(1)?;
    ran.expect("reliable-keeps", "refuted", "counterexample")?;
    ran.expect("usable-again", "refuted", "counterexample")
}

/// Somebody makes one of the pods again of a workload that an operator has deleted. The workload itself stays deleted.
pub fn pod_made_by_hand(lab: &Lab) -> Result<(), String> {
    let ran = lab.watched(|lab| {
        let mut running = lab.begin("operator-error/deleted")?;
        running.heard("baseline: ")?;
        let namespace = namespace(lab)?;
        let template = template(lab, &namespace, "shop")?;
        let pod = pod("shop-by-hand", &template["metadata"]["labels"], &template["spec"]);
        running.heard(IN_EFFECT)?;
        create(lab, &format!("-n {namespace}"), &pod)?;
        running.ended()
    })?;
    ran.expect_exit(1)?;
    ran.expect("shop-gone", "refuted", "counterexample")?;
    ran.expect("shop-ended", "refuted", "counterexample")?;
    ran.expect("serves-on", "upheld", "held")?;
    ran.expect("shop-known-again", "upheld", "held")
}

/// What a snapshot gave back is deleted again.
pub fn deleted_again(lab: &Lab) -> Result<(), String> {
    let ran = lab.watched(|lab| {
        let mut running = lab.begin("operator-error/deleted")?;
        running.heard("baseline: ")?;
        let namespace = namespace(lab)?;
        running.heard("remedy: ")?;
        wait_for("what was deleted to be there again", Duration::from_secs(60), || {
            lab.kubectl(&["delete", "deployment", "shop", "-n", &namespace]).ok()
        })?;
        running.ended()
    })?;
    ran.expect_exit(1)?;
    ran.expect("shop-known-again", "refuted", "counterexample")?;
    ran.expect("shop-gone", "upheld", "held")?;
    ran.expect("newer-lost", "upheld", "held")
}

/// While the operator's rights are lost, the API server answers nobody for a while, with whichever key.
pub fn operator_kept_out(lab: &Lab) -> Result<(), String> {
    let ran = once_in_effect(lab, "operator-error/rights-removed", |lab| {
        on_plane(lab, "pkill -STOP -x kube-apiserver && sleep 6; pkill -CONT -x kube-apiserver")
    })?;
    ran.expect_exit(1)?;
    ran.expect("operator-reads", "refuted", "counterexample")?;
    ran.expect("it-answers-on", "refuted", "counterexample")?;
    ran.expect("nobody-reads", "upheld", "held")?;
    ran.expect("serves-on", "upheld", "held")
}

/// The pod of the emptied volume, which is said to be the same all the time, is deleted.
pub fn pod_deleted(lab: &Lab) -> Result<(), String> {
    let ran = once_in_effect(lab, "volume-lost/emptied", |lab| {
        let namespace = namespace(lab)?;
        lab.kubectl(&["delete", "pod", "-n", &namespace, "-l", "kchaos.io/workload=durable", "--now"]).map(drop)
    })?;
    ran.expect_exit(1)?;
    ran.expect("same-pod", "refuted", "counterexample")?;
    ran.expect("neighbour-untouched", "upheld", "held")
}

/// The emptied volume gets back what it had, and its application is started again.
pub fn volume_filled(lab: &Lab) -> Result<(), String> {
    let fill = "for aside in $(find /var/local-path-provisioner -maxdepth 1 -name '*.kchaos-*'); do
            cp -a $aside/. ${aside%.kchaos-*}/
        done";
    let ran = once_in_effect(lab, "volume-lost/emptied", |lab| {
        let namespace = namespace(lab)?;
        on_workers(lab, &format!("{CONTAINERS}{fill}\nkill_containers_of {namespace} durable"))
    })?;
    ran.expect_exit(1)?;
    ran.expect("silently-lost", "refuted", "counterexample")?;
    ran.expect("same-pod", "upheld", "held")
}

/// The node that the volume is on is gone, and somebody gives the pod that waits for it another, empty one: a pod like it
/// that keeps its data in itself. The Deployment's own controller takes it in place of the one that waits.
pub fn waits_no_more(lab: &Lab) -> Result<(), String> {
    let ran = once_in_effect(lab, "volume-lost/node-gone", |lab| {
        let namespace = namespace(lab)?;
        let waiting = wait_for("the pod that waits", Duration::from_secs(120), || {
            let found =
                lab.kubectl(&["get", "pods", "-n", &namespace, "-l", "kchaos.io/workload=roaming", "-o", "json"]);
            let all: Value = serde_json::from_str(&found.ok()?).ok()?;
            let waits = |pod: &&Value| pod["status"]["phase"] == "Pending" && pod["spec"]["nodeName"].is_null();
            all["items"].as_array()?.iter().find(waits).cloned()
        })?;
        // Of two pods too many, the one without a node is removed.
        let mut spec = waiting["spec"].clone();
        spec["nodeName"] = json!(format!("{}-control-plane", lab.cluster));
        for volume in spec["volumes"].as_array_mut().into_iter().flatten() {
            if !volume["persistentVolumeClaim"].is_null() {
                *volume = json!({"name": volume["name"], "emptyDir": {}});
            }
        }
        let pod = pod("roaming-by-hand", &waiting["metadata"]["labels"], &spec);
        create(lab, &format!("-n {namespace}"), &pod)
    })?;
    ran.expect_exit(1)?;
    ran.expect("waits-for-its-volume", "refuted", "counterexample")?;
    ran.expect("not-served", "refuted", "counterexample")?;
    ran.expect("waits-on", "refuted", "counterexample")?;
    ran.expect("not-served-either", "refuted", "counterexample")?;
    ran.expect("node-given-up", "upheld", "held")
}

/// An operator says that a node was deleted, which was not.
pub fn not_given_up(lab: &Lab) -> Result<(), String> {
    fake_kubectl(lab, "delete")?;
    let ran = lab.watched(|lab| lab.run("volume-lost/node-gone"));
    real_kubectl(lab)?;
    let ran = ran?;
    ran.expect_exit(1)?;
    ran.expect("node-given-up", "refuted", "counterexample")?;
    ran.expect("waits-for-its-volume", "upheld", "held")
}

/// With both workers cut off, somebody makes a pod on A's side.
pub fn served_by_hand(lab: &Lab) -> Result<(), String> {
    let ran = lab.watched(|lab| {
        let mut running = lab.begin("partition/two-nodes")?;
        running.heard("baseline: ")?;
        let namespace = namespace(lab)?;
        let template = template(lab, &namespace, "web")?;
        let mut spec = template["spec"].clone();
        spec["nodeName"] = json!(format!("{}-control-plane", lab.cluster));
        let pod = pod("web-by-hand", &template["metadata"]["labels"], &spec);
        running.heard(IN_EFFECT)?;
        create(lab, &format!("-n {namespace}"), &pod)?;
        running.ended()
    })?;
    ran.expect_exit(1)?;
    ran.expect("nobody-serves", "refuted", "counterexample")?;
    ran.expect("node-marked-unknown", "upheld", "happened")?;
    ran.expect("other-marked-unknown", "upheld", "happened")
}

/// The kubelet that is said to be in reach still, though it can't report, is frozen.
pub fn out_of_reach(lab: &Lab) -> Result<(), String> {
    let ran = lab.watched(|lab| {
        let mut running = lab.begin("partition/to-api")?;
        running.heard(IN_EFFECT)?;
        let (node, _) = filtered_node(lab)?;
        running.away_until(UNDO, || signal_kubelet(&node, "STOP"), || signal_kubelet(&node, "CONT"))
    })?;
    ran.expect_exit(1)?;
    ran.expect("log-in-reach", "refuted", "counterexample")?;
    ran.expect("exec-in-reach", "refuted", "counterexample")?;
    ran.expect("node-marked-unknown", "upheld", "happened")
}

/// With the users cut off, a Service whose pods ask the API points nowhere.
pub fn not_let_in(lab: &Lab) -> Result<(), String> {
    let ran = once_in_effect(lab, "partition/from-users", |lab| point_nowhere(lab, "dependent"))?;
    ran.expect_exit(1)?;
    ran.expect("api-clients-let-in", "refuted", "counterexample")?;
    ran.expect("other-noticed-nothing", "upheld", "held")
}

/// A Service with a disruption budget points nowhere once its node is drained.
pub fn guarded_missed(lab: &Lab) -> Result<(), String> {
    let ran = once_in_effect(lab, "node-shutdown/drained", |lab| point_nowhere(lab, "guarded"))?;
    ran.expect_exit(1)?;
    ran.expect("guarded-not-missed", "refuted", "counterexample")?;
    ran.expect("guarded-moved", "upheld", "happened")
}

/// Runs a variant, and interferes once its fault is in effect.
pub fn once_in_effect(
    lab: &Lab,
    selection: &str,
    interfere: impl Fn(&Lab) -> Result<(), String>,
) -> Result<Ran, String> {
    lab.watched(|lab| {
        let mut running = lab.begin(selection)?;
        running.heard(IN_EFFECT)?;
        interfere(lab)?;
        running.ended()
    })
}

/// The namespace of a run's workloads. What observes has one with a longer name.
pub fn namespace(lab: &Lab) -> Result<String, String> {
    let all = lab.kubectl(&["get", "namespaces", "-l", "kchaos.io/run", "-o", "jsonpath={.items[*].metadata.name}"])?;
    all.split(' ')
        .min_by_key(|name| name.len())
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .ok_or_else(|| "there is no namespace".into())
}

/// What a Deployment makes its pods of.
fn template(lab: &Lab, namespace: &str, deployment: &str) -> Result<Value, String> {
    let found = lab.kubectl(&["get", "deployment", deployment, "-n", namespace, "-o", "json"])?;
    let found: Value = serde_json::from_str(&found).map_err(|e| e.to_string())?;
    Ok(found["spec"]["template"].clone())
}

fn pod(name: &str, labels: &Value, spec: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec})
}

/// Makes an object.
fn create(lab: &Lab, how: &str, object: &Value) -> Result<(), String> {
    on_plane(lab, &format!("kubectl --kubeconfig /etc/kubernetes/admin.conf create {how} -f - <<'END'\n{object}\nEND"))
}
