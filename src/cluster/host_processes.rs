//! What the host's own kernel says about a container, bypassing the engine: a second opinion that doesn't depend on
//! what the engine says. Whoever kills a node from outside finds its processes by it, too, and thaws one that is frozen,
//! since nothing frozen dies.
//!
//! It reads `/proc` and the cgroup file system. Where these are not the engine's (macOS, a virtual machine, a tool in a
//! container of its own), a container's processes simply aren't found. A caller must have seen them once before it may
//! take "none" for an answer.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Whether this process belongs to the container. A pid that we may not see does not.
pub(crate) fn belongs(pid: u32, container: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|cgroups| cgroups.contains(container))
}

/// Whether this process is the first of its own pid namespace.
pub(crate) fn is_init(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    pids.split_whitespace().last() == Some("1")
}

/// Number of processes of a container, including those of containers inside it.
pub(crate) fn processes(container: &str) -> usize {
    // A zombie does not count: its init is gone and nobody has reaped it yet.
    pids().filter(|&pid| belongs(pid, container) && !is_zombie(pid)).count()
}

/// Ids of all processes that `/proc` lists.
fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The state of a process found by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fares {
    /// The process.
    pub process: Process,
    /// A signal has stopped it, so it does nothing.
    pub stopped: bool,
    /// How long it has existed.
    pub age: Duration,
}

/// The processes of a container that have this name.
pub(crate) fn named(container: &str, name: &str) -> Vec<Fares> {
    let Some(up) = up() else { return Vec::new() };
    let pids =
        pids().filter(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name));
    let fare = |pid| {
        let (state, started) = stat(pid)?;
        let (process, stopped) = (Process { pid, started }, state == "T");
        let age = up.saturating_sub(since_boot(started));
        (!is_over(&state) && belongs(pid, container)).then_some(Fares { process, stopped, age })
    };
    pids.filter_map(fare).collect()
}

/// How long the oldest process of a container has existed; `None` if it has no process.
pub(crate) fn oldest(container: &str) -> Option<Duration> {
    let up = up()?;
    let ages = pids().filter(|pid| belongs(*pid, container)).filter_map(stat).filter(|(state, _)| !is_over(state));
    ages.map(|(_, started)| up.saturating_sub(since_boot(started))).max()
}

/// The time that so many clock ticks take.
fn since_boot(ticks: u64) -> Duration {
    Duration::from_millis(ticks.saturating_mul(1_000) / rustix::param::clock_ticks_per_second())
}

/// Is that the state of a process which only waits to be reaped?
fn is_over(state: &str) -> bool {
    matches!(state, "Z" | "X")
}

/// How long the machine has been up, by the clock on which processes' start times are counted.
fn up() -> Option<Duration> {
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    Duration::try_from_secs_f64(uptime.split_whitespace().next()?.parse().ok()?).ok()
}

/// A process, identified by pid and start time in clock ticks since boot, so that a later one of the same pid is not
/// mistaken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pid: u32,
    started: u64,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {}", self.pid)
    }
}

impl Process {
    /// The process with this pid, if it belongs to the container.
    pub(crate) fn of(pid: u32, container: &str) -> Option<Self> {
        let started = stat(pid)?.1;
        belongs(pid, container).then_some(Self { pid, started })
    }

    /// The arguments it was started with; nothing if it is gone.
    pub(crate) fn arguments(self) -> Vec<String> {
        let line = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        line.split(|b| *b == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
    }

    /// Whether it still runs.
    pub(crate) fn lives(self) -> bool {
        stat(self.pid).is_some_and(|(state, started)| started == self.started && !is_over(&state))
    }
}

fn is_zombie(pid: u32) -> bool {
    stat(pid).is_none_or(|(state, _)| is_over(&state))
}

/// State letter and start time of a process.
fn stat(pid: u32) -> Option<(String, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything, blanks and parentheses included; so fields are counted from its
    // end.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some((fields.first()?.to_string(), fields.get(19)?.parse().ok()?))
}

/// Whether the processes of the container that this process belongs to are frozen. `None` if that can't be seen from
/// here.
pub(crate) fn is_frozen(pid: u32, container: &str) -> Option<bool> {
    let (file, frozen) = freezer(&fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?, container)?;
    Some(fs::read_to_string(file).ok()?.lines().any(|line| line == frozen))
}

/// Whether this process, the first of a container, has been killed and waits for the container's other processes to
/// end. It then no longer shows which groups it is in, but still that it is the first of its namespace.
pub(crate) fn is_dying(pid: u32) -> bool {
    // A process that ends gives its descriptors back before it waits.
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let descriptors = status.lines().find_map(|line| line.strip_prefix("FDSize:"));
    descriptors.is_some_and(|size| size.trim() == "0") && is_init(pid)
}

/// Unfreezes the processes of a container that are frozen in groups of their own, so that they can end.
///
/// Under cgroup v1, a frozen process does not even die of SIGKILL. Inside of a node, the container runtime freezes
/// containers for a moment as it sets them up. A node that is killed in this moment can't end, and the engine can't end
/// it either.
///
/// # Errors
/// If something is frozen and can't be thawed: the file that says so, and why.
pub(crate) fn thaw(container: &str) -> Result<(), String> {
    let mut failed = Ok(());
    for pid in pids() {
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        for group in freezers(&cgroups, container) {
            let state = group.join("freezer.state");
            if fs::read_to_string(&state).is_ok_and(|state| state.trim() != "THAWED") {
                match fs::write(&state, "THAWED") {
                    Ok(()) => tracing::debug!("thawed {}", state.display()),
                    Err(error) => failed = Err(format!("{}: {error}", state.display())),
                }
            }
        }
    }
    failed
}

/// The freezer groups of cgroup v1 that a process of the container is in: that of the container and those below it,
/// from the outermost to its own.
fn freezers(cgroups: &str, container: &str) -> Vec<PathBuf> {
    let path = cgroups.lines().find_map(|line| line.split_once(":freezer:").map(|(_, path)| path));
    let Some(path) = path.filter(|path| path.contains(container) && !path.contains("..")) else { return Vec::new() };
    let own = Path::new("/sys/fs/cgroup/freezer").join(path.trim_start_matches('/'));
    let within = |group: &&Path| group.to_string_lossy().contains(container);
    let mut groups: Vec<PathBuf> = own.ancestors().take_while(within).map(Path::to_owned).collect();
    groups.reverse();
    groups
}

/// The file that shows whether a container is frozen, and its line that means "frozen".
fn freezer(cgroups: &str, container: &str) -> Option<(PathBuf, &'static str)> {
    cgroups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        // The node's systemd moves itself into a deeper group, but the container's own group is the one that is frozen.
        let end = path.find(container)? + container.len();
        let group = path[..end + path[end..].find('/').unwrap_or(path.len() - end)].trim_start_matches('/');
        match controllers {
            "freezer" => Some((PathBuf::from("/sys/fs/cgroup/freezer").join(group).join("freezer.state"), "FROZEN")),
            "" => Some((PathBuf::from("/sys/fs/cgroup").join(group).join("cgroup.events"), "frozen 1")),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_groups_of_the_container_are_thawed() {
        let groups = |path: &str| freezers(&format!("9:pids:/docker/abc\n6:freezer:{path}\n0::/docker/abc\n"), "abc");
        let at = |path: &str| PathBuf::from("/sys/fs/cgroup/freezer").join(path);
        assert_eq!(groups("/docker/abc"), [at("docker/abc")]);
        assert_eq!(
            groups("/docker/abc/a.slice/b.scope"),
            [at("docker/abc"), at("docker/abc/a.slice"), at("docker/abc/a.slice/b.scope")]
        );
        for other in ["/", "/docker/abd", "/docker/abc/../abd", "/../docker/abc"] {
            assert!(groups(other).is_empty(), "{other}");
        }
        assert!(freezers("0::/docker/abc\n", "abc").is_empty());
    }

    #[test]
    fn this_process_lives_and_a_later_one_of_its_pid_is_another() {
        let pid = std::process::id();
        let me = Process::of(pid, "").unwrap();
        assert!(me.lives());
        assert!(!Process { started: me.started + 1, ..me }.lives());
    }

    #[test]
    fn a_process_is_found_by_its_name_and_seen_to_be_stopped() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let youngest = || named("", "sleep").into_iter().min_by_key(|fares| fares.age);
        // A child exists a moment before it has its name.
        until(|| youngest().is_some_and(|fares| fares.age < Duration::from_secs(30) && !fares.stopped));
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        until(|| youngest().is_some_and(|fares| fares.stopped));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn until(is: impl Fn() -> bool) {
        let give_up = std::time::Instant::now() + Duration::from_secs(5);
        while !is() {
            assert!(std::time::Instant::now() < give_up);
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_process_of_another_container_does_not_belong() {
        assert!(!belongs(std::process::id(), &"0".repeat(64)));
        assert_eq!(processes(&"0".repeat(64)), 0);
    }

    #[test]
    fn the_freezer_is_found_for_both_versions_of_cgroups() {
        let first = "9:pids:/docker/abc\n8:freezer:/docker/abc\n0::/\n";
        assert_eq!(
            freezer(first, "abc").unwrap(),
            ("/sys/fs/cgroup/freezer/docker/abc/freezer.state".into(), "FROZEN")
        );
        let second = "0::/system.slice/docker-abc.scope/init.scope\n";
        assert_eq!(
            freezer(second, "abc").unwrap(),
            ("/sys/fs/cgroup/system.slice/docker-abc.scope/cgroup.events".into(), "frozen 1")
        );
        assert_eq!(freezer("0::/system.slice/docker-abc.scope\n", "xyz"), None);
    }

    #[test]
    fn a_zombie_counts_as_gone() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let process = Process::of(child.id(), "").unwrap();
        let give_up = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while process.lives() {
            assert!(std::time::Instant::now() < give_up, "never became a zombie");
            std::thread::yield_now();
        }
        assert!(std::path::Path::new(&format!("/proc/{}", child.id())).exists(), "not reaped yet");
        child.wait().unwrap();
    }
}
