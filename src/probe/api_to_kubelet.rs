//! Checks whether an API server reaches a kubelet, which it must in order to give a pod's log or to run a command in the
//! pod.
//!
//! Each look also asks for the same of a pod that does not exist, which the API server refuses without asking a kubelet.
//! If that isn't refused in time, the API itself does not answer, and nothing is known about the kubelet.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{AttachParams, LogParams};
use kube::{Api, Client, Error};
use tokio::io::AsyncReadExt;

use super::api::failure;
use super::believed::ABSENT;
use super::{Pace, Source, Taken, blind};
use crate::sample::{Failure, Outcome, Value};
use crate::scenario::KubeletService;

/// What is asked for.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// Index of the probe in the plan.
    pub probe: usize,
    /// What the kubelet is to do.
    pub wants: KubeletService,
    /// Name of the pod.
    pub pod: String,
    /// Its namespace.
    pub namespace: String,
}

/// A command that the workloads' images have, and what it prints.
const COMMAND: [&str; 2] = ["echo", PRINTED];
const PRINTED: &str = "run";

/// What the API server passes on if a kubelet was asked, and did not do it.
const OF_A_KUBELET: [&str; 2] = ["unable to upgrade connection", "executing command in container"];

/// Asks at its pace, forever.
pub(super) async fn poll(asked: Asked, pace: Pace, client: Client, source: Source) {
    super::poll(pace, source, &[asked.probe], move |slot| {
        let (asked, client) = (asked.clone(), client.clone());
        async move {
            let api = Api::<Pod>::namespaced(client, &asked.namespace);
            let answer = tokio::time::timeout(pace.timeout, ask(&api, asked.wants, &asked.pod));
            let canary = tokio::time::timeout(pace.timeout, ask(&api, asked.wants, ABSENT));
            let ((taken, answer), canary) = tokio::join!(Taken::take(&slot, answer), canary);
            let outcome = match (answer, canary) {
                (_, Ok(Ok(_))) => blind("the API does what it is asked of a pod that does not exist"),
                (_, Err(_)) => Outcome::Unknown("the API did not answer in time".into()),
                (_, Ok(Err(error))) if !matches!(error, Error::Api(_)) => Outcome::Unknown(format!("the API: {error}")),
                (Ok(Ok(outcome)), _) => outcome,
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

/// Has it done.
async fn ask(api: &Api<Pod>, wants: KubeletService, pod: &str) -> Result<Outcome, Error> {
    match wants {
        KubeletService::Log => {
            let last = LogParams { tail_lines: Some(1), ..LogParams::default() };
            api.logs(pod, &last).await?;
            Ok(Outcome::Saw(Value::Text("given".into())))
        }
        KubeletService::Exec => {
            let mut process = api.exec(pod, COMMAND, &AttachParams::default().stderr(false)).await?;
            let (status, stdout) = (process.take_status(), process.stdout());
            let mut printed = String::new();
            if let Some(mut stdout) = stdout {
                // What breaks off has no status, either.
                let _ = stdout.read_to_string(&mut printed).await;
            }
            let status = match status {
                Some(status) => status.await,
                None => None,
            };
            Ok(ended(status, &printed))
        }
    }
}

/// What came of a command. The API server switches to the command's streams before it asks the kubelet, so what goes
/// wrong then comes as a status at their end.
fn ended(status: Option<Status>, printed: &str) -> Outcome {
    let Some(status) = status else { return Outcome::Failed(Failure::Reset) };
    let message = status.message.unwrap_or_default();
    match status.status.as_deref() {
        Some("Success") if printed.trim_end() == PRINTED => Outcome::Saw(Value::Text("run".into())),
        Some("Success") => Outcome::Unknown(format!("the command printed {printed:?}")),
        // The kubelet has answered.
        _ if status.reason.as_deref() == Some("NonZeroExitCode")
            || OF_A_KUBELET.iter().any(|of| message.contains(of)) =>
        {
            Outcome::Unknown(format!("the kubelet: {message}"))
        }
        _ => Outcome::Failed(Failure::Other(message)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn came_of(status: serde_json::Value, printed: &str) -> Outcome {
        ended(Some(serde_json::from_value(status).unwrap()), printed)
    }

    #[test]
    fn a_command_has_run_if_it_ended_well_and_printed_what_it_should() {
        let saw = Outcome::Saw(Value::Text("run".into()));
        assert_eq!(came_of(json!({"status": "Success"}), "run\n"), saw);
        assert!(matches!(came_of(json!({"status": "Success"}), ""), Outcome::Unknown(_)));
    }

    #[test]
    fn a_kubelet_that_answers_is_within_reach_and_one_that_can_not_be_asked_is_not() {
        let failed = |reason: &str, message: &str| json!({"status": "Failure", "reason": reason, "message": message});
        let told = came_of(failed("NonZeroExitCode", "command terminated with non-zero exit code"), "");
        assert!(matches!(told, Outcome::Unknown(_)), "{told:?}");
        let told = came_of(failed("InternalError", "unable to upgrade connection: container not found (\"lone\")"), "");
        assert!(matches!(told, Outcome::Unknown(_)), "{told:?}");
        let why = "error dialing backend: dial tcp 10.0.0.3:10250: i/o timeout";
        assert_eq!(came_of(failed("InternalError", why), ""), Outcome::Failed(Failure::Other(why.into())));
        assert_eq!(ended(None, ""), Outcome::Failed(Failure::Reset));
    }
}
