//! Checks whether the API server serves: by reads that can't come from a cache (or that may, if that is asked for), and by
//! writes that count only when acknowledged.
//!
//! Every write makes an object of its own, so no two wait for each other in the server, and acknowledged writes can be
//! looked for afterwards. Beside each question, one is asked that must be refused; an API that grants it makes the
//! probe blind.

use std::error::Error as _;
use std::io;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{GetParams, PostParams};
use kube::{Api, Client, ResourceExt};

use super::believed::ABSENT;
use super::ledger::Ledger;
use super::{Pace, Source, Taken, blind};
use crate::plain_http;
use crate::sample::{Failure, Outcome, Value};
use crate::scenario::ApiVerb;
use crate::workload::CANARY;

/// What is asked.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// Index of the probe in the plan.
    pub probe: usize,
    /// A read or a write.
    pub verb: ApiVerb,
    /// The way the question takes: a part of the names of written objects.
    pub by: String,
    /// The namespace that is read and written.
    pub namespace: String,
}

impl Asked {
    /// The name of what is written in a slot.
    fn writes(&self, slot: u64) -> String {
        format!("write-{}-{slot}", self.by)
    }
}

/// Asks at its pace, forever. What becomes of writes is put into the ledger, as far as it is known.
pub(super) async fn poll(asked: Asked, pace: Pace, client: Client, ledger: Ledger, source: Source) {
    super::poll(pace, source, &[asked.probe], move |slot| {
        let (asked, client, ledger) = (asked.clone(), client.clone(), ledger.clone());
        async move {
            let answer = tokio::time::timeout(pace.timeout, ask(&client, &asked, slot.number));
            let canary = tokio::time::timeout(pace.timeout, is_granted(&client, &asked));
            let ((taken, answer), canary) = tokio::join!(Taken::take(&slot, answer), canary);
            match (asked.verb, &answer) {
                (ApiVerb::Write, Ok(Ok(written))) => ledger.acknowledged(written.clone()),
                (ApiVerb::Write, Ok(Err(error))) if was_not_done(error) => ledger.refused(asked.writes(slot.number)),
                _ => {}
            }
            let outcome = match (answer, canary) {
                (_, Ok(true)) => blind("the API grants what it must refuse"),
                (Ok(Ok(_)), _) => Outcome::Saw(Value::Text(said(asked.verb).into())),
                (Ok(Err(error)), _) => match ours(&error) {
                    Some(why) => Outcome::Unknown(why),
                    None => Outcome::Failed(failure(&error)),
                },
                (Err(_), _) => Outcome::Failed(Failure::Timeout),
            };
            vec![(asked.probe, taken, outcome)]
        }
    })
    .await;
}

/// The value of a good answer. It never varies between answers, because every change of a value is reported.
fn said(verb: ApiVerb) -> &'static str {
    match verb {
        ApiVerb::Read | ApiVerb::ReadByOperator | ApiVerb::ReadCached | ApiVerb::ReadDefault => "found",
        ApiVerb::Write => "acknowledged",
    }
}

/// Asks, and returns the name of what was read or written.
async fn ask(client: &Client, asked: &Asked, slot: u64) -> kube::Result<String> {
    let (maps, namespaces) = of(client, asked);
    match asked.verb {
        ApiVerb::Read | ApiVerb::ReadByOperator => maps.get(CANARY).await.map(|found| found.name_any()),
        ApiVerb::ReadCached => maps.get_with(CANARY, &GetParams::any()).await.map(|found| found.name_any()),
        ApiVerb::ReadDefault => namespaces.get("default").await.map(|found| found.name_any()),
        ApiVerb::Write => {
            let made = maps.create(&PostParams::default(), &named(asked.writes(slot))).await;
            made.map(|made| made.name_any())
        }
    }
}

/// Whether the API grants what it never may: an object that is not there, or an invalid name.
async fn is_granted(client: &Client, asked: &Asked) -> bool {
    let (maps, namespaces) = of(client, asked);
    match asked.verb {
        ApiVerb::Read | ApiVerb::ReadByOperator => maps.get(ABSENT).await.is_ok(),
        ApiVerb::ReadCached => maps.get_with(ABSENT, &GetParams::any()).await.is_ok(),
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

/// Whether an error says for certain that what was asked was not done. Nothing between here and the API server asks
/// twice, so it can't have been done by an earlier question.
fn was_not_done(error: &kube::Error) -> bool {
    matches!(failure(error), Failure::Refused | Failure::Status(400 | 401 | 403 | 404 | 405 | 410 | 422 | 429))
}

/// Why the API could not be asked, if that is this machine's own fault: it is out of descriptors, ports or memory, or
/// has a rule of its own.
pub(super) fn ours(error: &kube::Error) -> Option<String> {
    causes(error).find_map(|cause| {
        let own = cause.downcast_ref::<io::Error>()?;
        // Errors of the system have a number; TLS errors about a certificate have none.
        (own.raw_os_error().is_some() && plain_http::failure(own).is_none()).then(|| format!("can't ask: {own}"))
    })
}

fn causes(error: &kube::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |cause| (*cause).source())
}

/// What a client's error says about the server.
pub(super) fn failure(error: &kube::Error) -> Failure {
    if let kube::Error::Api(status) = error {
        return Failure::Status(status.code);
    }
    let said = causes(error).find_map(|cause| cause.downcast_ref::<io::Error>().and_then(plain_http::failure));
    said.unwrap_or_else(|| Failure::Other(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::SocketAddr;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::mpsc;

    use super::*;
    use crate::cluster::api::tests::fresh_client_without_tls;
    use crate::event::EventKind;
    use crate::observer_lag::SharedLag;

    /// The requests that a server got, each with the number of its connection.
    type Heard = Arc<Mutex<Vec<(usize, String)>>>;

    /// A server that refuses everything, as an API server without its etcd does, and keeps connections open.
    async fn unavailable() -> (SocketAddr, Heard) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, heard) = (listener.local_addr().unwrap(), Heard::default());
        let hears = heard.clone();
        tokio::spawn(async move {
            for connection in 0.. {
                let Ok((stream, _)) = listener.accept().await else { break };
                tokio::spawn(refuse(stream, connection, hears.clone()));
            }
        });
        (address, heard)
    }

    async fn refuse(stream: TcpStream, connection: usize, heard: Heard) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if stream.read_line(&mut head).await? == 0 {
                    return Ok(());
                }
            }
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            stream.read_exact(&mut vec![0; length.unwrap_or(0)]).await?;
            // The client writes an empty query, or an empty part of one.
            let request = head.split(" HTTP/").next().unwrap_or_default().trim_end_matches('?').replace("?&", "?");
            heard.lock().unwrap().push((connection, request));
            stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n").await?;
        }
    }

    /// What one look comes to.
    async fn look(verb: ApiVerb, client: &Client) -> Outcome {
        let asked = Asked { probe: 0, verb, by: "users".into(), namespace: "watch".into() };
        // The next look would come in an hour.
        let pace = Pace { interval: Duration::from_secs(3600), timeout: Duration::from_secs(10) };
        let (observed, mut taken) = mpsc::channel(1);
        let source = Source { observed, lag: SharedLag::default() };
        let looking = tokio::spawn(poll(asked, pace, client.clone(), Ledger::default(), source));
        let Some(EventKind::Sampled(sample)) = taken.recv().await else { panic!("no sample") };
        looking.abort();
        sample.outcome
    }

    #[tokio::test]
    async fn each_look_asks_once_on_new_connections_and_takes_no_for_an_answer() {
        let maps = "/api/v1/namespaces/watch/configmaps";
        let namespaces = "/api/v1/namespaces";
        for (verb, question, canary) in [
            (ApiVerb::Read, format!("GET {maps}/{CANARY}"), format!("GET {maps}/{ABSENT}")),
            (ApiVerb::ReadDefault, format!("GET {namespaces}/default"), format!("GET {namespaces}/{ABSENT}")),
            (
                ApiVerb::ReadCached,
                format!("GET {maps}/{CANARY}?resourceVersion=0"),
                format!("GET {maps}/{ABSENT}?resourceVersion=0"),
            ),
            (ApiVerb::Write, format!("POST {maps}"), format!("POST {maps}")),
        ] {
            let (server, heard) = unavailable().await;
            let client = fresh_client_without_tls(server).await;
            let mut expected = Vec::new();
            for _ in 0..2 {
                assert_eq!(look(verb, &client).await, Outcome::Failed(Failure::Status(503)), "{verb:?}");
                expected.extend([question.clone(), canary.clone()]);
                expected.sort();
                let heard = heard.lock().unwrap().clone();
                let mut requests: Vec<String> = heard.iter().map(|(_, request)| request.clone()).collect();
                requests.sort();
                assert_eq!(requests, expected, "{verb:?}");
                let connections: BTreeSet<usize> = heard.iter().map(|(connection, _)| *connection).collect();
                assert_eq!(connections.len(), heard.len(), "{verb:?}: {heard:?}");
            }
        }
    }

    /// As the client returns it: inside an error of the client's own.
    fn told(error: io::Error) -> kube::Error {
        kube::Error::Service(Box::new(error))
    }

    #[test]
    fn what_this_machine_lacks_is_no_answer_of_the_api() {
        use rustix::io::Errno;
        for own in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::ADDRNOTAVAIL, Errno::PERM, Errno::NOMEM] {
            assert!(ours(&told(own.into())).is_some(), "{own:?}");
        }
        for (theirs, failure) in [
            (Errno::CONNREFUSED, Failure::Refused),
            (Errno::CONNRESET, Failure::Reset),
            (Errno::HOSTUNREACH, Failure::Unreachable),
            (Errno::TIMEDOUT, Failure::Timeout),
        ] {
            let error = told(theirs.into());
            assert_eq!((ours(&error), super::failure(&error)), (None, failure));
        }
        // An expired certificate is an answer.
        let expired = told(io::Error::new(io::ErrorKind::InvalidData, "certificate expired"));
        assert_eq!(ours(&expired), None);
    }
}
