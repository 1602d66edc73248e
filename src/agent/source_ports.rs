//! Source ports for a sampler's connections to one target. They are used in turn, so that no sample is taken for the
//! continuation of another.
//!
//! The nodes on the way remember a connection that is never answered for two minutes
//! (`nf_conntrack_tcp_timeout_syn_sent`), with the pod that the Service's rules chose for it. A later connection from
//! the same address and port to the same Service follows the old choice, to a pod that may be long withdrawn
//! (docs/findings.md). The kernel hands out a port again within seconds, so the sampler chooses its ports itself.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::io;
use tokio::net::{TcpSocket, TcpStream};

use crate::clock::Mono;

/// The ports below those that Linux gives out by itself. At 20 connections a second, they last for 26 minutes.
const RANGE: Range<u16> = 1_024..32_768;
/// How many ports are tried. One port may have somebody else's socket; if several in a row are taken, something else is
/// wrong.
const TRIES: usize = 4;

/// Ports for connections to one target.
#[derive(Debug)]
pub(super) struct Ports(AtomicU16);

impl Ports {
    /// Begins anywhere in the range, so that an earlier sampler with the same address has most likely used other ports
    /// of late.
    pub(super) fn new() -> Self {
        let width = u64::from(RANGE.end - RANGE.start);
        Self(AtomicU16::new(u16::try_from(Mono::now().0 % width).unwrap_or(0)))
    }

    fn next(&self) -> u16 {
        let width = RANGE.end - RANGE.start;
        let after = |at: u16| Some((at + 1) % width);
        RANGE.start + self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after).unwrap_or(0)
    }

    /// Connects from the next port.
    pub(super) async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let mut tried = 1;
        loop {
            match self.attempt(address).await {
                Err(e) if e.kind() == io::ErrorKind::AddrInUse && tried < TRIES => tried += 1,
                done => return done,
            }
        }
    }

    async fn attempt(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let (socket, any) = if address.is_ipv4() {
            (TcpSocket::new_v4()?, SocketAddr::from(([0; 4], self.next())))
        } else {
            (TcpSocket::new_v6()?, SocketAddr::from(([0_u16; 8], self.next())))
        };
        // The same port may be in use for other targets.
        socket.set_reuseaddr(true)?;
        socket.bind(any)?;
        socket.connect(address).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use tokio::net::TcpListener;

    #[test]
    fn every_port_has_its_turn_before_any_is_used_again() {
        let ports = Ports::new();
        let all: BTreeSet<u16> = RANGE.map(|_| ports.next()).collect();
        assert_eq!(all, RANGE.collect());
    }

    #[tokio::test]
    async fn two_targets_may_be_asked_from_the_same_port() {
        let (one, two) =
            (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let first = Ports(AtomicU16::new(20_000)).connect(one.local_addr().unwrap()).await.unwrap();
        let second = Ports(AtomicU16::new(20_000)).connect(two.local_addr().unwrap()).await.unwrap();
        assert_eq!(first.local_addr().unwrap().port(), second.local_addr().unwrap().port());
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_passed_over() {
        let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _taken = std::net::TcpListener::bind("0.0.0.0:31999").unwrap();
        let ports = Ports(AtomicU16::new(31_999 - RANGE.start));
        let stream = ports.connect(target.local_addr().unwrap()).await.unwrap();
        assert_eq!(stream.local_addr().unwrap().port(), 32_000);
    }
}
