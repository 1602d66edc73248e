//! Signals that ask a run to stop: the first one puts everything back, a second one leaves at once and trusts the guardian.

use std::io::Write;

use tokio::signal::unix::{self, SignalKind};

use crate::error::{Error, Exit, Result};

/// Signals as they come. SIGINT, SIGTERM and SIGHUP mean the same.
pub struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hang_up: unix::Signal,
    seen: bool,
    rollback: String,
}

/// What a signal asks for.
pub enum Signal {
    /// Stop and put everything back.
    First(&'static str),
    /// Leave at once.
    Again(&'static str),
}

impl Signals {
    /// Takes over the process' signals. `rollback` is the command to print for who leaves at once.
    ///
    /// # Errors
    /// If the kernel refuses the handlers.
    pub fn listen(rollback: String) -> Result<Self> {
        let listen =
            |kind| unix::signal(kind).map_err(|e| Error::could_not_run(format!("cannot listen for signals: {e}")));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
            seen: false,
            rollback,
        })
    }

    /// The next signal.
    pub async fn next(&mut self) -> Signal {
        let name = tokio::select! {
            Some(()) = self.interrupt.recv() => "SIGINT",
            Some(()) = self.terminate.recv() => "SIGTERM",
            Some(()) = self.hang_up.recv() => "SIGHUP",
        };
        if std::mem::replace(&mut self.seen, true) { Signal::Again(name) } else { Signal::First(name) }
    }

    /// Ends the process without putting anything back. The guardian sees its pipe close and does that.
    pub fn leave(&self, name: &str) -> ! {
        let _ = writeln!(
            std::io::stderr(),
            "{name} again: leaving at once. The guardian goes on putting everything back; if it can't: {}",
            self.rollback
        );
        std::process::exit(Exit::Interrupted as i32)
    }
}
