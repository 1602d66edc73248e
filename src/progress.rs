//! What is told of a run while it goes on.

use crate::event::Event;
use crate::steady_state::Unsteady;

/// What the watcher of a run is told.
#[derive(Debug, Clone, Copy)]
pub enum Told<'a> {
    /// An event that happened and is in the journal.
    Event(&'a Event),
    /// A message to the user that is not part of the record.
    Note(&'a str),
    /// Why there is no quiet baseline yet, once that takes long.
    Unsteady(&'a Unsteady),
    /// The process is about to end without putting anything back. No more events or notes follow.
    Leaving,
}
