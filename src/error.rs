//! Everything that can go wrong, and the exit code of each. An error says what happened, why, and what to do next.

use std::fmt;
use std::process::ExitCode;

/// Exit codes of the command line. Documented in `--help` and in the README; each has a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Every selected claim is upheld.
    Upheld = 0,
    /// A claim is refuted.
    Refuted = 1,
    /// Wrong usage, or a scenario file has errors.
    Usage = 2,
    /// It could not be run: no engine, no cluster, no journal.
    CouldNotRun = 3,
    /// The cluster was left differing from what it was before. Wins over all others.
    Dirty = 4,
    /// Nothing was selected.
    NothingSelected = 5,
    /// A claim is neither upheld nor refuted.
    Inconclusive = 6,
    /// Interrupted by a signal, everything undone.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error that ends a command.
#[derive(Debug)]
pub struct Error {
    exit: Exit,
    what: String,
    next: Option<String>,
}

/// Result of anything that can end a command.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The world did not let it run: engine, cluster, files.
    pub fn could_not_run(what: impl Into<String>) -> Self {
        Self { exit: Exit::CouldNotRun, what: what.into(), next: None }
    }

    /// The command line or a file given on it is wrong.
    pub fn usage(what: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, what: what.into(), next: None }
    }

    /// Any other exit code.
    pub fn with_exit(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), next: None }
    }

    /// What the user should do next.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// What happened and what to do next, as part of a sentence.
    pub fn in_one_line(&self) -> String {
        match &self.next {
            Some(next) => format!("{} ({next})", self.what),
            None => self.what.clone(),
        }
    }

    /// The exit code it ends with.
    pub fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.next {
            Some(next) => write!(f, "\n  → {next}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
