//! The tool under test: the sequence of `kchaos run` on pseudo-nodes, without probes and workloads.

use std::str::FromStr;
use std::time::Duration;

use kchaos::clock::{Wall, boot_id};
use kchaos::cluster::docker::Engine;
use kchaos::error::{Error, Exit, Result};
use kchaos::event::{End, Event, EventKind, Phase};
use kchaos::fault::{self, Repeating};
use kchaos::guardian::{self, Guardian};
use kchaos::journal::Journal;
use kchaos::lock::Lock;
use kchaos::node::NodeId;
use kchaos::plan::{Plan, PlannedFault};
use kchaos::rollback::{self, Selection};
use kchaos::run_dir::StateDir;
use kchaos::scenario::FaultSpec;
use kchaos::{residue, unwind};
use rustix::process::Signal;

/// Number of the record after which the tool kills itself.
pub const DIE_AFTER: &str = "KCHAOS_TEST_DIE_AFTER";
/// Seconds for which the fault stays in.
pub const HOLD: &str = "KCHAOS_TEST_HOLD";
/// If set, the tool stops itself when everything is written down and the fault is about to go in.
pub const STOP_BEFORE_INJECTING: &str = "KCHAOS_TEST_STOP";
/// What the tool prints when its fault is in and held.
pub const HOLDING: &str = "holding";

/// How long the engine may be away, and how long the cluster may take to look as before.
const WITHIN: Duration = Duration::from_secs(30);

/// `drive CLUSTER FAULT[,FAULT]`: puts in each fault on a node of its own.
pub fn drive(cluster: &str, faults: &str) -> Exit {
    finish(in_runtime(drive_async(cluster, faults)))
}

/// `rollback RUN`: does what `kchaos rollback` does.
pub fn rollback(which: &str) -> Exit {
    finish(in_runtime(async {
        let selection = if which == "--all" { Selection::All } else { Selection::Run(which.to_owned()) };
        rollback::rollback(&StateDir::from_env()?, &selection, &|text: &str| eprintln!("{text}")).await
    }))
}

fn in_runtime<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Error::could_not_run(e.to_string()))?.block_on(future)
}

fn finish(result: Result<Exit>) -> Exit {
    result.unwrap_or_else(|e| {
        eprintln!("{e}");
        e.exit()
    })
}

struct Run {
    journal: Journal,
    events: Vec<Event>,
    die_after: Option<usize>,
}

impl Run {
    fn record(&mut self, kind: EventKind) -> Result<()> {
        let event = self.journal.append(kind)?;
        self.events.push(event);
        if Some(self.events.len()) == self.die_after {
            raise(Signal::KILL);
        }
        Ok(())
    }
}

async fn drive_async(cluster: &str, faults: &str) -> Result<Exit> {
    let engine = Engine::connect().await?.for_cluster(cluster);
    let id = engine.id().await?;
    let plan =
        planned(&id, cluster, faults, &engine.nodes(cluster).await?.into_iter().map(|n| n.id).collect::<Vec<_>>())?;
    let lock = Lock::take(&StateDir::from_env()?, &id, cluster)?;
    let dir = lock.begin("torture")?;
    let mut journal = Journal::create(&dir)?;
    let guardian = guardian::spawn(&dir, &lock)?;
    journal.guarded_by(guardian.lease());
    let mut run = Run { journal, events: Vec::new(), die_after: number(DIE_AFTER) };
    let went = experiment(&engine, &plan, &mut run, &guardian).await;
    let end = guardian.hand_over()?;
    if let Err(e) = &went {
        eprintln!("{e}");
    }
    Ok(match (went, end) {
        (_, None | Some(End::Dirty)) => Exit::Dirty,
        (Ok(()), Some(End::Clean)) => Exit::Upheld,
        (Err(_), Some(End::Clean)) => Exit::Inconclusive,
    })
}

async fn experiment(engine: &Engine, plan: &Plan, run: &mut Run, guardian: &Guardian) -> Result<()> {
    use EventKind as E;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    run.record(E::Started { wall: Wall::now(), boot_id: boot_id(), version, plan: Box::new(plan.clone()) })?;
    run.record(E::Phase(Phase::Setup))?;
    let before = residue::census(engine, &plan.facts.cluster, None).await?;
    run.record(E::Surveyed { census: before.clone() })?;
    run.record(E::Phase(Phase::Fault))?;
    let mut repeating = Repeating::default();
    for (fault, planned) in plan.faults.iter().enumerate() {
        let undo = fault::prepare(engine, planned).await?;
        run.record(E::Prepared { fault, undo: undo.clone() })?;
        run.record(E::Injecting { fault })?;
        if std::env::var_os(STOP_BEFORE_INJECTING).is_some() {
            raise(Signal::STOP);
        }
        let error = fault::inject(engine, planned, &[], Duration::ZERO).await.err().map(|e| e.to_string());
        run.record(E::Injected { fault, error })?;
        repeating.begin(engine, planned, undo, guardian.lease());
    }
    if let Some(seconds) = number::<f64>(HOLD) {
        println!("{HOLDING}");
        let held = tokio::time::timeout(Duration::from_secs_f64(seconds), async {
            loop {
                tokio::time::sleep(guardian.renew_every()).await;
                if let Err(fenced) = guardian.renew() {
                    return fenced;
                }
            }
        });
        if let Ok(fenced) = held.await {
            return Err(Error::could_not_run(fenced.to_string()));
        }
    }
    run.record(E::Phase(Phase::Undo))?;
    repeating.end().await;
    let mut recorded = Vec::new();
    let events = run.events.clone();
    let mut broken = None;
    let undone = unwind::all(engine, &events, WITHIN, &mut |kind| {
        // Like the tool while it runs: each record is on disk before the next undo begins.
        if broken.is_none() {
            broken = run.record(kind.clone()).err();
        }
        recorded.push(kind);
    })
    .await;
    if let Some(e) = broken {
        return Err(e);
    }
    run.record(E::Phase(Phase::Recovery))?;
    run.record(E::Phase(Phase::Cleanup))?;
    let residue = residue::wait_until_as(engine, &plan.facts.cluster, None, &before, WITHIN).await;
    let end = if residue.is_empty() { undone } else { End::Dirty };
    run.record(E::Audited { residue })?;
    run.record(E::Finished(end))
}

fn planned(engine: &str, cluster: &str, faults: &str, nodes: &[NodeId]) -> Result<Plan> {
    let mut plan = crate::plan::plan(engine, cluster, nodes);
    let on = |spec: &str, node: &NodeId| {
        let target = "victim".to_owned();
        let spec = match spec {
            "pause" => FaultSpec::Pause { node: target },
            "stop" => FaultSpec::Stop { node: target },
            "restart-loop" => FaultSpec::RestartLoop { node: target },
            "power-off" => FaultSpec::PowerOff { node: target },
            other => return Err(Error::usage(format!("there is no fault {other}"))),
        };
        Ok(PlannedFault::of(spec, node.clone()))
    };
    plan.faults = faults.split(',').zip(nodes).map(|(spec, node)| on(spec, node)).collect::<Result<_>>()?;
    Ok(plan)
}

fn number<T: FromStr>(variable: &str) -> Option<T> {
    std::env::var(variable).ok()?.parse().ok()
}

fn raise(signal: Signal) {
    let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
}
