//! Source ports for a sampler's connections. To each address they are used in turn, so that no sample is taken for the
//! continuation of another.
//!
//! The nodes on the way remember a connection that is never answered for two minutes
//! (`nf_conntrack_tcp_timeout_syn_sent`), with the pod that the Service's rules chose for it. A later connection from
//! the same address and port to the same Service follows the old choice, to a pod that may be long withdrawn
//! (docs/findings.md). The kernel hands out a port again within seconds, so the sampler chooses its ports itself.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use tokio::net::{TcpSocket, TcpStream};

use crate::clock::Mono;

/// The ports below those that Linux gives out by itself. At 20 connections a second, they last for 26 minutes.
const RANGE: Range<u16> = 1_024..32_768;
const WIDTH: u16 = RANGE.end - RANGE.start;
/// How many addresses begin as far apart as the range allows: 99 seconds, at 20 connections a second.
const APART: usize = 16;
/// How many ports are tried. One port may have somebody else's socket; if several in a row are taken, something else is
/// wrong.
const TRIES: usize = 4;

/// Ports for all connections of a sampler. Targets that have one address, such as a Service by its address and by its
/// name, share what there is of ports to it.
#[derive(Debug)]
pub(super) struct Ports {
    /// Counted from the beginning of the range.
    first: u16,
    next: Mutex<HashMap<SocketAddr, u16>>,
}

impl Ports {
    /// Begins anywhere in the range, so that an earlier sampler with the same address has most likely used other ports
    /// of late.
    pub(super) fn new() -> Self {
        Self::from(RANGE.start + u16::try_from(Mono::now().0 % u64::from(WIDTH)).unwrap_or(0))
    }

    fn from(port: u16) -> Self {
        Self { first: port - RANGE.start, next: Mutex::default() }
    }

    fn next(&self, to: SocketAddr) -> u16 {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        // Two addresses, such as those of a Service and of its pod, may come to the same peer on the way.
        let apart = u16::try_from(next.len() % APART).unwrap_or(0) * (WIDTH / APART as u16);
        let next = next.entry(to).or_insert_with(|| RANGE.start + (self.first + apart) % WIDTH);
        let port = *next;
        *next = if port + 1 == RANGE.end { RANGE.start } else { port + 1 };
        port
    }

    /// Connects from the next port.
    pub(super) async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let mut tried = 1;
        loop {
            match connect_from(self.next(to), to).await {
                Err(e) if is_taken(&e) && tried < TRIES => tried += 1,
                done => return done,
            }
        }
    }
}

/// Whether the port has somebody else's socket: for all addresses (`AddrInUse`), or a connection to this very one
/// (`AddrNotAvailable`, as connect(2) says it).
fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable)
}

async fn connect_from(port: u16, to: SocketAddr) -> io::Result<TcpStream> {
    let (socket, any) = if to.is_ipv4() {
        (TcpSocket::new_v4()?, SocketAddr::from(([0; 4], port)))
    } else {
        (TcpSocket::new_v6()?, SocketAddr::from(([0_u16; 8], port)))
    };
    // The same port may be in use to other addresses.
    socket.set_reuseaddr(true)?;
    socket.bind(any)?;
    socket.connect(to).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use tokio::net::TcpListener;

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn port(stream: &TcpStream) -> u16 {
        stream.local_addr().unwrap().port()
    }

    #[test]
    fn every_port_has_its_turn_before_any_is_used_again() {
        let (ports, to) = (Ports::new(), SocketAddr::from(([10, 96, 0, 7], 80)));
        let all: BTreeSet<u16> = RANGE.map(|_| ports.next(to)).collect();
        assert_eq!(all, RANGE.collect());
    }

    #[test]
    fn addresses_begin_far_apart() {
        let ports = Ports::from(30_000);
        let address = |n| SocketAddr::from(([10, 96, 0, n], 80));
        let mut first: Vec<u16> = (0..16).map(|n| ports.next(address(n))).collect();
        assert_eq!(first[..3], [30_000, 31_984, 2_224]);
        assert_eq!(ports.next(address(0)), 30_001);
        first.sort_unstable();
        assert!(first.windows(2).all(|two| two[1] - two[0] >= 1_984), "{first:?}");
    }

    #[tokio::test]
    async fn two_addresses_may_be_asked_from_the_same_port() {
        let ((_one, one), (_two, two)) = (listener().await, listener().await);
        let (first, second) = (Ports::from(20_000).connect(one).await, Ports::from(20_000).connect(two).await);
        assert_eq!((port(&first.unwrap()), port(&second.unwrap())), (20_000, 20_000));
    }

    #[tokio::test]
    async fn one_address_is_never_asked_from_the_same_port() {
        let (_listener, to) = listener().await;
        let ports = Ports::from(20_010);
        let (first, second) = (ports.connect(to).await.unwrap(), ports.connect(to).await.unwrap());
        assert_eq!((port(&first), port(&second)), (20_010, 20_011));
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_passed_over() {
        let (_listener, to) = listener().await;
        let _taken = std::net::TcpListener::bind("0.0.0.0:31999").unwrap();
        let stream = Ports::from(31_999).connect(to).await.unwrap();
        assert_eq!(port(&stream), 32_000);
    }

    #[tokio::test]
    async fn a_port_that_somebody_has_a_connection_to_this_address_from_is_passed_over() {
        let (_listener, to) = listener().await;
        let _others = Ports::from(20_020).connect(to).await.unwrap();
        let stream = Ports::from(20_020).connect(to).await.unwrap();
        assert_eq!(port(&stream), 20_021);
    }
}
