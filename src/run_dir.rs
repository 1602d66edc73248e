//! The place of runs: `$XDG_STATE_HOME/kchaos/ENGINE/CLUSTER/RUN`, so that any later `kchaos` finds what an earlier one
//! left.
//!
//! A journal is in effect a program that runs with the rights to control the container engine. So its directory belongs
//! to the user alone and is never reached through somebody else's symbolic link. It lies on a disk, so that it survives
//! a restart of the machine, as the containers do.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;

use crate::clock::Wall;
use crate::error::{Error, Result};

/// The name of the newest run on the command line.
pub(crate) const LATEST: &str = "latest";

/// The directory that holds all runs of this user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// `$XDG_STATE_HOME/kchaos`, or `~/.local/state/kchaos`.
    ///
    /// # Errors
    /// If neither variable gives an absolute path.
    pub fn from_env() -> Result<Self> {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        absolute("XDG_STATE_HOME")
            .or_else(|| Some(absolute("HOME")?.join(".local/state")))
            .map(|state| Self(state.join("kchaos")))
            .ok_or_else(|| {
                Error::could_not_run(
                    "there is no place for journals: neither XDG_STATE_HOME nor HOME is an absolute path",
                )
                .next("set one of them")
            })
    }

    /// Uses any directory. It is created when it is needed.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory of one cluster's runs, created if necessary and checked.
    pub(crate) fn cluster(&self, engine: &str, cluster: &str) -> Result<PathBuf> {
        let engine = engine_name(engine)?;
        if cluster.is_empty()
            || cluster.starts_with('.')
            || !cluster.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        {
            return Err(Error::usage(format!("{cluster:?} is not the name of a kind cluster")));
        }
        if let Some(parent) = self.0.parent() {
            fs::create_dir_all(parent).map_err(|e| cannot_use(parent, &e))?;
        }
        let mut dir = self.0.clone();
        make_private(&dir)?;
        on_disk(&dir)?;
        for part in [engine.as_str(), cluster] {
            dir.push(part);
            make_private(&dir)?;
        }
        Ok(dir)
    }

    /// Every run of every cluster, oldest first.
    ///
    /// # Errors
    /// If a directory can't be read.
    pub fn list(&self) -> Result<Vec<RunDir>> {
        let mut runs = Vec::new();
        for engine in subdirectories(&self.0)? {
            for cluster in subdirectories(&engine)? {
                runs.extend(runs_of(&cluster)?);
            }
        }
        runs.sort_by(|a, b| a.id().cmp(b.id()));
        Ok(runs)
    }

    /// Finds a run by its id, by the path of its directory, or as `latest`.
    ///
    /// # Errors
    /// If there is no such run.
    pub fn find(&self, which: &str) -> Result<RunDir> {
        if which.contains('/') || which == "." {
            return RunDir::at(Path::new(which));
        }
        let mut runs = self.list()?;
        let wanted =
            if which == LATEST { runs.len().checked_sub(1) } else { runs.iter().position(|r| r.id() == which) };
        match wanted {
            Some(index) => Ok(runs.swap_remove(index)),
            None if Path::new(which).is_dir() => RunDir::at(Path::new(which)),
            None if runs.is_empty() => Err(Error::usage(format!("there are no runs in {}", self.0.display()))),
            None => {
                let latest: Vec<&str> = runs.iter().rev().take(3).map(RunDir::id).collect();
                Err(Error::usage(format!("there is no run {which} in {}", self.0.display()))
                    .next(format!("the latest are {}", latest.join(", "))))
            }
        }
    }

    /// The runs of one cluster, oldest first.
    pub(crate) fn list_of(&self, engine: &str, cluster: &str) -> Result<Vec<RunDir>> {
        runs_of(&self.cluster(engine, cluster)?)
    }
}

/// The directory of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// Creates the directory of a new run among those of its cluster. Its directory entry is on disk when this returns.
    /// The caller holds the cluster's lock; see [`Lock::begin`](crate::lock::Lock::begin).
    ///
    /// # Errors
    /// If it can't be created.
    pub(crate) fn create(cluster: &Path, scenario: &str) -> Result<Self> {
        let scenario: String = scenario.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        loop {
            let now = Wall::now();
            // Precise to the millisecond, so that the order of ids is the order of runs.
            let stamp: String = now.to_string().chars().filter(|c| c.is_ascii_digit() || *c == 'T').collect();
            let stamp = format!("{stamp}.{:03}Z", now.0 % 1000);
            if runs_of(cluster)?.iter().any(|run| run.id().starts_with(&stamp)) {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            let random = RandomState::new().build_hasher().finish() & 0xffff;
            let run = Self(cluster.join(format!("{stamp}-{scenario}-{random:04x}")));
            match DirBuilder::new().mode(0o700).create(&run.0) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(cannot_use(&run.0, &e)),
            }
            sync(cluster).map_err(|e| cannot_use(cluster, &e))?;
            return Ok(run);
        }
    }

    /// The run in a directory.
    ///
    /// # Errors
    /// If the directory holds no journal.
    pub fn at(path: &Path) -> Result<Self> {
        let no_run = |e: io::Error| Error::usage(format!("{} is not the directory of a run: {e}", path.display()));
        let run = Self(std::path::absolute(path).map_err(no_run)?);
        run.open_file("undo.jsonl").map_err(no_run)?;
        Ok(run)
    }

    /// The directory of the run.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The id of the run: its start time, its scenario, four random hex digits.
    pub fn id(&self) -> &str {
        self.0.file_name().and_then(|n| n.to_str()).unwrap_or_default()
    }

    /// Checks that it is safe to act on the contents of this directory.
    ///
    /// # Errors
    /// If the directory is not a real directory, an entry of it is not a plain file with a single name, or one of them
    /// belongs to another user or is writable by others.
    pub fn vet(&self) -> Result<()> {
        private(&self.0)?;
        for entry in fs::read_dir(&self.0).map_err(|e| cannot_use(&self.0, &e))? {
            let path = entry.map_err(|e| cannot_use(&self.0, &e))?.path();
            let meta = fs::symlink_metadata(&path).map_err(|e| cannot_use(&path, &e))?;
            if !meta.is_file() || meta.nlink() != 1 {
                return Err(refused(&path, "it is not a plain file of one name"));
            }
            owned(&path, &meta)?;
        }
        Ok(())
    }

    /// Opens a file of the run for reading. Never follows a symbolic link.
    pub(crate) fn open_file(&self, name: &str) -> io::Result<File> {
        let file = OpenOptions::new().read(true).custom_flags(NO_FOLLOW).open(self.0.join(name))?;
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a plain file")) }
    }

    /// Opens an existing file of the run for appending.
    pub(crate) fn append_to(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().append(true).custom_flags(NO_FOLLOW).open(self.0.join(name))
    }

    /// Creates a file of the run for appending. It must not exist yet.
    pub(crate) fn create_file(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().append(true).create_new(true).mode(0o600).custom_flags(NO_FOLLOW).open(self.0.join(name))
    }

    pub(crate) fn remove_file(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    /// Syncs the entries of the run's directory, and the directory's own entry, to disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        sync(&self.0)?;
        self.0.parent().map_or(Ok(()), sync)
    }
}

/// Flags for opening a file of a run. Following a symbolic link would read or write another file, and opening a pipe in
/// place of a file would block for ever.
const NO_FOLLOW: i32 = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).bits() as i32;

/// The runs of one cluster, oldest first.
pub(crate) fn runs_of(cluster: &Path) -> Result<Vec<RunDir>> {
    let mut runs: Vec<RunDir> = subdirectories(cluster)?.into_iter().map(RunDir).collect();
    runs.sort_by(|a, b| a.id().cmp(b.id()));
    Ok(runs)
}

/// The directories directly in a directory, without symbolic links; none if the directory does not exist.
fn subdirectories(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(cannot_use(dir, &e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| cannot_use(dir, &e))?;
        if entry.file_type().map_err(|e| cannot_use(dir, &e))?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// The engine's id as a directory name.
fn engine_name(engine: &str) -> Result<String> {
    let name: String = engine.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    if name.is_empty() { Err(Error::could_not_run("the container engine has no id")) } else { Ok(name) }
}

/// Creates a directory for the user alone and syncs its entry to disk, or checks the existing one.
fn make_private(dir: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => dir.parent().map_or(Ok(()), sync).map_err(|e| cannot_use(dir, &e)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => private(dir),
        Err(e) => Err(cannot_use(dir, &e)),
    }
}

fn private(dir: &Path) -> Result<()> {
    let meta = fs::symlink_metadata(dir).map_err(|e| cannot_use(dir, &e))?;
    if !meta.is_dir() {
        return Err(refused(dir, "it is not a directory, or reached by a symbolic link"));
    }
    owned(dir, &meta)
}

fn owned(path: &Path, meta: &fs::Metadata) -> Result<()> {
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(refused(path, &format!("it belongs to user {}", meta.uid())));
    }
    if meta.mode() & 0o022 != 0 {
        return Err(refused(path, "others may write to it"));
    }
    Ok(())
}

fn refused(path: &Path, why: &str) -> Error {
    Error::could_not_run(format!("refusing to use {}: {why}", path.display()))
        .next("whoever can write a journal can control the container engine; let it belong to you alone (chmod go-w)")
}

fn cannot_use(path: &Path, e: &io::Error) -> Error {
    Error::could_not_run(format!("cannot use {}: {e}", path.display()))
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Refuses a directory that is kept in memory. Containers survive a restart of the machine; the contents of memory do
/// not.
#[cfg(target_os = "linux")]
fn on_disk(dir: &Path) -> Result<()> {
    const TMPFS: i64 = 0x0102_1994;
    const RAMFS: i64 = 0x8584_58f6;
    let kind = rustix::fs::statfs(dir).map_err(|e| cannot_use(dir, &e.into()))?.f_type;
    if [TMPFS, RAMFS].contains(&(kind as i64)) {
        return Err(Error::could_not_run(format!(
            "{} is kept in memory: what must be undone would be forgotten when the machine restarts",
            dir.display()
        ))
        .next("point XDG_STATE_HOME to a directory on a disk"));
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn on_disk(_dir: &Path) -> Result<()> {
    Ok(())
}
