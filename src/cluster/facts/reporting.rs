//! Which API server each kubelet reports to.
//!
//! A kubelet keeps its connection, so it hangs if the API server at the other end does, although others would answer
//! it. Which one that is, behind a load balancer, only the API servers know: each logs what it was asked itself. The
//! last renewal of a node's lease tells.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::{Clock, Facts, stdout};
use crate::cluster::AUDIT_LOG;
use crate::cluster::docker::Engine;
use crate::node::Role;

/// How long a renewal may be under way to the log.
const COMING: Duration = Duration::from_secs(2);
/// How long to wait before looking again.
const AGAIN: Duration = Duration::from_secs(1);

/// Shell: prints the time, and of recent renewals of nodes' leases in the API server's log `$1` the node and the time.
const RENEWALS: &str = r#"date -u +%Y-%m-%dT%H:%M:%S.%NZ
tail -n 5000 "$log" | sed -n 's/.*"verb":"update",.*"username":"system:node:\([^"]*\)".*"resource":"leases",.*"code":200.*"stageTimestamp":"\([^"]*\)".*/\1 \2/p'"#;

/// By node, the control plane whose API server its kubelet has renewed its lease at last. Empty unless that is known of
/// every node: the API servers must log the renewals. If some are missing, they may come yet, so they are waited for.
pub async fn read_reporting(engine: &Engine, facts: &Facts) -> BTreeMap<String, String> {
    let Some(log) = &facts.audit_log else { return BTreeMap::new() };
    let planes = || facts.nodes.values().filter(|node| node.role == Role::ControlPlane);
    let renewed = facts.clocks.get(&Clock::LeaseRenew).map_or(Duration::ZERO, |clock| clock.value);
    let script = [AUDIT_LOG, RENEWALS].concat();
    let argv = ["sh", "-c", &script, "sh", log];
    let deadline = Instant::now() + 3 * renewed + COMING;
    loop {
        // A control plane that does not run logs nothing.
        let printed = join_all(planes().map(|plane| stdout(engine, &plane.node, &argv))).await;
        let printed = printed.into_iter().map(|text| text.ok().flatten().unwrap_or_default()).collect::<Vec<_>>();
        let each = planes().zip(&printed).map(|(plane, text)| (&*plane.node.name, &**text));
        let last = last_renewals(each, 3 * renewed);
        let mut nodes = facts.nodes.iter().filter(|(_, of)| of.role != Role::LoadBalancer);
        if nodes.all(|(name, _)| last.contains_key(name)) {
            return last;
        }
        if last.is_empty() || Instant::now() > deadline {
            return BTreeMap::new();
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Of each node, the control plane at which its last renewal was logged, if that was not longer ago than `recent`.
fn last_renewals<'a>(logs: impl Iterator<Item = (&'a str, &'a str)>, recent: Duration) -> BTreeMap<String, String> {
    let recent = SignedDuration::try_from(recent).unwrap_or(SignedDuration::MAX);
    let mut last = BTreeMap::<String, (Timestamp, &str)>::new();
    for (plane, printed) in logs {
        let mut lines = printed.lines();
        let Some(now) = lines.next().and_then(|now| now.parse::<Timestamp>().ok()) else { continue };
        for (node, at) in lines.filter_map(|line| line.split_once(' ')) {
            let Ok(at) = at.parse::<Timestamp>() else { continue };
            let is_last = last.get(node).is_none_or(|(other, _)| *other < at);
            if is_last && now.duration_since(at) <= recent {
                last.insert(node.to_owned(), (at, plane));
            }
        }
    }
    last.into_iter().map(|(node, (_, plane))| (node, plane.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn only_renewals_that_were_accepted_are_read_off_a_log() {
        let line = |user: &str, verb: &str, resource: &str, code: u16| {
            format!(
                r#"{{"kind":"Event","stage":"ResponseComplete","requestURI":"/x","verb":"{verb}","user":{{"username":"{user}","groups":["system:nodes"]}},"sourceIPs":["10.0.0.2"],"userAgent":"kubelet/v1.34.4","objectRef":{{"resource":"{resource}","namespace":"kube-node-lease","name":"n"}},"responseStatus":{{"metadata":{{}},"code":{code}}},"requestReceivedTimestamp":"2026-11-30T10:00:00.000000Z","stageTimestamp":"2026-11-30T10:00:00.100000Z"}}"#
            )
        };
        let lines = [
            line("system:node:worker", "update", "leases", 200),
            line("system:node:worker2", "update", "leases", 409),
            line("system:node:worker3", "update", "nodes", 200),
            line("system:node:worker4", "get", "leases", 200),
            line("system:kube-scheduler", "update", "leases", 200),
            line("system:node:worker5", "update", "leases", 200)[..200].to_owned(),
        ];
        let place = tempfile::tempdir().unwrap();
        let log = place.path().join("audit.log");
        std::fs::write(&log, lines.join("\n")).unwrap();
        let script = [AUDIT_LOG, RENEWALS].concat();
        let output = Command::new("sh").args(["-c", &script, "sh"]).arg(&log).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let read = printed.lines().skip(1).collect::<Vec<_>>();
        assert_eq!(read, ["worker 2026-11-30T10:00:00.100000Z"]);
    }

    #[test]
    fn the_last_renewal_counts_unless_it_is_old() {
        let first = "2026-11-30T10:00:10.5Z\nworker 2026-11-30T10:00:01.1Z\nworker2 2026-11-30T10:00:09.0Z\n";
        let second = "2026-11-30T10:00:10.5Z\nworker 2026-11-30T10:00:08.0Z\nworker2 2026-11-30T10:00:06.9Z\ngone 2026-11-30T09:59:00Z\n";
        let last =
            last_renewals([("plane", first), ("plane2", second), ("plane3", "")].into_iter(), Duration::from_secs(6));
        let expected = [("worker", "plane2"), ("worker2", "plane")].map(|(node, plane)| (node.into(), plane.into()));
        assert_eq!(last, BTreeMap::from(expected));
    }
}
