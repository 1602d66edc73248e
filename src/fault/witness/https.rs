//! Questions over HTTPS that are asked in a node, with `curl`.

use super::{LOOK, Testimony};
use crate::cluster::docker::Engine;
use crate::error::Result;
use crate::node::NodeId;

/// The certificate authority that a kubelet trusts. kubeadm leaves this file on every node.
pub(super) const AUTHORITY: &str = "/etc/kubernetes/pki/ca.crt";
/// How `curl` introduces itself to a member of etcd: as another member, with what kubeadm has put into its node.
/// Members speak HTTP/1.1 with each other: their listener offers HTTP/2 and then drops it.
pub(super) const AS_MEMBER: [&str; 7] = [
    "--http1.1",
    "--cacert",
    "/etc/kubernetes/pki/etcd/ca.crt",
    "--cert",
    "/etc/kubernetes/pki/etcd/peer.crt",
    "--key",
    "/etc/kubernetes/pki/etcd/peer.key",
];

/// Asks an address from a node and returns the exit code of `curl`. Any HTTP answer will do, including a refusal.
/// Connections are accepted by the other kernel, which needs no second for that; the answer comes from a process.
pub(super) async fn curl(engine: &Engine, from: &NodeId, how: &[&str], address: &str, port: u16) -> Result<i64> {
    let url = format!("https://{address}:{port}/healthz");
    let always =
        ["curl", "--silent", "--noproxy", "*", "--connect-timeout", "1", "--max-time", "2", "--output", "/dev/null"];
    let argv = [&always[..], how, &["--", &url]].concat();
    engine.exec(from, &argv, None, LOOK).await.map(|output| output.code)
}

/// Reads `curl`'s exit code.
pub(super) fn answered(code: i64) -> Testimony {
    let (seen, effect) = match code {
        0 => ("it answers", Some(false)),
        7 => ("no connection", Some(true)),
        28 => ("no answer in time", Some(true)),
        // Something accepts connections and breaks them off.
        35 | 52 | 56 => ("it answers, and breaks the connection off", Some(false)),
        126 | 127 => ("there is no curl", None),
        _ => ("curl could not look", None),
    };
    (format!("{seen} (curl code {code})"), effect)
}

/// Reads the exit code of a `curl` that was told which certificate authority to trust.
pub(super) fn verified(code: i64) -> Testimony {
    let (seen, effect) = match code {
        0 => ("it is good", Some(false)),
        60 => ("it is not", Some(true)),
        _ => ("it could not be looked at", None),
    };
    (format!("{seen} (curl code {code})"), effect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_nobody_was_shown_is_neither_good_nor_bad() {
        assert_eq!(verified(0).1, Some(false));
        assert_eq!(verified(60).1, Some(true));
        for code in [7, 28, 35, 77, 127] {
            assert_eq!(verified(code).1, None, "code {code}");
        }
    }

    #[test]
    fn only_silence_is_taken_for_the_effect() {
        assert_eq!(answered(7).1, Some(true));
        assert_eq!(answered(28).1, Some(true));
        assert_eq!(answered(0).1, Some(false));
        assert_eq!(answered(56).1, Some(false));
    }

    #[test]
    fn a_peer_that_can_not_look_proves_nothing() {
        for code in [2, 6, 126, 127, 137] {
            assert_eq!(answered(code).1, None, "code {code}");
        }
    }
}
