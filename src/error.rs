//! Errors and their exit codes. An error says what happened, why, and what to do next.

use std::fmt;
use std::process::ExitCode;

/// Exit codes of the command line, documented in `--help` and in the README. Each has a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Every claim is upheld.
    Upheld = 0,
    /// A claim is refuted.
    Refuted = 1,
    /// Wrong usage, or a scenario file has errors.
    Usage = 2,
    /// The command could not run: no engine, no cluster, no journal.
    CouldNotRun = 3,
    /// The cluster differs from its state before the run. Takes precedence over all other codes.
    Dirty = 4,
    /// Nothing was run.
    NothingSelected = 5,
    /// A claim is neither upheld nor refuted, or a variant was left out that can't run on the cluster.
    Inconclusive = 6,
    /// A signal interrupted the command, and everything is undone. After a second signal, the guardian does that.
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

/// The result of anything that can end a command.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of the environment: engine, cluster, files.
    pub fn could_not_run(what: impl Into<String>) -> Self {
        Self { exit: Exit::CouldNotRun, what: what.into(), next: None }
    }

    /// An error in the command line or in a file named on it.
    pub fn usage(what: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, what: what.into(), next: None }
    }

    /// An error with the given exit code.
    pub fn with_exit(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), next: None }
    }

    /// The same error with another exit code.
    #[must_use]
    pub fn exiting(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// Adds what the user should do next.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// What happened and what to do next, on one line, for use within a sentence.
    pub fn in_one_line(&self) -> String {
        match &self.next {
            Some(next) => format!("{} ({next})", self.what),
            None => self.what.clone(),
        }
    }

    /// The exit code of the command that this error ends.
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
