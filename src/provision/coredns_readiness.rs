//! Makes cluster DNS Ready as soon as it can be.
//!
//! kubeadm has CoreDNS probed for readiness every 10 s. After a start from nothing, its first answer is "no" (the API
//! is not there yet), so it becomes Ready up to 10 s later than it could: half of the time within which the whole
//! cluster is to be back.

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::cluster::Cluster;
use crate::error::{Error, Result};

const NAME: &str = "coredns";
const NAMESPACE: &str = "kube-system";

/// Has CoreDNS probed every second.
///
/// # Errors
/// If the API does not accept the change.
pub(super) async fn ask_often(cluster: &Cluster) -> Result<()> {
    let api = Api::<Deployment>::namespaced(cluster.client().await?, NAMESPACE);
    let container = json!({"name": NAME, "readinessProbe": {"periodSeconds": 1}});
    let patch = Patch::Strategic(json!({"spec": {"template": {"spec": {"containers": [container]}}}}));
    let patched = api.patch(NAME, &PatchParams::default(), &patch).await;
    patched.map(drop).map_err(|e| Error::could_not_run(format!("cannot change how CoreDNS is asked: {e}")))
}
