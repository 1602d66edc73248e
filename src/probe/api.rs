//! Does the API server serve? Reads that can't come from a cache, and writes that count only when acknowledged.
//!
//! Every write makes an object of its own: no two wait for each other in the server, and what was acknowledged can be looked for
//! afterwards. Beside each question one is asked that must be refused; an API that grants it makes the probe blind.

use std::error::Error as _;
use std::io;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};

use super::believed::ABSENT;
use super::ledger::Acknowledged;
use super::{Pace, Source, Taken, blind};
use crate::agent::http;
use crate::event::{Failure, Outcome, Value};
use crate::scenario::ApiVerb;
use crate::workload::CANARY;

/// What is asked of whom.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// Index of the probe in the plan.
    pub probe: usize,
    /// A read or a write.
    pub verb: ApiVerb,
    /// By whose way: a part of the names of what is written.
    pub by: String,
    /// The run's namespace.
    pub namespace: String,
}

/// Asks, at its pace, for ever. Writes that are acknowledged are put into the ledger.
pub(super) async fn poll(asked: Asked, pace: Pace, client: Client, acknowledged: Acknowledged, source: Source) {
    super::poll(pace, source, move |slot| {
        let (asked, client, acknowledged) = (asked.clone(), client.clone(), acknowledged.clone());
        async move {
            let answer = tokio::time::timeout(pace.timeout, ask(&client, &asked, slot.number));
            let canary = tokio::time::timeout(pace.timeout, is_granted(&client, &asked));
            let ((taken, answer), canary) = tokio::join!(Taken::take(&slot, answer), canary);
            if let (ApiVerb::Write, Ok(Ok(written))) = (asked.verb, &answer) {
                acknowledged.put(written.clone());
            }
            let outcome = match (answer, canary) {
                (_, Ok(true)) => blind("the API grants what it must refuse"),
                (Ok(Ok(_)), _) => Outcome::Saw(Value::Text(said(asked.verb).into())),
                (Ok(Err(error)), _) => Outcome::Failed(failure(&error)),
                (Err(_), _) => Outcome::Failed(Failure::Timeout),
            };
            vec![(asked.probe, taken, outcome)]
        }
    })
    .await;
}

/// What an answer comes to. Nothing that differs from one to the next: it is told whenever it changes.
fn said(verb: ApiVerb) -> &'static str {
    match verb {
        ApiVerb::Read | ApiVerb::ReadDefault => "found",
        ApiVerb::Write => "acknowledged",
    }
}

/// Gives the name of what was read or written.
async fn ask(client: &Client, asked: &Asked, slot: u64) -> kube::Result<String> {
    let (maps, namespaces) = of(client, asked);
    match asked.verb {
        ApiVerb::Read => maps.get(CANARY).await.map(|found| found.name_any()),
        ApiVerb::ReadDefault => namespaces.get("default").await.map(|found| found.name_any()),
        ApiVerb::Write => {
            let made = maps.create(&PostParams::default(), &named(format!("write-{}-{slot}", asked.by))).await;
            made.map(|made| made.name_any())
        }
    }
}

/// Is something granted that never may be: an object that is not there, a name that is none?
async fn is_granted(client: &Client, asked: &Asked) -> bool {
    let (maps, namespaces) = of(client, asked);
    match asked.verb {
        ApiVerb::Read => maps.get(ABSENT).await.is_ok(),
        ApiVerb::ReadDefault => namespaces.get(ABSENT).await.is_ok(),
        ApiVerb::Write => maps.create(&PostParams::default(), &named("No_Such_Name".into())).await.is_ok(),
    }
}

fn of(client: &Client, asked: &Asked) -> (Api<ConfigMap>, Api<Namespace>) {
    (Api::namespaced(client.clone(), &asked.namespace), Api::all(client.clone()))
}

fn named(name: String) -> ConfigMap {
    ConfigMap { metadata: ObjectMeta { name: Some(name), ..ObjectMeta::default() }, ..ConfigMap::default() }
}

/// What an error of the client says of the server.
pub(super) fn failure(error: &kube::Error) -> Failure {
    if let kube::Error::Api(status) = error {
        return Failure::Status(status.code);
    }
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(failure) = error.downcast_ref::<io::Error>().and_then(http::failure) {
            return failure;
        }
        cause = error.source();
    }
    Failure::Other(error.to_string())
}
