//! The API client: an app that depends on the Kubernetes API.
//!
//! Before each answer it asks the API server for its version, as any pod would: at the address of the Service
//! `kubernetes`, with what the kubelet has put into the pod. Without an answer from there it gives none of its own, but
//! a server error.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use crate::agent::{host_name, listener};
use crate::error::{Error, Result};
use crate::plain_http::{self, NoAnswer};

/// How long the API server may take. It is less than the deadline of a sample, a second, so that the sample is told that
/// this is why there is no answer.
const ANSWERS_WITHIN: Duration = Duration::from_millis(800);

/// How an API server says that it has no time: too many requests, unavailable, and a timeout behind it.
const NO_TIME: [u16; 3] = [429, 503, 504];

/// Arguments of `kchaos agent api-client`.
#[derive(Debug, Args)]
pub struct ApiClientArgs {
    /// Port to answer on.
    #[arg(long, default_value_t = 8080)]
    port: u16,
}

/// Answers until it is stopped.
///
/// # Errors
/// If it is in no pod, or the port is taken.
pub(in crate::agent) async fn run(args: ApiClientArgs) -> Result<()> {
    let mut config = kube::Config::incluster().map_err(|e| Error::could_not_run(format!("no API server: {e}")))?;
    // A client of its own accord would wait, and try again.
    config.default_retry = false;
    // Longer than it is waited for, so that this is never what fails; shorter than connections would pile up.
    config.connect_timeout = Some(2 * ANSWERS_WITHIN);
    let client = kube::Client::try_from(config).map_err(|e| Error::could_not_run(format!("no API client: {e}")))?;
    let listener = listener(args.port).await?;
    let name: Arc<str> = host_name().into();
    plain_http::serve(listener, move || answer(client.clone(), Arc::clone(&name))).await;
    Ok(())
}

/// Its own name, if the API server answers.
async fn answer(client: kube::Client, name: Arc<str>) -> std::result::Result<Arc<str>, NoAnswer> {
    match tokio::time::timeout(ANSWERS_WITHIN, client.apiserver_version()).await {
        Ok(Ok(_)) => Ok(name),
        Ok(Err(kube::Error::Api(status))) if NO_TIME.contains(&status.code) => {
            Err(NoAnswer::Waited(format!("the API server: {status}")))
        }
        Ok(Err(e)) => Err(NoAnswer::Failed(format!("the API server: {e}"))),
        Err(_) => Err(NoAnswer::Waited("the API server does not answer".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures::FutureExt;
    use tokio::net::TcpListener;

    use super::*;

    const VERSION: &str = r#"{"major":"1","minor":"34","gitVersion":"v1.34.4","gitCommit":"","gitTreeState":"","buildDate":"","goVersion":"","compiler":"","platform":""}"#;

    type Answer = std::result::Result<Arc<str>, NoAnswer>;

    /// What it answers beside an API server that says this to everything, or nothing.
    async fn beside(api: Option<fn() -> Answer>) -> Answer {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut config = kube::Config::new(format!("http://{}", listener.local_addr().unwrap()).parse().unwrap());
        config.default_retry = false;
        let client = kube::Client::try_from(config).unwrap();
        let says = move || match api {
            Some(says) => futures::future::ready(says()).left_future(),
            None => futures::future::pending().right_future(),
        };
        tokio::spawn(plain_http::serve(listener, says));
        answer(client, "me".into()).await
    }

    #[tokio::test]
    async fn without_an_answer_from_the_api_it_gives_none() {
        assert_eq!(beside(Some(|| Ok(VERSION.into()))).await.as_deref(), Ok("me"));
        assert!(matches!(beside(Some(|| Ok("not so".into()))).await, Err(NoAnswer::Failed(_))));
        assert!(matches!(beside(Some(|| Err(NoAnswer::Failed(String::new())))).await, Err(NoAnswer::Failed(_))));
        // The API server has no time (504), or says nothing at all.
        assert!(matches!(beside(Some(|| Err(NoAnswer::Waited(String::new())))).await, Err(NoAnswer::Waited(_))));
        assert!(matches!(beside(None).await, Err(NoAnswer::Waited(_))));
    }
}
