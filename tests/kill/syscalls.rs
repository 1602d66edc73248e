//! Each system call that touches the journal's files fails once, or is the last one. Uses `strace` on a run without a
//! cluster.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use kchaos::census::Census;
use kchaos::clock::Wall;
use kchaos::error::{Error, Exit, Result};
use kchaos::event::{Cause, End, EventKind, Interruption, Phase};
use kchaos::fence::Lease;
use kchaos::journal::{self, Journal, Standing};
use kchaos::lock::Lock;
use kchaos::run_dir::StateDir;
use kchaos::undo::Undo;
use libtest_mimic::{Completion, Failed, Trial};
use tempfile::TempDir;

/// The fault of a rehearsal: this directory exists.
const FAULT: &str = "fault";
/// Shows that the fault was in at some time.
const EVER: &str = "ever";

/// If set, the guardian takes over as soon as the journal says that a fault is about to go in.
const TAKE_OVER: &str = "KCHAOS_TEST_TAKE_OVER";

/// `rehearse DIR`: the sequence of a run with a directory as the fault. Whatever fails, the fault is taken out.
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
    let run = lock.begin("rehearsal")?;
    let mut journal = Journal::create(&run)?;
    let cannot = |e: std::io::Error| Error::could_not_run(e.to_string());
    let (ours, guardian) = UnixStream::pair().map_err(cannot)?;
    let _guardian = match std::env::var_os(TAKE_OVER) {
        Some(_) => Err(std::thread::spawn(take_over_at_injection(guardian, run.path().join("undo.jsonl")))),
        None => Ok(guardian),
    };
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

fn take_over_at_injection(mut guardian: UnixStream, undo: PathBuf) -> impl FnOnce() + Send {
    move || {
        while !fs::read_to_string(&undo).is_ok_and(|text| text.contains("injecting")) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = guardian.write_all(b"t");
    }
}

/// Between the tool's last check of its lease and the fault there is a write and a sync, which may take any time.
fn taken_over_while_the_injection_is_written_down() -> Result<(), Failed> {
    let place = place()?;
    let slow = ["-e", "trace=fdatasync", "-e", "inject=fdatasync:delay_enter=300000"];
    let status = rehearsal(&place, &slow).env(TAKE_OVER, "1").status()?;
    if status.code() != Some(i32::from(Exit::CouldNotRun as u8)) || place.path().join(EVER).exists() {
        return Err(format!("{status}: the fault went in after the guardian had taken over").into());
    }
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
    let sweeps =
        sweeps.map(|(name, calls, what)| Trial::ignorable_test(name, move || with_strace(|| sweep(calls, what))));
    let mut trials = Vec::from(sweeps);
    trials.push(Trial::ignorable_test("an_undo_is_on_disk_with_its_directories_before_its_fault_goes_in", || {
        with_strace(synced_before_the_fault)
    }));
    trials.push(Trial::ignorable_test("taken_over_while_an_injection_is_written_down_it_does_not_inject", || {
        with_strace(taken_over_while_the_injection_is_written_down)
    }));
    trials.push(Trial::test("a_limit_on_the_size_of_files_lets_no_fault_in_and_none_stay", size_limit));
    trials
}

/// Without `strace` the trial is skipped; with `KCHAOS_REQUIRE=1` it fails.
fn with_strace(trial: impl Fn() -> Result<(), Failed>) -> Result<Completion, Failed> {
    let why = "there is no strace";
    match Command::new("strace").arg("-V").stdout(Stdio::null()).status() {
        Ok(_) => trial().map(|()| Completion::Completed),
        Err(_) if std::env::var_os("KCHAOS_REQUIRE").is_some_and(|v| v == "1") => Err(why.into()),
        Err(_) => Ok(Completion::ignored_with(why)),
    }
}

/// The kernel keeps what a killed process wrote. So only the order of the calls shows what a power failure would leave.
fn synced_before_the_fault() -> Result<(), Failed> {
    let place = place()?;
    let trace = place.path().join("trace");
    let calls = "trace=openat,mkdir,write,fsync,fdatasync";
    traced(&place, &["-y", "-s", "200", "-e", calls, "-o", &trace.display().to_string()])?;
    let trace = fs::read_to_string(trace)?;
    let calls: Vec<&str> = trace.lines().collect();
    let find = |from: usize, what: &[&str]| {
        let found = calls[from..].iter().position(|call| what.iter().all(|w| call.contains(w)));
        found.map(|at| from + at).ok_or_else(|| format!("no call of {what:?} in\n{}", calls[from..].join("\n")))
    };
    let fault = find(0, &["mkdir(", "/ever\""])?;
    // The entry of every directory on the way is on disk, and so is that of every file.
    for made in ["kchaos", "kchaos/engine", "kchaos/engine/test"] {
        let at = find(0, &["mkdir(", &format!("/{made}\"")])?;
        let parent = place.path().join(made).parent().map(|p| format!("{}>", p.display())).unwrap_or_default();
        if find(at, &["fsync(", &parent])? > fault {
            return Err(format!("the entry of {made} is not synced before the fault").into());
        }
    }
    let runs = StateDir::at(place.path().join("kchaos")).list()?;
    let run_dir = runs.first().map(|run| format!("{}>", run.path().display())).ok_or("there is no run")?;
    let created = find(0, &["openat(", "undo.jsonl", "O_CREAT"])?;
    let (file, dir) = (find(created, &["fsync(", "undo.jsonl>"])?, find(created, &["fsync(", &run_dir])?);
    // Each record of an undo, or of a fault that is about to go in, is written and synced, and earlier records are
    // synced first.
    let prepared = find(created, &["write(", "undo.jsonl>", "prepared"])?;
    let (synced, injecting) =
        (find(prepared, &["fdatasync(", "undo.jsonl>"])?, find(prepared, &["write(", "injecting"])?);
    let synced_again = find(injecting, &["fdatasync(", "undo.jsonl>"])?;
    if file > prepared || dir > prepared || synced > injecting || synced_again > fault {
        return Err(format!("not synced in time\n{}", calls[created..=fault].join("\n")).into());
    }
    let sample = find(fault, &["write(", "events.jsonl>"])?;
    let (sample_synced, next) =
        (find(sample, &["fdatasync(", "events.jsonl>"])?, find(sample, &["write(", "undo.jsonl>"])?);
    if sample_synced > next {
        return Err("an undo record was written before the samples that came before it were on disk".into());
    }
    Ok(())
}

fn sweep(calls: &str, what: &str) -> Result<(), Failed> {
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
    Ok(())
}

/// How often an undisturbed rehearsal makes the call.
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
    Ok(rehearsal(place, options).status()?)
}

fn rehearsal(place: &TempDir, options: &[&str]) -> Command {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq"]).args(options).arg(std::env::current_exe().unwrap_or_default());
    command.arg("rehearse").arg(place.path()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// What must hold, whichever call failed or was the last.
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
        // The next process can go on from here.
        let (mut journal, _) = Journal::take_over(run)?;
        for kind in still
            .then_some([EventKind::Undoing { fault: 0, step: 0 }, EventKind::Undone { fault: 0, step: 0 }])
            .into_iter()
            .flatten()
        {
            journal.append(kind)?;
        }
        journal.append(EventKind::Interrupted(Interruption { cause: Cause::PutBack, why: "test".into() }))?;
        journal::read(run)?;
    }
    Ok(())
}

/// Files may not grow beyond a size, which is how a quota shows: too small for the ballast, or large enough for
/// everything.
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
