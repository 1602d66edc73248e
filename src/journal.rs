//! The journal: the append-only record of a run. A record is on disk before anything is done that relies on it.
//!
//! A run has one logical journal in two files. `undo.jsonl` holds the few records that an undo depends on; each is
//! synced before [`Journal::append`] returns. `events.jsonl` holds the rest, mostly samples, so that a short write of a
//! sample can't damage an undo record. One sequence of numbers runs through both files, so [`read`] restores the order
//! in which things happened. `events.jsonl` is synced before each record of `undo.jsonl` is written, so a power failure
//! always takes the end of that order.
//!
//! A write or sync that fails is never tried again, since it is then unknown what is on disk. The journal is *broken*
//! and takes nothing more. Its holder must undo, or leave that to the guardian, which reads anew what is there.
//!
//! The journal judges nothing, and it knows nothing of clusters.

mod held;
mod line;
mod scan;
mod state;

use std::fs;
use std::io::{self, Write};
use std::sync::Arc;

pub use scan::Torn;
pub use state::{IllegalEvent, State};

use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};

pub(crate) use self::held::Held;
use self::line::{FORMAT, File, MAX_LINE, Opened, Record, TakesOver};
use self::scan::{Scan, ended_clean, has_events, scan, scan_undo};
use crate::clock::{Mono, boot_id};
use crate::error::{Error, Result};
use crate::event::{End, Event, EventKind};
use crate::fence::{Fenced, Lease};
use crate::run_dir::RunDir;

/// Name of the file that reserves room on the disk for the records of an undo.
const BALLAST: &str = "ballast";
/// Its size in bytes: more than all the undo records of a run.
const BALLAST_SIZE: usize = 1 << 20;

/// Writes the journal of a run.
#[derive(Debug)]
pub struct Journal {
    run: RunDir,
    undo: Output,
    /// `None` in a journal that was taken over: every record then goes to the file of undo records.
    events: Option<Output>,
    next_seq: u64,
    /// The time of the latest record that was taken over.
    not_before: Mono,
    state: State,
    lease: Option<Arc<Lease>>,
    /// Why nothing more is written.
    broken: Option<String>,
}

#[derive(Debug)]
struct Output {
    file: fs::File,
    written: u64,
    dirty: bool,
    kind: File,
}

/// Why an event was not recorded. What the record was meant to allow must not be done.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The event must not follow the ones before it: a bug of the caller.
    #[error("the journal refuses an event: {0}")]
    Illegal(#[from] IllegalEvent),
    /// Another process has the run now.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// A fault without a guardian would outlive a killed run.
    #[error("nothing is injected without a guardian")]
    Unguarded,
    /// A write or sync failed, now or before.
    #[error("the journal is broken: {0}")]
    Broken(String),
}

impl From<AppendError> for Error {
    fn from(error: AppendError) -> Self {
        Self::could_not_run(error.to_string())
    }
}

impl Journal {
    /// Starts the journal of a new run: both files with their first lines, and the ballast that reserves room for the
    /// records of an undo. All of it is then on disk, including the directory entries.
    ///
    /// # Errors
    /// If any of that fails. Nothing must be injected then.
    pub fn create(run: &RunDir) -> Result<Self> {
        Self::try_create(run).map_err(|e| {
            Error::could_not_run(format!("cannot write a journal in {}: {e}", run.path().display()))
                .next("nothing was broken; make room there, or point XDG_STATE_HOME to a disk that can be written")
        })
    }

    fn try_create(run: &RunDir) -> io::Result<Self> {
        let mut ballast = run.create_file(BALLAST)?;
        // Bytes that no file system can compress or leave as a hole.
        let mut noise = vec![0; BALLAST_SIZE];
        ChaCha8Rng::seed_from_u64(Mono::now().0).fill_bytes(&mut noise);
        ballast.write_all(&noise)?;
        ballast.sync_all()?;
        let output =
            |kind: File| io::Result::Ok(Output { file: run.create_file(kind.name())?, written: 0, dirty: false, kind });
        let mut journal = Self {
            run: run.clone(),
            undo: output(File::Undo)?,
            events: Some(output(File::Events)?),
            next_seq: 0,
            not_before: Mono(0),
            state: State::default(),
            lease: None,
            broken: None,
        };
        for kind in [File::Undo, File::Events] {
            journal.write(kind, &opened(run.id(), kind, None), "")?;
            journal.output(kind).file.sync_all()?;
        }
        run.sync()?;
        Ok(journal)
    }

    /// Takes over the journal of a run from a process that is dead or has lost its lease. Also returns what that
    /// process had recorded.
    ///
    /// # Errors
    /// If the journal can't be read, is not safe to act upon (see [`RunDir::vet`]), or can't be written. What
    /// [`salvage`] returns can still be undone then.
    pub fn take_over(run: &RunDir) -> Result<(Self, Salvage)> {
        run.vet()?;
        // The ballast was kept for this.
        let _ = run.remove_file(BALLAST);
        let found = scan(run)?;
        let torn = found.torn.iter().any(|t| t.file == File::Undo.name());
        let state = if found.undo_damage.is_empty() { found.state.clone() } else { found.state.clone().damaged() };
        let cannot = |e: io::Error| {
            Error::could_not_run(format!("cannot go on with the journal in {}: {e}", run.path().display()))
        };
        let file = run.append_to(File::Undo.name()).map_err(cannot)?;
        let written = file.metadata().map_err(cannot)?.len();
        let mut journal = Self {
            run: run.clone(),
            undo: Output { file, written, dirty: false, kind: File::Undo },
            events: None,
            next_seq: found.next_seq,
            not_before: found.events.iter().map(|event| event.at).max().unwrap_or(Mono(0)),
            state,
            lease: None,
            broken: None,
        };
        let id = found.run.as_deref().unwrap_or(run.id());
        let header = opened(id, File::Undo, Some(TakesOver { torn }));
        journal.write(File::Undo, &header, if torn { "\n" } else { "" }).map_err(cannot)?;
        journal.undo.file.sync_all().map_err(cannot)?;
        Ok((journal, Salvage::from(found)))
    }

    /// Sets the guardian's lease. From here on faults may go in, and nothing is recorded once the guardian has taken
    /// over.
    pub fn guarded_by(&mut self, lease: Arc<Lease>) {
        self.lease = Some(lease);
    }

    /// Where the run stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Records an event with the current time. A record that an undo depends on is on disk when this returns.
    ///
    /// # Errors
    /// See [`AppendError`]. The event was then not recorded, or it is unknown whether it was.
    pub fn append(&mut self, kind: EventKind) -> Result<Event, AppendError> {
        if let Some(why) = &self.broken {
            return Err(AppendError::Broken(why.clone()));
        }
        let injecting = matches!(kind, EventKind::Injecting { .. });
        let acting = injecting || matches!(kind, EventKind::Remedying { .. } | EventKind::Prepared { .. });
        match self.lease.as_ref().map_or(Ok(()), |lease| lease.check()) {
            // The run is still ours: it goes on to its undo, but not to another fault.
            Err(Fenced::GuardianDied) if !acting => {}
            checked => checked?,
        }
        let next = self.state.next(&kind)?;
        if injecting && self.lease.is_none() {
            return Err(AppendError::Unguarded);
        }
        // The clock of a machine that was started anew begins at nought.
        let event = Event { at: Mono::now().max(self.not_before), kind };
        let result = self.record(&event);
        if let Err(e) = result {
            self.broken = Some(e.to_string());
            return Err(AppendError::Broken(e.to_string()));
        }
        self.state = next;
        if acting && let Some(lease) = &self.lease {
            // Checked again now that the record is there. A guardian that takes over first lets go of the lease and
            // then reads the journal. So either this call sees that the lease is gone, or the guardian sees that a
            // change may be under way.
            lease.check()?;
        }
        if matches!(event.kind, EventKind::Finished(_)) {
            let _ = self.run.remove_file(BALLAST);
        }
        Ok(event)
    }

    fn record(&mut self, event: &Event) -> io::Result<()> {
        let record = Record::Event(event.clone());
        if self.events.is_some() && !is_undo_record(&event.kind) {
            return self.write(File::Events, &record, "");
        }
        if let Some(events) = &mut self.events {
            events.sync()?;
        }
        self.write(File::Undo, &record, "")?;
        self.undo.sync()
    }

    fn output(&mut self, kind: File) -> &mut Output {
        match (kind, &mut self.events) {
            (File::Events, Some(events)) => events,
            _ => &mut self.undo,
        }
    }

    /// Writes one line in one write to a file that is only appended to, so lines of two processes are never mixed.
    fn write(&mut self, kind: File, record: &Record, before: &str) -> io::Result<()> {
        let line = line::encode(self.next_seq, record)?;
        if line.len() > MAX_LINE {
            return Err(io::Error::other(format!("a record of {} bytes is too long", line.len())));
        }
        let bytes = [before.as_bytes(), &line].concat();
        self.output(kind).write(&bytes)?;
        self.next_seq += 1;
        Ok(())
    }
}

impl Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        if self.written > self.kind.cap() {
            return Err(io::Error::other(format!("{} would grow beyond {} bytes", self.kind.name(), self.kind.cap())));
        }
        self.dirty = true;
        self.file.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.dirty) { self.file.sync_data() } else { Ok(()) }
    }
}

fn opened(run: &str, file: File, takes_over: Option<TakesOver>) -> Record {
    let run = run.to_owned();
    Record::Opened(Opened { format: FORMAT, run, file, pid: std::process::id(), boot_id: boot_id(), takes_over })
}

/// Does an undo, or knowing where the run stands, depend on this record?
fn is_undo_record(kind: &EventKind) -> bool {
    use EventKind as E;
    match kind {
        E::Started { .. }
        | E::Phase(_)
        | E::Surveyed { .. }
        | E::Prepared { .. }
        | E::Injecting { .. }
        | E::Injected { .. }
        | E::Remedying { .. }
        | E::Remedied { .. }
        | E::Undoing { .. }
        | E::Undone { .. }
        | E::UndoFailed { .. }
        | E::Audited { .. }
        | E::Interrupted(_)
        | E::Finished(_) => true,
        E::Watching { .. }
        | E::Saved { .. }
        | E::Witnessed(_)
        | E::Sampled(_)
        | E::Processors(_)
        | E::Waited { .. }
        | E::Disturbed(_) => false,
    }
}

/// The content of an undamaged journal.
#[derive(Debug)]
pub struct Recorded {
    /// In the order in which they happened.
    pub events: Vec<Event>,
    /// Incomplete writes, which were left out.
    pub torn: Vec<Torn>,
    /// Number of lines left out because their writer had already lost the run to another process.
    pub late: usize,
}

/// Reads the journal of a run, to judge it.
///
/// # Errors
/// If it can't be read, or if anything in it is not as it was written or must not have been written: a damaged journal
/// is no evidence.
pub fn read(run: &RunDir) -> Result<Recorded> {
    let found = scan(run)?;
    let damage =
        found.undo_damage.iter().map(|d| (File::Undo, d)).chain(found.events_damage.iter().map(|d| (File::Events, d)));
    let damage: Vec<String> = damage.map(|(file, what)| format!("{}, {what}", file.name())).collect();
    if damage.is_empty() {
        return Ok(Recorded { events: found.events, torn: found.torn, late: found.late });
    }
    let what = format!("the journal in {} is damaged and can't be judged: {}", run.path().display(), in_short(&damage));
    Err(Error::could_not_run(what)
        .next(format!("what it says of undos can still be used: kchaos rollback {}", run.id())))
}

/// Everything that can be read of a journal, whether it is damaged or not.
#[derive(Debug)]
pub struct Salvage {
    /// Every readable record, in order.
    pub events: Vec<Event>,
    /// The state that these records add up to.
    pub state: State,
    /// What is wrong with the undo records; empty if none of them is missing.
    pub damage: Vec<String>,
}

impl From<Scan> for Salvage {
    fn from(found: Scan) -> Self {
        Self { events: found.events, state: found.state, damage: found.undo_damage }
    }
}

/// Reads whatever can be read of a run's journal, to put things back.
///
/// # Errors
/// If it can't be read at all, is not safe to act upon (see [`RunDir::vet`]), or was written by another version of
/// kchaos.
pub fn salvage(run: &RunDir) -> Result<Salvage> {
    run.vet()?;
    scan(run).map(Salvage::from)
}

/// Where a run stands, as seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The run died before its first record: it did nothing.
    NeverStarted,
    /// The run is going on, or it was killed: there may be something to put back.
    Unfinished,
    /// The run ended.
    Ended(End),
}

/// Returns those runs that began and did not end.
///
/// # Errors
/// If a journal can't be read.
pub fn unfinished(runs: Vec<RunDir>) -> Result<Vec<RunDir>> {
    let mut left = Vec::new();
    for run in runs {
        if standing(&run)? == Standing::Unfinished {
            left.push(run);
        }
    }
    Ok(left)
}

/// What is wrong with a journal, in a sentence of bearable length.
pub(crate) fn in_short(damage: &[String]) -> String {
    match damage.split_at_checked(3) {
        Some((first, more)) if !more.is_empty() => format!("{}; and {} more", first.join("; "), more.len()),
        _ => damage.join("; "),
    }
}

/// Returns where a run stands. Reads its undo records, and of the others only whether there are any.
///
/// # Errors
/// If they can't be read.
pub fn standing(run: &RunDir) -> Result<Standing> {
    let found = match scan_undo(run) {
        Ok(found) => found,
        // Another version of kchaos may have written it. If the run ended clean, nothing else matters: such a run must
        // not block an upgrade.
        Err(_) if ended_clean(run) => return Ok(Standing::Ended(End::Clean)),
        Err(error) => return Err(error),
    };
    Ok(match found.events.last() {
        // A run whose other events are there has begun, so its undo records are lost.
        None if found.undo_damage.is_empty() && !has_events(run) => Standing::NeverStarted,
        None => Standing::Unfinished,
        Some(Event { kind: EventKind::Finished(end), .. }) => Standing::Ended(*end),
        Some(_) => Standing::Unfinished,
    })
}
