//! A pseudo-cluster: containers with kind's labels and a state directory of their own, removed at the end.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kchaos::error::Result as Outcome;
use kchaos::lock::Lock;
use kchaos::run_dir::{RunDir, StateDir};
use libtest_mimic::Failed;
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

/// Longest time that anything in these trials takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Lab {
    pub cluster: String,
    engine: String,
    nodes: Vec<String>,
    before: String,
    home: TempDir,
}

impl Lab {
    /// Is there an image to make pseudo-nodes from?
    pub fn available() -> Result<(), String> {
        image().map(drop)
    }

    pub fn set_up(nodes: usize) -> Result<Self, Failed> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let cluster = format!("kck{}n{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let engine = docker(&["info", "--format", "{{.ID}}"])?;
        // Not in the system's temporary directory: that may be in memory, where kchaos refuses to keep journals.
        let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let mut lab = Self { cluster, engine, nodes: Vec::new(), before: String::new(), home };
        // A network of its own, so that no other container takes the address of a node that is down.
        (0..=u8::MAX)
            .find(|n| docker(&["network", "create", "--subnet", &format!("10.232.{n}.0/24"), &lab.cluster]).is_ok())
            .ok_or("no network can be created")?;
        for node in 0..nodes {
            let name = format!("{}-worker{node}", lab.cluster);
            let cluster = format!("--label=io.x-k8s.kind.cluster={}", lab.cluster);
            let role = "--label=io.x-k8s.kind.role=worker";
            // Ends at once when it is stopped; a pid 1 without a handler would not.
            let init = "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done";
            let made = [
                "run",
                "-d",
                "--name",
                &name,
                &cluster,
                role,
                "--restart=on-failure:1",
                "--stop-signal=TERM",
                "--network",
                &lab.cluster,
            ];
            lab.nodes.push(docker(&[&made[..], &["--entrypoint", "/bin/sh", &image()?, "-c", init]].concat())?);
        }
        lab.before = lab.seen()?;
        Ok(lab)
    }

    /// What must be as before, as the docker command line shows it.
    fn seen(&self) -> Result<String, String> {
        let format = "{{.Name}} {{.State.Status}} {{json .HostConfig.RestartPolicy}} {{range .NetworkSettings.Networks}}{{.IPAddress}} {{json .IPAMConfig}}{{end}}";
        let nodes: Vec<&str> = self.nodes.iter().map(String::as_str).collect();
        docker(&[&["inspect", "-f", format], &nodes[..]].concat())
    }

    pub fn is_as_before(&self) -> bool {
        self.seen().is_ok_and(|now| now == self.before)
    }

    pub fn assert_as_before(&self, what: &str) -> Result<(), Failed> {
        let now = self.seen()?;
        if now == self.before {
            return Ok(());
        }
        let story = self.latest().map(|run| self.story(&run)).unwrap_or_default();
        Err(format!("{what}: not as before\nbefore: {}\nnow: {now}\n{story}", self.before).into())
    }

    pub fn state_home(&self) -> &Path {
        self.home.path()
    }

    pub fn lock(&self) -> Outcome<Lock> {
        Lock::take(&self.state(), &self.engine, &self.cluster)
    }

    /// The latest run, if it has begun to exist.
    pub fn latest(&self) -> Option<RunDir> {
        self.state().list().ok()?.pop().filter(|run| run.path().join("undo.jsonl").exists())
    }

    pub fn state(&self) -> StateDir {
        StateDir::at(self.home.path().join("kchaos"))
    }

    /// A run's journal and its guardian's log, for a failed trial.
    pub fn story(&self, run: &RunDir) -> String {
        let read = |name: &str| std::fs::read_to_string(run.path().join(name)).unwrap_or_default();
        format!("{}\n{}", read("undo.jsonl"), read("guardian.log"))
    }

    pub fn remove_nodes(&self) -> Result<(), Failed> {
        let nodes: Vec<&str> = self.nodes.iter().map(String::as_str).collect();
        docker(&[&["rm", "-f", "-v"], &nodes[..]].concat())?;
        Ok(())
    }

    /// What a stranger might do to a node: its restart policy is another one.
    pub fn meddle(&self, node: usize, policy: &str) -> Result<(), Failed> {
        docker(&["update", &format!("--restart={policy}"), &self.nodes[node]])?;
        Ok(())
    }

    pub fn drive(&self, faults: &str) -> Tooling<'_> {
        self.tooling(&["drive", &self.cluster, faults])
    }

    pub fn rollback(&self, which: &str) -> Tooling<'_> {
        self.tooling(&["rollback", which])
    }

    fn tooling(&self, args: &[&str]) -> Tooling<'_> {
        // Not `/proc/self/exe`: the tool that is started is this file, and must still be it after a rebuild.
        let mut command = Command::new(std::env::current_exe().unwrap_or_default());
        command.args(args).env("XDG_STATE_HOME", self.home.path()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Tooling { command, lab: self }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.remove_nodes();
        let _ = docker(&["network", "rm", &self.cluster]);
    }
}

/// A command of the tool on a pseudo-cluster.
pub struct Tooling<'a> {
    command: Command,
    lab: &'a Lab,
}

impl Tooling<'_> {
    pub fn env(mut self, variable: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(variable, value);
        self
    }

    pub fn process_group(mut self, group: i32) -> Self {
        std::os::unix::process::CommandExt::process_group(&mut self.command, group);
        self
    }

    pub fn spawn(mut self) -> Result<Tool, Failed> {
        Ok(Tool::new(self.command.spawn()?, self.lab))
    }
}

/// A running tool. It is killed when it is dropped; the processes that it started are not.
pub struct Tool {
    child: Mutex<Child>,
    pid: Pid,
    out: Mutex<Option<BufReader<ChildStdout>>>,
    err: Option<BufReader<ChildStderr>>,
    locks: PathBuf,
}

impl Tool {
    pub fn new(mut child: Child, lab: &Lab) -> Self {
        let engine: String = lab.engine.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        Self {
            out: Mutex::new(child.stdout.take().map(BufReader::new)),
            err: child.stderr.take().map(BufReader::new),
            pid: Pid::from_child(&child),
            child: Mutex::new(child),
            locks: lab.home.path().join("kchaos").join(engine).join(&lab.cluster).join("tool"),
        }
    }

    pub fn id(&self) -> u32 {
        self.pid.as_raw_pid().unsigned_abs()
    }

    /// Waits until the tool reports that its fault is in.
    pub fn wait_for_fault(&self) -> Result<(), Failed> {
        let mut line = String::new();
        let mut out = self.out.lock().map_err(|e| e.to_string())?;
        out.as_mut().ok_or("its output was taken")?.read_line(&mut line)?;
        if line.trim() == crate::driver::HOLDING {
            Ok(())
        } else {
            Err(format!("it never held a fault: {line:?}").into())
        }
    }

    /// The first line that the tool prints on standard error.
    pub fn first_line(&mut self) -> Result<String, Failed> {
        let mut line = String::new();
        self.err.as_mut().ok_or("its output was taken")?.read_line(&mut line)?;
        Ok(line)
    }

    pub fn pipes(&mut self) -> (Box<dyn Read + Send>, Box<dyn Read + Send>) {
        let out = self.out.lock().ok().and_then(|mut out| out.take());
        let empty = || Box::new(std::io::empty()) as Box<dyn Read + Send>;
        (out.map_or_else(empty, |o| Box::new(o)), self.err.take().map_or_else(empty, |e| Box::new(e)))
    }

    pub fn signal(&self, signal: Signal) {
        let _ = rustix::process::kill_process(self.pid, signal);
    }

    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    pub fn kill_group(&self) {
        let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
    }

    /// The guardian that the tool has noted beside the lock.
    pub fn guardian(&self) -> Option<Pid> {
        let note: serde_json::Value = serde_json::from_slice(&std::fs::read(&self.locks).ok()?).ok()?;
        let ours = note["pid"].as_u64()? == u64::from(self.id());
        Pid::from_raw(i32::try_from(note["guardian"].as_u64()?).ok()?).filter(|_| ours)
    }

    pub fn kill_guardian(&self) {
        let _ = self.guardian().map(|pid| rustix::process::kill_process(pid, Signal::KILL));
    }

    pub fn wait(&mut self) -> Result<ExitStatus, Failed> {
        self.wait_at_most(PATIENCE)?.ok_or_else(|| "the tool did not end".into())
    }

    pub fn wait_at_most(&mut self, within: Duration) -> Result<Option<ExitStatus>, Failed> {
        let give_up = Instant::now() + within;
        let child = self.child.get_mut().map_err(|e| e.to_string())?;
        loop {
            let status = child.try_wait()?;
            let left = give_up.saturating_duration_since(Instant::now());
            if status.is_some() || left.is_zero() {
                return Ok(status);
            }
            std::thread::sleep(left.min(Duration::from_millis(5)));
        }
    }

    /// Waits for the tool's end, and returns its status and what it printed.
    pub fn end(mut self) -> Result<(ExitStatus, String), Failed> {
        let status = self.wait()?;
        let mut said = String::new();
        if let Some(mut err) = self.err.take() {
            err.read_to_string(&mut said)?;
        }
        Ok((status, said))
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        if let Ok(child) = self.child.get_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> Result<T, Failed> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        match condition() {
            Some(found) => return Ok(found),
            None if Instant::now() > give_up => return Err(format!("waited in vain for {what}").into()),
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Any image with a shell: the one named by `KCHAOS_TEST_IMAGE`, or else a node image of this machine.
fn image() -> Result<String, String> {
    if let Ok(image) = std::env::var("KCHAOS_TEST_IMAGE") {
        return Ok(image);
    }
    let listed = docker(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"])?;
    let node = |image: &&str| ["kchaos-node:", "kindest/node:"].iter().any(|name| image.starts_with(name));
    listed.lines().find(node).map(str::to_owned).ok_or_else(|| "there is no node image to make containers of".into())
}

fn docker(args: &[&str]) -> Result<String, String> {
    let out = Command::new("docker").args(args).stdin(Stdio::null()).output().map_err(|e| format!("docker: {e}"))?;
    match out.status.success() {
        true => Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned()),
        false => Err(format!("docker {}: {}", args.join(" "), String::from_utf8_lossy(&out.stderr).trim())),
    }
}
