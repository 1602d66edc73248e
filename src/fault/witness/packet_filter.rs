//! The packet filter of a node: do rules of ours drop packets?

use std::collections::BTreeSet;

use super::{LOOK, Testimony};
use crate::cluster::docker::Engine;
use crate::node::NodeId;

/// Reads the packet filter. If it has a chain of ours, reads it once more after the other witnesses have sent their
/// packets.
const COUNTERS: &str = "set -e
save() { iptables-save --counters -t filter; ip6tables-save --counters -t filter 2>/dev/null || :; }
before=$(save)
echo \"$before\"
case $before in *kchaos-*) sleep 2; echo ----; save ;; esac";

/// Reads the packet filter of a node. `port` is the one whose packets are dropped; `None` if it is not limited to one.
pub(super) async fn testimony(engine: &Engine, node: &NodeId, port: Option<u16>) -> Testimony {
    match engine.exec(node, &["sh", "-c", COUNTERS], None, LOOK).await {
        Ok(output) if output.code == 0 => dropped(&String::from_utf8_lossy(&output.stdout), port),
        Ok(output) => (output.stderr, None),
        Err(e) => (e.to_string(), None),
    }
}

/// Reads what a packet filter says of our chains. The effect is there if other chains jump to ours, and those of our
/// rules that name this port (or, without a `port`, name none) drop more packets from one reading to the next.
fn dropped(saved: &str, port: Option<u16>) -> Testimony {
    let (before, after) = saved.split_once("\n----\n").unwrap_or((saved, ""));
    if !before.contains("*filter") {
        return ("the packet filter can't be read".into(), None);
    }
    let (asked, packets) = our_chains(before, port);
    if asked == 0 {
        return ("no chain of ours is asked".into(), Some(false));
    }
    let (still_asked, more) = our_chains(after, port);
    let rising = still_asked > 0 && more > packets;
    (format!("{packets} packets were dropped, and then {more}"), rising.then_some(true))
}

/// Counts the jumps to chains of ours that have such rules, and the packets that those rules have dropped.
fn our_chains(saved: &str, port: Option<u16>) -> (usize, u64) {
    // `[PACKETS:BYTES] -A CHAIN … -j VERDICT`
    let rules = || saved.lines().filter_map(|line| line.strip_prefix('[')?.split_once("] "));
    let wanted = port.map_or_else(|| "--dport ".to_owned(), |port| format!("--dport {port} "));
    let drops = |rule: &&str| {
        rule.starts_with("-A kchaos-") && rule.ends_with(" -j DROP") && rule.contains(&wanted) == port.is_some()
    };
    let chains: BTreeSet<&str> =
        rules().map(|(_, rule)| rule).filter(drops).filter_map(|rule| rule.split(' ').nth(1)).collect();
    let asked = rules().filter_map(|(_, rule)| rule.rsplit_once(" -j ")).filter(|(_, to)| chains.contains(to)).count();
    let dropped = rules()
        .filter(|(_, rule)| drops(rule))
        .filter_map(|(counters, _)| counters.split(':').next()?.parse::<u64>().ok());
    (asked, dropped.sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::witness::{API_PORT, KUBELET_PORT};

    const FILTER: &str = "*filter
:INPUT ACCEPT [9:900]
:kchaos-0123456789abcdef - [0:0]
[70:4200] -A INPUT -j kchaos-0123456789abcdef
[5:300] -A INPUT -m comment --comment x -j DROP
[3:180] -A kchaos-0123456789abcdef -s 172.18.0.3/32 -j DROP
[4:240] -A kchaos-0123456789abcdef -d 172.18.0.3/32 -j DROP
COMMIT
";

    #[test]
    fn only_a_chain_of_ours_that_goes_on_dropping_packets_is_the_effect() {
        let later = FILTER.replace("[4:240]", "[6:360]");
        let dropped = |saved: &str| super::dropped(saved, None);
        let twice = |before: &str, after: &str| dropped(&format!("{before}\n----\n{after}"));
        assert_eq!(twice(FILTER, &later), ("7 packets were dropped, and then 9".into(), Some(true)));
        // Packets dropped earlier prove nothing about now, and a chain that nothing jumps to drops nothing.
        assert_eq!(twice(FILTER, FILTER).1, None);
        assert_eq!(dropped(FILTER).1, None);
        let unasked: Vec<&str> = FILTER.lines().filter(|line| !line.contains("-A INPUT -j")).collect();
        assert_eq!(dropped(&unasked.join("\n")).1, Some(false));
        assert_eq!(twice(FILTER, &unasked.join("\n")).1, None);
        assert_eq!(dropped("*filter\n:INPUT ACCEPT [9:900]\nCOMMIT\n").1, Some(false));
        // A filter that could not be read does not show that there is no chain.
        assert_eq!(dropped("").1, None);
    }

    #[test]
    fn of_two_partitions_of_a_node_each_is_seen_by_rules_of_its_own() {
        let both = "*filter
[7:420] -A OUTPUT -j kchaos-00000000000000aa
[7:420] -A INPUT -j kchaos-00000000000000bb
[3:180] -A kchaos-00000000000000aa -d 172.18.0.3/32 -p tcp -m tcp --dport 6443 -j DROP
[4:240] -A kchaos-00000000000000bb -s 172.18.0.3/32 -p tcp -m tcp --dport 10250 -j DROP
";
        let later = format!("{both}\n----\n{}", both.replace("[3:180]", "[5:300]"));
        assert_eq!(dropped(&later, Some(API_PORT)).1, Some(true));
        assert_eq!(dropped(&later, Some(KUBELET_PORT)).1, None);
        assert_eq!(dropped(&later, None).1, Some(false));
    }
}
