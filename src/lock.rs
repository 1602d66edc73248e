//! One run per cluster at a time: locks on files next to the cluster's runs.
//!
//! There are two files. The kernel locks each as a whole and releases the lock when the last descriptor is closed,
//! however the process ends. No process ever unlocks explicitly. The tool *and* its guardian, which inherits the
//! descriptor, hold `lock`: as long as either lives, no other process touches the cluster. The tool alone holds `tool`,
//! which distinguishes an active run from a guardian that is putting a run back. The files' contents are only for
//! messages; nothing depends on them.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::journal;
use crate::run_dir::{self, RunDir, StateDir};

/// How often to retry a lock that a guardian holds. Waiting in the kernel would block a thread for good.
const TRY_EVERY: Duration = Duration::from_millis(100);
/// More than it takes to look at who holds a lock.
const A_MOMENT: Duration = Duration::from_millis(20);

/// The right to touch a cluster. Held until this value is dropped *and* the guardian that shares the lock has ended.
#[derive(Debug)]
pub struct Lock {
    dir: PathBuf,
    tool: File,
    shared: File,
}

/// The holder of a lock, for messages.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Holder {
    pid: u32,
    run: Option<String>,
    guardian: Option<u32>,
}

impl Lock {
    /// Locks a cluster for a run.
    ///
    /// # Errors
    /// If another process holds the lock (the error names it where known), or the files can't be created.
    pub fn take(state: &StateDir, engine: &str, cluster: &str) -> Result<Self> {
        let dir = state.cluster(engine, cluster)?;
        let tool = Self::take_tool(&dir, cluster)?;
        let shared = open(&dir.join("lock"))?;
        if !try_lock(&shared, &dir)? {
            let (run, guardian) = holder(&tool).guardian_of();
            return Err(Error::could_not_run(format!(
                "the guardian{guardian} of {run} is still putting cluster {cluster} back"
            ))
            .next(format!("wait for it: kchaos rollback {run}")));
        }
        let lock = Self { dir, tool, shared };
        lock.note(None, None);
        Ok(lock)
    }

    /// Locks a cluster to put it back. Waits for a guardian that is already putting it back, after announcing the wait.
    ///
    /// # Errors
    /// If another kchaos is at work on the cluster, or the files can't be created.
    pub async fn wait(state: &StateDir, engine: &str, cluster: &str, tell: impl Fn(&str)) -> Result<Self> {
        let dir = state.cluster(engine, cluster)?;
        let tool = Self::take_tool(&dir, cluster)?;
        let shared = open(&dir.join("lock"))?;
        if !try_lock(&shared, &dir)? {
            let of = holder(&tool);
            write_holder(&tool, &Holder { pid: std::process::id(), ..of.clone() });
            let (run, guardian) = of.guardian_of();
            tell(&format!("the guardian{guardian} of {run} is putting cluster {cluster} back; waiting for it"));
            while !try_lock(&shared, &dir)? {
                tokio::time::sleep(TRY_EVERY).await;
            }
        }
        let lock = Self { dir, tool, shared };
        lock.note(None, None);
        Ok(lock)
    }

    fn take_tool(dir: &Path, cluster: &str) -> Result<File> {
        let tool = open(&dir.join("tool"))?;
        if try_lock(&tool, dir)? {
            return Ok(tool);
        }
        // Whoever only asks who is at work holds the lock for a moment.
        std::thread::sleep(A_MOMENT);
        if try_lock(&tool, dir)? {
            return Ok(tool);
        }
        let Holder { pid, run, .. } = holder(&tool);
        let run = run.map(|r| format!(", run {r}")).unwrap_or_default();
        let at_work = format!("another kchaos is at work on cluster {cluster}");
        Err(match pid {
            // The other process has not written its id yet.
            0 => Error::could_not_run(at_work).next("wait for it to end"),
            pid => Error::could_not_run(format!("{at_work}: process {pid}{run}"))
                .next(format!("wait for it to end, or interrupt it: kill -INT {pid}")),
        })
    }

    /// Who is at work on this run, if somebody is.
    ///
    /// # Errors
    /// If the files can't be opened.
    pub(crate) fn at_work(run: &RunDir) -> Result<Option<AtWork>> {
        let Some(dir) = run.path().parent().filter(|dir| dir.join("tool").exists()) else { return Ok(None) };
        let held = |file: &str| {
            let file = open(&dir.join(file))?;
            Ok::<_, Error>((!try_lock(&file, dir)?, holder(&file)))
        };
        let (by_tool, Holder { pid, run: of, guardian }) = held("tool")?;
        if of.as_deref() != Some(run.id()) {
            return Ok(None);
        }
        Ok(match by_tool {
            true => Some(AtWork::Run(pid)),
            false if held("lock")?.0 => guardian.map(AtWork::Guardian),
            false => None,
        })
    }

    /// Checks that every run of the cluster has ended.
    ///
    /// # Errors
    /// If a run has not ended (the error names the command that puts the cluster back), or a journal can't be read.
    pub(crate) fn refuse_unfinished(&self) -> Result<()> {
        match journal::unfinished(run_dir::runs_of(&self.dir)?)?.first() {
            None => Ok(()),
            Some(left) => {
                Err(Error::could_not_run(format!("an earlier run on this cluster did not end: {}", left.id()))
                    .next(format!("put the cluster back first: kchaos rollback {}", left.id())))
            }
        }
    }

    /// Creates the directory of a new run.
    ///
    /// # Errors
    /// If an earlier run of the cluster is unfinished (the error names the command that puts it back), or the directory
    /// can't be created.
    pub fn begin(&self, scenario: &str) -> Result<RunDir> {
        self.refuse_unfinished()?;
        let run = RunDir::create(&self.dir, scenario)?;
        self.note(Some(run.id()), None);
        Ok(run)
    }

    /// A descriptor for the guardian to inherit.
    pub(crate) fn share(&self) -> Result<File> {
        self.shared.try_clone().map_err(|e| cannot(&self.dir, &e))
    }

    /// Records the holder of the lock, for messages of other processes. A failure does no harm.
    pub(crate) fn note(&self, run: Option<&str>, guardian: Option<u32>) {
        write_holder(&self.tool, &Holder { pid: std::process::id(), run: run.map(str::to_owned), guardian });
    }
}

/// The process that is at work on a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtWork {
    /// The run itself, or a rollback.
    Run(u32),
    /// Only its guardian, which puts it back.
    Guardian(u32),
}

impl std::fmt::Display for AtWork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Run(pid) => write!(f, "going on: process {pid}"),
            Self::Guardian(pid) => write!(f, "being put back by its guardian: process {pid}"),
        }
    }
}

impl Holder {
    fn guardian_of(self) -> (String, String) {
        let guardian = self.guardian.map(|pid| format!(" (process {pid})")).unwrap_or_default();
        (self.run.unwrap_or_else(|| "latest".into()), guardian)
    }
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(path)
        .map_err(|e| cannot(path, &e))
}

fn try_lock(file: &File, path: &Path) -> Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(e)) => Err(cannot(path, &e)),
    }
}

fn holder(file: &File) -> Holder {
    let mut text = String::new();
    let _ = file.take(4096).read_to_string(&mut text);
    serde_json::from_str(&text).unwrap_or_default()
}

/// A failure does no harm: see [`Lock::note`].
fn write_holder(mut file: &File, holder: &Holder) {
    let _ = serde_json::to_vec(holder).map_err(std::io::Error::from).and_then(|text| {
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(&text)
    });
}

fn cannot(path: &Path, e: &std::io::Error) -> Error {
    Error::could_not_run(format!("cannot lock {}: {e}", path.display()))
}
