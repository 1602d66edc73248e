//! Windows: what Kubernetes does by timers, in seconds computed from the settings of the cluster at hand.
//!
//! This module is pure. The formulas are those of Kubernetes' controllers, and each window names the settings it was
//! computed from. A few allowances (a pod's start, a node's boot) are bounded by no setting. These are constants here,
//! with the measurements behind them.

use std::time::Duration;

use super::{Edge, Phase, Window};
use crate::cluster::facts::{Clock, Facts};
use crate::error::{Error, Result};
use crate::node::Role;
use crate::scenario::{Remedy, WindowName, Workload};

/// The delay that a busy machine may add to a timer of the control plane. On two cores, at most 0.7 s over the formula
/// was observed.
pub(crate) const SLACK: Duration = Duration::from_secs(2);
/// From marking a node Unknown to its taints and the withdrawal of its endpoints: the delay in the controllers' work
/// queues. At most 1.7 s was observed.
const QUEUES: Duration = Duration::from_secs(2);
/// How many pods of a lost node are marked as not ready at once, and how many a second after that: the controller
/// manager asks the API 20 times a second (`--kube-api-qps`, and 30 times at first), about twice for each pod. Of 94
/// pods on one node, 10 a second were marked.
const MARKED_AT_ONCE: u32 = 15;
const MARKED_A_SECOND: u32 = 10;
/// Start of a pod whose image is on the node, including its readiness probe.
const POD_START: Duration = Duration::from_secs(20);
/// From the undo to the first report of the node's kubelet: the boot of systemd, containerd and kubelet, or a new
/// connection after a partition.
const NODE_BACK: Duration = Duration::from_secs(30);
/// From a node's return to the end of its evicted pods: termination grace, the kubelet's sync, and a new start of the
/// pods pinned to the node.
const PODS_SETTLE: Duration = Duration::from_secs(40);
/// From the start of an API server, and of the etcd that it asks, to its first answers. 2–5 s was observed.
const API_BACK: Duration = Duration::from_secs(20);
/// How long a kubelet may wait before it starts a pod whose manifest was changed: it may not as long as the old one has
/// not ended, and looks again after 10 s, or up to half as much more (`backOffPeriod` and
/// `workerBackOffPeriodJitterFactor` of its `pod_workers.go`).
const STARTS_AGAIN: Duration = Duration::from_secs(15);
/// How often Kubernetes' garbage collector of pods looks for pods that nobody will end any more (`gcCheckPeriod` of the
/// `podgc` controller).
const POD_GC: Duration = Duration::from_secs(20);
/// How long that garbage collector waits before it treats a node as deleted (`quarantineTime`).
const POD_GC_QUARANTINE: Duration = Duration::from_secs(40);
/// How long a client of the API may wait before it asks again after it got no answer (client-go's `reflector.go`: up to
/// 30 s, plus as much again of jitter).
const RELIST: Duration = Duration::from_secs(60);
/// How long an API server goes on reporting that it is well after its etcd falls silent (`--etcd-healthcheck-timeout`,
/// 2 s by default).
const ETCD_CHECK: Duration = Duration::from_secs(2);
/// How long a new leader takes before it does anything: it fills its caches and works off its queues.
pub(super) const LEADER_START: Duration = Duration::from_secs(3);
/// How long to watch after the end of a window, so that a claim about the time after it means something.
pub(super) const OBSERVED_AFTER: Duration = Duration::from_secs(5);

/// A window's bounds, counted from the cause, before a claim uses them.
#[derive(Debug, Clone)]
struct Bounds {
    phase: Phase,
    from: Edge,
    to: Edge,
    formula: String,
    clocks: Vec<Clock>,
}

/// How a claim uses a window.
#[derive(Debug, Clone, Copy)]
pub(super) enum Use {
    /// Inside the window.
    During(WindowName),
    /// From the start of the window's phase to the start of the window.
    Before(WindowName),
    /// From the end of the window to the end of its phase.
    After(WindowName),
}

/// How far a fault reaches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    /// The window before which the fault must be over, if there is one.
    pub ends_before: Option<WindowName>,
    /// How many nodes Kubernetes loses sight of.
    pub nodes: usize,
    /// The remedy, if there is one.
    pub remedy: Option<Remedy>,
    /// How many pods a lost node may have: those that it has already, and all that the scenario puts into the cluster.
    pub pods: u32,
    /// Whether kubelets that go on running are kept from the API.
    pub hides_api: bool,
}

/// How many pods a lost node may have: those that some node has already, and all of these workloads.
pub(super) fn pods_of_a_node<'w>(facts: &Facts, workloads: impl Iterator<Item = &'w Workload>) -> u32 {
    facts.most_pods() + workloads.map(|workload| workload.replicas).sum::<u32>()
}

/// A fault that hides one node.
const ONE_NODE: Reach = Reach { ends_before: None, nodes: 1, remedy: None, pods: 0, hides_api: false };

/// The window of a claim and, if this cluster can't have that window, the reason.
pub(super) fn window(usage: Use, reach: &Reach, facts: &Facts) -> Result<(Window, Option<String>)> {
    let (name, words) = match usage {
        Use::During(name) => (name, String::new()),
        Use::Before(name) => (name, "before ".to_owned()),
        Use::After(name) => (name, "after ".to_owned()),
    };
    let bounds = bounds(name, reach, facts)?;
    let (from, to) = match usage {
        Use::During(_) => (bounds.from, bounds.to),
        // An outage that is planned to end before the window begins leaves nothing to wait for after its own end.
        Use::Before(name) if reach.ends_before == Some(name) => (Edge::PhaseStart, Edge::PhaseEnd),
        Use::Before(_) => (Edge::PhaseStart, bounds.from),
        Use::After(_) => (bounds.to, Edge::PhaseEnd),
    };
    let bounded_by = bounds.clocks.iter().map(|clock| describe(*clock, facts)).collect::<Result<_>>()?;
    let window = Window {
        name: format!("{words}{}", kebab(name)),
        phase: bounds.phase,
        follows_lost_nodes: follows_lost_nodes(name),
        from,
        to,
        formula: bounds.formula,
        bounded_by,
    };
    let evicts = matches!(name, WindowName::Taint | WindowName::Eviction | WindowName::Replacement);
    Ok((window, evicts.then(|| no_eviction(reach.nodes, facts)).flatten()))
}

/// Whether the window follows from Kubernetes' losing sight of nodes.
fn follows_lost_nodes(name: WindowName) -> bool {
    use WindowName::{EndpointsWithdrawn, Eviction, NodeUnknown, NodeUnknownAfterFailover, Replacement, Taint};
    matches!(name, NodeUnknown | NodeUnknownAfterFailover | Taint | EndpointsWithdrawn | Eviction | Replacement)
}

/// Why Kubernetes evicts nothing when it loses `lost` nodes at once; `None` if it does evict.
///
/// When it loses too many nodes, Kubernetes assumes that its own link is broken. This function takes all nodes to be in
/// one zone (as kind's are unless they are labelled) and the thresholds to be Kubernetes' defaults: neither is read
/// yet. See `handleDisruption` and `ComputeZoneState` of the node lifecycle controller. The eviction rate for a partly
/// lost zone is 0 below `--large-cluster-size-threshold` (50 nodes).
fn no_eviction(lost: usize, facts: &Facts) -> Option<String> {
    if facts.clocks.get(&Clock::EvictionInterval).is_some_and(|s| s.value.is_zero()) {
        return Some("with --node-eviction-rate=0, Kubernetes evicts nothing".into());
    }
    let all = facts.nodes.values().filter(|n| n.role != Role::LoadBalancer).count();
    let partly = lost > 2 && lost * 100 >= all * 55;
    (partly || lost == all).then(|| format!("with {lost} of {all} nodes lost, Kubernetes evicts nothing"))
}

/// How long an outage lasts, from the injection, if it must be over within `over_within`. The rest of that time is for
/// the node to boot and report.
pub(super) fn outage_before(over_within: Duration) -> Duration {
    over_within * 3 / 10
}

/// The earliest time at which the window would begin if one node were lost.
pub(super) fn start_of(name: WindowName, facts: &Facts) -> Result<Duration> {
    match bounds(name, &ONE_NODE, facts)?.from {
        Edge::After(d) => Ok(d),
        Edge::CauseStart | Edge::PhaseStart | Edge::PhaseEnd => {
            Err(Error::usage(format!("`ends-before: {}`: that window has no start to end before", kebab(name))))
        }
    }
}

/// The time at which the window would be over if one node were lost.
pub(super) fn end_of(name: WindowName, facts: &Facts) -> Result<Duration> {
    match bounds(name, &ONE_NODE, facts)?.to {
        Edge::After(d) => Ok(d),
        Edge::CauseStart | Edge::PhaseStart | Edge::PhaseEnd => {
            Err(Error::usage(format!("`lasts-beyond: {}`: that window has no end of its own", kebab(name))))
        }
    }
}

/// The bounds of a window. If several nodes are lost at once, their pods are evicted node by node.
fn bounds(name: WindowName, reach: &Reach, facts: &Facts) -> Result<Bounds> {
    use Clock::{
        EvictionInterval, LeaderLease, LeaderRenewDeadline, LeaderRetry, LeaseRenew, LoadBalancerDetection,
        NodeMonitorGracePeriod, NodeMonitorPeriod, NodeStatusUpdate, ProxyMinSync, UnreachableToleration,
    };
    let clock = |c| value(c, facts);
    let whole = |phase| Bounds {
        phase,
        from: Edge::PhaseStart,
        to: Edge::PhaseEnd,
        formula: "the whole phase".into(),
        clocks: vec![],
    };
    let caused = |phase, formula: &str| Bounds { from: Edge::CauseStart, formula: formula.into(), ..whole(phase) };
    let fault = |from, to, formula: String, clocks: &[Clock]| Bounds {
        phase: Phase::Fault,
        from: Edge::After(from),
        to: Edge::After(to),
        formula,
        clocks: clocks.to_vec(),
    };
    Ok(match name {
        WindowName::Baseline => whole(Phase::Baseline),
        WindowName::Fault => whole(Phase::Fault),
        WindowName::Remedy => whole(Phase::Remedy),
        WindowName::Recovery => whole(Phase::Recovery),
        WindowName::FromInjection => caused(Phase::Fault, "the whole phase, and the injection before it"),
        WindowName::FromUndo => caused(Phase::Recovery, "the whole phase, and the undo before it"),
        WindowName::NodeUnknown
        | WindowName::Taint
        | WindowName::EndpointsWithdrawn
        | WindowName::Eviction
        | WindowName::Replacement => {
            let (grace, period, renew) =
                (clock(NodeMonitorGracePeriod)?, clock(NodeMonitorPeriod)?, clock(LeaseRenew)?);
            // When the node dies, its last lease renewal is at most 1.04 renew intervals old (the kubelet's jitter).
            let unknown_from = grace.saturating_sub(renew.mul_f64(1.04));
            let unknown_to = grace + 2 * period + SLACK;
            let unknown = "grace − 1.04 × renew … grace + 2 × period + 2 s";
            let node = [NodeMonitorGracePeriod, NodeMonitorPeriod, LeaseRenew];
            let crowd = reach.pods.saturating_sub(MARKED_AT_ONCE).div_ceil(MARKED_A_SECOND);
            let in_turn = if crowd == 0 { String::new() } else { format!(" + {crowd} s for {} pods", reach.pods) };
            let queued_to = unknown_to + QUEUES + Duration::from_secs(crowd.into());
            let others = u32::try_from(reach.nodes.saturating_sub(1)).unwrap_or(u32::MAX);
            let (turns, waits, turn) = match others {
                0 => (Duration::ZERO, String::new(), &[][..]),
                n => (n * clock(EvictionInterval)?, format!(" + {n} × eviction interval"), &[EvictionInterval][..]),
            };
            let tainted_to = queued_to + turns;
            match name {
                WindowName::NodeUnknown => fault(unknown_from, unknown_to, unknown.into(), &node),
                WindowName::Taint => {
                    let clocks = [&node[..], turn].concat();
                    fault(
                        unknown_from,
                        tainted_to,
                        format!("grace − 1.04 × renew … grace + 2 × period + 4 s{in_turn}{waits}"),
                        &clocks,
                    )
                }
                WindowName::EndpointsWithdrawn => {
                    let to = queued_to + 2 * clock(ProxyMinSync)?;
                    let clocks = [&node[..], &[ProxyMinSync]].concat();
                    fault(
                        unknown_from,
                        to,
                        format!("grace − 1.04 × renew … grace + 2 × period + 4 s{in_turn} + 2 × proxy sync"),
                        &clocks,
                    )
                }
                _ => {
                    let toleration = clock(UnreachableToleration)?;
                    let from = unknown_from + toleration;
                    let evicted_to = tainted_to + toleration + SLACK;
                    let clocks = [&node[..], &[UnreachableToleration], turn].concat();
                    let formula =
                        format!("grace − 1.04 × renew + toleration … grace + 2 × period + 6 s{in_turn} + toleration{waits}");
                    match name {
                        WindowName::Eviction => fault(from, evicted_to, formula, &clocks),
                        _ => {
                            fault(from, evicted_to + POD_START, format!("{formula} + 20 s for a pod's start"), &clocks)
                        }
                    }
                }
            }
        }
        WindowName::NodeUnknownAfterFailover => {
            let unknown = bounds(WindowName::NodeUnknown, reach, facts)?;
            let leads = bounds(WindowName::LeaderFailover, reach, facts)?;
            let (Edge::After(from), Edge::After(to), Edge::After(led)) = (unknown.from, unknown.to, leads.to) else {
                unreachable!("these windows have a start and an end")
            };
            let formula = format!("{} + lease + 4.4 × retry + 5 s for the next leader", unknown.formula);
            fault(from, to + led + LEADER_START, formula, &[unknown.clocks, leads.clocks].concat())
        }
        WindowName::ApiFailover => {
            let detection = clock(LoadBalancerDetection)?;
            let formula = "0 … detection by the load balancer + 2 s for the API server's check of etcd + 2 s";
            fault(Duration::ZERO, ETCD_CHECK + detection + SLACK, formula.into(), &[LoadBalancerDetection])
        }
        WindowName::ComponentRestarted => {
            let formula = "0 … 15 s for its kubelet to look again + 20 s for the API server to be back + 2 s";
            fault(Duration::ZERO, STARTS_AGAIN + API_BACK + SLACK, formula.into(), &[])
        }
        WindowName::LeaderFailover | WindowName::WorkResumed => {
            // A candidate looks at the lease every retry period, or up to 2.2 times that (the jitter of client-go's
            // `leaderelection.go`). It counts the lease's duration from the look at which it saw the renewal. So a lost
            // leader is noticed up to two looks late.
            let clocks = [LeaderLease, LeaderRetry];
            let to = clock(LeaderLease)? + clock(LeaderRetry)?.mul_f64(2.0 * 2.2) + SLACK;
            let formula = "0 … lease + 4.4 × retry + 2 s";
            match name {
                WindowName::LeaderFailover => fault(Duration::ZERO, to, formula.into(), &clocks),
                _ => {
                    let formula = format!("{formula} + 3 s for its caches + 20 s for a pod's start");
                    fault(Duration::ZERO, to + LEADER_START + POD_START, formula, &clocks)
                }
            }
        }
        WindowName::Restored => {
            let (to, formula) = match reach.remedy {
                Some(Remedy::ReplaceMember | Remedy::RecoverFromSurvivor) => (
                    2 * API_BACK,
                    "20 s for the new member to get everything + 20 s for the API server to be back",
                ),
                Some(Remedy::RestoreCopy) => (POD_START, "20 s for a pod's start"),
                _ => (API_BACK, "20 s for etcd and the API server to be back"),
            };
            let to = Edge::After(to);
            Bounds { phase: Phase::Remedy, from: Edge::PhaseStart, to, formula: formula.into(), clocks: vec![] }
        }
        WindowName::RunningAgain => Bounds {
            phase: Phase::Remedy,
            from: Edge::PhaseStart,
            to: Edge::After(API_BACK + RELIST + POD_START),
            formula: "20 s for etcd and the API server to be back + 60 s for kubelets and proxies to ask again + 20 s for a pod's start".into(),
            clocks: vec![],
        },
        WindowName::Released => {
            let (to, formula) = match reach.remedy {
                Some(Remedy::DeleteNode) => (
                    2 * POD_GC + POD_GC_QUARANTINE + 2 * SLACK + POD_START,
                    "20 s for the garbage collector of pods to look + 40 s for the node to count as gone + 20 s to look again + 4 s + 20 s for a pod's start",
                ),
                _ => (
                    POD_GC + SLACK + POD_START,
                    "20 s for the garbage collector of pods to look + 2 s + 20 s for a pod's start",
                ),
            };
            let to = Edge::After(to);
            Bounds { phase: Phase::Remedy, from: Edge::PhaseStart, to, formula: formula.into(), clocks: vec![] }
        }
        WindowName::LeaderGivesUp => {
            // At worst it is about to begin another round of renewals. It gives up when that has lasted for the deadline.
            let to = clock(LeaderRenewDeadline)? + clock(LeaderRetry)?.mul_f64(2.2) + SLACK;
            let clocks = vec![LeaderRenewDeadline, LeaderRetry];
            let formula = "0 … renew deadline + 2.2 × retry + 2 s".into();
            Bounds { phase: Phase::Recovery, from: Edge::PhaseStart, to: Edge::After(to), formula, clocks }
        }
        WindowName::EvictionAfterReturn => {
            let back = bounds(WindowName::NodeReturn, reach, facts)?;
            let evicted = bounds(WindowName::Eviction, reach, facts)?;
            let leads = bounds(WindowName::LeaderFailover, reach, facts)?;
            let (Edge::After(from), Edge::After(evicted_to), Edge::After(led)) = (back.to, evicted.to, leads.to) else {
                unreachable!("these windows have an end")
            };
            Bounds {
                phase: Phase::Recovery,
                from: Edge::After(from),
                to: Edge::After(from + led + LEADER_START + evicted_to),
                formula: format!(
                    "{} … the same + lease + 4.4 × retry + 5 s for a leader + the end of {}",
                    back.formula, evicted.formula
                ),
                clocks: [back.clocks, leads.clocks, evicted.clocks].concat(),
            }
        }
        WindowName::NodeReturn | WindowName::Settled => {
            let (renew, status, period) = (clock(LeaseRenew)?, clock(NodeStatusUpdate)?, clock(NodeMonitorPeriod)?);
            // The taint goes when the controller manager looks next.
            let back = NODE_BACK + 2 * renew + status + period;
            let (to, formula) = match name {
                WindowName::NodeReturn => (back, "30 s to be back + 2 × renew + status update + period"),
                _ if reach.hides_api => (
                    back + RELIST + PODS_SETTLE,
                    "30 s to be back + 2 × renew + status update + period + 60 s for kubelets to ask the API again + 40 s for their pods",
                ),
                _ => (back + PODS_SETTLE, "30 s to be back + 2 × renew + status update + period + 40 s for its pods"),
            };
            Bounds {
                phase: Phase::Recovery,
                from: Edge::PhaseStart,
                to: Edge::After(to),
                formula: formula.into(),
                clocks: vec![LeaseRenew, NodeStatusUpdate, NodeMonitorPeriod],
            }
        }
    })
}

fn value(clock: Clock, facts: &Facts) -> Result<Duration> {
    setting(clock, facts).map(|s| s.value)
}

fn setting(clock: Clock, facts: &Facts) -> Result<&crate::cluster::facts::Setting> {
    facts.clocks.get(&clock).ok_or_else(|| {
        Error::could_not_run(format!(
            "the setting `{}` could not be read off cluster `{}`",
            kebab(clock),
            facts.cluster
        ))
        .next(match clock {
            Clock::LoadBalancerDetection if !facts.nodes.values().any(|node| node.role == Role::LoadBalancer) => {
                "it has no load balancer in front of its API servers; run it where there is one: `kchaos up ha`"
            }
            Clock::LoadBalancerDetection => "it is read of HAProxy or Envoy, which kind puts in front of several control planes, and of their health checks; without them, no window follows",
            _ => "a window that depends on it can't be computed; look at the control plane's manifests with `docker exec`",
        })
    })
}

fn describe(clock: Clock, facts: &Facts) -> Result<String> {
    let setting = setting(clock, facts)?;
    Ok(format!("{} = {} ({})", kebab(clock), seconds(setting.value), setting.source))
}

/// The shortest exact form to the millisecond: `12s`, `0.5s`.
pub(super) fn seconds(d: Duration) -> String {
    format!("{}s", (d.as_secs_f64() * 1000.0).round() / 1000.0)
}

/// The name of a unit variant as serde writes it.
fn kebab(name: impl serde::Serialize) -> String {
    match serde_json::to_value(name) {
        Ok(serde_json::Value::String(s)) => s,
        other => unreachable!("window and clock names are unit variants, not {other:?}"),
    }
}

#[cfg(test)]
mod tests;
