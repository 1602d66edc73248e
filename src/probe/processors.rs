//! What the machine's processors do.
//!
//! Cluster, observers and whatever else runs share the processors of one machine. If others take time of them when
//! nothing is left, the cluster is slower than it would be, and no observer need notice: it asks for little, and gets
//! that. So once a second this source asks what was left and what the nodes used. What remains, others must have had:
//! other programs, or other machines of the same hypervisor. So did kchaos and the engine, for the run.
//!
//! The nodes are asked themselves: an engine's statistics may be a second old (Docker 20.10 waits for its collector).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::clock::Mono;
use crate::cluster::docker::{Engine, Residents};
use crate::error::{Error, Result};
use crate::event::{EventKind, ProcessorUse};
use crate::node::NodeId;
use crate::plan::Plan;

const EVERY: Duration = Duration::from_secs(1);
const WITHIN: Duration = Duration::from_secs(5);
/// Prints what the machine's processors have done, when the node's init was started, and what the node has used of the
/// processors, where control groups are of version 2 or of version 1. Of a node, the root of the control groups that it
/// sees is its own.
const ASK: [&str; 5] =
    ["cat", "/proc/stat", "/proc/1/stat", "/sys/fs/cgroup/cpu.stat", "/sys/fs/cgroup/cpuacct/cpuacct.usage"];
/// Milliseconds of a tick of `/proc/stat`, on every architecture that has containers.
const TICK: u64 = 10;

/// Tells what the processors did since it was last known, until nobody listens.
pub(super) async fn watch(plan: Arc<Plan>, engine: Engine, observed: mpsc::Sender<EventKind>) {
    let residents = Residents::new(engine.clone());
    let may_lack_leader = plan.may_lack_leader();
    let mut pace = tokio::time::interval(EVERY);
    // A machine that is too busy to answer is not asked any more often.
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before: Option<Look> = None;
    loop {
        pace.tick().await;
        // Times are added up, so if nothing is known of a moment, the next look tells of it, too.
        let Ok(now) = Look::take(&plan, &engine, &residents).await else { continue };
        let between = before.as_ref().and_then(|before| before.until(&now, &may_lack_leader));
        if let Some(usage) = between
            && observed.send(EventKind::Processors(usage)).await.is_err()
        {
            return;
        }
        before = Some(now);
    }
}

/// What had been done by some moment, as each node tells it.
#[derive(Debug)]
struct Look(BTreeMap<String, Node>);

#[derive(Debug)]
enum Node {
    /// It has no processes, or they do nothing.
    Idle,
    Runs(Told),
}

/// What a node tells, and when it was asked.
#[derive(Debug, Clone, Copy)]
struct Told {
    from: Mono,
    to: Mono,
    counts: Counts,
}

/// What a node counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts {
    /// Time of all processors of the machine since it was booted, with what a hypervisor gave to other machines.
    all: Duration,
    /// What was left over of that.
    idle: Duration,
    /// When the node's init was started, in ticks since the machine was booted.
    started: u64,
    /// What the node has used since then.
    used: Duration,
}

impl Look {
    async fn take(plan: &Plan, engine: &Engine, residents: &Residents) -> Result<Self> {
        let nodes = plan.facts.nodes.values().map(|facts| async {
            let node = Node::look(&facts.node, engine, residents).await?;
            Ok::<_, Error>((facts.node.name.clone(), node))
        });
        try_join_all(nodes).await.map(|nodes| Self(nodes.into_iter().collect()))
    }

    /// What was done from here to a later look. `None` if that is not known: a node that was started or ended meanwhile
    /// may have used any amount.
    ///
    /// Nodes are not asked at the very same moment. All that they used between the looks is taken to be used in the
    /// somewhat shorter time that all of them tell of, so that nothing that is theirs counts as others'.
    fn until(&self, now: &Self, may_lack_leader: &BTreeSet<&str>) -> Option<ProcessorUse> {
        let used = |(name, now): (&String, &Node)| match (self.0.get(name)?, now) {
            (Node::Runs(before), Node::Runs(now)) if before.counts.started == now.counts.started => {
                now.counts.used.checked_sub(before.counts.used)
            }
            (Node::Idle, Node::Idle) => Some(Duration::ZERO),
            _ => None,
        };
        let nodes = now.0.iter().map(used).sum::<Option<Duration>>()?;
        let of_them = now.0.iter().filter(|(name, _)| may_lack_leader.contains(name.as_str()));
        let may_lack_leader = of_them.map(used).sum::<Option<Duration>>()?;
        let begin = self.told().max_by_key(|told| told.counts.all)?;
        let end = now.told().min_by_key(|told| told.counts.all)?;
        let usage = ProcessorUse {
            from: begin.to,
            to: end.from,
            all: end.counts.all.checked_sub(begin.counts.all)?,
            idle: end.counts.idle.checked_sub(begin.counts.idle)?,
            nodes,
            may_lack_leader,
        };
        (usage.from < usage.to).then_some(usage)
    }

    fn told(&self) -> impl Iterator<Item = &Told> {
        self.0.values().filter_map(|node| match node {
            Node::Runs(told) => Some(told),
            Node::Idle => None,
        })
    }
}

impl Node {
    async fn look(node: &NodeId, engine: &Engine, residents: &Residents) -> Result<Self> {
        let from = Mono::now();
        let output = match residents.run(node, &ASK, WITHIN).await {
            Ok(output) => output,
            Err(error) => {
                let state = engine.state(node).await?;
                return if state.pid == 0 || state.status == "paused" { Ok(Self::Idle) } else { Err(error) };
            }
        };
        let to = Mono::now();
        // One of the two versions has no such file.
        let counts = read(&String::from_utf8_lossy(&output.stdout));
        let untold = || Error::could_not_run(format!("{} tells nothing of its processors", node.name));
        Ok(Self::Runs(Told { from, to, counts: counts.ok_or_else(untold)? }))
    }
}

/// Reads what a node has printed. `None` if it is something else.
fn read(printed: &str) -> Option<Counts> {
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let line = printed.lines().next()?.strip_prefix("cpu ")?;
    // user, nice, system, idle, iowait, irq, softirq, steal; what follows is contained in these.
    let ticks: Vec<u64> = line.split_whitespace().take(8).map(number).collect::<Option<_>>()?;
    let [_, _, _, idle, waiting, ..] = ticks[..] else { return None };
    let time = |ticks: u64| Duration::from_millis(ticks.saturating_mul(TICK));
    // The name of the process, in brackets, may hold anything; the start is the 20th field after it.
    let init = printed.lines().find_map(|line| line.strip_prefix("1 (")?.rsplit_once(") "))?.1;
    let used = printed.lines().find_map(|line| match line.strip_prefix("usage_usec ") {
        Some(micros) => number(micros).map(Duration::from_micros),
        None => number(line).map(Duration::from_nanos),
    })?;
    Some(Counts {
        all: time(ticks.iter().sum()),
        idle: time(idle + waiting),
        started: init.split(' ').nth(19).and_then(number)?,
        used,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: BTreeSet<&str> = BTreeSet::new();
    const STAT: &str = "cpu  9181 14633 7436 21868 448 0 144 307 7 0\ncpu0 4000 7000 3000 11000 200 0 70 150 0 0\nintr 99 1\n\
        1 (a) b (sd)) S 0 1 1 0 -1 4194560 5 6 7 8 9 10 11 12 20 0 1 0 48211 37552128 2339 18446744073709551615\n";

    #[test]
    fn both_versions_of_control_groups_are_read() {
        let ms = Duration::from_millis;
        let counts = read(&format!("{STAT}usage_usec 1500000\nuser_usec 900000\n"));
        // What waits for a disk is left over.
        assert_eq!(counts, Some(Counts { all: ms(540_170), idle: ms(223_160), started: 48_211, used: ms(1_500) }));
        assert_eq!(read(&format!("{STAT}1500000000\n")), counts);
        // 64 processors for a year.
        let long = STAT.replace("21868 448", "201830400000 0");
        assert_eq!(read(&format!("{long}5\n")).unwrap().idle, Duration::from_secs(2_018_304_000));
        let without_init = STAT.replace("1 (a", "2 (a");
        for other in [STAT, "", "5\n", &format!("{without_init}5\n"), &format!("{}5\n", STAT.replace("9181", "x"))] {
            assert_eq!(read(other), None, "{other}");
        }
    }

    /// A look in which it took 10 ms to ask each node, one after the other: what the machine had done, and what each
    /// node had used, in milliseconds.
    fn look(at: u64, all: u64, idle: u64, nodes: &[Option<(u64, u64)>]) -> Look {
        let ms = Duration::from_millis;
        let node = |(nth, node): (u64, &Option<(u64, u64)>)| match *node {
            None => Node::Idle,
            Some((started, used)) => {
                let from = Mono((at + 10 * nth) * 1_000);
                let counts = Counts { all: ms(all + 20 * nth), idle: ms(idle), started, used: ms(used) };
                Node::Runs(Told { from, to: from + ms(10), counts })
            }
        };
        Look((0..).zip(nodes).map(node).zip(["a", "b"]).map(|(node, name)| (name.to_owned(), node)).collect())
    }

    #[test]
    fn what_neither_was_left_nor_used_by_nodes_others_had() {
        let before = look(0, 10_000, 5_000, &[Some((1, 700)), Some((2, 0))]);
        let seen = before.until(&look(1_020, 12_020, 5_200, &[Some((1, 1_500)), Some((2, 0))]), &NONE).unwrap();
        // Only the time counts for which everything is known.
        assert_eq!((seen.from, seen.to, seen.all), (Mono(20_000), Mono(1_020_000), Duration::from_secs(2)));
        assert_eq!(seen.others(), Duration::from_millis(1_000));
        // 200 of 2000 were left, so the nodes could have had 800 more.
        assert!((seen.contended() - 0.4).abs() < 1e-9, "{}", seen.contended());
        assert_eq!(seen.lost(), Duration::from_millis(400));
    }

    #[test]
    fn what_a_control_plane_without_a_majority_uses_it_takes_from_the_others() {
        let before = look(0, 0, 0, &[Some((1, 0)), Some((2, 0))]);
        let now = look(1_020, 2_020, 100, &[Some((1, 1_200)), Some((2, 600))]);
        let of = |without: &BTreeSet<&str>| before.until(&now, without).unwrap().lost();
        assert_eq!(of(&NONE), Duration::ZERO);
        // 1,200 and the 100 of others, without the 100 that were left.
        assert_eq!(of(&BTreeSet::from(["a"])), Duration::from_millis(600));
        // Too little to count.
        assert_eq!(of(&BTreeSet::from(["b"])), Duration::ZERO);
    }

    #[test]
    fn as_long_as_enough_is_left_nobody_takes_anything_away() {
        let of = |idle| {
            let before = look(0, 0, 0, &[Some((1, 1))]);
            before.until(&look(1_010, 2_000, idle, &[Some((1, 101))]), &NONE).unwrap().lost()
        };
        assert_eq!(of(1_000), Duration::ZERO);
        // Less than a third of the processors is what a run itself takes.
        assert_eq!(of(620), Duration::ZERO);
        assert!(of(600) > Duration::from_millis(330));
    }

    #[test]
    fn of_a_time_in_which_a_node_began_or_ended_nothing_is_known() {
        let of = |before, now| {
            look(0, 0, 0, &[Some((7, 1)), before]).until(&look(1_020, 2_000, 0, &[Some((7, 2)), now]), &NONE)
        };
        assert_eq!(of(None, Some((1, 5))), None);
        assert_eq!(of(Some((1, 5)), None), None);
        // Started anew, and it has used more than the one before.
        assert_eq!(of(Some((1, 5)), Some((2, 50))), None);
        assert!(of(Some((1, 5)), Some((1, 5))).is_some());
        assert!(of(None, None).is_some());
    }
}
