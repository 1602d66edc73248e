//! The ledger: checks whether acknowledged writes are still there, and refused ones are not.
//!
//! Every later look must find an acknowledged write, and none may find a refused one. A write that is neither may or may
//! not have happened. Each list must contain the canary object and must not contain a name under which nothing was ever
//! written; else the probe is blind.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::believed::ABSENT;
use super::{Pace, Source, Taken, blind};
use crate::sample::{Outcome, Value};
use crate::scenario::WriteState;
use crate::workload::CANARY;

/// Names of what was written, by what became of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger(Arc<Mutex<Names>>);

#[derive(Debug, Clone, Default)]
struct Names {
    acknowledged: BTreeSet<String>,
    refused: BTreeSet<String>,
}

impl Ledger {
    pub(super) fn acknowledged(&self, name: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).acknowledged.insert(name);
    }

    pub(super) fn refused(&self, name: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).refused.insert(name);
    }

    /// The names so far.
    fn so_far(&self) -> Names {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What is looked for.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// Index of the probe in the plan.
    pub probe: usize,
    /// Which writes are counted.
    pub that: WriteState,
    /// The namespace that is written to.
    pub namespace: String,
}

/// Looks at its pace, forever.
pub(super) async fn poll(asked: Asked, pace: Pace, client: Client, ledger: Ledger, source: Source) {
    super::poll(pace, source, &[asked.probe], move |slot| {
        let (asked, client) = (asked.clone(), client.clone());
        // A write that is acknowledged while the answer is on its way need not be in it.
        let written = ledger.so_far();
        async move {
            let api = Api::<ConfigMap>::namespaced(client, &asked.namespace);
            // Without a resource version, so that the answer is not older than the question.
            let all = ListParams::default();
            let look = tokio::time::timeout(pace.timeout, api.list_metadata(&all));
            let (taken, seen) = Taken::take(&slot, look).await;
            let outcome = match seen {
                Ok(Ok(list)) => count(asked.that, &written, &list.iter().map(ResourceExt::name_any).collect()),
                // An API that does not answer is for the `api` probe to report; here it says nothing.
                Ok(Err(error)) => Outcome::Unknown(format!("the API: {error}")),
                Err(_) => Outcome::Unknown("the API did not answer in time".into()),
            };
            vec![(asked.probe, taken, outcome)]
        }
    })
    .await;
}

fn count(that: WriteState, written: &Names, there: &BTreeSet<String>) -> Outcome {
    if there.contains(ABSENT) {
        return blind("the API has what was never written");
    }
    if !there.contains(CANARY) {
        return blind("the API lacks what was written before all else");
    }
    let (those, what) = match that {
        WriteState::Lost => (&written.acknowledged, "acknowledged"),
        WriteState::Refused => (&written.refused, "refused"),
    };
    if those.is_empty() {
        return Outcome::Unknown(format!("nothing was {what} yet"));
    }
    let found = match that {
        WriteState::Lost => those.difference(there).count(),
        WriteState::Refused => those.intersection(there).count(),
    };
    Outcome::Saw(Value::Count(found as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    fn lost(acknowledged: &[&str], there: &[&str]) -> Outcome {
        let written = Names { acknowledged: names(acknowledged), ..Names::default() };
        count(WriteState::Lost, &written, &names(there))
    }

    #[test]
    fn what_was_acknowledged_and_is_not_there_is_lost_and_what_nobody_acknowledged_is_not() {
        let seen = lost(&["write-1", "write-2", "write-4"], &[CANARY, "write-2", "write-3"]);
        assert_eq!(seen, Outcome::Saw(Value::Count(2)));
    }

    #[test]
    fn what_was_refused_may_not_be_there_and_what_nobody_answered_may() {
        let written = Names { acknowledged: names(&["write-1"]), refused: names(&["write-2", "write-3"]) };
        let seen = |there: &[&str]| count(WriteState::Refused, &written, &names(there));
        assert_eq!(seen(&[CANARY, "write-1", "write-4"]), Outcome::Saw(Value::Count(0)));
        assert_eq!(seen(&[CANARY, "write-1", "write-3"]), Outcome::Saw(Value::Count(1)));
    }

    #[test]
    fn an_api_that_has_what_was_never_written_or_lacks_what_was_makes_it_blind() {
        for there in [&[CANARY, "write-1", ABSENT][..], &["write-1"], &[]] {
            assert!(matches!(lost(&["write-1"], there), Outcome::Unknown(_)), "{there:?}");
        }
    }

    #[test]
    fn where_nothing_was_acknowledged_or_refused_nothing_is_said() {
        assert!(matches!(lost(&[], &[CANARY]), Outcome::Unknown(_)));
        let written = Names { acknowledged: names(&["write-1"]), ..Names::default() };
        assert!(matches!(count(WriteState::Refused, &written, &names(&[CANARY, "write-1"])), Outcome::Unknown(_)));
    }
}
