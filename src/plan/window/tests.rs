use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::cluster::facts::{NodeFacts, Setting};
use crate::node::{NodeId, RestartPolicy};
use crate::scenario;

/// A cluster of this many nodes and a load balancer, with clocks of whole seconds.
fn facts(nodes: usize) -> Facts {
    let clocks = [
        (Clock::NodeMonitorGracePeriod, 12),
        (Clock::NodeMonitorPeriod, 1),
        (Clock::LeaseRenew, 2),
        (Clock::UnreachableToleration, 10),
        (Clock::ProxyMinSync, 1),
        (Clock::EvictionInterval, 7),
        (Clock::NodeStatusUpdate, 2),
        (Clock::LeaderLease, 6),
        (Clock::LeaderRenewDeadline, 4),
        (Clock::LeaderRetry, 1),
        (Clock::LoadBalancerDetection, 12),
    ];
    let setting = |seconds| Setting { value: Duration::from_secs(seconds), source: "test".into() };
    let roles = std::iter::once(Role::LoadBalancer).chain(std::iter::repeat_n(Role::Worker, nodes));
    let node = |(n, role): (usize, Role)| {
        let node = NodeId { id: format!("{n:064}"), name: n.to_string() };
        let facts = NodeFacts {
            node,
            role,
            addresses: BTreeMap::new(),
            pinned: true,
            restart_policy: RestartPolicy::No,
            store_in_memory: None,
            pods: 0,
        };
        (n.to_string(), facts)
    };
    Facts {
        cluster: "test".into(),
        engine: "test".into(),
        kubernetes: "v1.34.4".into(),
        nodes: roles.enumerate().map(node).collect(),
        clocks: clocks.into_iter().map(|(clock, value)| (clock, setting(value))).collect(),
        leaders: BTreeMap::new(),
        audit_log: None,
        reporting: BTreeMap::new(),
    }
}

fn during(name: WindowName, lost: usize, nodes: usize) -> (Window, Option<String>) {
    window(Use::During(name), &Reach { nodes: lost, ..ONE_NODE }, &facts(nodes)).unwrap()
}

fn end(name: WindowName, lost: usize) -> Duration {
    match during(name, lost, 9).0.to {
        Edge::After(end) => end,
        other => panic!("{other:?}"),
    }
}

// ---- what bounds each window

/// The windows of a lost node.
const OF_A_NODE: &[WindowName] = &[
    WindowName::NodeUnknown,
    WindowName::NodeUnknownAfterFailover,
    WindowName::Taint,
    WindowName::EndpointsWithdrawn,
    WindowName::Eviction,
    WindowName::Replacement,
];
const OF_A_LEADER: &[WindowName] =
    &[WindowName::LeaderFailover, WindowName::WorkResumed, WindowName::NodeUnknownAfterFailover];
const OF_A_RETURN: &[WindowName] = &[WindowName::NodeReturn, WindowName::Settled];

/// With three nodes lost: by how many milliseconds the start and the end of these windows move if the setting is a
/// second longer. No other setting moves a window.
const MOVES: &[(&[WindowName], Clock, i64, i64)] = &[
    (OF_A_NODE, Clock::NodeMonitorGracePeriod, 1_000, 1_000),
    (OF_A_NODE, Clock::NodeMonitorPeriod, 0, 2_000),
    (OF_A_NODE, Clock::LeaseRenew, -1_040, 0),
    // The other two nodes wait for their turns.
    (&[WindowName::Taint, WindowName::Eviction, WindowName::Replacement], Clock::EvictionInterval, 0, 2_000),
    (&[WindowName::Eviction, WindowName::Replacement], Clock::UnreachableToleration, 1_000, 1_000),
    (&[WindowName::EndpointsWithdrawn], Clock::ProxyMinSync, 0, 2_000),
    (&[WindowName::ApiFailover], Clock::LoadBalancerDetection, 0, 1_000),
    (OF_A_LEADER, Clock::LeaderLease, 0, 1_000),
    (OF_A_LEADER, Clock::LeaderRetry, 0, 4_400),
    (&[WindowName::LeaderGivesUp], Clock::LeaderRenewDeadline, 0, 1_000),
    (&[WindowName::LeaderGivesUp], Clock::LeaderRetry, 0, 2_200),
    (OF_A_RETURN, Clock::LeaseRenew, 0, 2_000),
    (OF_A_RETURN, Clock::NodeStatusUpdate, 0, 1_000),
    (OF_A_RETURN, Clock::NodeMonitorPeriod, 0, 1_000),
    // It begins when a return ends, and ends when another leader has evicted.
    (&[WindowName::EvictionAfterReturn], Clock::LeaseRenew, 2_000, 2_000),
    (&[WindowName::EvictionAfterReturn], Clock::NodeStatusUpdate, 1_000, 1_000),
    (&[WindowName::EvictionAfterReturn], Clock::LeaderLease, 0, 1_000),
    (&[WindowName::EvictionAfterReturn], Clock::LeaderRetry, 0, 4_400),
    (&[WindowName::EvictionAfterReturn], Clock::NodeMonitorGracePeriod, 0, 1_000),
    (&[WindowName::EvictionAfterReturn], Clock::NodeMonitorPeriod, 1_000, 3_000),
    (&[WindowName::EvictionAfterReturn], Clock::EvictionInterval, 0, 2_000),
    (&[WindowName::EvictionAfterReturn], Clock::UnreachableToleration, 0, 1_000),
];

/// Every window that a claim can name.
fn windows() -> Vec<WindowName> {
    let schema = scenario::schema();
    let all = schema["$defs"]["WindowName"]["oneOf"].as_array().unwrap();
    all.iter().map(|window| serde_json::from_value(window["const"].clone()).unwrap()).collect()
}

/// By how many milliseconds an edge moved.
fn moved(was: Edge, is: Edge) -> i64 {
    let ms = |d: Duration| i64::try_from(d.as_millis()).unwrap();
    match (was, is) {
        (Edge::After(was), Edge::After(is)) => ms(is) - ms(was),
        _ => {
            assert_eq!(was, is);
            0
        }
    }
}

#[test]
fn each_setting_moves_the_windows_that_it_bounds_and_no_others() {
    let before = facts(9);
    let three = Reach { nodes: 3, ..ONE_NODE };
    let more = Reach { remedy: Some(Remedy::DeleteNode), pods: 200, hides_api: true, ..three };
    for (name, reach) in windows().into_iter().flat_map(|name| [(name, three), (name, more)]) {
        let of = |facts: &Facts| window(Use::During(name), &reach, facts).unwrap().0;
        let was = of(&before);
        for clock in before.clocks.keys() {
            let mut longer = before.clone();
            longer.clocks.get_mut(clock).unwrap().value += Duration::from_secs(1);
            let is = of(&longer);
            let listed = MOVES.iter().find(|(names, setting, ..)| setting == clock && names.contains(&name));
            let expected = listed.map_or((0, 0), |(_, _, from, to)| (*from, *to));
            assert_eq!((moved(was.from, is.from), moved(was.to, is.to)), expected, "{name:?}, {clock:?}");
        }
        // It names those settings, too.
        let named: BTreeSet<String> =
            was.bounded_by.iter().map(|setting| setting.split(" = ").next().unwrap().to_owned()).collect();
        let listed: BTreeSet<String> =
            MOVES.iter().filter(|(names, ..)| names.contains(&name)).map(|(_, setting, ..)| kebab(setting)).collect();
        assert_eq!(named, listed, "{name:?}");
    }
}

#[test]
fn of_several_nodes_each_further_one_is_evicted_a_turn_later_and_all_are_noticed_at_once() {
    for evicting in [WindowName::Taint, WindowName::Eviction, WindowName::Replacement] {
        assert_eq!(end(evicting, 2), end(evicting, 1) + Duration::from_secs(7), "{evicting:?}");
        assert!(during(evicting, 2, 9).0.bounded_by.iter().any(|s| s.starts_with("eviction-interval = 7s")));
    }
    for noticed in [WindowName::NodeUnknown, WindowName::EndpointsWithdrawn] {
        assert_eq!(end(noticed, 2), end(noticed, 1), "{noticed:?}");
    }
}

#[test]
fn failing_over_is_over_when_the_slowest_that_waits_must_have_noticed() {
    let end = |name| match bounds(name, &ONE_NODE, &facts(5)).unwrap().to {
        Edge::After(end) => end.as_secs_f64(),
        other => panic!("{other:?}"),
    };
    assert_eq!(end(WindowName::LeaderFailover), 12.4);
    let late = end(WindowName::NodeUnknownAfterFailover) - end(WindowName::NodeUnknown);
    assert!((late - 15.4).abs() < 1e-6, "{late}");
    assert_eq!(end(WindowName::WorkResumed), 35.4);
    assert_eq!(end(WindowName::LeaderGivesUp), 8.2);
    assert_eq!(end(WindowName::ApiFailover), 16.0);
}

#[test]
fn what_is_given_up_is_released_by_the_next_look_or_by_the_one_after_the_quarantine() {
    let end = |remedy| {
        let reach = Reach { remedy: Some(remedy), ..ONE_NODE };
        match bounds(WindowName::Released, &reach, &facts(3)).unwrap().to {
            Edge::After(end) => end.as_secs(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((end(Remedy::OutOfService), end(Remedy::DeleteNode)), (20 + 2 + 20, 20 + 40 + 20 + 4 + 20));
}

#[test]
fn kubelets_that_could_not_reach_the_api_get_the_time_that_they_wait_before_they_ask_again() {
    let end = |hides_api| match bounds(WindowName::Settled, &Reach { hides_api, ..ONE_NODE }, &facts(3)).unwrap().to {
        Edge::After(end) => end,
        other => panic!("{other:?}"),
    };
    assert_eq!(end(true), end(false) + Duration::from_secs(60));
}

#[test]
fn a_crowd_on_a_lost_node_has_its_turns() {
    let end = |pods, name| {
        let reach = Reach { pods, ..ONE_NODE };
        let window = window(Use::During(name), &reach, &facts(3)).unwrap().0;
        let Edge::After(to) = window.to else { panic!("{:?}", window.to) };
        (to, window.formula)
    };
    let alone = end(15, WindowName::EndpointsWithdrawn);
    assert_eq!(alone, end(0, WindowName::EndpointsWithdrawn));
    let crowded = end(185, WindowName::EndpointsWithdrawn);
    assert_eq!(crowded.0, alone.0 + Duration::from_secs(17));
    assert!(crowded.1.contains(" + 17 s for 185 pods"), "{}", crowded.1);
    assert_eq!(end(185, WindowName::NodeUnknown), end(0, WindowName::NodeUnknown));
}

#[test]
fn where_kubernetes_evicts_nothing_claims_about_evictions_can_not_be_made() {
    // Nodes lost, nodes in all, and whether Kubernetes evicts. A load balancer does not count as a node.
    for (lost, all, evicts) in
        [(1, 3, true), (2, 3, true), (2, 2, false), (1, 1, false), (3, 5, false), (3, 6, true), (5, 9, false)]
    {
        let unsupported = during(WindowName::Eviction, lost, all).1;
        assert_eq!(unsupported.is_none(), evicts, "{lost} of {all}: {unsupported:?}");
        assert_eq!(during(WindowName::NodeUnknown, lost, all).1, None);
    }
}
