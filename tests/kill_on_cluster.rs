//! Nothing outlives `kchaos run`: the program itself on a real cluster. It is killed after records of a run, alone and
//! with its guardian; interrupted in its phases, once and twice; and the engine goes away in mid-fault. `make soak` kills
//! after every kind of record and interrupts in every phase. `tests/kill.rs` does the same a few hundred times on plain
//! containers; here the runs have workloads, probes and an API server that takes part.
//!
//! What must hold afterwards is checked from outside, with the `docker` command line and kubectl. The trials share
//! `KCHAOS_TEST_CLUSTERS` clusters; each trial has one to itself. Without an engine they are skipped, with the reason;
//! `KCHAOS_REQUIRE=1` turns a skip into a failure.

#[allow(dead_code, reason = "each program of tests uses a part of it")]
mod lab;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use kchaos::event::{Cause, End, EventKind, Interruption, Phase};
use kchaos::journal::{self, Standing};
use kchaos::lock::Lock;
use kchaos::run_dir::{RunDir, StateDir};
use lab::engine_proxy::EngineProxy;
use lab::{Lab, Labs, docker, test_file, wait_for};
use libtest_mimic::{Arguments, Trial};
use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Longest time that one step takes on a busy machine: a powered-off node boots and becomes Ready again.
const PATIENCE: Duration = Duration::from_secs(150);

static SINGLE: Labs = Labs::of("single");

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    args.test_threads = Some(Labs::count());
    let mut trials = vec![
        // Alone, because its verdict counts: beside another run an observer may be starved.
        lab::trial(&SINGLE, true, "an_undisturbed_run_is_upheld_and_has_every_kind_of_record", undisturbed),
        trial("killed_with_its_guardian_rollback_puts_back_and_until_then_no_run_begins", killed_with_guardian),
        trial("killed_with_its_guardian_the_node_puts_back_what_was_changed_in_it", node_on_its_own),
        trial("killed_with_its_guardian_while_a_store_is_lost_rollback_puts_it_back", |lab| {
            store_put_back(lab, THE_LOSS, By::Rollback)
        }),
        trial("killed_with_its_guardian_while_a_store_is_restored_the_node_puts_the_old_one_back", |lab| {
            store_put_back(lab, THE_REMEDY, By::ItsNode)
        }),
        trial("killed_with_its_guardian_a_node_that_was_deleted_is_created_again_as_it_was", given_up_on_its_own),
        trial("without_its_engine_past_its_lease_the_node_puts_back_what_was_changed_in_it", engine_out_of_reach),
        trial("stopped_past_its_lease_the_guardian_and_the_node_put_back_together", stopped_past_lease),
        trial("interrupted_twice_it_leaves_at_once_and_the_guardian_puts_back", interrupted_twice),
        trial("with_its_terminal_closed_everything_is_put_back", terminal_closed),
        trial("with_a_terminal_that_takes_nothing_more_it_goes_on", terminal_held),
        trial("with_a_terminal_that_takes_nothing_more_a_second_signal_ends_it", interrupted_on_held_terminal),
        trial("interrupted_while_a_cluster_is_made_nothing_of_it_is_left", interrupted_up),
    ];
    let every = lab::soak();
    for step in STEPS.into_iter().filter(|step| every || SOME_STEPS.contains(step)) {
        trials.push(trial(format!("killed_after_{step}_the_guardian_puts_everything_back"), move |lab| {
            killed_after(lab, step)
        }));
    }
    for (phase, name) in PHASES.into_iter().filter(|(phase, _)| every || SOME_PHASES.contains(phase)) {
        trials.push(trial(format!("interrupted_in_{name}_everything_is_put_back"), move |lab| interrupted(lab, phase)));
    }
    // They go the same ways as some of those above.
    if every {
        trials.push(trial("killed_with_its_guardian_while_a_store_is_lost_the_node_puts_it_back", |lab| {
            store_put_back(lab, THE_LOSS, By::ItsNode)
        }));
        trials
            .push(trial("killed_with_its_guardian_while_a_store_is_restored_rollback_puts_the_old_one_back", |lab| {
                store_put_back(lab, THE_REMEDY, By::Rollback)
            }));
        trials.push(trial(
            "stopped_in_the_midst_of_a_remedy_it_is_ended_before_everything_is_put_back",
            stopped_in_remedy,
        ));
        trials.push(trial("interrupted_while_a_rollout_does_not_come_it_does_not_wait_for_it", interrupted_in_rollout));
        trials.push(trial("terminated_everything_is_put_back", terminated));
        trials.push(trial("interrupted_while_its_guardian_puts_back_it_says_so_and_waits", interrupted_in_hand_over));
        trials.push(trial("what_somebody_changes_meanwhile_is_residue", residue));
    }
    // Last, because it takes down every container of the engine.
    let name = "with_the_engine_away_in_mid_fault_nothing_is_upheld_and_nothing_left_broken";
    trials.push(lab::trial(&SINGLE, true, name, |lab| engine_away(lab, "pause", &[], Duration::from_secs(3))));
    if every {
        // Without its engine the node is down as well: what is left of its fault is put back when it boots.
        let name = "with_the_engine_away_for_longer_than_the_lease_the_node_is_put_back_all_the_same";
        trials.push(lab::trial(&SINGLE, true, name, |lab| {
            engine_away(lab, "config-removed", &[("KCHAOS_LEASE", "5")], Duration::from_secs(8))
        }));
    }
    libtest_mimic::run(&args, trials).exit_code()
}

fn trial(name: impl Into<String>, test: impl Fn(&Lab) -> Result<(), String> + Send + 'static) -> Trial {
    lab::trial(&SINGLE, false, name, test)
}

/// Every kind of record that the undo depends on, in the order of a run.
const STEPS: [&str; 10] =
    ["started", "phase", "surveyed", "prepared", "injecting", "injected", "undoing", "undone", "audited", "finished"];

/// After which of them `make test` kills: where most is half done. `tests/kill.rs` kills after each of them on plain
/// containers.
const SOME_STEPS: [&str; 2] = ["injecting", "undoing"];

const PHASES: [(Phase, &str); 8] = [
    (Phase::Setup, "setup"),
    (Phase::Baseline, "baseline"),
    (Phase::Fault, "fault"),
    (Phase::Remedy, "remedy"),
    (Phase::Undo, "undo"),
    (Phase::Recovery, "recovery"),
    (Phase::Collect, "collect"),
    (Phase::Cleanup, "cleanup"),
];

/// In which of them `make test` interrupts: while something is made. In the fault, it is interrupted twice, and loses its
/// terminal.
const SOME_PHASES: [Phase; 1] = [Phase::Setup];

/// The kind of a record, if the undo depends on it.
fn step(kind: &EventKind) -> Option<&'static str> {
    use EventKind as E;
    Some(match kind {
        E::Started { .. } => "started",
        E::Phase(_) => "phase",
        E::Surveyed { .. } => "surveyed",
        E::Prepared { .. } => "prepared",
        E::Injecting { .. } => "injecting",
        E::Injected { .. } => "injected",
        E::Undoing { .. } => "undoing",
        E::Undone { .. } => "undone",
        E::Audited { .. } => "audited",
        E::Finished(_) => "finished",
        E::UndoFailed { .. } => "undo-failed",
        E::Interrupted(_) => "interrupted",
        // The undo depends on none of these.
        E::Saved { .. }
        | E::Remedying { .. }
        | E::Remedied { .. }
        | E::Watching { .. }
        | E::Witnessed(_)
        | E::Sampled(_)
        | E::Processors(_)
        | E::Waited { .. }
        | E::Disturbed(_) => return None,
    })
}

// ---- a run that can be interfered with

/// A running `kchaos run`. It is killed when it is dropped; its guardian is not.
struct Running {
    child: Child,
    run: RunDir,
    talk: std::path::PathBuf,
}

impl Running {
    /// Starts the shortest run, and waits until it has a journal.
    fn start(lab: &Lab, variant: &str, env: &[(&str, &str)]) -> Result<Self, String> {
        Self::start_of(lab, &format!("{}/{variant}", test_file("minimal/blink.yaml")), env)
    }

    fn start_of(lab: &Lab, scenario: &str, env: &[(&str, &str)]) -> Result<Self, String> {
        Self::start_with(lab, scenario, |command| {
            command.envs(env.iter().copied());
        })
    }

    fn start_with(lab: &Lab, scenario: &str, more: impl FnOnce(&mut Command)) -> Result<Self, String> {
        let ids = || -> BTreeSet<String> {
            runs(lab).list().map(|l| l.iter().map(|r| r.id().to_owned()).collect()).unwrap_or_default()
        };
        let before = ids();
        let talk = lab.state().join("talk");
        let mut command = lab.start(scenario);
        fs::create_dir_all(lab.state()).map_err(|e| e.to_string())?;
        more(&mut command);
        command.stdout(Stdio::null()).stderr(File::create(&talk).map_err(|e| e.to_string())?);
        let mut child = command.spawn().map_err(|e| e.to_string())?;
        let run = wait_for("the run to begin", PATIENCE, || {
            if let Ok(Some(status)) = child.try_wait() {
                return Some(Err(format!("it did not begin: {status}: {}", said(&talk))));
            }
            let new = ids().difference(&before).next().cloned()?;
            runs(lab).find(&new).ok().filter(|run| run.path().join("undo.jsonl").exists()).map(Ok)
        })??;
        Ok(Self { child, run, talk })
    }

    /// Waits until the journal has such an event.
    fn reach(&mut self, what: &str, event: impl Fn(&EventKind) -> bool) -> Result<(), String> {
        let give_up = Instant::now() + PATIENCE;
        let mut seen = [None; 2];
        loop {
            let now = ["undo.jsonl", "events.jsonl"]
                .map(|file| fs::metadata(self.run.path().join(file)).ok().map(|file| file.len()));
            // During a write the last line may be torn; the next look sees it whole.
            let there = std::mem::replace(&mut seen, now) != now
                && journal::salvage(&self.run).is_ok_and(|found| found.events.iter().any(|e| event(&e.kind)));
            let ended = self.child.try_wait().map_err(|e| e.to_string())?;
            if there {
                return Ok(());
            }
            if ended.is_some() || Instant::now() > give_up {
                return Err(format!("the run never came to {what}: {ended:?}\n{}", self.story()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Kills the run and its guardian, so that only the node itself can put anything back.
    fn kill_with_guardian(&mut self) -> Result<(), String> {
        let guardian = lab::guardian(&self.run).ok_or("it noted no guardian")?;
        let _ = kill_process(guardian, Signal::KILL);
        self.signal(Signal::KILL);
        self.wait(PATIENCE).map(drop)
    }

    fn wait(&mut self, within: Duration) -> Result<ExitStatus, String> {
        let Self { child, talk, .. } = self;
        wait_for("the run to end", within, || child.try_wait().ok().flatten())
            .map_err(|e| format!("{e}\n{}", said(talk)))
    }

    /// Waits for the run's end, and fails unless it ended with this exit code.
    fn expect(&mut self, exit: i32) -> Result<(), String> {
        let status = self.wait(PATIENCE)?;
        if status.code() == Some(exit) { Ok(()) } else { Err(format!("{status}, not {exit}\n{}", self.story())) }
    }

    fn said(&self) -> String {
        said(&self.talk)
    }

    /// What the run and its guardian printed.
    fn story(&self) -> String {
        format!("{}\n{}", self.said(), fs::read_to_string(self.run.path().join("guardian.log")).unwrap_or_default())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn said(talk: &std::path::Path) -> String {
    fs::read_to_string(talk).unwrap_or_default()
}

fn runs(lab: &Lab) -> StateDir {
    StateDir::at(lab.state().join("kchaos"))
}

// ---- what must be so afterwards

/// State, restart policy and addresses of the cluster's nodes, as the docker command line shows them.
fn seen(lab: &Lab) -> Result<String, String> {
    let label = format!("label=io.x-k8s.kind.cluster={}", lab.cluster);
    let ids = docker(&["ps", "-a", "--no-trunc", "--filter", &label, "--format", "{{.ID}}"])?;
    let mut ids: Vec<&str> = ids.lines().collect();
    ids.sort_unstable();
    let format = "{{.Name}} {{.State.Status}} {{json .HostConfig.RestartPolicy}} {{range .NetworkSettings.Networks}}{{.IPAddress}} {{json .IPAMConfig}}{{end}}";
    docker(&[&["inspect", "-f", format], &ids[..]].concat())
}

/// Checks that no process of the run is alive, its journal is whole and finished, the nodes are as before, and the API
/// holds nothing of the run.
fn put_back(lab: &Lab, before: &str, running: &Running) -> Result<(), String> {
    let engine = docker(&["info", "--format", "{{.ID}}"])?;
    // The guardian shares the lock, so getting the lock shows that the guardian is gone.
    wait_for("the guardian to end", PATIENCE, || Lock::take(&runs(lab), &engine, &lab.cluster).ok())
        .map_err(|e| format!("{e}\n{}", running.story()))?;
    let now = seen(lab)?;
    if now != before {
        return Err(format!("not as before\nbefore: {before}\nnow: {now}\n{}", running.story()));
    }
    match journal::standing(&running.run).map_err(|e| e.to_string())? {
        Standing::NeverStarted | Standing::Ended(End::Clean) => {}
        other => return Err(format!("its journal says {other:?}\n{}", running.story())),
    }
    journal::read(&running.run).map_err(|e| e.to_string())?;
    let left = lab.kubectl(&["get", "namespaces", "-l", "kchaos.io/run", "-o", "name"])?;
    if left.is_empty() { Ok(()) } else { Err(format!("left in the API: {left}\n{}", running.story())) }
}

/// What first cut the run short, if anything did.
fn cut(running: &Running) -> Result<Option<Interruption>, String> {
    let events = journal::read(&running.run).map_err(|e| e.to_string())?.events;
    Ok(events.into_iter().find_map(|e| match e.kind {
        EventKind::Interrupted(cut) => Some(cut),
        _ => None,
    }))
}

/// Fails unless a signal with this name first cut the run short.
fn cut_by(running: &Running, signal: &str) -> Result<(), String> {
    match cut(running)?.map(|cut| cut.cause) {
        Some(Cause::Signal(name)) if name == signal => Ok(()),
        other => Err(format!("the journal says {other:?} cut it short\n{}", running.story())),
    }
}

// ---- trials

fn undisturbed(lab: &Lab) -> Result<(), String> {
    let before = seen(lab)?;
    let files = tempfile::tempdir().map_err(|e| e.to_string())?;
    let [junit, summary] = ["junit.xml", "summary.md"].map(|name| files.path().join(name));
    let scenario = format!("{}/pause", test_file("minimal/blink.yaml"));
    let mut running = Running::start_with(lab, &scenario, |command| {
        command.arg("--seed=7").arg("--junit").arg(&junit).arg("--summary").arg(&summary);
    })?;
    running.expect(0)?;
    put_back(lab, &before, &running)?;
    for (file, words) in [(&junit, r#"<testcase name="node.pods-stop still-believed [pause]""#), (&summary, "✓ upheld")]
    {
        let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        if !text.contains(words) {
            return Err(format!("no {words} in {text}"));
        }
    }
    let events = journal::read(&running.run).map_err(|e| e.to_string())?.events;
    if !events.iter().any(|e| matches!(&e.kind, EventKind::Started { plan, .. } if plan.seed == 7)) {
        return Err("it had another seed".into());
    }
    let met: BTreeSet<_> = events.iter().filter_map(|e| step(&e.kind)).collect();
    match met == BTreeSet::from(STEPS) {
        true => Ok(()),
        false => Err(format!("its records are {met:?}, so the kills don't meet them all")),
    }
}

fn killed_after(lab: &Lab, last: &str) -> Result<(), String> {
    let before = seen(lab)?;
    // Where it makes a difference, the fault that takes more to undo. A node that boots takes its time.
    let variant = if matches!(last, "injecting" | "undoing" | "undone" | "finished") { "power-off" } else { "pause" };
    let mut running = Running::start(lab, variant, &[])?;
    running.reach(last, |kind| step(kind) == Some(last))?;
    running.signal(Signal::KILL);
    let status = running.wait(PATIENCE)?;
    if status.signal() != Some(9) && last != "finished" {
        return Err(format!("it ended before it was killed: {status}"));
    }
    put_back(lab, &before, &running)
}

fn killed_with_guardian(lab: &Lab) -> Result<(), String> {
    let before = seen(lab)?;
    let mut running = Running::start(lab, "pause", &[])?;
    running.reach("injected", |kind| step(kind) == Some("injected"))?;
    running.kill_with_guardian()?;
    if seen(lab)? == before {
        return Err("no fault was left, so this proves nothing".into());
    }
    let id = running.run.id().to_owned();
    let refused = lab.start(&test_file("minimal/blink.yaml")).output().map_err(|e| e.to_string())?;
    let talk = String::from_utf8_lossy(&refused.stderr);
    if refused.status.code() != Some(3) || !talk.contains(&format!("kchaos rollback {id}")) {
        return Err(format!("the next run was not refused: {}: {talk}", refused.status));
    }
    for turn in ["first", "second"] {
        let done = lab.kchaos(&["rollback", &id]).output().map_err(|e| e.to_string())?;
        let talk = String::from_utf8_lossy(&done.stdout).into_owned();
        if !done.status.success() || (turn == "second") != talk.contains("nothing to put back") {
            return Err(format!("{turn} rollback: {}: {talk}{}", done.status, String::from_utf8_lossy(&done.stderr)));
        }
        put_back(lab, &before, &running)?;
    }
    Ok(())
}

/// The victim of a run that has changed something inside it.
fn changed_node(running: &Running) -> Result<String, String> {
    let events = journal::salvage(&running.run).map_err(|e| e.to_string())?.events;
    let undo = events.iter().find_map(|e| match &e.kind {
        EventKind::Prepared { undo, .. } => undo.first(),
        _ => None,
    });
    undo.map(|undo| undo.node().name.clone()).ok_or_else(|| "nothing was prepared".into())
}

/// Does a node's kubelet run, with its configuration? And which of kchaos' files are in the node?
fn inside(node: &str) -> Result<(bool, String), String> {
    let well =
        docker(&["exec", node, "sh", "-c", "systemctl is-active -q kubelet && test -e /var/lib/kubelet/config.yaml"]);
    let ours = "ls -d /var/lib/kchaos/* /etc/systemd/system/kchaos-* /run/systemd/transient/kchaos-* 2>/dev/null || :";
    Ok((well.is_ok(), docker(&["exec", node, "sh", "-c", ours])?))
}

fn nothing_inside(node: &str, running: &Running) -> Result<(), String> {
    match inside(node)? {
        (true, left) if left.is_empty() => Ok(()),
        other => Err(format!("in {node}: {other:?}\n{}", running.story())),
    }
}

/// Checks that `kchaos rollback` also counts as put back what a node has put back by itself.
fn rolled_back(lab: &Lab, before: &str, running: &Running, node: &str) -> Result<(), String> {
    let done = lab.kchaos(&["rollback", running.run.id()]).output().map_err(|e| e.to_string())?;
    if !done.status.success() {
        return Err(format!("rollback: {}: {}", done.status, String::from_utf8_lossy(&done.stdout)));
    }
    put_back(lab, before, running)?;
    nothing_inside(node, running)
}

fn node_on_its_own(lab: &Lab) -> Result<(), String> {
    let before = seen(lab)?;
    let mut running = Running::start(lab, "config-removed", &[("KCHAOS_LEASE", "10")])?;
    running.reach("injected", |kind| step(kind) == Some("injected"))?;
    running.kill_with_guardian()?;
    let node = changed_node(&running)?;
    if inside(&node)?.0 {
        return Err("the fault was not in, so this proves nothing".into());
    }
    wait_for("the node to put itself back", PATIENCE, || inside(&node).ok().filter(|(well, _)| *well))?;
    rolled_back(lab, &before, &running, &node)
}

/// Shell: runs etcd's own tools.
const ETCD: &str = include_str!("../src/in_node/lib-etcd.sh");

/// Has the control plane's etcd do something.
fn etcd(lab: &Lab, args: &str) -> Result<String, String> {
    let ask = format!("{ETCD}ask_etcd {args}");
    docker(&["exec", &format!("{}-control-plane", lab.cluster), "sh", "-c", &ask])
}

/// A number that etcd tells.
fn told_by_etcd(lab: &Lab, args: &str, at: &str) -> Result<u64, String> {
    let said = etcd(lab, &format!("{args} --write-out=json"))?;
    let number = serde_json::from_str::<Value>(&said).ok().and_then(|told| told.pointer(at)?.as_u64());
    number.ok_or_else(|| format!("etcd tells no {at}: {said}"))
}

/// The hash that etcd gives of all that it has stored up to a revision.
fn hash_at(lab: &Lab, revision: u64) -> Result<u64, String> {
    told_by_etcd(lab, &format!("endpoint hashkv --rev={revision}"), "/0/HashKV/hash")
}

/// Etcd's revision, with the hash of what it has stored up to it. The hash depends on what was compacted. So everything
/// older is compacted now, and what the API server compacts by itself in the next five minutes, which is older still,
/// changes nothing. (At the very revision that was compacted last, etcd gives another hash once it is restarted.)
fn stored(lab: &Lab) -> Result<(u64, u64), String> {
    let revision = || told_by_etcd(lab, "endpoint status", "/0/Status/header/revision");
    let compacted = revision()?;
    etcd(lab, &format!("compact {compacted} --physical"))?;
    let later = || revision().ok().filter(|now| *now > compacted);
    let later = wait_for("something to be written", Duration::from_secs(30), later)?;
    Ok((later, hash_at(lab, later)?))
}

/// All keys of etcd, each with the revision at which it was written and its value.
type Contents = BTreeMap<String, (u64, String)>;

fn contents(lab: &Lab) -> Result<Contents, String> {
    let said = etcd(lab, "get /registry/ --prefix --write-out=fields")?;
    let (mut all, mut key, mut written) = (Contents::new(), String::new(), 0);
    for (field, value) in said.lines().filter_map(|line| line.split_once(" : ")) {
        match field {
            "\"Key\"" => key = value.trim_matches('"').to_owned(),
            "\"ModRevision\"" => written = value.parse().map_err(|_| format!("no revision: {value}"))?,
            "\"Value\"" => drop(all.insert(std::mem::take(&mut key), (written, value.to_owned()))),
            _ => {}
        }
    }
    if all.is_empty() { Err(format!("etcd has nothing: {said}")) } else { Ok(all) }
}

/// What comes and goes by itself.
const PASSING: [&str; 3] = ["certificatesigningrequests", "events", "masterleases"];
/// What a healthy cluster writes anew all the time, or when its API was away.
const CHANGING: [&str; 8] =
    ["daemonsets", "deployments", "endpoints", "endpointslices", "leases", "minions", "pods", "replicasets"];

/// What is not as it was: a key that is gone, was written at another revision, or has another value. One that is written
/// anew all the time need only be there.
fn differences(had: &Contents, has: &Contents) -> Vec<String> {
    // `/registry/KIND/…`, but `/registry/services/endpoints/…`.
    let kind = |key: &str| {
        let mut parts = key.split('/').skip(2);
        parts.next().filter(|kind| *kind != "services").or(parts.next()).unwrap_or_default().to_owned()
    };
    let lasting = had.iter().filter(|(key, _)| !PASSING.contains(&&*kind(key)));
    let differs = lasting.filter(|(key, was)| match has.get(*key) {
        Some((revision, _)) if CHANGING.contains(&&*kind(key)) => revision < &was.0,
        now => now != Some(was),
    });
    let became = |key: &String, was: u64| match has.get(key) {
        None => "is gone".to_owned(),
        Some((is, _)) if *is == was => "has another value".to_owned(),
        Some((is, _)) => format!("was written again at {is}"),
    };
    differs.map(|(key, (was, _))| format!("{key}, of {was}, {}", became(key, *was))).collect()
}

/// A moment of a run: its name, whether this record is the last one before it, and the file in the node that shows that
/// it has come.
type Moment = (&'static str, fn(&EventKind) -> bool, &'static str);
const THE_LOSS: Moment = ("the loss", |kind| matches!(kind, EventKind::Injecting { .. }), "touched");
const THE_REMEDY: Moment = ("the remedy", |kind| matches!(kind, EventKind::Remedying { .. }), "restore.log");

/// Who puts a store back once the run and its guardian are gone.
#[derive(PartialEq, Eq)]
enum By {
    /// `kchaos rollback`, before the lease is over.
    Rollback,
    /// Its node, once the lease is over: no process of kchaos, and no call of the engine.
    ItsNode,
}

/// In the middle of a store's loss or of a remedy, everything that could put it back is killed but one.
fn store_put_back(lab: &Lab, (moment, is, file): Moment, by: By) -> Result<(), String> {
    let (before, (revision, hash), had) = (seen(lab)?, stored(lab)?, contents(lab)?);
    let scenario = test_file("minimal/store-gone.yaml");
    let lease = if by == By::ItsNode { "10" } else { "120" };
    let mut running = Running::start_of(lab, &scenario, &[("KCHAOS_LEASE", lease)])?;
    running.reach(moment, is)?;
    let plane = format!("{}-control-plane", lab.cluster);
    let come = || docker(&["exec", &plane, "sh", "-c", &format!("ls /var/lib/kchaos/*/{file}")]).ok();
    wait_for(moment, Duration::from_secs(30), come)?;
    running.kill_with_guardian()?;
    let gone_off = || docker(&["exec", &plane, "sh", "-c", "ls /var/lib/kchaos/*/gone-off"]);
    match by {
        By::ItsNode => {
            let done = "ls /var/lib/kchaos/*/gone-off && ! ls /var/lib/kchaos/*/touched";
            let put_back = || docker(&["exec", &plane, "sh", "-c", done]).ok();
            wait_for("the node to put itself back", PATIENCE, put_back)?;
        }
        By::Rollback if gone_off().is_ok() => return Err("the node was first, so this proves nothing".into()),
        By::Rollback => rolled_back(lab, &before, &running, &plane)?,
    }
    wait_for("the API to answer", PATIENCE, || lab.kubectl(&["get", "--raw=/readyz"]).ok())?;
    let differences = differences(&had, &contents(lab)?);
    if !differences.is_empty() {
        return Err(format!("{differences:#?}\n{}", running.story()));
    }
    // Once clients have seen another store, the old one gets higher revisions than that had, and has no history: after a
    // restore, and where the old one was so young that the empty one has come near. There, no hash can be had.
    let raised = told_by_etcd(lab, "endpoint status", "/0/Status/header/revision")? > revision + 5000;
    if !raised && hash_at(lab, revision)? != hash {
        return Err(format!("etcd has not the hash that it had at revision {revision}\n{}", running.story()));
    }
    match by {
        By::ItsNode => rolled_back(lab, &before, &running, &plane),
        By::Rollback => Ok(()),
    }
}

/// What an operator did through the API is undone from the node from which it was done.
fn given_up_on_its_own(lab: &Lab) -> Result<(), String> {
    let nodes = || {
        let each = "-o=jsonpath={range .items[*]}{.metadata.name} {.spec.podCIDR} {.metadata.labels}{\"\\n\"}{end}";
        lab.kubectl(&["get", "nodes", each])
    };
    let (before, had) = (seen(lab)?, nodes()?);
    let scenario = test_file("minimal/given-up.yaml");
    let mut running = Running::start_of(lab, &scenario, &[("KCHAOS_LEASE", "10")])?;
    running.reach("the remedy", |kind| matches!(kind, EventKind::Remedied { error: None, .. }))?;
    running.kill_with_guardian()?;
    if nodes()? == had {
        return Err("no node was deleted, so this proves nothing".into());
    }
    wait_for("the node to be created again", PATIENCE, || nodes().ok().filter(|now| *now == had))?;
    rolled_back(lab, &before, &running, &format!("{}-control-plane", lab.cluster))?;
    match nodes()? {
        now if now == had => Ok(()),
        now => Err(format!("were {had}\nnow {now}")),
    }
}

/// Neither the run nor its guardian reaches the engine for longer than the lease. The node goes by its own clock.
fn engine_out_of_reach(lab: &Lab) -> Result<(), String> {
    let before = seen(lab)?;
    let engine = EngineProxy::start(None)?;
    let env = [("KCHAOS_LEASE", "10"), ("DOCKER_HOST", &engine.host())];
    let mut running = Running::start(lab, "config-removed", &env)?;
    running.reach("injected", |kind| step(kind) == Some("injected"))?;
    let node = changed_node(&running)?;
    engine.cut();
    if inside(&node)?.0 {
        return Err("the fault was not in, so this proves nothing".into());
    }
    let healed = wait_for("the node to put itself back", PATIENCE, || inside(&node).ok().filter(|(well, _)| *well));
    engine.mend();
    healed?;
    let status = running.wait(PATIENCE)?;
    put_back(lab, &before, &running)?;
    nothing_inside(&node, &running)?;
    match status.code() {
        Some(3 | 6) => Ok(()),
        _ => Err(format!("{status}\n{}", running.story())),
    }
}

fn stopped_past_lease(lab: &Lab) -> Result<(), String> {
    let before = seen(lab)?;
    let mut running = Running::start(lab, "config-removed", &[("KCHAOS_LEASE", "10")])?;
    running.reach("injected", |kind| step(kind) == Some("injected"))?;
    running.signal(Signal::STOP);
    let node = changed_node(&running)?;
    running.reach("its end", |kind| step(kind) == Some("finished"))?;
    running.signal(Signal::CONT);
    running.expect(6)?;
    put_back(lab, &before, &running)?;
    nothing_inside(&node, &running)
}

/// When the run is continued, it would go on with what it had begun, after everything was put back.
fn stopped_in_remedy(lab: &Lab) -> Result<(), String> {
    let nodes = || {
        lab.kubectl(&["get", "nodes", "-o=jsonpath={range .items[*]}{.metadata.name} {.spec.podCIDR}{\"\\n\"}{end}"])
    };
    let (before, had) = (seen(lab)?, nodes()?);
    let mut running = Running::start_of(lab, &test_file("minimal/given-up.yaml"), &[("KCHAOS_LEASE", "10")])?;
    running.reach("the remedy", |kind| matches!(kind, EventKind::Remedying { .. }))?;
    running.signal(Signal::STOP);
    let status = running.wait(PATIENCE)?;
    if status.signal() != Some(9) {
        return Err(format!("it was not ended, but {status}\n{}", running.story()));
    }
    put_back(lab, &before, &running)?;
    nothing_inside(&format!("{}-control-plane", lab.cluster), &running)?;
    match nodes()? {
        now if now == had => Ok(()),
        now => Err(format!("were {had}\nnow {now}")),
    }
}

/// The user's own workload has an image that exists nowhere.
fn interrupted_in_rollout(lab: &Lab) -> Result<(), String> {
    let before = seen(lab)?;
    let theirs = tempfile::tempdir().map_err(|e| e.to_string())?;
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: stuck}\nspec: {containers: [{name: stuck, image: kchaos.invalid/nowhere:1, imagePullPolicy: Never}]}\n";
    fs::write(theirs.path().join("pod.yaml"), pod).map_err(|e| e.to_string())?;
    let mut running = Running::start_with(lab, &format!("{}/pause", test_file("minimal/blink.yaml")), |command| {
        command.arg("--manifests").arg(theirs.path());
    })?;
    let talk = running.talk.clone();
    wait_for("the rollout to be waited for", PATIENCE, || said(&talk).contains("waiting for Pod stuck").then_some(()))?;
    running.signal(Signal::INT);
    let begin = Instant::now();
    running.expect(130)?;
    let took = begin.elapsed();
    put_back(lab, &before, &running)?;
    // The time limit of a rollout is five minutes.
    if took < Duration::from_secs(60) { Ok(()) } else { Err(format!("it ended after {took:?}\n{}", running.story())) }
}

fn interrupted(lab: &Lab, phase: Phase) -> Result<(), String> {
    let before = seen(lab)?;
    let mut running = match phase {
        Phase::Remedy => Running::start_of(lab, &test_file("minimal/given-up.yaml"), &[])?,
        // An undo that takes a while, so that the signal arrives during it.
        Phase::Undo => Running::start(lab, "power-off", &[])?,
        _ => Running::start(lab, "pause", &[])?,
    };
    running.reach("the phase", |kind| *kind == EventKind::Phase(phase))?;
    running.signal(Signal::INT);
    running.expect(130)?;
    put_back(lab, &before, &running)?;
    if !running.said().contains("SIGINT") {
        return Err(format!("it did not say that it heard the signal: {}", running.said()));
    }
    // During the cleanup nothing is left to cut short: the verdicts stand.
    let expected = (phase != Phase::Cleanup).then(|| Cause::Signal("SIGINT".into()));
    let cause = cut(&running)?.map(|cut| cut.cause);
    // Collecting lasts while samples are on their way. It may be over when the signal arrives, and then this is the
    // cleanup.
    let over = phase == Phase::Collect && cause.is_none();
    if cause == expected || over { Ok(()) } else { Err(format!("the journal says {cause:?} cut it short")) }
}

/// A run that is ended by the system is no less tidy than one that is interrupted.
fn terminated(lab: &Lab) -> Result<(), String> {
    let before = seen(lab)?;
    let mut running = Running::start(lab, "pause", &[])?;
    running.reach("injected", |kind| step(kind) == Some("injected"))?;
    running.signal(Signal::TERM);
    running.expect(130)?;
    put_back(lab, &before, &running)?;
    cut_by(&running, "SIGTERM")
}

/// Nobody can be told anything any more, since what was its terminal is no more.
/// The variables that are set for a command, to be set for what starts it, too.
fn set(command: &Command) -> impl Iterator<Item = (&OsStr, &OsStr)> {
    command.get_envs().map(|(name, value)| (name, value.unwrap_or_default()))
}

fn terminal_closed(lab: &Lab) -> Result<(), String> {
    let before = seen(lab)?;
    let in_terminal = |command: &mut Command| {
        let words = [command.get_program()].into_iter().chain(command.get_args());
        let line: Vec<String> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
        let mut script = Command::new("script");
        script.args(["-qfec", &format!("exec {}", line.join(" ")), "/dev/null"]).stdin(Stdio::null());
        script.envs(set(command));
        *command = script;
    };
    let scenario = format!("{}/pause", test_file("minimal/blink.yaml"));
    let mut running = Running::start_with(lab, &scenario, in_terminal)?;
    running.reach("injected", |kind| step(kind) == Some("injected"))?;
    running.signal(Signal::KILL);
    running.wait(PATIENCE)?;
    put_back(lab, &before, &running)?;
    cut_by(&running, "SIGHUP")
}

/// A terminal that takes nothing more once it is full, as with Ctrl-S, or a pager that nobody turns over.
struct HeldTerminal {
    _place: TempDir,
    end: File,
}

impl HeldTerminal {
    /// Starts a run on such a terminal, and fills that. The lease is so short that a run that waits for its reader loses
    /// it.
    fn start(lab: &Lab, variant: &str) -> Result<(Self, Running), String> {
        let error = |e: std::io::Error| e.to_string();
        let place = tempfile::tempdir().map_err(error)?;
        let terminal = place.path().join("terminal");
        let made = Command::new("mkfifo").arg(&terminal).status().map_err(error)?;
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).map_err(|e| e.to_string())?;
        let opened = File::options().read(true).write(true).custom_flags(flags).open(&terminal);
        let mut end = opened.map_err(|e| format!("mkfifo {made}: {e}"))?;
        let into_terminal = |command: &mut Command| {
            let words = [command.get_program()].into_iter().chain(command.get_args());
            let mut shell = Command::new("sh");
            shell.args(["-c", "exec 2> \"$0\"; exec \"$@\""]).arg(&terminal).args(words).env("KCHAOS_LEASE", "5");
            shell.envs(set(command));
            *command = shell;
        };
        let scenario = format!("{}/{variant}", test_file("minimal/blink.yaml"));
        let running = Running::start_with(lab, &scenario, into_terminal)?;
        let full = std::iter::repeat_with(|| end.write(&[b'\n'; 512])).find_map(Result::err);
        match full.as_ref().map(std::io::Error::kind) {
            Some(ErrorKind::WouldBlock) => Ok((Self { _place: place, end }, running)),
            _ => Err(format!("its terminal is not full: {full:?}")),
        }
    }

    /// Reads on, until the run ends. Returns what it said.
    fn let_go(mut self, running: &mut Running) -> Result<String, String> {
        let (mut said, mut piece) = (Vec::new(), [0; 4096]);
        let ended = wait_for("its last words", PATIENCE, || {
            // What it says last it says before it ends.
            let ended = running.child.try_wait().ok().flatten();
            while let Ok(read @ 1..) = self.end.read(&mut piece) {
                said.extend(&piece[..read]);
            }
            ended
        });
        ended.map(|_| String::from_utf8_lossy(&said).into_owned())
    }
}

fn terminal_held(lab: &Lab) -> Result<(), String> {
    let before = seen(lab)?;
    let (terminal, mut running) = HeldTerminal::start(lab, "pause")?;
    running.reach("its end", |kind| step(kind) == Some("finished"))?;
    let said = terminal.let_go(&mut running)?;
    put_back(lab, &before, &running)?;
    if let Some(cut) = cut(&running)? {
        return Err(format!("it did not go on: {cut:?}\n{said}"));
    }
    match said.contains("audit: the cluster is as it was before") {
        true => Ok(()),
        false => Err(format!("not all of it was kept: {said}")),
    }
}

fn interrupted_on_held_terminal(lab: &Lab) -> Result<(), String> {
    let before = seen(lab)?;
    let (_terminal, mut running) = HeldTerminal::start(lab, "power-off")?;
    running.reach("injected", |kind| step(kind) == Some("injected"))?;
    let took = leaves_after_two_signals(&mut running)?;
    if took > Duration::from_secs(3) {
        return Err(format!("it left only after {took:?}"));
    }
    put_back(lab, &before, &running)
}

/// Interrupts a run, and once more as it puts everything back. Returns how long it took to leave then.
fn leaves_after_two_signals(running: &mut Running) -> Result<Duration, String> {
    running.signal(Signal::INT);
    running.reach("the interruption", |kind| step(kind) == Some("interrupted"))?;
    running.signal(Signal::INT);
    let begin = Instant::now();
    running.expect(130)?;
    Ok(begin.elapsed())
}

fn interrupted_twice(lab: &Lab) -> Result<(), String> {
    let before = seen(lab)?;
    let mut running = Running::start(lab, "power-off", &[])?;
    running.reach("injected", |kind| step(kind) == Some("injected"))?;
    // Nothing can be said of it yet, least of all that it has left the cluster broken.
    let judged = lab.kchaos(&["judge", "latest"]).output().map_err(|e| e.to_string())?;
    let said = String::from_utf8_lossy(&judged.stderr);
    if judged.status.code() != Some(3) || !said.contains(&format!("run {} is going on", running.run.id())) {
        return Err(format!("it was judged: {}, {said}", judged.status));
    }
    let took = leaves_after_two_signals(&mut running)?;
    if took > Duration::from_secs(2) || !running.said().contains(&format!("kchaos rollback {}", running.run.id())) {
        return Err(format!("it left after {took:?}, saying {}", running.said()));
    }
    put_back(lab, &before, &running)
}

/// The guardian takes over from a run that was stopped for too long. When the run continues, it can only wait for the
/// guardian.
fn interrupted_in_hand_over(lab: &Lab) -> Result<(), String> {
    let before = seen(lab)?;
    let mut running = Running::start(lab, "power-off", &[("KCHAOS_LEASE", "8")])?;
    running.reach("injected", |kind| step(kind) == Some("injected"))?;
    running.signal(Signal::STOP);
    let log = running.run.path().join("guardian.log");
    wait_for("the guardian to take over", PATIENCE, || said(&log).contains("taking over").then_some(()))?;
    running.signal(Signal::CONT);
    let talk = running.talk.clone();
    wait_for("the run to notice it", PATIENCE, || said(&talk).contains("has taken over").then_some(()))?;
    running.signal(Signal::INT);
    running.expect(130)?;
    put_back(lab, &before, &running)?;
    match running.said().contains("SIGINT: waiting for the guardian") {
        true => Ok(()),
        false => Err(format!("it did not say what it waited for: {}", running.said())),
    }
}

fn interrupted_up(lab: &Lab) -> Result<(), String> {
    let name = &format!("{}-cut", lab.cluster);
    let label = format!("label=io.x-k8s.kind.cluster={name}");
    let nodes = || docker(&["ps", "-a", "--filter", &label, "--format", "{{.Names}}"]);
    let up = lab.kchaos(&["up", "single", "--name", name]).stderr(Stdio::piped()).spawn().map_err(|e| e.to_string())?;
    wait_for("the first node", PATIENCE, || nodes().ok().filter(|n| !n.is_empty()))?;
    let _ = kill_process(Pid::from_child(&up), Signal::INT);
    let output = up.wait_with_output().map_err(|e| e.to_string())?;
    let talk = String::from_utf8_lossy(&output.stderr);
    let network = format!("name=^{name}$");
    let left = [nodes()?, docker(&["network", "ls", "--filter", &network, "--format", "{{.Name}}"])?].concat();
    if output.status.code() != Some(130) || !talk.contains("was Ready") || !left.is_empty() {
        return Err(format!("{}, left: {left:?}\n{talk}", output.status));
    }
    Ok(())
}

/// What a fault could have left behind is made by somebody else. The run can't know that, so it says what it finds.
fn residue(lab: &Lab) -> Result<(), String> {
    let mut running = Running::start(lab, "pause", &[])?;
    running.reach("injected", |kind| step(kind) == Some("injected"))?;
    let paused = changed_node(&running)?;
    let workers = [format!("{}-worker", lab.cluster), format!("{}-worker2", lab.cluster)];
    let other = workers.iter().find(|worker| **worker != paused).ok_or("there is no other worker")?;
    let inside = |script: &str| docker(&["exec", other, "sh", "-c", script]);
    lab.kubectl(&["taint", "node", other, "kchaos-test=left:PreferNoSchedule"])?;
    lab.kubectl(&["create", "namespace", "left"])?;
    lab.kubectl(&["label", "namespace", "left", "kchaos.io/run=left"])?;
    inside(
        "iptables -N kchaos-left; systemd-run --quiet --wait --unit=left false || :; mkdir -p /var/lib/kchaos/left",
    )?;
    docker(&["update", "--restart=no", other])?;
    // The audit looks for three minutes.
    let ended = running.wait(2 * PATIENCE).and_then(|status| match status.code() {
        Some(4) => Ok(()),
        _ => Err(format!("{status}, not 4")),
    });
    let judged = lab.kchaos(&["judge", running.run.id(), "-o", "json"]).output().map_err(|e| e.to_string());
    docker(&["update", "--restart=on-failure:1", other])?;
    inside(
        "iptables -X kchaos-left; systemctl reset-failed left; rmdir /var/lib/kchaos/left /var/lib/kchaos 2>/dev/null || :",
    )?;
    lab.kubectl(&["delete", "namespace", "left"])?;
    lab.kubectl(&["taint", "node", other, "kchaos-test:PreferNoSchedule-"])?;
    ended?;
    let report: serde_json::Value = serde_json::from_slice(&judged?.stdout).map_err(|e| e.to_string())?;
    let residue = report["cleanup"]["residue"].to_string();
    let left =
        ["taint/kchaos-test", "namespace/left", "kchaos-left", "unit/left", "/var/lib/kchaos/left", "restart-policy"];
    if let Some(missing) = left.iter().find(|item| !residue.contains(**item)) {
        return Err(format!("no {missing} in {residue}"));
    }
    let done = lab.kchaos(&["rollback", running.run.id()]).output().map_err(|e| e.to_string())?;
    if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stdout).into_owned()) }
}

/// The engine is stopped in mid-fault, for so long, and started again.
fn engine_away(lab: &Lab, variant: &str, lease: &[(&str, &str)], away: Duration) -> Result<(), String> {
    let script = test_file("../setup/engine.sh");
    let engine = |what: &str| match Command::new(&script).arg(what).stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        other => Err(format!("{script} {what}: {other:?}")),
    };
    let before = seen(lab)?;
    let others = docker(&["ps", "-q", "--no-trunc"])?;
    let mut running = Running::start(lab, variant, lease)?;
    running.reach("injected", |kind| step(kind) == Some("injected"))?;
    engine("stop")?;
    // The outage.
    std::thread::sleep(away);
    engine("start")?;
    let status = running.wait(PATIENCE);
    let restored = put_back(lab, &before, &running);
    // Everything else that ran on this engine.
    docker(&[&["start"], &others.lines().collect::<Vec<_>>()[..]].concat())?;
    let status = status?;
    if !matches!(status.code(), Some(3 | 6)) {
        return Err(format!("{status}\n{}", running.story()));
    }
    restored
}
