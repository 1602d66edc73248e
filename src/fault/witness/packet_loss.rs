//! Another node, which opens many connections to a node that loses packets. A connection takes a second longer if its
//! first packet or the answer to that is lost.

use super::connections::{Opened, open};
use super::{KUBELET_PORT, Testimony};
use crate::cluster::docker::Engine;
use crate::node::NodeId;
use crate::scenario::Percent;

/// The chance that none of the connections is hit by a loss of the wanted share.
const UNSEEN: f64 = 1e-9;
/// The fewest connections that tell a large share from a small one.
const FEWEST: f64 = 24.0;

/// Opens so many connections that a loss of that share can't go unseen.
pub(super) async fn seen_from(engine: &Engine, peer: &NodeId, address: &str, share: Percent) -> Testimony {
    let to = vec![format!("{address}/{KUBELET_PORT}"); tries(share)];
    match open(engine, peer, &to).await {
        Ok(opened) => told(&opened, to.len(), share),
        Err(why) => (why, None),
    }
}

/// The chance that neither of a connection's first two packets is lost.
fn quick(share: Percent) -> f64 {
    (1.0 - share.probability()).powi(2)
}

fn tries(share: Percent) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 24 to 203")]
    let tries = (UNSEEN.ln() / quick(share).ln()).ceil().max(FEWEST) as usize;
    tries
}

/// A few slow connections are what a busy machine is like. A quarter of what the share makes slow is more than that.
fn told(opened: &Opened, tries: usize, share: Percent) -> Testimony {
    let slow = tries - opened.quick.len();
    if !opened.failed.is_empty() {
        return (format!("{} of {tries} connections could not be tried", opened.failed.len()), None);
    }
    #[expect(clippy::cast_precision_loss, reason = "a few hundred at most")]
    let wanted = tries as f64 * (1.0 - quick(share));
    #[expect(clippy::cast_precision_loss, reason = "a few hundred at most")]
    let part = slow as f64 / wanted;
    let effect = match part {
        _ if part >= 0.25 => Some(true),
        _ if part <= 0.125 => Some(false),
        _ => None,
    };
    (format!("{slow} of {tries} connections took a second or more, about {wanted:.0} do with such a loss"), effect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_losses_take_many_connections_to_be_seen() {
        let of = |percent| tries(Percent::try_from(percent).unwrap());
        assert_eq!([5, 10, 50, 95].map(of), [203, 99, 24, 24]);
    }

    #[test]
    fn a_busy_machine_is_no_loss_and_a_small_loss_is_not_a_large_one() {
        let of = |percent, slow: usize, failed: usize| {
            let share = Percent::try_from(percent).unwrap();
            let tries = tries(share);
            told(&Opened { quick: (slow..tries).collect(), failed: (0..failed).collect() }, tries, share)
        };
        let seen = "19 of 99 connections took a second or more, about 19 do with such a loss";
        assert_eq!(of(10, 19, 0), (seen.into(), Some(true)));
        assert_eq!(of(10, 99, 0).1, Some(true));
        assert_eq!([0, 2, 3, 4, 5].map(|slow| of(10, slow, 0).1), [Some(false), Some(false), None, None, Some(true)]);
        assert_eq!([2, 5, 6].map(|slow| of(70, slow, 0).1), [Some(false), None, Some(true)]);
        assert_eq!(of(10, 19, 1).1, None);
    }
}
