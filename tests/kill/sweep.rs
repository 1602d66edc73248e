//! Each system call that touches the journal's files fails once, or is the last one: with `strace`, on a run without a cluster.

use std::fs;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use kchaos::clock::Wall;
use kchaos::error::{Error, Exit, Result};
use kchaos::event::{End, EventKind, Phase};
use kchaos::guardian::Lease;
use kchaos::journal::{self, Journal, Standing};
use kchaos::lock::Lock;
use kchaos::residue::Census;
use kchaos::run_dir::{RunDir, StateDir};
use kchaos::undo::Undo;
use libtest_mimic::{Completion, Failed, Trial};
use tempfile::TempDir;

/// The fault, in a rehearsal: this directory exists.
const FAULT: &str = "fault";
/// It existed at some time.
const EVER: &str = "ever";

/// `rehearse DIR`: the sequence of a run with a directory for a fault. Whatever fails, the fault is taken out.
pub fn rehearse(dir: &Path) -> Exit {
    let result = sequence(dir);
    let _ = fs::remove_dir(dir.join(FAULT));
    match result {
        Ok(()) => Exit::Upheld,
        Err(e) => {
            eprintln!("{e}");
            e.exit()
        }
    }
}

fn sequence(dir: &Path) -> Result<()> {
    use EventKind as E;
    let node = crate::plan::node("test-a", 'a');
    let plan = Box::new(crate::plan::plan("engine", "test", std::slice::from_ref(&node)));
    let lock = Lock::take(&StateDir::at(dir.join("kchaos")), "engine", "test")?;
    let run = RunDir::create(&lock, "rehearsal")?;
    let mut journal = Journal::create(&run)?;
    let cannot = |e: std::io::Error| Error::could_not_run(e.to_string());
    let (ours, _guardian) = UnixStream::pair().map_err(cannot)?;
    journal.guarded_by(Arc::new(Lease::over(ours).map_err(cannot)?));
    let waited = || E::Waited { what: "nothing".into(), since: kchaos::clock::Mono::now() };
    journal.append(E::Started { wall: Wall::now(), boot_id: String::new(), version: String::new(), plan })?;
    journal.append(E::Surveyed { census: Census::default() })?;
    journal.append(waited())?;
    journal.append(E::Phase(Phase::Fault))?;
    journal.append(E::Prepared { fault: 0, undo: vec![Undo::Unpause { node }] })?;
    journal.append(E::Injecting { fault: 0 })?;
    fs::create_dir(dir.join(EVER)).and_then(|()| fs::create_dir(dir.join(FAULT))).map_err(cannot)?;
    journal.append(E::Injected { fault: 0, error: None })?;
    journal.append(waited())?;
    journal.append(E::Phase(Phase::Undo))?;
    journal.append(E::Undoing { fault: 0, step: 0 })?;
    fs::remove_dir(dir.join(FAULT)).map_err(cannot)?;
    journal.append(E::Undone { fault: 0, step: 0 })?;
    journal.append(E::Audited { residue: vec![] })?;
    journal.append(E::Finished(End::Clean))?;
    Ok(())
}

pub fn trials() -> Vec<Trial> {
    let sweeps = [
        ("a_failed_sync_lets_no_fault_in_and_none_stay", "fdatasync,fsync", "error=EIO"),
        ("a_full_disk_lets_no_fault_in_and_none_stay", "write", "error=ENOSPC"),
        ("a_read_only_disk_lets_no_fault_in_and_none_stay", "openat,mkdir", "error=EROFS"),
        ("killed_at_any_sync_the_undo_of_a_fault_that_is_in_is_on_disk", "fdatasync,fsync", "signal=KILL"),
        ("killed_at_any_write_the_undo_of_a_fault_that_is_in_is_on_disk", "write", "signal=KILL"),
    ];
    let sweeps = sweeps.map(|(name, calls, what)| Trial::ignorable_test(name, move || sweep(calls, what)));
    let mut trials = Vec::from(sweeps);
    trials.push(Trial::test("a_limit_on_the_size_of_files_lets_no_fault_in_and_none_stay", size_limit));
    trials
}

fn sweep(calls: &str, what: &str) -> Result<Completion, Failed> {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        return Ok(Completion::ignored_with("there is no strace"));
    }
    for call in calls.split(',') {
        let total = count(call)?;
        if total == 0 {
            return Err(format!("a rehearsal makes no call of {call}").into());
        }
        for nth in 1..=total {
            let place = place()?;
            let inject = format!("inject={call}:{what}:when={nth}");
            let status = traced(&place, &["-e", &format!("trace={call}"), "-e", &inject])?;
            let killed = status.signal() == Some(9) || status.code() == Some(128 + 9);
            assert_sound(place.path(), killed).map_err(|e| format!("{inject}: {status}: {e:?}"))?;
        }
    }
    Ok(Completion::Completed)
}

/// How often a rehearsal that nothing happens to makes the call.
fn count(call: &str) -> Result<usize, Failed> {
    let place = place()?;
    let trace = place.path().join("trace");
    let status = traced(&place, &["-e", &format!("trace={call}"), "-o", &trace.display().to_string()])?;
    if !status.success() || !place.path().join(EVER).exists() {
        return Err(format!("the rehearsal itself failed: {status}").into());
    }
    Ok(fs::read_to_string(trace)?.matches(&format!("{call}(")).count())
}

fn place() -> Result<TempDir, Failed> {
    Ok(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?)
}

fn traced(place: &TempDir, options: &[&str]) -> Result<std::process::ExitStatus, Failed> {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq"]).args(options).arg(std::env::current_exe()?).arg("rehearse").arg(place.path());
    Ok(command.stdout(Stdio::null()).stderr(Stdio::null()).status()?)
}

/// What must be so, whatever call failed or was the last.
fn assert_sound(dir: &Path, killed: bool) -> Result<(), Failed> {
    let (ever, still) = (dir.join(EVER).exists(), dir.join(FAULT).exists());
    if still && !killed {
        return Err("it lives, and left its fault in".into());
    }
    let runs = StateDir::at(dir.join("kchaos")).list()?;
    let Some(run) = runs.first() else {
        return if ever { Err("a fault was in without a run".into()) } else { Ok(()) };
    };
    let found = journal::salvage(run)?;
    let written = |wanted: fn(&EventKind) -> bool| found.events.iter().any(|e| wanted(&e.kind));
    if ever
        && !(written(|k| matches!(k, EventKind::Prepared { .. }))
            && written(|k| matches!(k, EventKind::Injecting { .. })))
    {
        return Err("a fault was in whose undo is not written down".into());
    }
    if !found.damage.is_empty() {
        return Err(format!("what is left is damaged: {:?}", found.damage).into());
    }
    if journal::standing(run)? == Standing::Unfinished {
        // Whoever comes next can go on from here.
        let (mut journal, _) = Journal::take_over(run)?;
        for kind in still
            .then_some([EventKind::Undoing { fault: 0, step: 0 }, EventKind::Undone { fault: 0, step: 0 }])
            .into_iter()
            .flatten()
        {
            journal.append(kind)?;
        }
        journal.append(EventKind::Interrupted { why: "test".into() })?;
        journal::read(run)?;
    }
    Ok(())
}

/// Files may not grow beyond a size, which is how a quota shows: too small for the ballast, or large enough for all.
fn size_limit() -> Result<(), Failed> {
    for (kilobytes, exit) in [(0, Exit::CouldNotRun), (512, Exit::CouldNotRun), (4096, Exit::Upheld)] {
        let place = place()?;
        let limited = format!("trap '' XFSZ; ulimit -f {kilobytes}; exec \"$@\"");
        let mut command = Command::new("bash");
        command.args(["-c", &limited, "bash"]).arg(std::env::current_exe()?).arg("rehearse").arg(place.path());
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        if status.code() != Some(i32::from(exit as u8)) || place.path().join(EVER).exists() != (exit == Exit::Upheld) {
            return Err(format!("limit of {kilobytes} KiB: {status}").into());
        }
        assert_sound(place.path(), false)?;
    }
    Ok(())
}
