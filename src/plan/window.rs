//! Windows: what Kubernetes does by timers, in seconds computed from the settings of the cluster at hand.
//!
//! Pure. The formulas are those of Kubernetes' controllers; each names the settings that it was computed from. The few allowances that no
//! setting bounds (a pod's start, a node's boot) are constants here, with what they were measured against.

use std::time::Duration;

use super::{Edge, Window};
use crate::cluster::facts::{Clock, Facts};
use crate::error::{Error, Result};
use crate::event::Phase;
use crate::scenario::WindowName;

/// What a busy machine may add to a timer of the control plane. Observed on two cores: 0.7 s over the formula at the most.
const SLACK: Duration = Duration::from_secs(2);
/// From a node's mark as Unknown to its taints and to the withdrawal of its endpoints: the controllers' own work queues, ≤ 1.7 s observed.
const QUEUES: Duration = Duration::from_secs(2);
/// Start of a pod whose image is on the node, readiness probe included.
const POD_START: Duration = Duration::from_secs(20);
/// From the start of a node's container to its kubelet's first report: boot of systemd, containerd and kubelet.
const NODE_BOOT: Duration = Duration::from_secs(30);
/// From a node's return to the end of its evicted pods: termination grace, the kubelet's sync, and a new start of what is pinned there.
const PODS_SETTLE: Duration = Duration::from_secs(40);
/// What is observed after a window that a claim says is over, so that "after" is worth something.
pub(super) const OBSERVED_AFTER: Duration = Duration::from_secs(5);

/// A window's bounds, counted from the cause, before they are put into a claim.
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
    /// In the window.
    During(WindowName),
    /// From the start of its phase to its start.
    Before(WindowName),
    /// From its end to the end of its phase.
    After(WindowName),
}

/// The window a claim is about.
pub(super) fn window(usage: Use, ends_before: Option<WindowName>, facts: &Facts) -> Result<Window> {
    let (name, words) = match usage {
        Use::During(name) => (name, String::new()),
        Use::Before(name) => (name, "before ".to_owned()),
        Use::After(name) => (name, "after ".to_owned()),
    };
    let bounds = bounds(name, facts)?;
    let (from, to) = match usage {
        Use::During(_) => (bounds.from, bounds.to),
        // An outage planned to end before the window begins leaves nothing to wait for beyond its own end.
        Use::Before(name) if ends_before == Some(name) => (Edge::PhaseStart, Edge::PhaseEnd),
        Use::Before(_) => (Edge::PhaseStart, bounds.from),
        Use::After(_) => (bounds.to, Edge::PhaseEnd),
    };
    let bounded_by = bounds.clocks.iter().map(|clock| describe(*clock, facts)).collect::<Result<_>>()?;
    Ok(Window {
        name: format!("{words}{}", kebab(name)),
        phase: bounds.phase,
        from,
        to,
        formula: bounds.formula,
        bounded_by,
    })
}

/// How long an outage may last that is to end before the window begins. A third of the time: the rest is for the node to boot and report.
pub(super) fn outage_before(name: WindowName, facts: &Facts) -> Result<Duration> {
    match bounds(name, facts)?.from {
        Edge::After(d) => Ok(d / 3),
        Edge::PhaseStart | Edge::PhaseEnd => {
            Err(Error::usage(format!("`ends-before: {}`: that window has no start to end before", kebab(name))))
        }
    }
}

fn bounds(name: WindowName, facts: &Facts) -> Result<Bounds> {
    use Clock::{
        LeaseRenew, NodeMonitorGracePeriod, NodeMonitorPeriod, NodeStatusUpdate, ProxyMinSync, UnreachableToleration,
    };
    let clock = |c| value(c, facts);
    let whole = |phase| Bounds {
        phase,
        from: Edge::PhaseStart,
        to: Edge::PhaseEnd,
        formula: "the whole phase".into(),
        clocks: vec![],
    };
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
        WindowName::Recovery => whole(Phase::Recovery),
        WindowName::NodeUnknown
        | WindowName::Taint
        | WindowName::EndpointsWithdrawn
        | WindowName::Eviction
        | WindowName::Replacement => {
            let (grace, period, renew) =
                (clock(NodeMonitorGracePeriod)?, clock(NodeMonitorPeriod)?, clock(LeaseRenew)?);
            // The last renewal is at most 1.04 renew intervals old (the kubelet's jitter) when the node dies.
            let unknown_from = grace.saturating_sub(renew.mul_f64(1.04));
            let unknown_to = grace + 2 * period + SLACK;
            let unknown = "grace − 1.04 × renew … grace + 2 × period + 2 s";
            let node = [NodeMonitorGracePeriod, NodeMonitorPeriod, LeaseRenew];
            let tainted_to = unknown_to + QUEUES;
            match name {
                WindowName::NodeUnknown => fault(unknown_from, unknown_to, unknown.into(), &node),
                WindowName::Taint => fault(unknown_from, tainted_to, format!("{unknown} + 2 s"), &node),
                WindowName::EndpointsWithdrawn => {
                    let to = tainted_to + 2 * clock(ProxyMinSync)?;
                    let clocks = [&node[..], &[ProxyMinSync]].concat();
                    fault(unknown_from, to, format!("{unknown} + 2 s + 2 × proxy sync"), &clocks)
                }
                _ => {
                    let toleration = clock(UnreachableToleration)?;
                    let from = unknown_from + toleration;
                    let evicted_to = tainted_to + toleration + SLACK;
                    let clocks = [&node[..], &[UnreachableToleration]].concat();
                    let formula = "(grace − 1.04 × renew … grace + 2 × period + 4 s) + toleration + 2 s";
                    match name {
                        WindowName::Eviction => fault(from, evicted_to, formula.into(), &clocks),
                        _ => {
                            fault(from, evicted_to + POD_START, format!("{formula} + 20 s for a pod's start"), &clocks)
                        }
                    }
                }
            }
        }
        WindowName::NodeReturn | WindowName::Settled => {
            let (renew, status) = (clock(LeaseRenew)?, clock(NodeStatusUpdate)?);
            let back = NODE_BOOT + 2 * renew + status;
            let (to, formula) = match name {
                WindowName::NodeReturn => (back, "30 s for the boot + 2 × renew + status update"),
                _ => (back + PODS_SETTLE, "30 s for the boot + 2 × renew + status update + 40 s for its pods"),
            };
            Bounds {
                phase: Phase::Recovery,
                from: Edge::PhaseStart,
                to: Edge::After(to),
                formula: formula.into(),
                clocks: vec![LeaseRenew, NodeStatusUpdate],
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
        .next("a window that depends on it can't be computed; look at the control plane's manifests with `docker exec`")
    })
}

fn describe(clock: Clock, facts: &Facts) -> Result<String> {
    let setting = setting(clock, facts)?;
    Ok(format!("{} = {} ({})", kebab(clock), seconds(setting.value), setting.source))
}

/// `12s`, `0.5s`: shortest exact form to the millisecond.
fn seconds(d: Duration) -> String {
    format!("{}s", (d.as_secs_f64() * 1000.0).round() / 1000.0)
}

/// The name of a unit variant as serde writes it.
fn kebab(name: impl serde::Serialize) -> String {
    match serde_json::to_value(name) {
        Ok(serde_json::Value::String(s)) => s,
        other => unreachable!("window and clock names are unit variants, not {other:?}"),
    }
}
