//! Applies what a journal leaves to be undone. It accepts any prefix of a run's events, so it serves the run itself,
//! the guardian and `kchaos rollback` alike.
//!
//! A prepared fault counts as in, injected or not: the record of its injection may be what was lost, and undos are
//! idempotent. A failure does not stop the rest: a failed undo is recorded, and the others go on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Mono;
use crate::cluster::docker::Engine;
use crate::error::{Error, Result};
use crate::event::{self, Disturbance, End, Event, EventKind};
use crate::in_node::{Change, InNode};
use crate::undo::Undo;

mod apply;

pub use self::apply::{Applied, apply};

/// How many times an undo is tried.
const TRIES: u32 = 3;
/// Time for all tries of one undo.
const UNDO_WITHIN: Duration = Duration::from_secs(180);
/// How long the engine may be away during an undo before the undo counts as failed.
pub(crate) const ENGINE_BACK_WITHIN: Duration = Duration::from_secs(120);
/// The longest time that a running engine needs to answer.
const MOMENT: Duration = Duration::from_secs(1);
/// How long the engine may still be busy with a call of a run that is gone. The engine completes a call even if nobody
/// waits for it. A clean stop takes longest: the node's grace period and the kill that follows.
pub(crate) const IN_FLIGHT: Duration = Duration::from_secs(7);
/// How often a node is looked at during that time.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Pause after the first failed try; it doubles.
const BACKOFF: Duration = Duration::from_millis(500);

/// Undoes everything that is prepared and not yet undone. If the engine is down, waits for it, for at most
/// `engine_within` in all.
///
/// `record` receives what happens, to append it to the journal. If recording fails, the rollback must go on. The undos
/// are bound to the cluster that the journal's plan names, whatever `engine` was bound to.
pub async fn all(
    engine: &Engine,
    events: &[Event],
    engine_within: Duration,
    record: &mut (dyn FnMut(EventKind) + Send),
) -> End {
    let (cluster, pending) = left_to_do(events);
    let shut = shut(events);
    // Without a cluster's name nothing may be changed, so every undo fails.
    let engine = engine.for_cluster(cluster.unwrap_or_default());
    let mut away = EngineAway { left: engine_within };
    if !pending.is_empty()
        && away.wait(&engine).await.is_ok()
        && let Err(error) = engine.sweep().await
    {
        // The audit finds what the sweep leaves. The undos matter more.
        tracing::warn!("{error}");
    }
    let mut end = End::Clean;
    let mut removed: BTreeSet<String> = event::removed_nodes(events).into_iter().map(str::to_owned).collect();
    let mut pending = VecDeque::from(pending);
    let mut put_off = BTreeSet::new();
    while let Some(next) = pending.pop_front() {
        let Pending { fault, step, undo, injecting } = next.clone();
        record(EventKind::Undoing { fault, step });
        let applied = match persist(&engine, &undo, &mut away).await {
            Ok(applied) => outlast(&engine, &undo, injecting, applied, &mut away).await,
            Err(error) => Err(error),
        };
        match applied {
            Ok(Outcome::Applied(Applied::AsExpected)) => {}
            // The node was not running and could not be given signs of life. Its switch does what this undo would have
            // done.
            Ok(Outcome::Applied(Applied::GoneOff)) if shut.contains(&undo.node().id) => {}
            Ok(Outcome::Applied(Applied::GoneOff)) => {
                record(EventKind::Disturbed(Disturbance::GoneOff(undo.node().name.clone())));
            }
            Ok(Outcome::Void) if !removed.insert(undo.node().name.clone()) => {}
            Ok(Outcome::Void) => {
                record(EventKind::Disturbed(Disturbance::NodeRemoved(undo.node().name.clone())));
            }
            // What this undo needs may be broken itself, and be back after the other undos; and those may need this one.
            Err(error) if (rank(&undo) == 0 || !put_off.is_empty()) && put_off.insert((fault, step)) => {
                tracing::info!("{error}; it is tried again after the others");
                pending.push_back(next);
                continue;
            }
            Err(error) => {
                end = End::Dirty;
                record(EventKind::UndoFailed { fault, step, error: error.to_string(), by_hand: undo.to_string() });
                continue;
            }
        }
        record(EventKind::Undone { fault, step });
    }
    end
}

#[derive(Debug, Clone, PartialEq)]
struct Pending {
    fault: usize,
    step: usize,
    undo: Undo,
    /// When the injection began, if no record says that it ended.
    injecting: Option<Mono>,
}

/// Returns the cluster and its open undos, in the order in which they are applied.
fn left_to_do(events: &[Event]) -> (Option<&str>, Vec<Pending>) {
    let mut cluster = None;
    let mut prepared: BTreeMap<usize, &[Undo]> = BTreeMap::new();
    let mut done: BTreeSet<(usize, usize)> = BTreeSet::new();
    let mut injecting: BTreeMap<usize, Mono> = BTreeMap::new();
    for event in events {
        match &event.kind {
            EventKind::Started { plan, .. } => cluster = Some(plan.facts.cluster.as_str()),
            EventKind::Prepared { fault, undo } => {
                prepared.insert(*fault, undo);
                done.retain(|(f, _)| f != fault);
            }
            EventKind::Injecting { fault } => {
                done.retain(|(f, _)| f != fault);
                injecting.insert(*fault, event.at);
            }
            EventKind::Injected { fault, .. } => drop(injecting.remove(fault)),
            EventKind::Undone { fault, step } => {
                done.insert((*fault, *step));
            }
            _ => {}
        }
    }
    let mut pending: Vec<_> = prepared
        .into_iter()
        .flat_map(|(fault, undos)| {
            let injecting = injecting.get(&fault).copied();
            undos.iter().cloned().enumerate().map(move |(step, undo)| Pending { fault, step, undo, injecting })
        })
        .filter(|p| !done.contains(&(p.fault, p.step)))
        .collect();
    // Within one rank, the newest fault comes first: its prior state is the older fault's effect.
    pending.sort_by_key(|p| (rank(&p.undo), std::cmp::Reverse(p.fault), p.step));
    (cluster, pending)
}

/// The ids of the containers that a fault of the plan keeps from running while it is in.
fn shut(events: &[Event]) -> BTreeSet<String> {
    let faults = events.iter().flat_map(|event| match &event.kind {
        EventKind::Started { plan, .. } => &plan.faults[..],
        _ => &[],
    });
    faults.filter(|fault| fault.spec.shuts_node()).map(|fault| fault.node.id.clone()).collect()
}

/// The order of the undos: what other undos need comes first.
///
/// - A remedy that gave up a node, or members of etcd, is undone before those can come back by themselves.
/// - A paused container can't be started. Nothing can be done in a node that is not running, or through an API that is
///   not running.
/// - The start is the last of the containers' undos, since recovery is counted from it.
/// - The kubelet is the first of the changes inside a node, since it brings back what it starts.
fn rank(undo: &Undo) -> u8 {
    match undo {
        Undo::InNode(change) if change.change.is_remedy() => 0,
        Undo::Unpause { .. } => 1,
        Undo::SetRestartPolicy { .. } => 2,
        Undo::Start { .. } => 3,
        Undo::InNode(change) if change.change.is_of_kubelet() => 4,
        Undo::InNode(InNode { change: Change::Api(_), .. }) => 6,
        Undo::InNode(_) => 5,
    }
}

enum Outcome {
    Applied(Applied),
    Void,
}

/// How long the engine may still be away.
struct EngineAway {
    left: Duration,
}

impl EngineAway {
    /// Waits for the engine, and subtracts the time that this took. Once no time is left, the engine still gets a
    /// moment at every call.
    async fn wait(&mut self, engine: &Engine) -> Result<()> {
        let begin = Instant::now();
        loop {
            let left = self.left.saturating_sub(begin.elapsed());
            if tokio::time::timeout(left.max(MOMENT), engine.answers()).await.unwrap_or(false) {
                self.left = left;
                return Ok(());
            }
            if begin.elapsed() >= self.left {
                self.left = Duration::ZERO;
                let endpoint = engine.endpoint();
                return Err(Error::could_not_run(format!("the container engine at {endpoint} does not answer")));
            }
            tokio::time::sleep(BACKOFF).await;
        }
    }
}

/// Makes an undo outlast what the engine may still be doing for a run that was cut off during its injection: a node
/// that is put back while a stop is under way would be stopped a moment later.
///
/// A change inside a node needs no such care: its switch is gone, and without the switch nothing is injected.
async fn outlast(
    engine: &Engine,
    undo: &Undo,
    injecting: Option<Mono>,
    mut applied: Outcome,
    away: &mut EngineAway,
) -> Result<Outcome> {
    let Some(since) = injecting.filter(|_| !matches!(undo, Undo::InNode(_))) else { return Ok(applied) };
    // If the injection began before the last boot, there is nothing to wait for, and the wait is short.
    let busy_for = IN_FLIGHT.saturating_sub(Mono::now().since(since)).min(IN_FLIGHT);
    let until = Instant::now() + busy_for;
    while Instant::now() < until && !matches!(applied, Outcome::Void) {
        tokio::time::sleep(LOOK_AGAIN).await;
        applied = persist(engine, undo, away).await?;
    }
    Ok(applied)
}

/// What is left to undo for a node that was removed: nothing, unless it was done through the API, which still has it.
fn gone(undo: &Undo) -> Result<Outcome> {
    match undo {
        Undo::InNode(InNode { node, change: Change::Api(change), switch }) => match change.elsewhere(switch) {
            Some(command) => {
                let told =
                    format!("{} was removed, and what was done from there through the API was not undone", node.name);
                Err(Error::could_not_run(told).next(format!("from another control plane: {command}")))
            }
            None => Ok(Outcome::Void),
        },
        _ => Ok(Outcome::Void),
    }
}

/// Tries until the undo is applied, the container is seen to be gone, or tries or time are used up. A try that failed
/// while the engine was away does not count.
async fn persist(engine: &Engine, undo: &Undo, away: &mut EngineAway) -> Result<Outcome> {
    let give_up = Instant::now() + UNDO_WITHIN;
    let mut failures = 0;
    loop {
        away.wait(engine).await?;
        let applying = async {
            match engine.exists(undo.node()).await? {
                true => apply(engine, undo).await.map(Outcome::Applied),
                false => gone(undo),
            }
        };
        let tried = tokio::time::timeout_at(give_up, applying).await;
        let error = match tried {
            Ok(Ok(outcome)) => return Ok(outcome),
            Ok(Err(error)) => error,
            Err(_) => return Err(Error::could_not_run(format!("`{undo}` took longer than {UNDO_WITHIN:?}"))),
        };
        if engine.answers().await {
            failures += 1;
            if failures == TRIES {
                return Err(error);
            }
            tokio::time::sleep(BACKOFF * 2_u32.pow(failures - 1)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::Component;
    use crate::in_node::{ApiChange, SwitchName};
    use crate::node::NodeId;
    use crate::scenario::StoreLeft;

    fn node(name: &str) -> NodeId {
        NodeId { id: name.into(), name: name.into() }
    }

    fn in_node(change: Change) -> Undo {
        Undo::InNode(InNode { node: node("plane"), change, switch: SwitchName::unique() })
    }

    fn api(change: ApiChange) -> Undo {
        in_node(Change::Api(change))
    }

    #[test]
    fn a_node_that_was_given_up_is_taken_back_before_it_is_started_and_the_api_is_asked_last() {
        let deleted = api(ApiChange::NodeDeleted { node: "victim".parse().unwrap() });
        let drained = api(ApiChange::Drained { node: "victim".parse().unwrap() });
        let kubelet = in_node(Change::KubeletStopped);
        let start = Undo::Start { node: node("victim"), addresses: Vec::new() };
        let event = |kind| Event { at: Mono(0), kind };
        let events = [
            event(EventKind::Prepared { fault: 0, undo: vec![drained.clone()] }),
            event(EventKind::Prepared { fault: 1, undo: vec![kubelet.clone(), start.clone(), deleted.clone()] }),
        ];
        let order: Vec<Undo> = left_to_do(&events).1.into_iter().map(|pending| pending.undo).collect();
        assert_eq!(order, [deleted, start, kubelet, drained]);
    }

    #[test]
    fn what_a_kubelet_starts_comes_back_after_the_kubelet_whichever_was_broken_first() {
        let (kubelet, api) = (in_node(Change::KubeletConfigRemoved), Component::KubeApiserver);
        let (down, lost) = (in_node(Change::ComponentDown(api)), in_node(Change::StoreLost(StoreLeft::Nothing)));
        for faults in [[&kubelet, &down, &lost], [&down, &kubelet, &lost], [&down, &lost, &kubelet]] {
            let prepared = faults
                .iter()
                .enumerate()
                .map(|(fault, undo)| EventKind::Prepared { fault, undo: vec![(*undo).clone()] });
            let events: Vec<Event> = prepared.map(|kind| Event { at: Mono(0), kind }).collect();
            let order: Vec<Undo> = left_to_do(&events).1.into_iter().map(|pending| pending.undo).collect();
            assert_eq!(order, [kubelet.clone(), lost.clone(), down.clone()]);
        }
    }

    #[test]
    fn of_a_node_that_was_removed_only_what_lies_in_it_is_gone() {
        let start = Undo::Start { node: node("victim"), addresses: Vec::new() };
        assert!(matches!(gone(&start), Ok(Outcome::Void)));
        assert!(matches!(gone(&in_node(Change::KubeletStopped)), Ok(Outcome::Void)));
        let drained = api(ApiChange::Drained { node: "victim".parse().unwrap() });
        let Err(error) = gone(&drained) else { panic!("the node is cordoned still") };
        assert!(error.in_one_line().contains("kubectl uncordon victim"), "{}", error.in_one_line());
    }
}
