//! Hastens the removal of a run's namespaces, which the API was already told.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::{LOOK_AGAIN, TAKEN_AT_ONCE};
use crate::plan::Plan;

/// Annotation on a namespace that is being removed, once its pods are gone.
const PODS: &str = "kchaos.io/pods";

/// Runs `waiting`, which waits for a run's namespaces to be removed, and hastens their removal meanwhile.
///
/// Pods and volumes of nodes whose containers were `removed` are given up: no kubelet will ever say that they are gone.
/// What is asked for here is asked for again and again until it is done, so answers are not looked at.
///
/// Once no pod is left in a namespace, this reminds the namespace's controller to look again. On its own the controller
/// would look ever more rarely (after 5 s, 10 s, 20 s, 40 s), but it looks 5 s after any change. Kubelets that could
/// not reach the API take up to a minute to end their pods.
pub(crate) async fn hastened<T>(
    client: Option<&Client>,
    plan: &Plan,
    removed: &BTreeSet<String>,
    waiting: impl Future<Output = T>,
) -> T {
    let Some(client) = client else { return waiting.await };
    let watch = plan.watch_namespace();
    let theirs = plan.manifests.as_ref().map(|manifests| &manifests.namespace);
    let namespaces: BTreeSet<&str> = [&plan.namespace, &watch].into_iter().chain(theirs).map(String::as_str).collect();
    let hastening = async {
        let each = join_all(namespaces.iter().map(|namespace| pods_gone(client, namespace, removed)));
        tokio::join!(each, volumes_given_up(client, &namespaces, removed))
    };
    let mut waiting = pin!(waiting);
    tokio::select! {
        biased;
        waited = &mut waiting => waited,
        _ = hastening => waiting.await,
    }
}

async fn pods_gone(client: &Client, namespace: &str, removed: &BTreeSet<String>) {
    let (pods, all) = (Api::<Pod>::namespaced(client.clone(), namespace), ListParams::default());
    loop {
        if let Ok(Ok(left)) = tokio::time::timeout(TAKEN_AT_ONCE, pods.list(&all)).await {
            if left.items.is_empty() {
                break;
            }
            for pod in left.items.iter().filter(|pod| was_on(pod, removed)) {
                let (name, now) = (pod.name_any(), DeleteParams::default().grace_period(0));
                let _ = tokio::time::timeout(TAKEN_AT_ONCE, pods.delete(&name, &now)).await;
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let changed = Patch::Merge(json!({"metadata": {"annotations": {PODS: "gone"}}}));
    let namespaces = Api::<Namespace>::all(client.clone());
    if let Err(error) = namespaces.patch(namespace, &PatchParams::default(), &changed).await {
        tracing::debug!("namespace {namespace} is gone already, or waits for its turn: {error}");
    }
}

fn was_on(pod: &Pod, removed: &BTreeSet<String>) -> bool {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    node.is_some_and(|node| removed.contains(node))
}

/// Deletes the volumes of claims in these namespaces that can only be on removed nodes, whenever there are any. Their
/// provisioner would have to clean them up there.
async fn volumes_given_up(client: &Client, namespaces: &BTreeSet<&str>, removed: &BTreeSet<String>) {
    if removed.is_empty() {
        return;
    }
    let volumes = Api::<PersistentVolume>::all(client.clone());
    loop {
        if let Ok(Ok(all)) = tokio::time::timeout(TAKEN_AT_ONCE, volumes.list(&ListParams::default())).await {
            for volume in all.items.iter().filter(|volume| is_lost(volume, namespaces, removed)) {
                let (name, now) = (volume.name_any(), DeleteParams::default());
                let _ = tokio::time::timeout(TAKEN_AT_ONCE, volumes.delete(&name, &now)).await;
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn is_lost(volume: &PersistentVolume, namespaces: &BTreeSet<&str>, removed: &BTreeSet<String>) -> bool {
    let Some(spec) = &volume.spec else { return false };
    let claimed = spec.claim_ref.as_ref().and_then(|claim| claim.namespace.as_deref());
    let required = spec.node_affinity.as_ref().and_then(|affinity| affinity.required.as_ref());
    // Every alternative must want a host that was removed.
    let nowhere = required.is_some_and(|required| {
        required.node_selector_terms.iter().all(|term| {
            term.match_expressions.iter().flatten().any(|wants| {
                let hosts = wants.values.iter().flatten();
                wants.key == "kubernetes.io/hostname"
                    && wants.operator == "In"
                    && hosts.into_iter().all(|host| removed.contains(host))
            })
        })
    });
    nowhere && claimed.is_some_and(|namespace| namespaces.contains(namespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(namespace: &str, hosts: &[&str]) -> PersistentVolume {
        let term = json!({"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": hosts}]});
        let affinity = json!({"required": {"nodeSelectorTerms": [term]}});
        let spec = json!({"claimRef": {"namespace": namespace}, "nodeAffinity": affinity});
        serde_json::from_value(json!({"metadata": {"name": "v"}, "spec": spec})).unwrap()
    }

    #[test]
    fn only_volumes_of_the_run_that_can_be_nowhere_else_are_given_up() {
        let (namespaces, removed) = (BTreeSet::from(["ours"]), BTreeSet::from(["gone".to_owned()]));
        let is_lost = |volume: &PersistentVolume| super::is_lost(volume, &namespaces, &removed);
        assert!(is_lost(&volume("ours", &["gone"])));
        assert!(!is_lost(&volume("theirs", &["gone"])));
        assert!(!is_lost(&volume("ours", &["there"])));
        assert!(!is_lost(&volume("ours", &["gone", "there"])));
        let mut anywhere = volume("ours", &["gone"]);
        anywhere.spec.as_mut().unwrap().node_affinity = None;
        assert!(!is_lost(&anywhere));
    }
}
