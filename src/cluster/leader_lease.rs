//! Reads the Leases that show which instance of a control-plane component leads.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Api;

use crate::component::Leader;
use crate::error::Error;

/// Namespace of the control-plane components' Leases.
pub(crate) const NAMESPACE: &str = "kube-system";
/// How long the API may take to return a Lease.
const WITHIN: Duration = Duration::from_secs(10);

/// Validity in seconds that is assumed for a Lease that states none: that of a kubelet's Lease.
const UNSAID: i32 = 40;

/// Reads the Lease in `kube-system` by which one instance of a component leads.
///
/// # Errors
/// If the API does not return it in time; the string says why.
pub(crate) async fn of(client: &kube::Client, leader: Leader) -> Result<Option<LeaseSpec>, String> {
    let api = Api::<Lease>::namespaced(client.clone(), NAMESPACE);
    match tokio::time::timeout(WITHIN, api.get_opt(leader.name())).await {
        Ok(lease) => Ok(lease.map_err(|e| e.to_string())?.and_then(|lease| lease.spec)),
        Err(_) => Err(format!("no answer within {WITHIN:?}")),
    }
}

/// Name of the node on which a component's leader runs.
///
/// # Errors
/// If the API does not say so, or nobody leads.
pub(crate) async fn leader(client: &kube::Client, leader: Leader) -> crate::error::Result<String> {
    let lease = of(client, leader).await;
    let nobody = |why: &str| Error::could_not_run(format!("who leads as {} is not known: {why}", leader.name()));
    let lease = lease.map_err(|why| nobody(&format!("the API: {why}")))?;
    let lease = lease.filter(|lease| is_valid(lease, Timestamp::now())).ok_or_else(|| nobody("nobody does"))?;
    Ok(holder(&lease).unwrap_or_default())
}

/// Name of the node whose instance holds a Lease. Holder identities have the form `NODE_UUID`.
pub(crate) fn holder(lease: &LeaseSpec) -> Option<String> {
    let identity = lease.holder_identity.as_deref().filter(|identity| !identity.is_empty())?;
    Some(identity.rsplit_once('_').map_or(identity, |(node, _)| node).to_owned())
}

/// Whether the last renewal is recent enough that the Lease is still valid, by our clock.
pub(crate) fn is_valid(lease: &LeaseSpec, now: Timestamp) -> bool {
    let valid = SignedDuration::from_secs(i64::from(lease.lease_duration_seconds.unwrap_or(UNSAID)));
    lease.renew_time.as_ref().is_some_and(|renewed| now.duration_since(renewed.0).abs() < valid)
}
