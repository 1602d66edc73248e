//! What the machine's processors do.
//!
//! Cluster, observers and whatever else runs share the processors of one machine. If others take time of them when
//! nothing is left, the cluster is slower than it would be, and no observer need notice: it asks for little, and gets
//! that. So once a second this source asks what was left and what the nodes used. What remains, others must have had:
//! other programs, or other machines of the same hypervisor. So did kchaos and the engine, for the run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::clock::Mono;
use crate::cluster::docker::{Engine, MachineTime, NodeId, Residents};
use crate::error::{Error, Result};
use crate::event::{EventKind, ProcessorUse};
use crate::plan::Plan;
use crate::scenario::Role;

const EVERY: Duration = Duration::from_secs(1);
/// How long a node may take to answer before another is asked.
const WITHIN: Duration = Duration::from_secs(2);

/// Tells what the processors did since it was last known, until nobody listens.
pub(super) async fn watch(plan: Arc<Plan>, engine: Engine, observed: mpsc::Sender<EventKind>) {
    let residents = Residents::new(engine.clone());
    let mut pace = tokio::time::interval(EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut before: Option<Look> = None;
    loop {
        pace.tick().await;
        // Times are added up, so if nothing is known of a moment, the next look tells of it, too.
        let Ok(now) = Look::take(&plan, &engine, &residents).await else { continue };
        let between = before.as_ref().and_then(|before| before.until(&now));
        if let Some(usage) = between
            && observed.send(EventKind::Processors(usage)).await.is_err()
        {
            return;
        }
        before = Some(now);
    }
}

/// What had been done by some moment.
#[derive(Debug)]
struct Look {
    /// What the machine's processors had done before and after the nodes were asked, and when that was asked.
    machine: [(Mono, MachineTime, Mono); 2],
    /// What each node had used; `None` for those that do not run.
    nodes: BTreeMap<String, Option<Used>>,
}

/// What a node had used since it was started.
#[derive(Debug, PartialEq, Eq)]
struct Used {
    /// Its init, and when it was started: the same as long as the node is not started anew.
    life: (u32, String),
    time: Duration,
}

impl Look {
    async fn take(plan: &Plan, engine: &Engine, residents: &Residents) -> Result<Self> {
        let first = machine(plan, residents).await?;
        let nodes = plan.facts.nodes.values().map(|facts| async {
            let node = &facts.node;
            Ok::<_, Error>((node.name.clone(), used(engine, node).await?))
        });
        let nodes = try_join_all(nodes).await?.into_iter().collect();
        Ok(Self { machine: [first, machine(plan, residents).await?], nodes })
    }

    /// What was done from here to a later look. `None` if that is not known: a node that was started or ended meanwhile
    /// may have used any amount.
    ///
    /// All that nodes used between the two looks is taken to be used in the somewhat shorter time that the machine is
    /// looked at, so that nothing that is theirs counts as others'.
    fn until(&self, now: &Self) -> Option<ProcessorUse> {
        let used = |(name, now): (&String, &Option<Used>)| match (self.nodes.get(name)?, now) {
            (Some(before), Some(now)) if before.life == now.life => now.time.checked_sub(before.time),
            (None, None) => Some(Duration::ZERO),
            _ => None,
        };
        let ([_, (_, begun, from)], [(to, ended, _), _]) = (&self.machine, &now.machine);
        Some(ProcessorUse {
            from: *from,
            to: *to,
            all: ended.all.checked_sub(begun.all)?,
            idle: ended.idle.checked_sub(begun.idle)?,
            nodes: now.nodes.iter().map(used).sum::<Option<Duration>>()?,
        })
        .filter(|usage| usage.from < usage.to)
    }
}

async fn used(engine: &Engine, node: &NodeId) -> Result<Option<Used>> {
    let state = engine.state(node).await?;
    if state.pid == 0 {
        return Ok(None);
    }
    let time = engine.processor_time(node).await?;
    Ok(Some(Used { life: (state.pid, state.started_at), time }))
}

/// What the machine of the nodes says, and when it was asked; the first node that answers tells. That machine may be
/// another than that of kchaos.
async fn machine(plan: &Plan, residents: &Residents) -> Result<(Mono, MachineTime, Mono)> {
    let others = plan.facts.nodes.values().filter(|facts| facts.role != Role::LoadBalancer).map(|facts| &facts.node);
    let mut last = Error::could_not_run("there is no node to ask");
    for node in plan.observers.iter().chain(others) {
        let from = Mono::now();
        match residents.run(node, &["cat", "/proc/stat"], WITHIN).await {
            Ok(output) => {
                let read = MachineTime::read(&String::from_utf8_lossy(&output.stdout));
                let read = read.ok_or_else(|| Error::could_not_run(format!("/proc/stat of {} is odd", node.name)))?;
                return Ok((from, read, Mono::now()));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A look that took 20 ms, with what the machine had done before and after it, and what its nodes had used.
    fn look(at: u64, all: u64, idle: u64, nodes: &[Option<(u32, u64)>]) -> Look {
        let ms = Duration::from_millis;
        let machine =
            |at: u64| (Mono(at * 1_000), MachineTime { all: ms(all), idle: ms(idle) }, Mono(at * 1_000 + 5_000));
        let used = |&(pid, used): &(u32, u64)| Used { life: (pid, "then".into()), time: ms(used) };
        let nodes = nodes.iter().zip(["a", "b"]).map(|(node, name)| (name.to_owned(), node.as_ref().map(used)));
        Look { machine: [machine(at), machine(at + 15)], nodes: nodes.collect() }
    }

    #[test]
    fn what_neither_was_left_nor_used_by_nodes_others_had() {
        let before = look(0, 10_000, 5_000, &[Some((1, 700)), None]);
        let seen = before.until(&look(1_020, 12_000, 5_200, &[Some((1, 1_500)), None])).unwrap();
        assert_eq!(seen.others(), Duration::from_millis(1_000));
        assert_eq!((seen.from, seen.to), (Mono(20_000), Mono(1_020_000)));
        // 200 of 2000 were left, so the nodes could have had 800 more.
        assert!((seen.contended() - 0.4).abs() < 1e-9, "{}", seen.contended());
        assert_eq!(seen.lost(), Duration::from_millis(400));
    }

    #[test]
    fn as_long_as_enough_is_left_nobody_takes_anything_away() {
        let of = |idle| {
            let before = look(0, 0, 0, &[Some((1, 1))]);
            before.until(&look(1_020, 2_000, idle, &[Some((1, 101))])).unwrap().lost()
        };
        assert_eq!(of(1_000), Duration::ZERO);
        // Less than a third of the processors is what a run itself takes.
        assert_eq!(of(620), Duration::ZERO);
        assert!(of(600) > Duration::from_millis(330));
    }

    #[test]
    fn of_a_time_in_which_a_node_began_or_ended_nothing_is_known() {
        let of =
            |before, now| look(0, 0, 0, &[before, Some((7, 1))]).until(&look(1_020, 2_000, 0, &[now, Some((7, 2))]));
        assert_eq!(of(None, Some((1, 5))), None);
        assert_eq!(of(Some((1, 5)), None), None);
        // Started anew, and it has used more than the one before.
        assert_eq!(of(Some((1, 5)), Some((2, 50))), None);
        assert!(of(Some((1, 5)), Some((1, 5))).is_some());
    }
}
