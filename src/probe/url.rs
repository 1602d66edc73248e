//! Checks whether a URL of the user's answers, asked from this machine as the user's own clients ask it. The host is
//! looked up each time, and no connection is kept open from one request to the next.
//!
//! Each look also asks a closed port of this machine, which must refuse: if that seems to answer, every answer is
//! worthless.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpStream;

use super::{Pace, Source, Taken, blind};
use crate::plain_http::{self, Request};
use crate::sample::Outcome;

/// Nothing listens on tcpmux's port.
const CLOSED: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// What is asked.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// Index of the probe in the plan.
    pub probe: usize,
    /// Name or address; an IPv6 address is in brackets.
    pub host: String,
    pub port: u16,
    pub request: Request,
}

/// Asks at its pace, forever.
pub(super) async fn poll(asked: Asked, pace: Pace, source: Source) {
    let lag = source.lag.clone();
    super::poll(pace, source, &[asked.probe], move |slot| {
        let (asked, lag) = (asked.clone(), lag.clone());
        async move {
            let connect = TcpStream::connect(format!("{}:{}", asked.host, asked.port));
            let look =
                Taken::take(&slot, plain_http::get(connect, Some(&asked.request), lag.over(slot.due, pace.timeout)));
            let ((taken, outcome), canary) = tokio::join!(look, plain_http::connect(CLOSED, pace.timeout));
            let outcome = match canary {
                Outcome::Saw(_) => blind("a closed port answers"),
                _ => outcome,
            };
            vec![(asked.probe, taken, outcome)]
        }
    })
    .await;
}
