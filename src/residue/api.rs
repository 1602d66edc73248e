//! The objects of a cluster that faults may change, as the API gives them.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams};
use serde::de::DeserializeOwned;

use super::Census;
use crate::cluster::leader_lease::{self, is_valid};
use crate::component::Leader;

/// Time for one request.
const WITHIN: Duration = Duration::from_secs(10);
/// Prefix of every label that kchaos sets.
const OURS: &str = "kchaos.io/";

/// Adds the cluster's nodes, leaders and store, the rights of its administrators, and what is left of ours. An API that
/// does not answer is an item of its own.
pub(super) async fn objects(client: &kube::Client, census: &mut Census) {
    if let Err(why) = ask(client, census).await {
        census.put("api".into(), format!("does not answer: {why}"));
    }
}

async fn ask(client: &kube::Client, census: &mut Census) -> Result<(), String> {
    for node in list::<Node>(client).await? {
        let name = node.metadata.name.unwrap_or_default();
        let spec = node.spec.unwrap_or_default();
        for taint in spec.taints.unwrap_or_default() {
            census
                .put(format!("api/node/{name}/taint/{}:{}", taint.key, taint.effect), taint.value.unwrap_or_default());
        }
        if let Some(network) = spec.pod_cidr {
            census.put(format!("api/node/{name}/pod-cidr"), network);
        }
        if spec.unschedulable == Some(true) {
            census.put(format!("api/node/{name}/cordoned"), "yes");
        }
        let conditions = node.status.and_then(|s| s.conditions).unwrap_or_default();
        if let Some(ready) = conditions.into_iter().find(|c| c.type_ == "Ready") {
            census.put(format!("api/node/{name}/ready"), ready.status);
        }
    }
    for leader in Leader::ALL {
        // Which instance leads does not matter, and may have changed.
        if leader_lease::of(client, leader).await?.is_some_and(|lease| is_valid(&lease, Timestamp::now())) {
            census.put(format!("api/leader/{}", leader.name()), "leads");
        }
    }
    let mut ours = BTreeSet::new();
    for namespace in list::<Namespace>(client).await? {
        // Every store has this namespace, and no two stores share its uid.
        if namespace.metadata.name.as_deref() == Some("kube-system") {
            census.put("api/store".into(), namespace.metadata.uid.clone().unwrap_or_default());
        }
        let labels = namespace.metadata.labels.unwrap_or_default();
        if labels.keys().any(|label| label.starts_with(OURS)) {
            let name = namespace.metadata.name.unwrap_or_default();
            census
                .put(format!("leftover/namespace/{name}"), namespace.status.and_then(|s| s.phase).unwrap_or_default());
            ours.insert(name);
        }
    }
    // The bindings that give the administrators of a kubeadm cluster their rights.
    for binding in list::<ClusterRoleBinding>(client).await? {
        let name = binding.metadata.name.unwrap_or_default();
        if name.starts_with("kubeadm:") {
            let subjects = binding.subjects.unwrap_or_default().into_iter().map(|subject| subject.name);
            let to = subjects.collect::<Vec<_>>().join(",");
            census.put(format!("api/binding/{name}"), format!("{} to {to}", binding.role_ref.name));
        }
    }
    for webhook in list::<ValidatingWebhookConfiguration>(client).await? {
        let name = webhook.metadata.name.unwrap_or_default();
        if name.starts_with("kchaos-") {
            census.put(format!("leftover/webhook/{name}"), "there");
        }
    }
    for volume in list::<PersistentVolume>(client).await? {
        // The namespace is deleted first. A volume of ours is then known by the namespace of its claim, which must have
        // our prefix.
        let claim = volume.spec.and_then(|s| s.claim_ref).and_then(|c| c.namespace).unwrap_or_default();
        if ours.contains(&claim) || claim.starts_with("kchaos-") {
            let name = volume.metadata.name.unwrap_or_default();
            census.put(format!("leftover/volume/{name}"), claim);
        }
    }
    Ok(())
}

async fn list<K>(client: &kube::Client) -> Result<Vec<K>, String>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::ClusterResourceScope> + Clone + std::fmt::Debug,
    K: DeserializeOwned,
{
    let api = Api::<K>::all(client.clone());
    match tokio::time::timeout(WITHIN, api.list(&ListParams::default())).await {
        Ok(Ok(list)) => Ok(list.items),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err(format!("no answer within {WITHIN:?}")),
    }
}
