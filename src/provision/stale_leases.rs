//! Gives back the Leases of leaders that ended with their nodes.
//!
//! A leader that is killed can't give its Lease back, so everybody waits for it to expire. If all control planes were
//! started since a Lease was renewed, its holder is known to be gone, and there is nothing to wait for. A clock that was
//! set back meanwhile would tell the same of a holder that lives: then the start lies in the future.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use tokio::time::timeout;

use super::ready::{LOOK, before};
use crate::cluster::leader_lease;
use crate::component::Leader;

/// The leaders' Leases that are held by instances from before this start, since which all control planes run.
pub(super) fn held_since_before(started: Timestamp, leases: &[Lease], now: Timestamp) -> impl Iterator<Item = &Lease> {
    let is_leaders = |lease: &Lease| Leader::ALL.iter().any(|leader| lease.name_any() == leader.name());
    leases.iter().filter(move |lease| {
        started <= now
            && is_leaders(lease)
            && lease.spec.as_ref().is_some_and(|spec| {
                leader_lease::holder(spec).is_some() && spec.renew_time.as_ref().is_some_and(|t| before(t.0, started))
            })
    })
}

/// Gives a Lease back in its holder's name. It does not matter if that fails: then it expires. It does fail if somebody
/// has taken the Lease meanwhile.
pub(super) async fn give_back(client: &Client, lease: &Lease) {
    let mut given_back = lease.clone();
    let name = given_back.name_any();
    if let Some(spec) = &mut given_back.spec {
        spec.holder_identity = None;
    }
    let api = Api::<Lease>::namespaced(client.clone(), leader_lease::NAMESPACE);
    match timeout(LOOK, api.replace(&name, &PostParams::default(), &given_back)).await {
        Ok(Ok(_)) => tracing::info!("the Lease {name} is given back: its holder ended with its node"),
        Ok(Err(e)) => tracing::info!("the Lease {name} can't be given back: {e}"),
        Err(_) => tracing::info!("the Lease {name} can't be given back: the API hangs"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_a_leader_from_before_the_start_holds_is_stale() {
        let lease = |name: &str, holder: Option<&str>, renewed: &str| -> Lease {
            let spec = json!({"holderIdentity": holder, "renewTime": renewed});
            serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
        };
        let (old, new) = ("2026-11-24T09:00:09.900000Z", "2026-11-24T09:00:10.000000Z");
        let leases = [
            lease("kube-controller-manager", Some("cp_1"), old),
            lease("kube-controller-manager", None, old),
            lease("kube-scheduler", Some("cp_1"), new),
            // A node's own, and one of somebody else's.
            lease("cp", Some("cp"), old),
            lease("an-operator", Some("pod_1"), old),
        ];
        let started = "2026-11-24T09:00:10.700Z".parse().unwrap();
        let stale = |now: &str| held_since_before(started, &leases, now.parse().unwrap()).collect::<Vec<_>>();
        assert_eq!(stale("2026-11-24T09:00:31Z"), [&leases[0]]);
        assert_eq!(stale("2026-11-24T08:00:31Z"), Vec::<&Lease>::new(), "the clock was set back");
    }
}
