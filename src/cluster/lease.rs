//! Leases: who renews one is there.

use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// Leases, in `kube-system`, of the components of the control plane of which one instance leads: without them Kubernetes reacts to nothing.
pub(crate) const LEADERS: [&str; 2] = ["kube-controller-manager", "kube-scheduler"];

/// How long a lease is valid that does not say so: a kubelet's.
const UNSAID: i32 = 40;

/// Was it renewed so lately that it is still valid, by our clock?
pub(crate) fn is_valid(lease: &LeaseSpec, now: Timestamp) -> bool {
    let valid = SignedDuration::from_secs(i64::from(lease.lease_duration_seconds.unwrap_or(UNSAID)));
    lease.renew_time.as_ref().is_some_and(|renewed| now.duration_since(renewed.0).abs() < valid)
}
