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
use crate::plain_http;

/// How long the API server may take. It is less than the deadline of a sample, so that the sample sees an error and not
/// a silence.
const ANSWERS_WITHIN: Duration = Duration::from_millis(500);

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
    config.connect_timeout = Some(ANSWERS_WITHIN);
    let client = kube::Client::try_from(config).map_err(|e| Error::could_not_run(format!("no API client: {e}")))?;
    let listener = listener(args.port).await?;
    let name: Arc<str> = host_name().into();
    plain_http::serve(listener, move || answer(client.clone(), Arc::clone(&name))).await;
    Ok(())
}

/// Its own name, if the API server answers.
async fn answer(client: kube::Client, name: Arc<str>) -> std::result::Result<Arc<str>, String> {
    match tokio::time::timeout(ANSWERS_WITHIN, client.apiserver_version()).await {
        Ok(Ok(_)) => Ok(name),
        Ok(Err(e)) => Err(format!("the API server: {e}")),
        Err(_) => Err("the API server does not answer".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures::FutureExt;
    use tokio::net::TcpListener;

    use super::*;

    /// What it answers beside an API server that gives such an answer to everything, or none.
    async fn beside(api: Option<&'static str>) -> std::result::Result<Arc<str>, String> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut config = kube::Config::new(format!("http://{}", listener.local_addr().unwrap()).parse().unwrap());
        config.default_retry = false;
        let client = kube::Client::try_from(config).unwrap();
        let says = move || match api {
            Some(version) => futures::future::ready(Ok(version.into())).left_future(),
            None => futures::future::pending().right_future(),
        };
        tokio::spawn(plain_http::serve(listener, says));
        answer(client, "me".into()).await
    }

    #[tokio::test]
    async fn without_an_answer_from_the_api_it_gives_none() {
        let version = r#"{"major":"1","minor":"34","gitVersion":"v1.34.4","gitCommit":"","gitTreeState":"","buildDate":"","goVersion":"","compiler":"","platform":""}"#;
        assert_eq!(beside(Some(version)).await.as_deref(), Ok("me"));
        assert!(beside(Some("not so")).await.unwrap_err().contains("the API server"));
        assert!(beside(None).await.unwrap_err().contains("does not answer"));
    }
}
