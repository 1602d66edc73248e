//! What the host's own kernel says about a container, bypassing the engine: a second opinion that shares nothing with
//! the calls that inject.
//!
//! It reads `/proc` and the cgroup file system. Where these are not the engine's (macOS, a virtual machine, a tool in a
//! container of its own), a container's processes simply aren't found. A caller must have seen them once before it may
//! take "none" for an answer.

use std::fmt;
use std::fs;
use std::path::PathBuf;
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
        let gone = matches!(&*state, "Z" | "X");
        let start = Duration::from_millis(started.saturating_mul(1_000) / rustix::param::clock_ticks_per_second());
        let (process, stopped, age) = (Process { pid, started }, state == "T", up.saturating_sub(start));
        (!gone && belongs(pid, container)).then_some(Fares { process, stopped, age })
    };
    pids.filter_map(fare).collect()
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
        stat(self.pid).is_some_and(|(state, started)| started == self.started && state != "Z" && state != "X")
    }
}

fn is_zombie(pid: u32) -> bool {
    stat(pid).is_none_or(|(state, _)| state == "Z" || state == "X")
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
