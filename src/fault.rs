//! Faults: what kchaos does to a cluster, and the contract that every fault keeps.
//!
//! - [`prepare`] only reads. It returns the [`Undo`]s that hold the prior state, in the order in which they must be
//!   applied. It refuses a target that is not in the state that the fault needs, before anything is touched.
//! - [`inject`] puts the fault in. It may be called again: a fault that is in stays in.
//! - [`Witnesses`] say whether the fault is in effect, independently of the call that injected it and of each other.
//!
//! The experiment decides what is recorded and when. [`crate::cluster::docker`] makes sure that only nodes of the named
//! cluster are touched.

mod certificate;
mod in_node_change;
mod node;
mod witness;

pub use witness::Witnesses;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cluster::docker::Engine;
use crate::error::{Error, Result};
use crate::fence::Lease;
use crate::in_node::InNode;
use crate::plan::PlannedFault;
use crate::scenario::{Place, Remedy};
use crate::undo::Undo;

/// Returns what will undo the fault. Reads only.
///
/// # Errors
/// If the target is not running, or could not be put back to its present state.
pub async fn prepare(engine: &Engine, fault: &PlannedFault) -> Result<Vec<Undo>> {
    let state = node::running(engine, &fault.node).await?;
    let mut undo = node::prepare(engine, fault, &state).await?;
    undo.extend(in_node_change::prepare(engine, fault).await?.map(Undo::InNode));
    Ok(undo)
}

/// Says what the fault needs that the target's machine does not have; `None` if it has everything. Reads only.
///
/// # Errors
/// If the engine does not answer.
pub async fn lacks(engine: &Engine, fault: &PlannedFault) -> Result<Option<String>> {
    in_node_change::lacks(engine, fault).await
}

/// Returns what will undo the remedy, unless the undo of the fault already does. Reads only.
///
/// The result must be recorded together with the fault's undo.
///
/// # Errors
/// If the remedy could not be carried out, or could not be undone.
pub async fn prepare_remedy(engine: &Engine, fault: &PlannedFault, remedy: Remedy) -> Result<Vec<Undo>> {
    let change = in_node_change::prepare_remedy(engine, fault, remedy).await?;
    Ok(change.map(Undo::InNode).into_iter().collect())
}

/// Puts the fault in. `undo` is what [`prepare`] returned.
///
/// The engine's connection must be bound to the target's cluster. A change inside a node undoes itself there after
/// `lease` unless it is kept in (see [`keep`]).
///
/// # Errors
/// If the fault is not known to be in. It may be in nevertheless, so it must be undone in any case.
pub async fn inject(engine: &Engine, fault: &PlannedFault, undo: &[Undo], lease: Duration) -> Result<()> {
    let inside = fault.spec.place() != Place::Container || fault.spec.store_left().is_some();
    if inside {
        change_in(fault, undo, false)?.inject(engine, lease).await?;
    }
    node::inject(engine, fault).await
}

/// The faults of a run that [are repeated](crate::scenario::FaultSpec::is_repeated): tasks that make them again and
/// again. A task ends by itself once the run is not this process' any more.
#[derive(Debug, Default)]
pub struct Repeating {
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Repeating {
    /// Repeats the fault from now on, if it is one that is repeated. It must be in; `undo` is what [`prepare`] returned.
    pub fn begin(&mut self, engine: &Engine, fault: &PlannedFault, undo: Vec<Undo>, lease: Arc<Lease>) {
        if fault.spec.is_repeated() {
            let (engine, stop) = (engine.clone(), self.stop.clone());
            self.tasks.spawn(async move {
                node::restart_over_and_over(&engine, &undo, || lease.check().is_ok(), &stop).await;
            });
        }
    }

    /// Ends all of them, none in the midst of a change to a node. Only then may the faults be undone.
    pub async fn end(&mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Saves what the remedy will need, under the undo that [`prepare`] returned, and describes what was saved.
///
/// Must be called before the fault goes in.
///
/// # Errors
/// If it can't be saved.
pub async fn save(engine: &Engine, fault: &PlannedFault, undo: &[Undo], lease: Duration) -> Result<String> {
    let said = change_in(fault, undo, false)?.save(engine, lease).await?;
    Ok(serde_json::from_str::<Snapshot>(&said).map_or(said, |snapshot| snapshot.to_string()))
}

/// What `etcdutl snapshot status` reports about a snapshot.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Snapshot {
    hash: u32,
    revision: u64,
    total_key: u64,
    total_size: u64,
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hash, revision, total_key, total_size } = self;
        let megabytes = *total_size as f64 / 1e6;
        write!(f, "a snapshot at revision {revision}, {total_key} keys, {megabytes:.1} MB, hash {hash:08x}")
    }
}

/// Does what an operator would do about the fault.
///
/// # Errors
/// If the remedy is not done. Some of its steps may have been done; the undo puts them back, too.
pub async fn remedy(
    engine: &Engine,
    fault: &PlannedFault,
    remedy: Remedy,
    undo: &[Undo],
    lease: Duration,
) -> Result<()> {
    match remedy {
        Remedy::OutOfService | Remedy::DeleteNode => change_in(fault, undo, true)?.inject(engine, lease).await,
        Remedy::RestoreSnapshot | Remedy::RestoreCopy | Remedy::ReplaceMember => {
            change_in(fault, undo, false)?.remedy(engine).await
        }
        Remedy::RecoverFromSurvivor => {
            // Prepared with the first fault only, see `Remedy::is_done_once`.
            if let Ok(survivor) = change_in(fault, undo, true) {
                survivor.inject(engine, lease).await?;
            }
            change_in(fault, undo, false)?.remedy(engine).await
        }
    }
}

/// Finds the change in `undo` that is the fault or, if `remedy` is set, the fault's remedy.
fn change_in<'u>(fault: &PlannedFault, undo: &'u [Undo], remedy: bool) -> Result<&'u InNode> {
    let change = undo.iter().find_map(|undo| match undo {
        Undo::InNode(change) if change.change.is_remedy() == remedy => Some(change),
        _ => None,
    });
    change.ok_or_else(|| {
        Error::could_not_run(format!("nothing was prepared that undoes a change in {}", fault.node.name))
    })
}

/// Keeps a fault in as long as the future lives, by giving signs of life to the nodes that would otherwise undo it
/// themselves.
pub async fn keep(engine: Engine, undo: Vec<Undo>, lease: Duration) {
    let kept = undo.into_iter().filter_map(|undo| match undo {
        Undo::InNode(change) => Some(change.keep(engine.clone(), lease)),
        _ => None,
    });
    futures::future::join_all(kept).await;
}
