//! Sabotage from outside, beside a fault that is real: a documented consequence is prevented, or what a mitigation gave
//! is taken away again. The claims about it must be refuted, and the others upheld.

use std::time::Duration;

use serde_json::{Value, json};

use super::lab::{Lab, Ran, wait_for};
use super::{on_plane, on_workers};

/// Shell: finds and kills the containers of a workload on a node.
const CONTAINERS: &str = include_str!("../../src/in_node/lib-containers.sh");
/// What a run says once its fault is in.
const IN_EFFECT: &str = "the fault is in effect";
/// What it says when it begins to put back.
const UNDO: &str = "undo: ";

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

/// While etcd's data is lost, somebody ends the containers whose kubelets are said to keep them.
pub fn containers_ended(lab: &Lab) -> Result<(), String> {
    let ran = lab.watched(|lab| {
        let mut running = lab.begin("storage-lost/wiped")?;
        running.heard("baseline: ")?;
        let namespace = namespace(lab)?;
        running.heard(IN_EFFECT)?;
        on_workers(lab, &format!("{CONTAINERS}kill_containers_of {namespace} web"))?;
        running.ended()
    })?;
    ran.expect_exit(1)?;
    ran.expect("containers-run-on", "refuted", "counterexample")?;
    ran.expect("knows-nothing", "upheld", "held")?;
    ran.expect("known-again", "upheld", "held")
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
        let taken = on_plane(lab, &take);
        let undone = running.heard(UNDO);
        on_plane(lab, &give_back)?;
        taken.and(undone)?;
        running.ended()
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
        let found = lab.kubectl(&["get", "deployment", "shop", "-n", &namespace, "-o", "json"])?;
        let shop: Value = serde_json::from_str(&found).map_err(|e| e.to_string())?;
        let template = &shop["spec"]["template"];
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "shop-by-hand", "labels": template["metadata"]["labels"]},
            "spec": template["spec"],
        });
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

/// Makes an object.
fn create(lab: &Lab, how: &str, object: &Value) -> Result<(), String> {
    on_plane(lab, &format!("kubectl --kubeconfig /etc/kubernetes/admin.conf create {how} -f - <<'END'\n{object}\nEND"))
}
