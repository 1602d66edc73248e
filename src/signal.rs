//! Signals that ask a command to stop. The effect of the first signal depends on the command: work that may be
//! abandoned is abandoned, and a run puts everything back. A second signal always ends the process at once, with a
//! message about who continues to put back and how to do it by hand.
//!
//! The caller prints the messages for the first signal, since it knows what is on the terminal.

use std::pin::pin;
use std::time::Duration;

use tokio::signal::unix::{self, SignalKind};

use crate::error::{Error, Exit, Result};
use crate::standard_error;

/// How long a reader may take to read why the process ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The stream of signals. SIGINT, SIGTERM and SIGHUP mean the same.
pub struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hang_up: unix::Signal,
    seen: bool,
    after_leaving: String,
}

/// The request that a signal makes.
pub enum Signal {
    /// Stop in an orderly way.
    First(&'static str),
    /// Exit at once.
    Again(&'static str),
}

impl Signals {
    /// Takes over the process's signals: from here on they no longer end it.
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

    /// Sets the message shown from here on when a command is abandoned or the process exits at once.
    pub fn on_leaving(&mut self, text: impl Into<String>) {
        self.after_leaving = text.into();
    }

    /// Has a signal arrived?
    pub fn seen(&self) -> bool {
        self.seen
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) -> Signal {
        let name = tokio::select! {
            Some(()) = self.interrupt.recv() => "SIGINT",
            Some(()) = self.terminate.recv() => "SIGTERM",
            Some(()) = self.hang_up.recv() => "SIGHUP",
        };
        if std::mem::replace(&mut self.seen, true) { Signal::Again(name) } else { Signal::First(name) }
    }

    /// Drives work that may be abandoned at any point, and abandons it at the first signal.
    ///
    /// # Errors
    /// The errors of `work`, and an error if it was abandoned.
    pub async fn abandon<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            done = work => done,
            Signal::First(name) | Signal::Again(name) = self.next() => {
                Err(Error::with_exit(Exit::Interrupted, format!("{name}: interrupted. {}", self.after_leaving)))
            }
        }
    }

    /// Drives work to its end. Calls `first` with the name of the first signal; the second signal ends the process.
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

    /// Ends the process without putting anything back. The guardian, if there is one, sees its connection close and
    /// puts the run back.
    pub fn leave(&self, name: &str) -> ! {
        standard_error::line(&format!("{name} again: leaving at once. {}", self.after_leaving));
        standard_error::settle_within(LAST_WORDS);
        std::process::exit(Exit::Interrupted as i32)
    }
}
