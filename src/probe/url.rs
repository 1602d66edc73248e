//! Does a URL of the user's answer, asked from this machine as his own users ask it? Its host is looked up each time, and nothing is kept
//! open from one request to the next.
//!
//! Beside it a closed port of this machine is asked, which must refuse: who hears answers from there hears them from everywhere.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpStream;

use super::{Pace, Source, Taken, blind};
use crate::agent::http::{self, Page};
use crate::event::Outcome;

/// Nothing listens on tcpmux's port.
const CLOSED: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// What is asked.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// Index of the probe in the plan.
    pub probe: usize,
    /// Name or address, in brackets if it is one of IPv6.
    pub host: String,
    pub port: u16,
    pub page: Page,
}

/// Asks, at its pace, for ever.
pub(super) async fn poll(asked: Asked, pace: Pace, source: Source) {
    super::poll(pace, source, move |slot| {
        let asked = asked.clone();
        async move {
            let connect = TcpStream::connect(format!("{}:{}", asked.host, asked.port));
            let look = Taken::take(&slot, http::get(connect, Some(&asked.page), pace.timeout));
            let ((taken, outcome), canary) = tokio::join!(look, http::connect(CLOSED, pace.timeout));
            let outcome = match canary {
                Outcome::Saw(_) => blind("a closed port answers"),
                _ => outcome,
            };
            vec![(asked.probe, taken, outcome)]
        }
    })
    .await;
}
