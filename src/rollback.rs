//! Puts back what a run left: `kchaos rollback`, and the guardian's work when it takes over.
//!
//! Takes the journal of a run, checks it as strictly as when it was written, applies its undos through the engine,
//! removes what the run deployed, audits the residue and finishes the journal. Doing it twice has the same effect as
//! doing it once. It works without a writable disk, too: then it undoes without records. Undoing needs nothing from the
//! process that ran the experiment, and it needs no API server except for faults that were made through the API. What
//! the run deployed is removed through the API, once the API answers.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::time::Instant;

use crate::census::{Census, Difference};
use crate::cluster::Cluster;
use crate::cluster::docker::Engine;
use crate::error::{Error, Exit, Result};
use crate::event::{self, Cause, Disturbance, End, Event, EventKind, Interruption};
use crate::journal::{self, AppendError, Journal, Salvage, Standing};
use crate::lock::Lock;
use crate::node::{NodeId, Role};
use crate::plan::Plan;
use crate::residue;
use crate::run_dir::{LATEST, RunDir, StateDir};
use crate::undo::Undo;
use crate::unwind;
use crate::workload;

/// How long the API may be away before the objects created through it count as left behind.
const API_BACK_WITHIN: Duration = Duration::from_secs(120);
/// How long one attempt at the API may take.
const API_WITHIN: Duration = Duration::from_secs(10);
/// How often to retry an engine or an API that is away.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// Which runs to put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// One run, by id, path, or `latest`.
    Run(String),
    /// Every run that did not end, and the latest of each cluster if it left something.
    All,
}

/// How long to wait for an engine that does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Do not wait: the user can start the engine.
    None,
    /// Wait for ever: nobody else puts the run back.
    Endless,
}

/// Puts back what the selected runs left. Waits for a guardian that is already doing so. Reports progress line by line
/// through `tell`.
///
/// # Errors
/// If a run is still going on, its journal can't be trusted, or the engine is not the one that it ran on. All other
/// selected runs are put back first.
pub async fn rollback(state: &StateDir, selection: &Selection, tell: &(impl Fn(&str) + Sync)) -> Result<Exit> {
    let runs = match selection {
        // `latest` names no particular run. Where there are no runs, there is nothing to put back.
        Selection::Run(which) if which == LATEST && state.list()?.is_empty() => Vec::new(),
        Selection::Run(which) => vec![state.find(which)?],
        Selection::All => not_put_back(state)?,
    };
    if runs.is_empty() {
        tell("nothing to put back: every run ended, and none of the latest has left anything");
    }
    let (mut exit, mut refused) = (Exit::Upheld, None);
    for run in runs {
        match roll_back_run(state, &run, tell).await {
            Ok(End::Clean) => {}
            Ok(End::Dirty) => exit = Exit::Dirty,
            Err(e) => {
                if let Some(earlier) = refused.replace(e) {
                    tell(&earlier.to_string());
                }
            }
        }
    }
    match refused {
        Some(e) if exit != Exit::Dirty => Err(e),
        Some(e) => {
            tell(&e.to_string());
            Ok(exit)
        }
        None => Ok(exit),
    }
}

/// The runs that may have left something. Of those that ended and did, only the latest of a cluster: what came after an
/// earlier one has changed the cluster, too, and it would be held against the wrong state.
fn not_put_back(state: &StateDir) -> Result<Vec<RunDir>> {
    let runs = state.list()?;
    let later = |run: &RunDir, other: &RunDir| other.path().parent() == run.path().parent() && other.id() > run.id();
    let is_latest = |run: &RunDir| !runs.iter().any(|other| later(run, other));
    let mut left = Vec::new();
    for run in &runs {
        match journal::standing(run) {
            // If nobody can tell where it stands, whoever is about to put it back says why, and goes on with the others.
            Ok(Standing::Unfinished) | Err(_) => left.push(run.clone()),
            Ok(Standing::Ended(End::Dirty)) if is_latest(run) => left.push(run.clone()),
            Ok(Standing::Ended(_) | Standing::NeverStarted) => {}
        }
    }
    Ok(left)
}

/// Ends the unfinished runs of a cluster whose nodes are all gone. Whatever was to be put back was removed with the
/// cluster, and these runs must not block runs on a new cluster of that name.
///
/// # Errors
/// If a journal of that cluster can't be read, or the engine does not answer.
pub async fn close_removed(
    state: &StateDir,
    engine: &Engine,
    cluster: &str,
    tell: &(impl Fn(&str) + Sync),
) -> Result<()> {
    let id = engine.id().await?;
    'runs: for run in journal::unfinished(state.list_of(&id, cluster)?)? {
        let Some(plan) = plan(&journal::salvage(&run)?.events) else { continue };
        for facts in plan.facts.nodes.values() {
            if engine.exists(&facts.node).await? {
                continue 'runs;
            }
        }
        roll_back_run(state, &run, tell).await?;
    }
    Ok(())
}

async fn roll_back_run(state: &StateDir, run: &RunDir, tell: &(impl Fn(&str) + Sync)) -> Result<End> {
    let nothing = |why: &str| tell(&format!("{}: nothing to put back: {why}", run.id()));
    let Salvage { events, damage, .. } = journal::salvage(run)?;
    let Some(plan) = plan(&events) else {
        if damage.is_empty() {
            nothing("it never started");
            return Ok(End::Clean);
        }
        return Err(cannot_tell(run, &damage));
    };
    // Until now a guardian or the run itself may have been at work. From here on no other process is.
    let lock = Lock::wait(state, &plan.facts.engine, &plan.facts.cluster, tell).await?;
    lock.note(Some(run.id()), None);
    if journal::standing(run)? == Standing::Ended(End::Clean) {
        nothing("it ended, and everything is as it was");
        return Ok(End::Clean);
    }
    let end = put_back(run, "kchaos rollback", Patience::None, tell).await?;
    tell(&match end {
        End::Clean => format!("{}: everything is as it was", run.id()),
        End::Dirty if damage.is_empty() => format!("{}: something is not as it was, see above", run.id()),
        End::Dirty => format!(
            "{}: with its journal damaged, nobody can tell whether all is as it was; once you have looked, remove {}",
            run.id(),
            run.path().display()
        ),
    });
    Ok(end)
}

/// Undoes, audits and finishes a run. This process holds the lock of the run's cluster.
pub(crate) async fn put_back(
    run: &RunDir,
    why: &str,
    patience: Patience,
    tell: &(impl Fn(&str) + Sync),
) -> Result<End> {
    let Salvage { events, damage, state } = journal::salvage(run)?;
    let plan = plan(&events).ok_or_else(|| cannot_tell(run, &damage))?;
    vet(run, &plan, &events)?;
    for what in &damage {
        tell(&format!("the journal is damaged: {what}; undoing what it still says"));
    }
    let engine = engine(&plan.facts.engine, patience, tell).await?.for_cluster(&plan.facts.cluster);

    // From here on journal writes are best effort: an undo must not depend on the disk.
    let mut journal = match Journal::take_over(run) {
        Ok((journal, _)) => Some(journal),
        Err(e) => {
            tell(&e.to_string());
            None
        }
    };
    let mut removed: BTreeSet<String> = event::removed_nodes(&events).into_iter().map(str::to_owned).collect();
    // What comes later disturbs a run that was over as little as it interrupts it.
    let was_over = state.end().is_some();
    let mut record = |kind: EventKind| {
        if was_over && matches!(kind, EventKind::Interrupted(_) | EventKind::Disturbed(_)) {
            return;
        }
        if let EventKind::Disturbed(Disturbance::NodeRemoved(node)) = &kind
            && !removed.insert(node.clone())
        {
            return;
        }
        if let EventKind::UndoFailed { error, by_hand, .. } = &kind {
            tell(&format!("could not undo: {error}; by hand: {by_hand}"));
        }
        match journal.as_mut().map(|open| open.append(kind)) {
            None | Some(Ok(_)) => {}
            Some(Err(e @ AppendError::Illegal(_))) => tell(&e.to_string()),
            Some(Err(e)) => {
                tell(&format!("undoing without records: {e}"));
                journal = None;
            }
        }
    };
    record(EventKind::Interrupted(Interruption { cause: Cause::PutBack, why: why.to_owned() }));
    let mut end = unwind::all(&engine, &events, unwind::ENGINE_BACK_WITHIN, &mut record).await;
    if let Some(before) = survey(&events) {
        let cleaned_up = CleanedUp::of(&engine, &plan, before, tell).await;
        let mut residue = cleaned_up.audit(&engine, &plan, before).await;
        let mut gone = cleaned_up.removed;
        if state.acting() && !residue.is_empty() {
            // A call that changes the cluster had not returned when its process ended. The engine may have carried it
            // out after the undo.
            tell("not as it was: something may have been changed late; undoing once more");
            end = unwind::all(&engine, &events, unwind::ENGINE_BACK_WITHIN, &mut record).await;
            let cleaned_up = CleanedUp::of(&engine, &plan, before, tell).await;
            residue = cleaned_up.audit(&engine, &plan, before).await;
            gone = cleaned_up.removed;
        }
        for node in gone {
            record(EventKind::Disturbed(Disturbance::NodeRemoved(node)));
        }
        for item in &residue {
            tell(&format!("not as it was: {item}"));
        }
        if !residue.is_empty() {
            end = End::Dirty;
        }
        record(EventKind::Audited { residue });
    }
    if !damage.is_empty() {
        end = End::Dirty;
    }
    record(EventKind::Finished(end));
    if journal.is_none() && end == End::Clean {
        return Err(Error::could_not_run("everything was undone, but that could not be written down").next(format!(
            "make room on the disk of {}, then: kchaos rollback {}",
            run.path().display(),
            run.id()
        )));
    }
    Ok(end)
}

/// A cluster from which what a run put into it was removed, as far as that was possible.
pub(crate) struct CleanedUp {
    /// The nodes that somebody has removed since the run began.
    pub removed: BTreeSet<String>,
    /// The client that reached the API.
    client: Option<kube::Client>,
    /// The residue that there is no client, where one is needed.
    unreached: Option<Difference>,
}

impl CleanedUp {
    /// Removes what the run put into the cluster. `before` is the census that the cluster will be compared with.
    pub(crate) async fn of(engine: &Engine, plan: &Plan, before: &Census, tell: &(impl Fn(&str) + Sync)) -> Self {
        let mut removed = BTreeSet::new();
        for (name, facts) in &plan.facts.nodes {
            // No answer from the engine does not mean that a node is gone.
            if let Ok(false) = engine.exists(&facts.node).await {
                tell(&format!("node {name} was removed since the run began; nothing is left to put back there"));
                removed.insert(name.clone());
            }
        }
        if !before.0.keys().any(|item| item.starts_with("api")) {
            return Self { removed, client: None, unreached: None };
        }
        let mut planes = plan.facts.nodes.iter().filter(|(_, facts)| facts.role == Role::ControlPlane);
        let cleaned = match planes.all(|(name, _)| removed.contains(name)) {
            true => Err("it is gone with the last control plane".into()),
            false => remove_workloads(engine, plan).await,
        };
        match cleaned {
            Ok(client) => Self { removed, client: Some(client), unreached: None },
            Err(why) => {
                let now = format!("the run's workloads could not be removed: {why}");
                tell(&now);
                // The audit must not pass over what it can't look at in silence.
                let unreached = Difference { item: "api".into(), before: None, now: Some(now) };
                Self { removed, client: None, unreached: Some(unreached) }
            }
        }
    }

    /// Waits until the cluster is as before, and returns what is not. Nodes that were removed are not residue of the
    /// run.
    pub(crate) async fn audit(&self, engine: &Engine, plan: &Plan, before: &Census) -> Vec<Difference> {
        if self.removed.len() == plan.facts.nodes.len() {
            return Vec::new();
        }
        let (cluster, client) = (&plan.facts.cluster, self.client.as_ref());
        let audit = residue::wait_until_as(engine, cluster, client, before, residue::AS_BEFORE_WITHIN);
        let mut residue = workload::hastened(client, plan, &self.removed, audit).await;
        residue.extend(self.unreached.clone());
        residue
    }
}

/// Removes the run's workloads once the API answers. The API may be among the things that were just put back, or have a
/// new address since the engine was restarted. Returns the client that reached it, or why they are not removed.
async fn remove_workloads(engine: &Engine, plan: &Plan) -> Result<kube::Client, String> {
    let give_up = Instant::now() + API_BACK_WITHIN;
    loop {
        let tried = async {
            let client = Cluster::open(engine, &plan.facts.cluster).await?.client().await?;
            workload::remove(&client, plan).await.map(|()| client)
        };
        let error = match tokio::time::timeout(API_WITHIN, tried).await {
            Ok(Ok(client)) => return Ok(client),
            Ok(Err(e)) => e.to_string(),
            Err(_) => format!("the API did not answer within {} s", API_WITHIN.as_secs()),
        };
        if Instant::now() > give_up {
            return Err(error);
        }
        tokio::time::sleep(TRY_EVERY).await;
    }
}

fn plan(events: &[Event]) -> Option<Plan> {
    events.iter().find_map(|event| match &event.kind {
        EventKind::Started { plan, .. } => Some((**plan).clone()),
        _ => None,
    })
}

fn survey(events: &[Event]) -> Option<&Census> {
    events.iter().find_map(|event| match &event.kind {
        EventKind::Surveyed { census } => Some(census),
        _ => None,
    })
}

fn cannot_tell(run: &RunDir, damage: &[String]) -> Error {
    Error::with_exit(
        Exit::Dirty,
        format!(
            "{}: its first record can't be read, so its cluster is not known: {}",
            run.id(),
            journal::in_short(damage)
        ),
    )
    .next(format!("look at {} and the cluster's containers, then remove that directory", run.path().display()))
}

/// Connects to the engine that the run was on, once it answers.
async fn engine(id: &str, patience: Patience, tell: &(impl Fn(&str) + Sync)) -> Result<Engine> {
    let mut told = false;
    loop {
        let error = match Engine::connect().await {
            Ok(engine) => match engine.id().await {
                Ok(found) if found == id => return Ok(engine),
                Ok(found) => {
                    return Err(Error::could_not_run(format!(
                        "the run was on the container engine {id}; this one is {found}"
                    ))
                    .next("choose that engine with DOCKER_HOST or DOCKER_CONTEXT"));
                }
                Err(e) => e,
            },
            Err(e) => e,
        };
        if patience == Patience::None {
            return Err(error);
        }
        if !std::mem::replace(&mut told, true) {
            tell(&format!("waiting for the engine: {error}"));
        }
        tokio::time::sleep(TRY_EVERY).await;
    }
}

/// Checks each undo against the plan that it belongs to, since undos are applied with the rights of the engine. Before
/// each change, the engine module checks in turn that the container with that id is labelled as a node of that cluster.
fn vet(run: &RunDir, plan: &Plan, events: &[Event]) -> Result<()> {
    for event in events {
        let EventKind::Prepared { undo, .. } = &event.kind else { continue };
        for undo in undo {
            if let Err(why) = vet_undo(plan, undo) {
                let what = format!("{}: refusing to act upon its journal: {undo:?}: {why}", run.id());
                return Err(Error::could_not_run(what).next("kchaos did not write this; nothing was touched"));
            }
        }
    }
    Ok(())
}

fn vet_undo(plan: &Plan, undo: &Undo) -> Result<(), &'static str> {
    let known = |node: &NodeId| {
        let whole = node.id.len() == 64 && node.id.bytes().all(|b| b.is_ascii_hexdigit());
        let planned = plan.facts.nodes.values().any(|n| &n.node == node);
        if whole && planned { Ok(()) } else { Err("its container is none of the plan's nodes") }
    };
    match undo {
        Undo::Unpause { node } | Undo::SetRestartPolicy { node, .. } => known(node),
        // The switch's name needs no check: its type admits only names of switches.
        Undo::InNode(change) => known(&change.node),
        Undo::Start { node, addresses } => {
            known(node)?;
            let sound = |(network, address): &(String, String)| {
                address.parse::<Ipv4Addr>().is_ok()
                    && network.starts_with(|c: char| c.is_ascii_alphanumeric())
                    && network.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
            };
            if addresses.iter().all(sound) { Ok(()) } else { Err("an address of it is none") }
        }
    }
}
