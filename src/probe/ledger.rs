//! The ledger: checks whether acknowledged writes are still there.
//!
//! Every later look must find an acknowledged write. An unacknowledged write may or may not have happened, and its
//! absence is no loss. Each list must contain the canary object and must not contain a name under which nothing was
//! ever written; else the probe is blind.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::believed::ABSENT;
use super::{Pace, Source, Taken, blind};
use crate::event::{Outcome, Value};
use crate::workload::CANARY;

/// Names of all acknowledged writes.
#[derive(Debug, Clone, Default)]
pub(super) struct Acknowledged(Arc<Mutex<BTreeSet<String>>>);

impl Acknowledged {
    pub(super) fn put(&self, name: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
    }

    /// The names so far.
    fn so_far(&self) -> BTreeSet<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What is looked for.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// Index of the probe in the plan.
    pub probe: usize,
    /// The namespace that is written to.
    pub namespace: String,
}

/// Looks at its pace, forever.
pub(super) async fn poll(asked: Asked, pace: Pace, client: Client, acknowledged: Acknowledged, source: Source) {
    super::poll(pace, source, &[asked.probe], move |slot| {
        let (asked, client) = (asked.clone(), client.clone());
        // A write that is acknowledged while the answer is on its way need not be in it.
        let written = acknowledged.so_far();
        async move {
            let api = Api::<ConfigMap>::namespaced(client, &asked.namespace);
            // Without a resource version, so that the answer is not older than the question.
            let all = ListParams::default();
            let look = tokio::time::timeout(pace.timeout, api.list_metadata(&all));
            let (taken, seen) = Taken::take(&slot, look).await;
            let outcome = match seen {
                Ok(Ok(list)) => lost(&written, &list.iter().map(ResourceExt::name_any).collect()),
                // An API that does not answer is for the `api` probe to report; here it says nothing.
                Ok(Err(error)) => Outcome::Unknown(format!("the API: {error}")),
                Err(_) => Outcome::Unknown("the API did not answer in time".into()),
            };
            vec![(asked.probe, taken, outcome)]
        }
    })
    .await;
}

fn lost(written: &BTreeSet<String>, there: &BTreeSet<String>) -> Outcome {
    if there.contains(ABSENT) {
        return blind("the API has what was never written");
    }
    if !there.contains(CANARY) {
        return blind("the API lacks what was written before all else");
    }
    if written.is_empty() {
        return Outcome::Unknown("nothing was acknowledged yet".into());
    }
    Outcome::Saw(Value::Count(written.difference(there).count() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn what_was_acknowledged_and_is_not_there_is_lost_and_what_nobody_acknowledged_is_not() {
        let seen = lost(&names(&["write-1", "write-2", "write-4"]), &names(&[CANARY, "write-2", "write-3"]));
        assert_eq!(seen, Outcome::Saw(Value::Count(2)));
    }

    #[test]
    fn an_api_that_has_what_was_never_written_or_lacks_what_was_makes_it_blind() {
        for there in [&[CANARY, "write-1", ABSENT][..], &["write-1"], &[]] {
            assert!(matches!(lost(&names(&["write-1"]), &names(there)), Outcome::Unknown(_)), "{there:?}");
        }
    }

    #[test]
    fn where_nothing_was_acknowledged_nothing_is_said() {
        assert!(matches!(lost(&names(&[]), &names(&[CANARY])), Outcome::Unknown(_)));
    }
}
