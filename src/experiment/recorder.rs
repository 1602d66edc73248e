//! What records a run: the only writer of its events.

use crate::event::{Event, EventKind};
use crate::journal::{AppendError, Journal};
use crate::progress::Told;

/// Records events: writes each to the journal, then passes it to the watcher.
pub struct Recorder<'a> {
    journal: Journal,
    pub(super) events: Vec<Event>,
    pub(super) watch: Box<dyn FnMut(Told<'_>) + 'a>,
}

impl<'a> Recorder<'a> {
    /// A recorder into `journal`. `watch` sees every event after it is written.
    pub fn new(journal: Journal, watch: impl FnMut(Told<'_>) + 'a) -> Self {
        Self { journal, events: Vec::new(), watch: Box::new(watch) }
    }

    /// Everything recorded so far.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// All events, once the run records no more.
    pub fn into_events(self) -> Vec<Event> {
        self.events
    }

    pub(super) fn record(&mut self, kind: EventKind) -> Result<(), AppendError> {
        let event = self.journal.append(kind)?;
        (self.watch)(Told::Event(&event));
        self.events.push(event);
        Ok(())
    }
}
