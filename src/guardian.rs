//! The guardian: a detached kchaos process that puts a run back when the tool can't.
//!
//! The tool starts the guardian before the first fault ([`spawn`]) and keeps one end of a connection to it. As long as
//! the tool renews its lease over that connection, the guardian only waits. The guardian acts when the journal is not
//! finished and the connection closes (the tool ended, was killed, crashed) or the lease runs out (the tool is stopped
//! or hangs). It announces that it takes over, closes the connection, and puts everything back as `kchaos rollback`
//! would ([`main`]).
//!
//! The guardian has its own session, so neither a closed terminal nor a signal to the tool's process group ends it. It
//! holds none of the caller's descriptors, so `kchaos run | head` and CI jobs end when the tool ends. It can't undo
//! while the engine is away, so it waits for the engine. It does not survive the end of its container or machine;
//! `kchaos rollback` covers that case.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::signal::unix::{SignalKind, signal};

use crate::clock::{Mono, Wall};
use crate::error::{Error, Exit, Result};
use crate::event::End;
use crate::fence::{Fenced, Lease, READY, TAKEN_OVER};
use crate::journal::{self, Held, Standing};
use crate::lock::Lock;
use crate::rollback;
use crate::run_dir::RunDir;

/// How long the tool may be silent before the guardian takes over, unless `KCHAOS_LEASE` (seconds) says otherwise.
const LEASE: Duration = Duration::from_secs(60);
/// Environment variable with the length of the lease.
const LEASE_VAR: &str = "KCHAOS_LEASE";
/// How long a guardian may take to get ready. It waits for nothing but the processor.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// The tool's handle on its guardian. If the tool drops it or dies, the guardian puts back what is left.
#[derive(Debug)]
#[must_use = "dropping the guardian's handle makes it put the run back"]
pub struct Guardian {
    run: RunDir,
    child: Child,
    lease: Arc<Lease>,
    lease_length: Duration,
}

/// Starts the guardian of a run and waits until it is on guard. Call it after the run's journal is created and before
/// its first record.
///
/// # Errors
/// If the guardian can't be started or does not get ready. Then nothing must be injected.
pub fn spawn(run: &RunDir, lock: &Lock) -> Result<Guardian> {
    let failed = |e: io::Error| {
        Error::could_not_run(format!("cannot start the guardian: {e}"))
            .next(format!("nothing was broken; its log is {}", run.path().join(LOG).display()))
    };
    let lease = lease_length()?;
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    keep_to_ourselves();
    let mut child = Command::new(own_program().map_err(failed)?)
        .arg0("kchaos")
        .arg("guard")
        .arg(run.path())
        .current_dir("/")
        .env(LEASE_VAR, lease.as_secs_f64().to_string())
        .stdin(OwnedFd::from(theirs))
        // Nothing is written to it: the guardian inherits the lock as its standard output.
        .stdout(lock.share()?)
        .stderr(log(run).map_err(failed)?)
        .spawn()
        .map_err(failed)?;
    lock.note(Some(run.id()), Some(child.id()));
    let ready = ours.set_read_timeout(Some(READY_WITHIN)).and_then(|()| {
        let mut byte = [0];
        (&ours).read_exact(&mut byte)?;
        if byte[0] == READY { Ok(()) } else { Err(io::Error::other("it is no guardian")) }
    });
    if let Err(e) = ready {
        let _ = child.kill();
        let _ = child.wait();
        return Err(failed(e));
    }
    let lease_end = Arc::new(Lease::over(ours).map_err(failed)?);
    Ok(Guardian { run: run.clone(), child, lease: lease_end, lease_length: lease })
}

impl Guardian {
    /// The lease, for the journal to check (see [`journal::Journal::guarded_by`]).
    pub fn lease(&self) -> Arc<Lease> {
        Arc::clone(&self.lease)
    }

    /// How often the lease must be renewed.
    pub fn renew_every(&self) -> Duration {
        self.lease_length / 4
    }

    /// How long the tool may be silent.
    pub fn lease_length(&self) -> Duration {
        self.lease_length
    }

    /// Renews the lease.
    ///
    /// # Errors
    /// If the guardian has taken over or is gone: the run must end.
    pub fn renew(&self) -> Result<(), Fenced> {
        self.lease.renew()
    }

    /// Does the run still belong to this process, and is it guarded?
    ///
    /// # Errors
    /// If the guardian has taken over or is gone: the run must end.
    pub fn check(&self) -> Result<(), Fenced> {
        self.lease.check()
    }

    /// Leaves the run to the guardian, waits until the guardian is done, and returns how the run ended. The guardian
    /// ends at once if the journal is finished, and otherwise after it has put everything back. `None` if the guardian
    /// could not finish the run, so that `kchaos rollback` must. Blocks. Every run should end this way: when this
    /// returns, the guardian no longer holds the lock either.
    ///
    /// # Errors
    /// If the run's journal can't be read afterwards.
    pub fn hand_over(mut self) -> Result<Option<End>> {
        self.lease.end();
        if let Err(e) = self.child.wait() {
            tracing::warn!("cannot wait for the guardian: {e}");
        }
        Ok(match journal::standing(&self.run)? {
            Standing::Ended(end) => Some(end),
            Standing::NeverStarted | Standing::Unfinished => None,
        })
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        self.lease.end();
    }
}

/// The program of this process, even if its file has been replaced since.
fn own_program() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() }
}

fn lease_length() -> Result<Duration> {
    let Some(text) = std::env::var_os(LEASE_VAR) else { return Ok(LEASE) };
    let seconds = text.to_str().and_then(|t| t.parse::<f64>().ok()).filter(|s| (0.1..=3600.0).contains(s));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| Error::usage(format!("{LEASE_VAR} is {text:?}; it must be seconds, from 0.1 to 3600")))
}

/// Keeps children from inheriting descriptors that our caller left open in this process. (Descriptors that we open
/// ourselves are closed on exec anyway.) Otherwise the guardian would keep a pipe open that somebody waits to see
/// closed.
fn keep_to_ourselves() {
    let Ok(entries) = std::fs::read_dir("/dev/fd") else { return };
    let numbers = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).filter(|n| *n > 2);
    for number in numbers.collect::<Vec<i32>>() {
        // SAFETY: the descriptor is only borrowed to set its close-on-exec flag, which every descriptor of this process has, or should
        // have. If it was closed meanwhile the call fails, if it was closed and another one opened, the flag is set already.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        let _ = rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC);
    }
}

const LOG: &str = "guardian.log";

fn log(run: &RunDir) -> io::Result<File> {
    match run.create_file(LOG) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => run.append_to(LOG),
        created => created,
    }
}

/// The guardian itself: `kchaos guard RUN`. Returns when the run has ended.
pub fn main(run: &Path) -> Exit {
    let log = match Log::take() {
        Ok(log) => log,
        Err(e) => return Error::could_not_run(e.to_string()).exit(),
    };
    guard(run, &log).unwrap_or_else(|e| {
        log.say(&e.to_string());
        e.exit()
    })
}

fn guard(run: &Path, log: &Log) -> Result<Exit> {
    let failed = |e: io::Error| Error::could_not_run(format!("cannot stand guard: {e}"));
    // Fails only for the leader of a process group, and a child of the tool is not one.
    let _ = rustix::process::setsid();
    let (mut lease, _lock) = inherit().map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let _within = runtime.enter();
    // Installing a listener keeps a signal from ending the process. Nobody needs to receive it.
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        drop(signal(kind).map_err(failed)?);
    }
    let run = RunDir::at(run)?;
    run.vet()?;
    if journal::standing(&run)? != Standing::NeverStarted {
        // Started by hand. Its parent is not the run's process and must not be taken for it below.
        return Err(
            Error::usage("a guardian is started by a run, before its first record").next("see `kchaos rollback`")
        );
    }
    let mut held = Held::open(&run).map_err(failed)?;
    let tool = rustix::process::getppid();
    let length = lease_length()?;
    lease.write_all(&[READY]).map_err(failed)?;

    let (why, silent) = wait(&mut lease, length);
    let removed = held.is_removed();
    match journal::standing(&run) {
        _ if removed => {}
        Ok(Standing::NeverStarted | Standing::Ended(_)) => return Ok(Exit::Upheld),
        Ok(Standing::Unfinished) => {}
        Err(e) => log.say(&e.to_string()),
    }
    log.say(&format!("taking over: {why}"));
    // The tool must lose the run before the journal is read (see `Journal::append`).
    let _ = lease.write_all(&[TAKEN_OVER]);
    drop(lease);
    let why = if removed {
        held.put_back().map_err(|e| Error::could_not_run(format!("cannot write the journal anew: {e}")))?;
        if let Standing::NeverStarted | Standing::Ended(_) = journal::standing(&run)? {
            return Ok(Exit::Upheld);
        }
        format!("{why}, and its directory had been removed")
    } else {
        why
    };
    // A tool that has closed the connection changes nothing any more.
    if silent && journal::salvage(&run)?.state.acting() && tool.is_some() && rustix::process::getppid() == tool {
        // The tool is stopped or hangs between its last lease check and a change to the cluster. Only ending it keeps
        // it from making that change after everything was put back.
        log.say("the run may be about to change something: ending it");
        let _ = tool.map(|pid: Pid| rustix::process::kill_process(pid, Signal::KILL));
    }
    let tell = |text: &str| log.say(text);
    let end = runtime.block_on(rollback::put_back(&run, &why, rollback::Patience::Endless, &tell))?;
    log.say(match end {
        End::Clean => "the cluster is as it was before",
        End::Dirty => "the cluster is not as it was before",
    });
    Ok(if end == End::Clean { Exit::Upheld } else { Exit::Dirty })
}

/// The guardian's log: the file that was its standard error. Standard error itself then goes to `/dev/null`, since a
/// full disk must not end the guardian through a failing write to standard error.
#[derive(Clone)]
struct Log(Arc<File>);

impl Log {
    fn take() -> io::Result<Self> {
        let file = File::from(rustix::io::fcntl_dupfd_cloexec(io::stderr().as_fd(), 3)?);
        rustix::stdio::dup2_stderr(&File::options().write(true).open("/dev/null")?)?;
        let log = Self(Arc::new(file));
        let of_panics = log.clone();
        std::panic::set_hook(Box::new(move |panic| of_panics.say(&panic.to_string())));
        Ok(log)
    }

    fn say(&self, text: &str) {
        let _ = writeln!(&*self.0, "{} {text}", Wall::now());
    }
}

/// Takes the connection and the lock off standard input and output, where they were inherited, and puts `/dev/null` in
/// their place.
fn inherit() -> io::Result<(UnixStream, OwnedFd)> {
    let lease = rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), 3)?;
    let lock = rustix::io::fcntl_dupfd_cloexec(io::stdout().as_fd(), 3)?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok((UnixStream::from(lease), lock))
}

/// Waits until the tool is gone or has been silent for too long, and returns which, in words and whether it is silent.
fn wait(lease: &mut UnixStream, length: Duration) -> (String, bool) {
    let mut deadline = Mono::now() + length;
    let mut bytes = [0; 64];
    loop {
        let left = deadline.since(Mono::now());
        if left.is_zero() {
            return (format!("no sign of life of the run for {} s", length.as_secs_f64()), true);
        }
        let read = lease.set_read_timeout(Some(left)).and_then(|()| lease.read(&mut bytes));
        match read {
            Ok(0) => return ("the run's process ended".into(), false),
            Ok(_) => deadline = Mono::now() + length,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
            Err(e) => return (format!("the connection to the run broke: {e}"), true),
        }
    }
}
