//! Another node, which opens connections to the kubelet of a node that loses packets. Kernels shake hands without any
//! process, so on a whole network none of the connections takes longer than [`QUICK`], however busy the machine is.

use super::{KUBELET_PORT, LOOK, Testimony};
use crate::cluster::docker::{Engine, NodeId};
use crate::scenario::Percent;

/// Seconds that a connection takes at most if neither of its first two packets is lost. The kernel sends a lost one
/// again after a second.
const QUICK: &str = "0.5";
/// The chance that a loss goes unseen.
const UNSEEN: f64 = 1e-6;
/// Opens this many connections to a port, some at a time, and prints how many took too long.
const CONNECT: &str = r#"address=$1 port=$2 tries=$3 quick=$4
slow() {
	timeout "$quick" bash -c "exec 3<>/dev/tcp/$address/$port" 2>/dev/null
	[ $? != 124 ] || echo slow
}
command -v bash >/dev/null && command -v timeout >/dev/null || exit 1
timeout 5 bash -c "exec 3<>/dev/tcp/$address/$port" 2>/dev/null || [ $? = 124 ] || { echo 'no connection' >&2; exit 1; }
while [ "$tries" -gt 0 ]; do
	for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
		[ "$tries" -gt 0 ] || break
		tries=$((tries - 1))
		slow &
	done
	wait
done | grep -c . || :
"#;

/// Asks from a node how many of so many connections took too long that a loss of that share can't go unseen.
pub(super) async fn seen_from(engine: &Engine, peer: &NodeId, address: &str, share: Percent) -> Testimony {
    let tries = tries(share);
    let (port, count) = (KUBELET_PORT.to_string(), tries.to_string());
    let argv = ["sh", "-c", CONNECT, "sh", address, &port, &count, QUICK];
    match engine.exec(peer, &argv, None, LOOK).await {
        Ok(output) if output.code == 0 => told(&String::from_utf8_lossy(&output.stdout), tries),
        Ok(output) => (output.stderr, None),
        Err(e) => (e.to_string(), None),
    }
}

/// A connection is slow if its first packet or the answer to that is lost.
fn tries(share: Percent) -> u32 {
    let quick = (1.0 - share.probability()).powi(2);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 3 to 135")]
    let tries = (UNSEEN.ln() / quick.ln()).ceil() as u32;
    tries
}

fn told(counted: &str, tries: u32) -> Testimony {
    match counted.trim().parse::<u32>() {
        Ok(slow) => (format!("{slow} of {tries} connections took longer than {QUICK} s"), Some(slow > 0)),
        Err(_) => ("it does not say".into(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_losses_take_many_connections_to_be_seen() {
        let of = |percent| tries(Percent::try_from(percent).unwrap());
        assert_eq!([5, 10, 50, 95].map(of), [135, 66, 10, 3]);
    }

    #[test]
    fn one_slow_connection_is_a_loss_and_silence_is_nothing() {
        assert_eq!(told("0\n", 66), ("0 of 66 connections took longer than 0.5 s".into(), Some(false)));
        assert_eq!(told("1\n", 66).1, Some(true));
        assert_eq!(told("", 66).1, None);
    }
}
