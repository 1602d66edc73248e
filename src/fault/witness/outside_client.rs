//! A user of the cluster, outside of it: does its API server answer?

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use super::Testimony;
use crate::cluster::api;
use crate::cluster::docker::Engine;
use crate::node::NodeId;
use crate::plain_http::{self, Request};
use crate::sample::{Failure, Outcome};

/// How long a user waits for an answer.
const WAITS: Duration = Duration::from_secs(2);

/// Asks the API server of a node at the address at which the engine publishes it.
pub(super) async fn asks(engine: &Engine, node: &NodeId) -> Testimony {
    match api::published(engine, node).await {
        Ok(address) => asked(address).await,
        Err(e) => (e.to_string(), None),
    }
}

/// Asks without TLS, and so without credentials, which an API server refuses in words. The engine's own proxy takes
/// connections even if it has nobody to pass them on to, so only words are an answer.
async fn asked(address: SocketAddr) -> Testimony {
    let request = Request { host: address.to_string(), path: "/healthz".into() };
    told(plain_http::get(TcpStream::connect(address), Some(&request), tokio::time::sleep(WAITS)).await)
}

fn told(outcome: Outcome) -> Testimony {
    match outcome {
        Outcome::Saw(_) => ("it answers".into(), Some(false)),
        Outcome::Failed(Failure::Timeout) => (format!("no answer within {} s", WAITS.as_secs()), Some(true)),
        Outcome::Failed(Failure::Refused) => ("the connection was refused".into(), Some(true)),
        Outcome::Failed(Failure::Reset) => ("the connection was closed without an answer".into(), Some(true)),
        Outcome::Failed(_) => ("no answer".into(), Some(true)),
        // What kept kchaos from asking proves nothing.
        Outcome::Unknown(why) => (why, None),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that does this with each connection.
    async fn server<F: Future<Output = ()> + Send>(serves: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serves(stream).await;
            }
        });
        address
    }

    #[tokio::test]
    async fn only_words_are_an_answer() {
        let words = server(async |mut stream: TcpStream| {
            let _ = stream.read(&mut [0; 8]).await;
            let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").await;
        });
        assert_eq!(asked(words.await).await, ("it answers".into(), Some(false)));
        // As the engine's proxy does when it gets no connection to the container.
        let proxy = server(async |stream: TcpStream| drop(stream));
        assert_eq!(asked(proxy.await).await.1, Some(true));
        let silent = server(async |_stream: TcpStream| std::future::pending().await);
        assert_eq!(asked(silent.await).await, ("no answer within 2 s".into(), Some(true)));
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert_eq!(asked(nobody).await.1, Some(true));
    }

    #[test]
    fn what_kept_kchaos_from_asking_proves_nothing() {
        let too_many_files = std::io::Error::from_raw_os_error(24);
        assert_eq!(plain_http::failure(&too_many_files), None);
        assert_eq!(told(Outcome::Unknown("can't ask".into())), ("can't ask".into(), None));
    }
}
