//! Checks whether an API server reaches a kubelet, which it must in order to give a pod's log.
//!
//! Each look also asks for the log of a pod that does not exist, which the API server refuses without asking a kubelet.
//! If that isn't refused in time, the API itself does not answer, and nothing is known about the kubelet.

use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use kube::{Api, Client};

use super::api::failure;
use super::believed::ABSENT;
use super::{Pace, Source, Taken, blind};
use crate::sample::{Failure, Outcome, Value};

/// Which pod's log is asked for.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// Index of the probe in the plan.
    pub probe: usize,
    /// Name of the pod.
    pub pod: String,
    /// Its namespace.
    pub namespace: String,
}

/// Asks at its pace, forever.
pub(super) async fn poll(asked: Asked, pace: Pace, client: Client, source: Source) {
    super::poll(pace, source, &[asked.probe], move |slot| {
        let (asked, client) = (asked.clone(), client.clone());
        async move {
            let api = Api::<Pod>::namespaced(client, &asked.namespace);
            let last = LogParams { tail_lines: Some(1), ..LogParams::default() };
            let answer = tokio::time::timeout(pace.timeout, api.logs(&asked.pod, &last));
            let canary = tokio::time::timeout(pace.timeout, api.logs(ABSENT, &last));
            let ((taken, answer), canary) = tokio::join!(Taken::take(&slot, answer), canary);
            let outcome = match (answer, canary) {
                (_, Ok(Ok(_))) => blind("the API gives the log of a pod that does not exist"),
                (_, Err(_)) => Outcome::Unknown("the API did not answer in time".into()),
                (_, Ok(Err(error))) if !matches!(error, kube::Error::Api(_)) => {
                    Outcome::Unknown(format!("the API: {error}"))
                }
                (Ok(Ok(_)), _) => Outcome::Saw(Value::Text("given".into())),
                (Ok(Err(error)), _) => match failure(&error) {
                    // The API server refuses by itself, without asking a kubelet: there is no such pod, or none that
                    // has started.
                    Failure::Status(code @ 400..500) => Outcome::Unknown(format!("the API: status {code}")),
                    failed => Outcome::Failed(failed),
                },
                (Err(_), _) => Outcome::Failed(Failure::Timeout),
            };
            vec![(asked.probe, taken, outcome)]
        }
    })
    .await;
}
