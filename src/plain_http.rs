//! As much HTTP as a sample needs: one GET on a fresh connection, and a server that does not look at what is asked.
//!
//! Written by hand, because a sample must be one connection and one request, without retries or a pool, and cheap
//! enough for a thousand a second.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::sample::{Failure, Outcome, Value};

/// The path to ask for. netexec answers it with its host name; kchaos' own servers give the same answer to any path.
pub(crate) const PATH: &str = "/hostname";
/// The longest answer, in bytes. An answer is a host name or a token; a server that sends more is not the one we asked.
const LONGEST_ANSWER: usize = 4096;
/// A client that does not send its request within this time is dropped.
const LONGEST_REQUEST: Duration = Duration::from_secs(5);

/// The name of the server was asked for, and the answer was no address.
#[derive(Debug)]
pub(crate) struct Nameless(pub String);

impl fmt::Display for Nameless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Nameless {}

/// What to ask of a server that is not ours. The request uses the name under which the server's own users know it,
/// since many servers tell their sites apart by that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `NAME[:PORT]`, as a browser sends it.
    pub host: String,
    /// Path and query, with the slash in front.
    pub path: String,
}

/// Connects and asks once, and gives up when `over` is.
///
/// Without `request` the server is one of our own, which gives its name and nothing else. With `request`, any answer will do
/// that is not a server error.
pub(crate) async fn get(
    connect: impl Future<Output = io::Result<TcpStream>>,
    request: Option<&Request>,
    over: impl Future<Output = ()>,
) -> Outcome {
    tokio::select! {
        // What has come while nobody looked counts.
        biased;
        asked = attempt(connect, request) => asked.unwrap_or_else(|error| outcome_of(&error)),
        () = over => Outcome::Failed(Failure::Timeout),
    }
}

/// Connects once and hangs up. Gives `Saw` if the connection was accepted.
pub(crate) async fn connect(address: SocketAddr, timeout: Duration) -> Outcome {
    match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => {
            forget(&stream);
            Outcome::Saw(Value::Text("accepted".into()))
        }
        Ok(Err(error)) => outcome_of(&error),
        Err(_) => Outcome::Failed(Failure::Timeout),
    }
}

/// Why a server of kchaos' own has no answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// It failed.
    Failed(String),
    /// Somebody whom it asked did not answer in time, or had no time for it.
    Waited(String),
}

/// Answers every request, for ever: with what `body` gives, or with a server error.
pub(crate) async fn serve<B>(listener: TcpListener, body: impl Fn() -> B + Clone + Send + Sync + 'static)
where
    B: Future<Output = Result<Arc<str>, NoAnswer>> + Send,
{
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let body = body.clone();
                tokio::spawn(async move {
                    // A client that went away is not our concern.
                    let _ = tokio::time::timeout(LONGEST_REQUEST, answer(stream, body)).await;
                });
            }
            // Out of descriptors: those in use will be closed soon. Any other error concerns one client only.
            Err(error) => {
                tracing::warn!("accept: {error}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

async fn answer<B>(mut stream: TcpStream, body: impl Fn() -> B) -> io::Result<()>
where
    B: Future<Output = Result<Arc<str>, NoAnswer>>,
{
    let mut request = [0; LONGEST_ANSWER];
    let mut got = 0;
    while find(&request[..got], b"\r\n\r\n").is_none() {
        let n = stream.read(&mut request[got..]).await?;
        if n == 0 {
            return Ok(());
        }
        got += n;
    }
    let (status, body) = match body().await {
        Ok(body) => ("200 OK", body),
        Err(NoAnswer::Failed(why)) => ("500 Internal Server Error", why.into()),
        Err(NoAnswer::Waited(why)) => ("504 Gateway Timeout", why.into()),
    };
    let head = "Content-Type: text/plain\r\nConnection: close\r\nContent-Length: ";
    stream.write_all(format!("HTTP/1.1 {status}\r\n{head}{}\r\n\r\n{body}", body.len()).as_bytes()).await?;
    stream.shutdown().await
}

async fn attempt(
    connect: impl Future<Output = io::Result<TcpStream>>,
    request: Option<&Request>,
) -> io::Result<Outcome> {
    let mut stream = connect.await?;
    forget(&stream);
    let (host, path) = match request {
        Some(request) => (request.host.clone(), request.path.as_str()),
        None => (stream.peer_addr()?.to_string(), PATH),
    };
    let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: kchaos\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = [0; LONGEST_ANSWER];
    let mut got = 0;
    loop {
        let n = stream.read(&mut answer[got..]).await?;
        got += n;
        if request.is_some() {
            match status(&answer[..got]) {
                Some(outcome) => return Ok(outcome),
                None if n == 0 => return Ok(Outcome::Failed(Failure::Reset)),
                None => {}
            }
        } else if let Some(outcome) = parse(&answer[..got], n == 0) {
            return Ok(outcome);
        }
        if got == answer.len() {
            return Ok(Outcome::Failed(Failure::Other(format!("an answer of more than {LONGEST_ANSWER} bytes"))));
        }
    }
}

/// Returns the outcome as soon as the first line is there.
fn status(answer: &[u8]) -> Option<Outcome> {
    let line = String::from_utf8_lossy(&answer[..find(answer, b"\r\n")?]);
    Some(match code(&line) {
        None => Outcome::Failed(Failure::Other("not HTTP".into())),
        Some(status) if status >= 500 => Outcome::Failed(Failure::Status(status)),
        Some(status) => Outcome::Saw(Value::Text(status.to_string())),
    })
}

/// The status code in the first line of an answer.
fn code(line: &str) -> Option<u16> {
    line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()
}

/// Returns the outcome as soon as the answer is whole, or can't become whole any more.
fn parse(answer: &[u8], ended: bool) -> Option<Outcome> {
    let Some(head_end) = find(answer, b"\r\n\r\n") else {
        return ended.then_some(Outcome::Failed(Failure::Reset));
    };
    let head = String::from_utf8_lossy(&answer[..head_end]);
    let body = &answer[head_end + 4..];
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(code);
    let Some(status) = status else { return Some(Outcome::Failed(Failure::Other("not HTTP".into()))) };
    if status != 200 {
        return Some(Outcome::Failed(Failure::Status(status)));
    }
    let length = lines
        .filter_map(|l| l.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok());
    match length {
        Some(length) if body.len() >= length => Some(saw(&body[..length])),
        Some(_) => ended.then_some(Outcome::Failed(Failure::Reset)),
        None => ended.then(|| saw(body)),
    }
}

fn saw(body: &[u8]) -> Outcome {
    Outcome::Saw(Value::Text(String::from_utf8_lossy(body).trim().to_owned()))
}

fn outcome_of(error: &io::Error) -> Outcome {
    // Out of ports, descriptors or memory, or blocked by a local rule: the fault is on our side.
    failure(error).map_or_else(|| Outcome::Unknown(format!("can't ask: {error}")), Outcome::Failed)
}

/// What a connection error says about the other side; `None` if the cause may be on this side.
pub(crate) fn failure(error: &io::Error) -> Option<Failure> {
    use io::ErrorKind as Kind;
    if let Some(Nameless(why)) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
        return Some(Failure::Other(why.clone()));
    }
    match error.kind() {
        Kind::ConnectionRefused => Some(Failure::Refused),
        Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe | Kind::UnexpectedEof => {
            Some(Failure::Reset)
        }
        Kind::HostUnreachable | Kind::NetworkUnreachable => Some(Failure::Unreachable),
        Kind::TimedOut => Some(Failure::Timeout),
        _ => None,
    }
}

/// Makes the kernel forget the connection at once when it is dropped. A sampler must not fill the node's connection
/// table, nor run out of ports, with connections that wait to be forgotten. What there was to read has been read by
/// then.
fn forget(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    fn text(s: &str) -> Option<Outcome> {
        Some(Outcome::Saw(Value::Text(s.into())))
    }

    #[test]
    fn an_answer_is_whole_at_its_content_length() {
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nweb", false), text("web"));
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nwe", false), None);
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n\r\nweb", true), text("web"));
    }

    #[test]
    fn an_answer_that_is_cut_short_is_a_reset() {
        assert_eq!(
            parse(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nwe", true),
            Some(Outcome::Failed(Failure::Reset))
        );
        assert_eq!(parse(b"HTTP/1.1 200", true), Some(Outcome::Failed(Failure::Reset)));
        assert_eq!(parse(b"", true), Some(Outcome::Failed(Failure::Reset)));
    }

    #[test]
    fn an_answer_that_says_no_is_not_an_answer() {
        assert_eq!(parse(b"HTTP/1.1 503 no\r\n\r\n", false), Some(Outcome::Failed(Failure::Status(503))));
        assert!(matches!(parse(b"SSH-2.0-x\r\n\r\n", false), Some(Outcome::Failed(Failure::Other(_)))));
    }

    #[tokio::test]
    async fn who_waited_in_vain_says_so() {
        for (why, status) in [(|| NoAnswer::Waited("too late".into()), 504), (|| NoAnswer::Failed("no".into()), 500)]
            as [(fn() -> NoAnswer, u16); 2]
        {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(serve(listener, move || std::future::ready(Err(why()))));
            let got = get(TcpStream::connect(address), None, sleep(Duration::from_secs(5))).await;
            assert_eq!(got, Outcome::Failed(Failure::Status(status)));
        }
    }

    #[test]
    fn of_somebody_elses_server_every_answer_but_an_error_of_its_own_will_do() {
        assert_eq!(status(b"HTTP/1.1 404 Not Found\r\n"), text("404"));
        assert_eq!(status(b"HTTP/1.0 200 OK\r\nX: y"), text("200"));
        assert_eq!(status(b"HTTP/1.1 503 no\r\n"), Some(Outcome::Failed(Failure::Status(503))));
        assert_eq!(status(b"HTTP/1.1 20"), None);
        assert!(matches!(status(b"SSH-2.0-x\r\n"), Some(Outcome::Failed(Failure::Other(_)))));
    }

    #[tokio::test]
    async fn what_is_served_is_what_is_got() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, || std::future::ready(Ok("a token".into()))));
        let request = Request { host: "shop.example.com".into(), path: "/x".into() };
        assert_eq!(Some(get(TcpStream::connect(address), None, sleep(Duration::from_secs(5))).await), text("a token"));
        assert_eq!(
            Some(get(TcpStream::connect(address), Some(&request), sleep(Duration::from_secs(5))).await),
            text("200")
        );
    }

    #[tokio::test]
    async fn a_server_is_asked_by_the_name_that_it_is_known_by() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let got = stream.read(&mut request).await.unwrap();
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            String::from_utf8_lossy(&request[..got]).into_owned()
        });
        let request = Request { host: "shop.example.com:8080".into(), path: "/a?b".into() };
        assert_eq!(
            Some(get(TcpStream::connect(address), Some(&request), sleep(Duration::from_secs(5))).await),
            text("204")
        );
        assert!(heard.await.unwrap().starts_with("GET /a?b HTTP/1.1\r\nHost: shop.example.com:8080\r\n"));
    }

    #[tokio::test]
    async fn a_closed_port_refuses_and_a_silent_one_times_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(
            get(TcpStream::connect(address), None, sleep(Duration::from_millis(20))).await,
            Outcome::Failed(Failure::Timeout)
        );
        drop(listener);
        assert_eq!(
            get(TcpStream::connect(address), None, sleep(Duration::from_secs(5))).await,
            Outcome::Failed(Failure::Refused)
        );
        assert_eq!(connect(address, Duration::from_secs(5)).await, Outcome::Failed(Failure::Refused));
    }
}
