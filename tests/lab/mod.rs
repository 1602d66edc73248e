//! What tests on a real cluster share: the binary, clusters, and ways to interfere with them from outside.

pub mod engine_proxy;
pub mod liar;

use std::io::{BufRead, BufReader, Lines};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use kchaos::run_dir::{RunDir, StateDir};
use libtest_mimic::{Completion, Failed, Trial};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// What a run prints once its fault is in.
pub const IN_EFFECT: &str = "the fault is in effect";
/// What a run prints when it begins to put back.
pub const UNDO: &str = "undo: ";
/// What a run prints once it watches nothing any more.
const CLEANING_UP: &str = "cleanup: ";

/// The clusters of one process' trials. Each trial has a cluster to itself. A cluster is made, or brought back, when it
/// is first needed, so that listing the trials touches nothing.
pub struct Labs {
    topology: &'static str,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// How many clusters were made, in use or free.
    made: usize,
    free: Vec<Lab>,
    /// How many trials are watching a cluster. A trial that only waits for its cluster to be as before does not disturb
    /// the others.
    watching: usize,
    /// One trial is watching alone.
    alone: bool,
}

/// A cluster made by `kchaos up`, with a state directory of its own.
pub struct Lab {
    pub cluster: String,
    state: PathBuf,
    of: &'static Labs,
    watches: AtomicBool,
}

/// A running `kchaos run -o json`. It is killed when it is dropped: a failed test must leave the cluster to the
/// guardian.
pub struct Running<'l> {
    lab: &'l Lab,
    child: Option<Child>,
    talk: Option<Lines<BufReader<ChildStderr>>>,
    /// What the run has printed so far.
    said: String,
}

/// A finished `kchaos run -o json`.
pub struct Ran {
    pub exit: i32,
    /// What it printed on standard output: the report.
    printed: Vec<u8>,
    pub report: Value,
    pub talk: String,
}

impl Labs {
    /// Clusters of this topology.
    pub const fn of(topology: &'static str) -> Self {
        let state = Mutex::new(State { made: 0, free: Vec::new(), watching: 0, alone: false });
        Self { topology, state, changed: Condvar::new() }
    }

    /// How many clusters to make, and so how many trials run at a time: `KCHAOS_TEST_CLUSTERS`, or one.
    pub fn count() -> usize {
        std::env::var("KCHAOS_TEST_CLUSTERS").ok().map_or(1, |n| n.parse().expect("a number of clusters")).max(1)
    }

    /// Runs a test on one of the clusters. A test with `alone` runs while nothing is watched on any other cluster. The
    /// watching ends with the test, or when its run says that it cleans up (see [`Lab::has_watched`]).
    fn with(&'static self, alone: bool, test: impl FnOnce(&Lab) -> Result<(), String>) -> Result<(), String> {
        let mut state = self.state.lock().unwrap();
        while state.made < Self::count() {
            let lab = Lab::up(self, state.made)?;
            state.made += 1;
            state.free.push(lab);
        }
        let mut state = self.changed.wait_while(state, |now| now.free.is_empty()).unwrap();
        let lab = state.free.swap_remove(0);
        drop(state);
        lab.watch(alone);
        let mut outcome = catch_unwind(AssertUnwindSafe(|| test(&lab)));
        if let Ok(Err(why)) = &mut outcome
            && let Err(more) = lab.put_back()
        {
            *why += &format!("\nand it could not be put back: {more}");
        }
        lab.has_watched();
        self.state.lock().unwrap().free.push(lab);
        self.changed.notify_all();
        outcome.unwrap_or_else(|panic| resume_unwind(panic))
    }
}

/// How many runs of this program of tests were made again.
static REPEATS: AtomicUsize = AtomicUsize::new(0);

impl Lab {
    /// Makes the cluster with this number, or brings it back to Ready. Clusters and state directories are named after
    /// `KCHAOS_TEST_AS`, so that two builds of kchaos on one machine don't interfere with each other.
    fn up(of: &'static Labs, number: usize) -> Result<Self, String> {
        let topology = of.topology;
        let name = std::env::var("KCHAOS_TEST_AS").unwrap_or_else(|_| "kchaos-test".into());
        let number = if number == 0 { String::new() } else { format!("-{}", number + 1) };
        let state = std::env::temp_dir().join(format!("{name}-state{number}"));
        let lab = Self { cluster: format!("{name}-{topology}{number}"), state, of, watches: AtomicBool::new(false) };
        lab.put_back()?;
        let of_cluster = |args: &[&str]| lab.kchaos(args).output().map_err(|e| e.to_string());
        let mut up = of_cluster(&["up", topology, "--name", &lab.cluster])?;
        // Left by the tests of another version.
        if String::from_utf8_lossy(&up.stderr).contains("is there already, and not as requested") {
            of_cluster(&["down", &lab.cluster])?;
            up = of_cluster(&["up", topology, "--name", &lab.cluster])?;
        }
        if up.status.success() { Ok(lab) } else { Err(String::from_utf8_lossy(&up.stderr).into_owned()) }
    }

    /// Puts back what failed or killed test runs left behind, so that the next test fails only for reasons of its own.
    fn put_back(&self) -> Result<(), String> {
        let done = self.kchaos(&["rollback", "--all"]).output().map_err(|e| e.to_string())?;
        if done.status.success() {
            return Ok(());
        }
        Err([done.stdout, done.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat())
    }

    /// Waits until this cluster may be watched: beside others, or alone.
    fn watch(&self, alone: bool) {
        let state = self.of.state.lock().unwrap();
        let busy = |now: &mut State| now.alone || alone && now.watching > 0;
        let mut state = self.of.changed.wait_while(state, busy).unwrap();
        state.watching += 1;
        state.alone = alone;
        self.watches.store(true, Ordering::Relaxed);
    }

    /// Notes that nothing is watched here any more, so that the other trials may go on.
    fn has_watched(&self) {
        if self.watches.swap(false, Ordering::Relaxed) {
            let mut state = self.of.state.lock().unwrap();
            state.watching -= 1;
            // A trial that watched alone was the only one.
            state.alone = false;
            self.of.changed.notify_all();
        }
    }

    /// Handles a line that a run on this cluster has printed.
    fn hear(&self, line: &str) {
        if line.contains(CLEANING_UP) {
            self.has_watched();
        }
    }

    /// The binary under test, with a state directory of its own.
    pub fn kchaos(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kchaos"));
        command.args(args).env("XDG_STATE_HOME", &self.state).env("NO_COLOR", "1").stdin(Stdio::null());
        command
    }

    /// The state directory of the binary under test.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Runs a scenario on the cluster and returns its report.
    pub fn run(&self, scenario: &str) -> Result<Ran, String> {
        self.begin(scenario)?.ended()
    }

    /// Runs a scenario, and fails unless every claim is upheld.
    ///
    /// On a machine that is too busy, a run says that it has proven nothing, neither for kchaos nor against it, and is
    /// made again. If that proves nothing either, the trial fails.
    pub fn upheld(&self, scenario: &str) -> Result<(), String> {
        let ran = self.watched(|lab| lab.run(scenario))?;
        ran.expect_exit(0)?;
        self.judged_again(&ran)
    }

    /// Makes a run. If the machine was too busy to watch it, it is made once more, with nothing watched beside it.
    pub fn watched(&self, run: impl Fn(&Self) -> Result<Ran, String>) -> Result<Ran, String> {
        let ran = run(self)?;
        if !ran.was_too_busy() {
            return Ok(ran);
        }
        let repeats = REPEATS.fetch_add(1, Ordering::Relaxed) + 1;
        println!("{}\nthe machine was too busy to watch, so once more (repeat {repeats} of this program)", ran.story());
        self.has_watched();
        self.watch(true);
        run(self)
    }

    /// Fails unless the journal of the last run gives the very report that the run gave.
    pub fn judged_again(&self, ran: &Ran) -> Result<(), String> {
        let again = self.kchaos(&["judge", "latest", "-o", "json"]).output().map_err(|e| e.to_string())?;
        match again.stdout == ran.printed && again.status.code() == Some(ran.exit) {
            true => Ok(()),
            false => Err(format!("judged again, {}: {}", again.status, String::from_utf8_lossy(&again.stdout))),
        }
    }

    /// The command that runs a scenario on the cluster.
    pub fn start(&self, scenario: &str) -> Command {
        let mut command = self.kchaos(&["run", scenario, "--cluster", &self.cluster, "-o", "json"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Begins a run, so that the test can interfere with it while it goes on.
    pub fn begin(&self, scenario: &str) -> Result<Running<'_>, String> {
        self.begin_with(self.start(scenario))
    }

    /// Like [`Lab::begin`], for a given command that runs a scenario.
    pub fn begin_with(&self, mut command: Command) -> Result<Running<'_>, String> {
        let mut child = command.spawn().map_err(|e| e.to_string())?;
        let talk = BufReader::new(child.stderr.take().ok_or("its talk can't be heard")?).lines();
        Ok(Running { lab: self, child: Some(child), talk: Some(talk), said: String::new() })
    }

    pub fn finish(&self, command: &mut Command) -> Result<Ran, String> {
        ran(command.output().map_err(|e| e.to_string())?)
    }

    /// Runs kubectl in the control plane's node.
    pub fn kubectl(&self, args: &[&str]) -> Result<String, String> {
        let node = format!("{}-control-plane", self.cluster);
        let all = [&["exec", &node, "kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf"], args].concat();
        docker(&all)
    }
}

impl Running<'_> {
    /// Waits until the run prints these words.
    pub fn heard(&mut self, words: &str) -> Result<(), String> {
        while let Some(Ok(line)) = self.talk.as_mut().and_then(Iterator::next) {
            self.said += &format!("{line}\n");
            self.lab.hear(&line);
            if line.contains(words) {
                return Ok(());
            }
        }
        Err(format!("the run never said {words:?}\n{}", self.said))
    }

    /// Takes something away until the run says these words, or ends without them, gives it back, and waits until the run
    /// ends.
    pub fn away_until(
        mut self,
        words: &str,
        take: impl FnOnce() -> Result<(), String>,
        give_back: impl FnOnce() -> Result<(), String>,
    ) -> Result<Ran, String> {
        let taken = take();
        let heard = if taken.is_ok() { self.heard(words) } else { Ok(()) };
        give_back()?;
        taken.and(heard)?;
        self.ended()
    }

    /// Waits until the run ends.
    pub fn ended(mut self) -> Result<Ran, String> {
        let (child, talk) = self.child.take().zip(self.talk.take()).ok_or("it has ended")?;
        let lab = self.lab;
        let hear = || {
            let lines = talk.map_while(Result::ok).inspect(|line| lab.hear(line));
            lines.map(|line| line + "\n").collect::<String>()
        };
        // The talk is read beside the output, because the run waits for whichever is not read.
        let (mut output, rest) = std::thread::scope(|threads| {
            let rest = threads.spawn(hear);
            let output = child.wait_with_output().map_err(|e| e.to_string());
            output.and_then(|output| Ok((output, rest.join().map_err(|_| "its talk can't be read")?)))
        })?;
        output.stderr = (std::mem::take(&mut self.said) + &rest).into_bytes();
        ran(output)
    }

    /// Interrupts the run, as Ctrl-C does.
    pub fn interrupt(&self) -> Result<(), String> {
        let child = self.child.as_ref().ok_or("it has ended")?;
        kill_process(Pid::from_child(child), Signal::INT).map_err(|e| e.to_string())
    }

    /// Kills the run and its guardian, so that only the nodes themselves can put anything back.
    pub fn kill_with_guardian(mut self) -> Result<(), String> {
        let mut child = self.child.take().ok_or("it has ended")?;
        let run = StateDir::at(self.lab.state.join("kchaos")).find("latest").map_err(|e| e.to_string())?;
        let guardian = guardian(&run).ok_or("it noted no guardian")?;
        let _ = kill_process(guardian, Signal::KILL);
        child.kill().and_then(|()| child.wait()).map_err(|e| e.to_string()).map(drop)
    }
}

/// The guardian that a run has noted beside its lock.
pub fn guardian(run: &RunDir) -> Option<Pid> {
    let note = std::fs::read(run.path().parent()?.join("tool")).ok()?;
    let note: Value = serde_json::from_slice(&note).ok()?;
    Pid::from_raw(i32::try_from(note["guardian"].as_u64()?).ok()?)
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Reads what a finished run printed.
fn ran(output: Output) -> Result<Ran, String> {
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    let exit = output.status.code().ok_or_else(|| format!("killed by a signal\n{talk}"))?;
    let report = serde_json::from_slice(&output.stdout).map_err(|e| format!("exit {exit}, no report: {e}\n{talk}"))?;
    Ok(Ran { exit, printed: output.stdout, report, talk })
}

impl Ran {
    /// Verdict and reason of a claim.
    pub fn claim(&self, id: &str) -> Result<(&str, &str), String> {
        let claims = self.report["claims"].as_array().ok_or("the report has no claims")?;
        let claim =
            claims.iter().find(|c| c["claim"] == id).ok_or_else(|| format!("the report has no claim `{id}`"))?;
        let word = |key: &str| claim[key].as_str().ok_or_else(|| format!("claim `{id}` has no {key}"));
        Ok((word("verdict")?, word("reason")?))
    }

    /// Has the run proven nothing because the machine was too busy? It says so: what is not upheld is inconclusive, since
    /// observers were starved; or since something else was out of order, and others took the processors from the
    /// cluster for longer than windows allow for.
    fn was_too_busy(&self) -> bool {
        let claims = self.report["claims"].as_array().map_or(&[][..], Vec::as_slice);
        let contended = self.report["time"]["contended"].as_f64().is_some_and(|seconds| seconds > 2.0);
        self.exit == 6
            && claims.iter().all(|claim| match (claim["verdict"].as_str(), claim["reason"].as_str()) {
                (Some("upheld"), _) | (Some("inconclusive"), Some("starved")) => true,
                (Some("inconclusive"), _) => contended,
                _ => false,
            })
    }

    /// Fails, with the whole story, unless the claim got this verdict for this reason.
    pub fn expect(&self, id: &str, verdict: &str, reason: &str) -> Result<(), String> {
        let got = self.claim(id)?;
        if got == (verdict, reason) {
            Ok(())
        } else {
            Err(format!("{id} is {got:?}, not {:?}\n{}", (verdict, reason), self.story()))
        }
    }

    /// Fails, with the whole story, unless the run ended with this exit code.
    pub fn expect_exit(&self, exit: i32) -> Result<(), String> {
        if self.exit == exit { Ok(()) } else { Err(format!("exit {}, not {exit}\n{}", self.exit, self.story())) }
    }

    /// Every claim in a line, followed by standard error.
    pub fn story(&self) -> String {
        let mut story = String::new();
        for claim in self.report["claims"].as_array().into_iter().flatten() {
            let word = |key: &str| claim[key].as_str().unwrap_or("?").to_owned();
            story += &format!(
                "  {:<24} {:<13} {:<18} {}\n",
                word("claim"),
                word("verdict"),
                word("reason"),
                word("because")
            );
        }
        format!("{story}{}", self.talk)
    }
}

/// Should the tests take their time? With `KCHAOS_SOAK=1` they run every variant and every sabotage, not only a
/// representative selection.
pub fn soak() -> bool {
    std::env::var_os("KCHAOS_SOAK").is_some()
}

/// Makes a node's mv report that etcd's data was moved away, or back, or an expired certificate put in place, without
/// moving anything.
pub const FAKE_MV: &str = r#"printf '#!/bin/sh\ncase "$*" in */member\ */member | *.expired\ *.crt) exit 0 ;; esac\nexec /bin/mv "$@"\n' >/usr/local/bin/mv
chmod +x /usr/local/bin/mv"#;
pub const REAL_MV: &str = "rm -f /usr/local/bin/mv";

/// The docker command line.
pub fn docker(args: &[&str]) -> Result<String, String> {
    let output = Command::new("docker").args(args).stdin(Stdio::null()).output().map_err(|e| e.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(format!("docker {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr)))
    }
}

/// Sends a signal to a node's kubelet.
pub fn signal_kubelet(node: &str, signal: &str) -> Result<(), String> {
    docker(&["exec", node, "systemctl", "kill", &format!("--signal={signal}"), "kubelet"]).map(drop)
}

/// Runs a command, and fails with all that it says if it fails.
pub fn succeeds(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| e.to_string())?;
    let said = [output.stdout, output.stderr].concat();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&said).into_owned()) }
}

/// Is there an engine? If not, the error says why.
pub fn engine() -> Result<(), String> {
    docker(&["version", "--format", "{{.Server.Version}}"]).map(|_| ())
}

/// Polls until the condition returns something, for at most `within`.
pub fn wait_for<T>(what: &str, within: Duration, mut condition: impl FnMut() -> Option<T>) -> Result<T, String> {
    let begin = Instant::now();
    loop {
        if let Some(found) = condition() {
            return Ok(found);
        }
        if begin.elapsed() > within {
            return Err(format!("{what}: not within {within:?}"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A file under `tests/`.
pub fn test_file(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name).display().to_string()
}

/// A trial on one of the clusters; with `alone`, nothing may be watched on another cluster meanwhile. Without an engine
/// it is skipped, with the reason; `KCHAOS_REQUIRE=1` turns a skip into a failure.
pub fn trial(
    labs: &'static Labs,
    alone: bool,
    name: impl Into<String>,
    test: impl Fn(&Lab) -> Result<(), String> + Send + 'static,
) -> Trial {
    let required = std::env::var_os("KCHAOS_REQUIRE").is_some();
    Trial::ignorable_test(name, move || {
        if let (Err(why), false) = (engine(), required) {
            return Ok(Completion::ignored_with(why));
        }
        labs.with(alone, &test).map(|()| Completion::Completed).map_err(Failed::from)
    })
}
