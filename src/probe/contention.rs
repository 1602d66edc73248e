//! Whether the machine had processors for the cluster.
//!
//! Cluster, observers and whatever else runs share the processors of one machine. If others take time of them when
//! nothing is left, the cluster is slower than it would be, and no observer need notice: it asks for little, and gets
//! that. So once a second this source asks what was left, what the nodes used, and what others must therefore have had
//! (other programs, or other machines of the same hypervisor).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::clock::Mono;
use crate::cluster::docker::{Engine, MachineTime, NodeId, Residents};
use crate::error::{Error, Result};
use crate::event::{Contention, EventKind};
use crate::plan::Plan;

const EVERY: Duration = Duration::from_secs(1);
/// An engine that takes longer tells of a time that can't be told from what followed.
const WITHIN: Duration = Duration::from_millis(800);
/// The share of the processors from which on others count. What the engine, the kernel and kchaos itself need for the
/// run is below (docs/findings.md).
const NOTICED: f64 = 0.25;

/// Tells of contention until nobody listens.
pub(super) async fn watch(plan: Arc<Plan>, engine: Engine, observed: mpsc::Sender<EventKind>) {
    let residents = Residents::new(engine.clone());
    let mut pace = tokio::time::interval(EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut before: Option<Look> = None;
    loop {
        pace.tick().await;
        let look = tokio::time::timeout(WITHIN, Look::take(&plan, &engine, &residents)).await;
        let now = look.ok().and_then(Result::ok);
        let contention = before.as_ref().zip(now.as_ref()).and_then(|(before, now)| between(before, now));
        if let Some(contention) = contention.filter(|c| c.share() >= NOTICED)
            && observed.send(EventKind::Contended(contention)).await.is_err()
        {
            return;
        }
        before = now;
    }
}

/// What the machine's processors had done by some moment.
#[derive(Debug)]
struct Look {
    from: Mono,
    to: Mono,
    machine: MachineTime,
    /// By node; `None` for those that do not run.
    nodes: BTreeMap<String, Option<Duration>>,
}

impl Look {
    async fn take(plan: &Plan, engine: &Engine, residents: &Residents) -> Result<Self> {
        let from = Mono::now();
        let nodes = plan.facts.nodes.values().map(|facts| async {
            Ok::<_, Error>((facts.node.name.clone(), engine.processor_time(&facts.node).await?))
        });
        let (machine, nodes) = futures::join!(machine(&plan.observers, residents), try_join_all(nodes));
        Ok(Self { from, to: Mono::now(), machine: machine?, nodes: nodes?.into_iter().collect() })
    }
}

/// What the machine of the nodes says, as the first that runs tells it. It may be another machine than that of kchaos.
async fn machine(observers: &[NodeId], residents: &Residents) -> Result<MachineTime> {
    let mut last = Error::could_not_run("there is no observer to ask");
    for observer in observers {
        match residents.run(observer, &["cat", "/proc/stat"], WITHIN).await {
            Ok(output) => {
                let read = MachineTime::read(&String::from_utf8_lossy(&output.stdout));
                return read.ok_or_else(|| Error::could_not_run(format!("/proc/stat of {} is odd", observer.name)));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// What happened between two looks. `None` if that is not known: a node that was started or ended meanwhile may have
/// used any amount.
fn between(before: &Look, now: &Look) -> Option<Contention> {
    let used = |(name, now): (&String, &Option<Duration>)| match (before.nodes.get(name)?, now) {
        (Some(before), Some(now)) => now.checked_sub(*before),
        (None, None) => Some(Duration::ZERO),
        _ => None,
    };
    Some(Contention {
        from: before.from,
        to: now.to,
        all: now.machine.all.checked_sub(before.machine.all)?,
        idle: now.machine.idle.checked_sub(before.machine.idle)?,
        nodes: now.nodes.iter().map(used).sum::<Option<Duration>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at: u64, all: u64, idle: u64, nodes: &[Option<u64>]) -> Look {
        let ms = Duration::from_millis;
        let nodes = nodes.iter().zip(["a", "b"]);
        Look {
            from: Mono(at * 1_000),
            to: Mono(at * 1_000 + 20_000),
            machine: MachineTime { all: ms(all), idle: ms(idle) },
            nodes: nodes.map(|(used, name)| (name.to_owned(), used.map(ms))).collect(),
        }
    }

    #[test]
    fn what_neither_was_left_nor_used_by_nodes_others_had() {
        let before = look(0, 10_000, 5_000, &[Some(700), None]);
        let now = look(1_000, 12_000, 5_200, &[Some(1_500), None]);
        let seen = between(&before, &now).unwrap();
        assert_eq!(seen.others(), Duration::from_millis(1_000));
        assert_eq!((seen.from, seen.to), (Mono(0), Mono(1_020_000)));
        // 200 of 2000 were left, so the nodes could have had 800 more.
        assert!((seen.share() - 0.4).abs() < 1e-9, "{}", seen.share());
        assert_eq!(seen.lost(), Duration::from_millis(408));
    }

    #[test]
    fn as_long_as_enough_is_left_nobody_takes_anything_away() {
        let seen = between(&look(0, 0, 0, &[Some(1)]), &look(1_000, 2_000, 1_000, &[Some(101)])).unwrap();
        assert_eq!(seen.lost(), Duration::ZERO);
    }

    #[test]
    fn of_a_time_in_which_a_node_began_or_ended_nothing_is_known() {
        let of = |before, now| between(&look(0, 0, 0, &[before, Some(1)]), &look(1_000, 2_000, 0, &[now, Some(2)]));
        assert_eq!(of(None, Some(5)), None);
        assert_eq!(of(Some(5), None), None);
        // Started anew.
        assert_eq!(of(Some(5), Some(4)), None);
        assert!(of(Some(5), Some(5)).is_some());
    }
}
