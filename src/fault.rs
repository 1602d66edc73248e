//! Faults: what is done to a cluster, with the contract that all of them keep.
//!
//! - [`prepare`] only reads, and gives the [`Undo`]s that hold the prior state, in the order in which they must be applied. It refuses
//!   a target that is not as a fault needs it, before anything is touched.
//! - [`inject`] does it. It may be called again: a fault that is in stays in.
//! - [`Witnesses`] say whether it is in effect, independently of the call that injected it and of each other.
//!
//! What is recorded, and when, is the experiment's business; that nothing but nodes of the named cluster is touched is
//! [`crate::cluster::docker`]'s.

mod node;
mod witness;

pub use witness::Witnesses;

use crate::cluster::docker::Engine;
use crate::error::Result;
use crate::plan::PlannedFault;
use crate::undo::Undo;

/// What will undo the fault. Reads only.
///
/// # Errors
/// If the target does not run, or could not be put back as it is.
pub async fn prepare(engine: &Engine, fault: &PlannedFault) -> Result<Vec<Undo>> {
    node::prepare(engine, fault).await
}

/// Puts the fault in. The engine's connection must be bound to the target's cluster.
///
/// # Errors
/// If it is not known to be in. It may be in all the same, so it is to be undone in any case.
pub async fn inject(engine: &Engine, fault: &PlannedFault) -> Result<()> {
    node::inject(engine, fault).await
}
