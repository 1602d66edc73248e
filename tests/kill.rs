//! Nothing outlives the tool. It is killed after every record and at random moments, alone and with its guardian; it is
//! stopped; it runs out of disk space. Each time the cluster must be as before, without anyone's help or after
//! `rollback`.
//!
//! The clusters are pseudo-nodes: plain containers with kind's labels on the real engine. So faults, undos, audit,
//! journal, lock, guardian and rollback are the code that runs against real nodes. Results are checked with the
//! `docker` command line. This program is also the tool: `drive` (in `kill/driver.rs`) goes through the sequence of
//! `kchaos run` without what needs Kubernetes (probes, workloads), and `guard` is `kchaos guard`.
//!
//! Without an engine or an image the trials are skipped, with a message; with `KCHAOS_REQUIRE=1` a skip is a failure.

#[path = "kill/driver.rs"]
mod driver;
#[path = "kill/lab.rs"]
mod lab;
#[path = "fixture/plan.rs"]
mod plan;
#[path = "kill/syscalls.rs"]
mod syscalls;

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use kchaos::clock::Wall;
use kchaos::cluster::docker::Engine;
use kchaos::error::Exit;
use kchaos::event::{End, EventKind, Phase};
use kchaos::journal::{self, Journal, Standing};
use kchaos::lock::Lock;
use kchaos::rollback;
use kchaos::run_dir::RunDir;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;

use lab::{Lab, Tool, wait_for};

/// Kills at random moments, half of them together with the guardian.
const RANDOM_KILLS: usize = 60;
/// The same for `make soak`.
const MANY_RANDOM_KILLS: usize = 300;
/// Pseudo-clusters that are tested side by side.
const SIDE_BY_SIDE: usize = 5;
/// Trials at a time, whatever the number of cores: they mostly wait for the engine and the disk.
const THREADS: usize = 8;
/// Seconds for which a fault stays in during random kills, so that many of the kills hit one.
const HELD: &str = "0.3";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["guard", run] => kchaos::guardian::main(Path::new(run)).into(),
        ["drive", cluster, faults] => driver::drive(cluster, faults).into(),
        ["rollback", which] => driver::rollback(which).into(),
        ["rehearse", dir] => syscalls::rehearse(Path::new(dir)).into(),
        _ => trials(),
    }
}

type OnLab = fn(&Lab) -> Result<(), Failed>;

fn trials() -> ExitCode {
    let needs_engine: [(&str, OnLab); 19] = [
        // First, since its audit waits for half a minute.
        ("a_run_that_left_something_is_looked_at_again_until_nothing_is_left", looked_at_again),
        ("a_run_that_is_not_killed_ends_clean_and_its_guardian_is_silent_and_gone", undisturbed),
        ("killed_after_any_record_the_guardian_puts_everything_back", killed_after_any_record),
        (
            "killed_with_its_guardian_after_any_record_rollback_puts_everything_back",
            killed_with_guardian_after_any_record,
        ),
        ("killed_with_its_whole_process_group_the_guardian_puts_everything_back", killed_with_its_group),
        ("killed_after_its_directory_was_removed_the_guardian_puts_everything_back", directory_removed),
        ("stopped_for_longer_than_its_lease_it_is_fenced_and_changes_nothing_when_it_goes_on", stopped_and_continued),
        ("stopped_just_before_it_injects_it_is_ended_and_never_injects", stopped_before_injecting),
        ("stopped_while_it_repeats_a_fault_it_is_ended_and_repeats_nothing", stopped_while_repeating),
        ("signals_do_not_end_a_guardian", guardian_survives_signals),
        ("a_guardian_holds_none_of_its_callers_pipes", guardian_holds_no_pipes),
        ("rollback_is_refused_while_the_run_goes_on_and_waits_for_its_guardian", rollback_and_the_lock),
        ("killed_in_the_middle_of_a_rollback_the_next_one_goes_on", rollback_killed),
        ("a_cluster_that_was_removed_meanwhile_has_nothing_to_put_back", cluster_removed),
        ("a_cluster_that_is_removed_closes_its_runs_and_only_then", closed_with_its_cluster),
        ("with_the_engine_away_the_guardian_waits_for_it", engine_away),
        ("with_no_room_on_the_disk_the_guardian_undoes_all_the_same", no_room),
        ("a_guardian_is_not_started_by_hand", guard_by_hand),
        ("a_run_on_another_engine_is_not_put_back_here", another_engine),
    ];
    let engine = Lab::available();
    let kills = if std::env::var_os("KCHAOS_SOAK").is_some() { MANY_RANDOM_KILLS } else { RANDOM_KILLS };
    let kills = kills / SIDE_BY_SIDE;
    let mut trials: Vec<Trial> = Vec::new();
    // One cluster per trial, so that they run side by side. They come first because they take longest.
    for part in 0..SIDE_BY_SIDE {
        let engine = engine.clone();
        let name = format!("killed_at_{kills}_random_moments_nothing_is_left_part_{part}");
        trials.push(Trial::ignorable_test(name, move || {
            on_engine(engine, 1, move |lab| random_kills(lab, part as u64, kills))
        }));
    }
    for (name, trial) in needs_engine {
        let engine = engine.clone();
        trials.push(Trial::ignorable_test(name, move || on_engine(engine, 2, trial)));
    }
    trials.extend(syscalls::trials());
    let mut args = Arguments::from_args();
    args.test_threads.get_or_insert(THREADS);
    libtest_mimic::run(&args, trials).exit_code()
}

fn on_engine(
    engine: Result<(), String>,
    nodes: usize,
    trial: impl Fn(&Lab) -> Result<(), Failed>,
) -> Result<Completion, Failed> {
    match engine {
        Ok(()) => trial(&Lab::set_up(nodes)?).map(|()| Completion::Completed),
        Err(why) if std::env::var_os("KCHAOS_REQUIRE").is_some_and(|v| v == "1") => Err(why.into()),
        Err(why) => Ok(Completion::ignored_with(why)),
    }
}

// ---- what must be so afterwards

/// Checks that the cluster is as before, no process of the run is alive, and its journal is whole and finished.
fn assert_put_back(lab: &Lab, what: &str) -> Result<Option<RunDir>, Failed> {
    // The guardian shares the lock, so getting the lock shows that the guardian is gone.
    wait_for(&format!("{what}: the guardian to end"), || lab.lock().ok())?;
    lab.assert_as_before(what)?;
    let Some(run) = lab.latest() else { return Ok(None) };
    match journal::standing(&run)? {
        Standing::NeverStarted | Standing::Ended(End::Clean) => {}
        other => return Err(format!("{what}: {other:?}\n{}", lab.story(&run)).into()),
    }
    if let Err(e) = journal::read(&run) {
        return Err(format!("{what}: {e}\n{}", lab.story(&run)).into());
    }
    Ok(Some(run))
}

fn finished_by_itself(lab: &Lab, tool: Tool, what: &str) -> Result<RunDir, Failed> {
    let (status, talk) = tool.end()?;
    if status.code() != Some(0) {
        return Err(format!("{what}: {status}: {talk}").into());
    }
    assert_put_back(lab, what)?.ok_or_else(|| format!("{what}: there is no run").into())
}

// ---- trials

fn undisturbed(lab: &Lab) -> Result<(), Failed> {
    for faults in ["pause", "power-off", "stop", "power-off,pause"] {
        let tool = lab.drive(faults).spawn()?;
        let run = finished_by_itself(lab, tool, faults)?;
        let log = std::fs::read_to_string(run.path().join("guardian.log"))?;
        if !log.is_empty() {
            return Err(format!("the guardian of a run that ended said: {log}").into());
        }
        let events = journal::read(&run)?.events;
        let injected = events.iter().filter(|e| matches!(e.kind, EventKind::Injected { error: None, .. })).count();
        if injected != faults.split(',').count() {
            return Err(format!("{faults}: {injected} faults went in").into());
        }
    }
    Ok(())
}

/// Kills the tool after each record of a run in turn.
fn each_record(lab: &Lab, faults: &str, kill: impl Fn(&Lab, Tool, &str) -> Result<(), Failed>) -> Result<(), Failed> {
    for record in 1.. {
        let what = format!("{faults}, killed after record {record}");
        let mut tool = lab.drive(faults).env(driver::DIE_AFTER, record.to_string()).spawn()?;
        let status = tool.wait()?;
        if status.signal() != Some(9) {
            // There is no such record: the run completed.
            finished_by_itself(lab, tool, &what)?;
            return if record > 12 { Ok(()) } else { Err(format!("only {record} records were met").into()) };
        }
        kill(lab, tool, &what)?;
    }
    Ok(())
}

fn killed_after_any_record(lab: &Lab) -> Result<(), Failed> {
    each_record(lab, "power-off,pause", |lab, _, what| assert_put_back(lab, what).map(drop))
}

fn killed_with_guardian_after_any_record(lab: &Lab) -> Result<(), Failed> {
    each_record(lab, "pause", |lab, tool, what| {
        tool.kill_guardian();
        let Some(run) = lab.latest() else { return Ok(()) };
        wait_for(&format!("{what}: both to be gone"), || lab.lock().ok())?;
        if journal::standing(&run)? == Standing::Unfinished {
            let (status, talk) = lab.drive("pause").spawn()?.end()?;
            if status.code() != Some(i32::from(Exit::CouldNotRun as u8))
                || !talk.contains(&format!("kchaos rollback {}", run.id()))
            {
                return Err(format!("{what}: a new run was not refused: {status}: {talk}").into());
            }
        }
        for turn in ["first", "second"] {
            let (status, talk) = lab.rollback(run.id()).spawn()?.end()?;
            if status.code() != Some(0) {
                return Err(format!("{what}: {turn} rollback: {status}: {talk}\n{}", lab.story(&run)).into());
            }
            if turn == "second" && !talk.contains("nothing to put back") {
                return Err(format!("{what}: the second rollback did something: {talk}").into());
            }
            assert_put_back(lab, what)?;
        }
        Ok(())
    })
}

/// Kills at moments spread over the whole length of a run, half of them together with the guardian.
fn random_kills(lab: &Lab, seed: u64, kills: usize) -> Result<(), Failed> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let faults = ["pause", "power-off", "stop", "restart-loop"];
    // Most kills hit the fault with the fastest undo, because starting a container takes the engine most of a second.
    let kinds = [0, 0, 0, 0, 1, 2, 3];
    // How long a run of each kind takes here and now. It follows the observed lengths, so that few kills come too late.
    let mut length = [Duration::ZERO; 4];
    for (length, faults) in length.iter_mut().zip(faults) {
        let begin = Instant::now();
        finished_by_itself(lab, lab.drive(faults).env(driver::HOLD, HELD).spawn()?, "calibration")?;
        *length = begin.elapsed();
    }
    let (mut killed, mut in_fault, mut tried) = (0, 0, 0);
    // At least one must come with a fault in. Otherwise the trial would prove nothing.
    while killed < kills || (in_fault == 0 && killed < 5 * kills) {
        tried += 1;
        let kind = kinds[random.random_range(0..kinds.len())];
        let begin = Instant::now();
        let mut tool = lab.drive(faults[kind]).env(driver::HOLD, HELD).spawn()?;
        let at = length[kind].mul_f64(random.random_range(0.0..1.0));
        let what = format!("seed {seed}, kill {killed}, {}, after {at:?}", faults[kind]);
        if tool.wait_at_most(at)?.is_some() {
            length[kind] = begin.elapsed();
            finished_by_itself(lab, tool, &what)?;
            continue;
        }
        let both = random.random::<bool>();
        tool.kill();
        if both {
            tool.kill_guardian();
        }
        let status = tool.wait()?;
        if status.signal() != Some(9) {
            finished_by_itself(lab, tool, &what)?;
            continue;
        }
        killed += 1;
        if let Some(run) = lab.latest().filter(|_| both) {
            wait_for(&format!("{what}: both to be gone"), || lab.lock().ok())?;
            in_fault += usize::from(!lab.is_as_before());
            let (status, talk) = lab.rollback(run.id()).spawn()?.end()?;
            if status.code() != Some(0) {
                return Err(format!("{what}: rollback: {status}: {talk}\n{}", lab.story(&run)).into());
            }
        }
        assert_put_back(lab, &what)?;
    }
    if in_fault == 0 {
        return Err(format!("not one of {killed} kills ({tried} runs) came with a fault in").into());
    }
    eprintln!(
        "seed {seed}: {killed} kills in {tried} runs; {in_fault} of those with the guardian left a fault for rollback"
    );
    Ok(())
}

fn killed_with_its_group(lab: &Lab) -> Result<(), Failed> {
    let tool = lab.drive("power-off").env(driver::HOLD, "60").process_group(0).spawn()?;
    tool.wait_for_fault()?;
    tool.kill_group();
    assert_put_back(lab, "process group killed").map(drop)
}

/// The guardian writes the journal anew, so that there is something to tell of the run, too.
fn directory_removed(lab: &Lab) -> Result<(), Failed> {
    let tool = lab.drive("power-off").env(driver::HOLD, "60").spawn()?;
    tool.wait_for_fault()?;
    let run = lab.latest().ok_or("there is no run")?;
    std::fs::remove_dir_all(run.path())?;
    tool.kill();
    match assert_put_back(lab, "killed without its directory")? {
        Some(put_back) if put_back == run => Ok(()),
        other => Err(format!("the latest run is {other:?}").into()),
    }
}

fn stopped_and_continued(lab: &Lab) -> Result<(), Failed> {
    let tool = lab.drive("pause").env(driver::HOLD, "60").env("KCHAOS_LEASE", "4").spawn()?;
    tool.wait_for_fault()?;
    // Renewing keeps the lease: after more than its length the fault is still in.
    std::thread::sleep(Duration::from_secs(6));
    if lab.is_as_before() {
        return Err("the guardian took over although the run renewed its lease".into());
    }
    tool.signal(Signal::STOP);
    let run = lab.latest().ok_or("there is no run")?;
    wait_for("the guardian to finish the run", || {
        (journal::standing(&run).ok()? == Standing::Ended(End::Clean)).then_some(())
    })?;
    lab.assert_as_before("stopped for too long")?;
    let finished = std::fs::read(run.path().join("undo.jsonl"))?;
    tool.signal(Signal::CONT);
    let (status, talk) = tool.end()?;
    if status.code() != Some(i32::from(Exit::Inconclusive as u8)) || !talk.contains("taken over") {
        return Err(format!("it went on: {status}: {talk}").into());
    }
    if std::fs::read(run.path().join("undo.jsonl"))? != finished {
        return Err("it still wrote to the journal".into());
    }
    assert_put_back(lab, "stopped and continued").map(drop)
}

fn stopped_before_injecting(lab: &Lab) -> Result<(), Failed> {
    let mut tool = lab.drive("pause").env(driver::STOP_BEFORE_INJECTING, "1").env("KCHAOS_LEASE", "4").spawn()?;
    let status = tool.wait()?;
    if status.signal() != Some(9) {
        return Err(format!("it was not ended: {status}").into());
    }
    assert_put_back(lab, "stopped before injecting").map(drop)
}

fn stopped_while_repeating(lab: &Lab) -> Result<(), Failed> {
    let mut tool = lab.drive("restart-loop").env(driver::HOLD, "60").env("KCHAOS_LEASE", "4").spawn()?;
    tool.wait_for_fault()?;
    tool.signal(Signal::STOP);
    let status = tool.wait()?;
    if status.signal() != Some(9) {
        return Err(format!("it was not ended: {status}").into());
    }
    assert_put_back(lab, "stopped while it repeats").map(drop)
}

fn guardian_survives_signals(lab: &Lab) -> Result<(), Failed> {
    let tool = lab.drive("pause").env(driver::HOLD, "60").spawn()?;
    tool.wait_for_fault()?;
    let guardian = tool.guardian().ok_or("there is no guardian")?;
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        rustix::process::kill_process(guardian, signal)?;
    }
    tool.kill();
    assert_put_back(lab, "signals to the guardian").map(drop)
}

fn guardian_holds_no_pipes(lab: &Lab) -> Result<(), Failed> {
    let (mut extra, theirs) = std::io::pipe()?;
    // Descriptor 3 without close-on-exec, as a shell or make would leave it.
    let mut command = std::process::Command::new("sh");
    let program = std::env::current_exe()?;
    command.args(["-c", "exec 3>&0 0</dev/null; exec \"$@\"", "sh"]).arg(program).args([
        "drive",
        &lab.cluster,
        "pause",
    ]);
    command.env("XDG_STATE_HOME", lab.state_home()).env(driver::HOLD, "60").stdin(theirs).stdout(Stdio::piped());
    let mut tool = Tool::new(command.stderr(Stdio::piped()).spawn()?, lab);
    drop(command);
    tool.wait_for_fault()?;
    let guardian = tool.guardian().ok_or("there is no guardian")?;
    rustix::process::kill_process(guardian, Signal::STOP)?;
    tool.kill();
    let (mut out, mut err) = tool.pipes();
    let closed = std::thread::spawn(move || {
        let mut rest = Vec::new();
        out.read_to_end(&mut rest).and(err.read_to_end(&mut rest)).and(extra.read_to_end(&mut rest)).is_ok()
    });
    let closed = wait_for("the pipes to close while the guardian lives", || closed.is_finished().then_some(()));
    rustix::process::kill_process(guardian, Signal::CONT)?;
    closed?;
    assert_put_back(lab, "pipes").map(drop)
}

fn rollback_and_the_lock(lab: &Lab) -> Result<(), Failed> {
    let mut tool = lab.drive("pause").env(driver::HOLD, "60").spawn()?;
    tool.wait_for_fault()?;
    let run = lab.latest().ok_or("there is no run")?;
    let (status, talk) = lab.rollback("latest").spawn()?.end()?;
    let pid = tool.id().to_string();
    if status.code() != Some(i32::from(Exit::CouldNotRun as u8)) || !talk.contains(&pid) || !talk.contains(run.id()) {
        return Err(format!("a rollback of a run that goes on was not refused: {status}: {talk}").into());
    }
    if lab.is_as_before() {
        return Err("a refused rollback undid something".into());
    }
    let guardian = tool.guardian().ok_or("there is no guardian")?;
    rustix::process::kill_process(guardian, Signal::STOP)?;
    tool.kill();
    // A killed process holds its lock until the kernel has finished with it.
    tool.wait()?;
    let mut waiting = lab.rollback("latest").spawn()?;
    let said = waiting.first_line()?;
    rustix::process::kill_process(guardian, Signal::CONT)?;
    let (status, talk) = waiting.end()?;
    if !said.contains("waiting for it") || status.code() != Some(0) || !talk.contains("nothing to put back") {
        return Err(format!("it did not wait for the guardian: {status}: {said}{talk}").into());
    }
    assert_put_back(lab, "rollback beside a guardian").map(drop)
}

fn rollback_killed(lab: &Lab) -> Result<(), Failed> {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    for round in 0..6 {
        let what = format!("rollback killed, round {round}");
        let tool = lab.drive("power-off").env(driver::HOLD, "60").spawn()?;
        tool.wait_for_fault()?;
        tool.kill();
        tool.kill_guardian();
        wait_for(&format!("{what}: both to be gone"), || lab.lock().ok())?;
        let run = lab.latest().ok_or("there is no run")?;
        let mut first = lab.rollback("latest").spawn()?;
        if first.wait_at_most(Duration::from_millis(random.random_range(0..500)))?.is_none() {
            first.kill();
        }
        first.wait()?;
        let (status, talk) = lab.rollback(run.id()).spawn()?.end()?;
        if status.code() != Some(0) {
            return Err(format!("{what}: {status}: {talk}\n{}", lab.story(&run)).into());
        }
        assert_put_back(lab, &what)?;
        let phases = journal::read(&run)?.events;
        if !phases.iter().any(|e| e.kind == EventKind::Phase(Phase::Fault)) {
            return Err(format!("{what}: the record of the run is gone").into());
        }
    }
    Ok(())
}

fn looked_at_again(lab: &Lab) -> Result<(), Failed> {
    let tool = lab.drive("pause").env(driver::HOLD, "1").spawn()?;
    tool.wait_for_fault()?;
    lab.meddle(1, "always")?;
    let (status, talk) = tool.end()?;
    if status.code() != Some(i32::from(Exit::Dirty as u8)) {
        return Err(format!("{status}: {talk}").into());
    }
    lab.meddle(1, "on-failure:1")?;
    for says in ["everything is as it was", "nothing to put back"] {
        let (status, talk) = lab.rollback("--all").spawn()?.end()?;
        if status.code() != Some(0) || !talk.contains(says) {
            return Err(format!("{says:?}: {status}: {talk}").into());
        }
    }
    Ok(())
}

fn cluster_removed(lab: &Lab) -> Result<(), Failed> {
    let tool = lab.drive("pause").env(driver::HOLD, "60").spawn()?;
    tool.wait_for_fault()?;
    tool.kill_guardian();
    tool.kill();
    wait_for("both to be gone", || lab.lock().ok())?;
    lab.remove_nodes()?;
    let (status, talk) = lab.rollback("latest").spawn()?.end()?;
    if status.code() != Some(0) || !talk.contains("was removed since the run") {
        return Err(format!("{status}: {talk}").into());
    }
    let run = lab.latest().ok_or("there is no run")?;
    if journal::standing(&run)? == Standing::Ended(End::Clean) { Ok(()) } else { Err(lab.story(&run).into()) }
}

/// What `kchaos down` and `kchaos up` do, so that old runs don't block a new cluster of the same name.
fn closed_with_its_cluster(lab: &Lab) -> Result<(), Failed> {
    let tool = lab.drive("pause").env(driver::HOLD, "60").spawn()?;
    tool.wait_for_fault()?;
    tool.kill_guardian();
    tool.kill();
    wait_for("both to be gone", || lab.lock().ok())?;
    let close = || -> Result<Standing, Failed> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let engine = Engine::connect().await?;
            rollback::close_removed(&lab.state(), &engine, &lab.cluster, &|_: &str| {}).await
        })?;
        Ok(journal::standing(&lab.latest().ok_or("there is no run")?)?)
    };
    let there = close()?;
    lab.remove_nodes()?;
    match (there, close()?) {
        (Standing::Unfinished, Standing::Ended(End::Clean)) => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

fn another_engine(lab: &Lab) -> Result<(), Failed> {
    let node = plan::node("x-worker", 'a');
    let run = Lock::take(&lab.state(), "another", "x")?.begin("test")?;
    let plan = Box::new(plan::plan("another", "x", &[node]));
    let (boot_id, version) = (String::new(), String::new());
    Journal::create(&run)?.append(EventKind::Started { wall: Wall(0), boot_id, version, plan })?;
    let (status, talk) = lab.rollback("latest").spawn()?.end()?;
    if status.code() != Some(i32::from(Exit::CouldNotRun as u8))
        || !talk.contains("was on the container engine another")
    {
        return Err(format!("{status}: {talk}").into());
    }
    Ok(())
}

fn engine_away(lab: &Lab) -> Result<(), Failed> {
    let real = std::env::var("DOCKER_HOST").unwrap_or_default();
    let real = real.strip_prefix("unix://").unwrap_or("/var/run/docker.sock").to_owned();
    // Not beside the journals, because the path of a socket must be short.
    let near = tempfile::tempdir()?;
    let socket = near.path().join("docker.sock");
    let connect = || std::os::unix::fs::symlink(&real, &socket);
    connect()?;
    let host = format!("unix://{}", socket.display());
    let tool = lab.drive("pause").env(driver::HOLD, "60").env("DOCKER_HOST", host).spawn()?;
    tool.wait_for_fault()?;
    let run = lab.latest().ok_or("there is no run")?;
    std::fs::remove_file(&socket)?;
    tool.kill();
    let log = run.path().join("guardian.log");
    let waits = || std::fs::read_to_string(&log).ok()?.contains("waiting for the engine").then_some(());
    let waited = wait_for("the guardian to wait for the engine", waits);
    connect()?;
    waited?;
    assert_put_back(lab, "engine away").map(drop)
}

fn no_room(lab: &Lab) -> Result<(), Failed> {
    let mut command = std::process::Command::new("sh");
    let program = std::env::current_exe()?;
    // A process over its file-size limit gets a signal. If that is ignored, writes fail as on a full disk.
    command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]).arg(program).args(["drive", &lab.cluster, "pause"]);
    command.env("XDG_STATE_HOME", lab.state_home()).env(driver::HOLD, "60").stdin(Stdio::null());
    let tool = Tool::new(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?, lab);
    tool.wait_for_fault()?;
    let guardian = tool.guardian().ok_or("there is no guardian")?;
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::prlimit(Some(guardian), rustix::process::Resource::Fsize, none)?;
    tool.kill();
    wait_for("the guardian to end", || lab.lock().ok())?;
    lab.assert_as_before("no room on the disk")?;
    let run = lab.latest().ok_or("there is no run")?;
    if journal::standing(&run)? != Standing::Unfinished {
        return Err("there was room".into());
    }
    // With room again, the undo can be recorded.
    let (status, talk) = lab.rollback("latest").spawn()?.end()?;
    if status.code() != Some(0) {
        return Err(format!("{status}: {talk}").into());
    }
    assert_put_back(lab, "with room again").map(drop)
}

fn guard_by_hand(lab: &Lab) -> Result<(), Failed> {
    let tool = lab.drive("pause").env(driver::STOP_BEFORE_INJECTING, "1").spawn()?;
    wait_for("the run to be about to inject", || journal::salvage(&lab.latest()?).ok()?.state.acting().then_some(()))?;
    let run = lab.latest().ok_or("there is no run")?;
    // If it mistook its parent, this process, for the run, it would end it.
    let status = std::process::Command::new(std::env::current_exe()?)
        .arg("guard")
        .arg(run.path())
        .stdin(Stdio::null())
        .status()?;
    if status.code() != Some(i32::from(Exit::Usage as u8)) {
        return Err(format!("it stood guard: {status}").into());
    }
    tool.kill();
    assert_put_back(lab, "guard by hand").map(drop)
}
