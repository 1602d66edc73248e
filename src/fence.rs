//! The fence between the tool and its guardian: only one of them may act on a run.
//!
//! The tool holds its end of a connection to the guardian. Once the guardian has taken over, or is gone, the fence is
//! shut for good: the tool injects nothing more, and writes nothing more to a journal that is the guardian's now.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};

/// The bytes on the connection. The guardian sends `READY` once it is on guard and `TAKEN_OVER` when it takes over; the
/// tool renews its lease with `READY`.
pub(crate) const READY: u8 = b'r';
pub(crate) const TAKEN_OVER: u8 = b't';

/// The tool's end of the connection to its guardian.
#[derive(Debug)]
pub struct Lease {
    stream: UnixStream,
    /// Set once; a fence never opens again. Held while the connection is read, since what it says it says once.
    fenced: Mutex<Option<Fenced>>,
}

/// Why the tool must not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fenced {
    /// The guardian has the run now: it undoes the faults and writes the journal.
    #[error("the guardian has taken over, because the run gave no sign of life for too long")]
    TakenOver,
    /// The guardian is gone. The run still belongs to the tool, but nothing more may be injected.
    #[error("the guardian was killed")]
    GuardianDied,
}

impl Lease {
    /// A lease on the connection to the guardian at the other end of `stream`.
    ///
    /// # Errors
    /// If the connection can't be made non-blocking.
    pub fn over(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, fenced: Mutex::default() })
    }

    /// Does the run still belong to the tool, and is it guarded? Costs one system call.
    ///
    /// # Errors
    /// If not; see [`Fenced`].
    pub fn check(&self) -> Result<(), Fenced> {
        let mut known = self.fenced.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fenced) = *known {
            return Err(fenced);
        }
        let mut byte = [0];
        let fenced = match (&self.stream).read(&mut byte) {
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(()),
            Ok(1) if byte[0] == TAKEN_OVER => Fenced::TakenOver,
            Ok(_) | Err(_) => Fenced::GuardianDied,
        };
        *known = Some(fenced);
        Err(fenced)
    }

    /// Tells the guardian that the tool has ended: closes the connection, even while the journal still holds the lease.
    pub(crate) fn end(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Gives a sign of life.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub(crate) fn renew(&self) -> Result<(), Fenced> {
        // A guardian that does not read (it is stopped) is no reason to stop. `check` notices one that is gone.
        let _ = (&self.stream).write(&[READY]);
        self.check()
    }
}
