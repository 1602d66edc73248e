//! Signals that ask a command to stop. What the first one does depends on what is going on: what may be abandoned is, a run puts
//! everything back. A second one leaves at once, whatever is going on, with a word on who goes on putting back, and how to do it by hand.
//!
//! What is said goes through the caller, who knows what is on the terminal.

use std::io::Write;
use std::pin::pin;

use tokio::signal::unix::{self, SignalKind};

use crate::error::{Error, Exit, Result};

/// Signals as they come. SIGINT, SIGTERM and SIGHUP mean the same.
pub struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hang_up: unix::Signal,
    seen: bool,
    after_leaving: String,
}

/// What a signal asks for.
pub enum Signal {
    /// Stop, in order.
    First(&'static str),
    /// Leave at once.
    Again(&'static str),
}

impl Signals {
    /// Takes over the process' signals: from here on they end nothing by themselves.
    ///
    /// # Errors
    /// If the kernel refuses the handlers.
    pub fn listen() -> Result<Self> {
        let listen =
            |kind| unix::signal(kind).map_err(|e| Error::could_not_run(format!("cannot listen for signals: {e}")));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
            seen: false,
            after_leaving: "Nothing was broken.".into(),
        })
    }

    /// Sets what who leaves at once is to know from here on.
    pub fn on_leaving(&mut self, text: impl Into<String>) {
        self.after_leaving = text.into();
    }

    /// Has there been one?
    pub fn seen(&self) -> bool {
        self.seen
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

    /// Drives what may be abandoned at any point, and abandons it at the first signal.
    ///
    /// # Errors
    /// Those of the work; and if it was abandoned.
    pub async fn abandon<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            done = work => done,
            Signal::First(name) | Signal::Again(name) = self.next() => {
                Err(Error::with_exit(Exit::Interrupted, format!("{name}: interrupted. {}", self.after_leaving)))
            }
        }
    }

    /// Drives work to its end. `first` is told of the first signal, by name; the second one ends the process.
    pub async fn see_through<T>(&mut self, mut first: impl FnMut(&str), work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                signal = self.next() => match signal {
                    Signal::First(name) => first(name),
                    Signal::Again(name) => self.leave(name),
                },
            }
        }
    }

    /// Ends the process without putting anything back. The guardian, if there is one, sees its pipe close and does that.
    pub fn leave(&self, name: &str) -> ! {
        let _ = writeln!(std::io::stderr(), "{name} again: leaving at once. {}", self.after_leaving);
        std::process::exit(Exit::Interrupted as i32)
    }
}
