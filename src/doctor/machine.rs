//! The engine's machine: its limits, memory, disk and kernel.
//!
//! They are read here if the engine runs on this very kernel, else in a node of any kind cluster, which shares its
//! machine's kernel.

use std::path::Path;
use std::time::Duration;

use tokio::process::Command;

use super::{Check, Status};
use crate::cluster::docker::{Engine, EngineInfo};
use crate::node::{NodeId, Role};

const GIB: u64 = 1 << 30;
/// How long a check may take.
const LOOK: Duration = Duration::from_secs(10);

/// Shell: tells by its exit code whether a part of the kernel is loaded, built in, or there to be loaded.
fn has_module(module: &str, option: &str) -> String {
    format!(
        "d=/lib/modules/$(uname -r); \
         grep -qs '^{module} ' /proc/modules || grep -qs '/{module}\\.ko' $d/modules.builtin $d/modules.dep || \
         zgrep -qs '^{option}=y' /proc/config.gz"
    )
}

/// The machine, and how to look at it.
pub(super) struct Machine {
    eyes: Eyes,
    /// Directory in which the engine keeps its data, if there is an engine.
    data_root: Option<String>,
}

enum Eyes {
    /// The engine's machine is this one.
    Here,
    /// The engine's machine is another one, seen from a node on it.
    Node(Box<(Engine, NodeId)>),
    /// The engine's machine is another one, and no node runs on it.
    None,
}

/// A kernel limit that many kubelets, proxies and init systems on one machine share.
struct Limit {
    name: &'static str,
    key: &'static str,
    /// Below this value, kind's own documentation expects failures.
    least: u64,
    /// This value is enough for several clusters.
    enough: u64,
}

const LIMITS: [Limit; 2] = [
    Limit { name: "inotify-instances", key: "max_user_instances", least: 512, enough: 8192 },
    Limit { name: "inotify-watches", key: "max_user_watches", least: 65_536, enough: 524_288 },
];

impl Machine {
    pub(super) async fn of(engine: Option<&(Engine, EngineInfo)>) -> Self {
        let Some((engine, info)) = engine else {
            let eyes = if cfg!(target_os = "linux") { Eyes::Here } else { Eyes::None };
            return Self { eyes, data_root: None };
        };
        let same_kernel = rustix::system::uname().release().to_str().is_ok_and(|release| release == info.kernel);
        let eyes = if cfg!(target_os = "linux") && engine.endpoint().socket().is_some() && same_kernel {
            Eyes::Here
        } else {
            running_node(engine).await.map_or(Eyes::None, |node| Eyes::Node(Box::new((engine.clone(), node))))
        };
        Self { eyes, data_root: Some(info.data_root.clone()) }
    }

    pub(super) async fn checks(&self) -> Vec<Check> {
        if matches!(self.eyes, Eyes::None) {
            let found = "the engine's machine is another one, and no node runs there to look at its limits";
            return vec![Check::bad("machine", Status::Warning, found, "look again when a cluster is up: kchaos up")];
        }
        let mut checks = Vec::new();
        for limit in LIMITS {
            let value = self.read(&format!("/proc/sys/fs/inotify/{}", limit.key)).await;
            checks.push(limit.judge(value.and_then(|text| text.trim().parse().ok())));
        }
        checks.push(memory(self.read("/proc/meminfo").await.as_deref().and_then(available)));
        if let Some(root) = &self.data_root {
            checks.push(disk(root, self.free(root).await));
        }
        checks.push(self.netfilter().await);
        checks.push(match self.run(&has_module("xt_statistic", "CONFIG_NETFILTER_XT_MATCH_STATISTIC")).await {
            Some(_) => Check::ok("xt_statistic", "the kernel can drop packets at random"),
            None => Check::bad(
                "xt_statistic",
                Status::Warning,
                "the kernel does not show that it can drop packets at random, which partition/lossy needs",
                "modprobe xt_statistic, if the kernel has that module",
            ),
        });
        checks.push(match self.run(&has_module("sch_netem", "CONFIG_NET_SCH_NETEM")).await {
            Some(_) => Check::ok("sch_netem", "the kernel can delay packets"),
            None => {
                let found =
                    "the kernel has no network emulator, so nothing can delay packets (nodes lose them without it)";
                Check::bad(
                    "sch_netem",
                    Status::Warning,
                    found,
                    "modprobe sch_netem, if the kernel has that module; no built-in scenario needs it",
                )
            }
        });
        checks
    }

    async fn read(&self, path: &str) -> Option<String> {
        match &self.eyes {
            Eyes::Here => std::fs::read_to_string(path).ok(),
            Eyes::Node(_) => self.run(&format!("cat {path}")).await,
            Eyes::None => None,
        }
    }

    /// Standard output of a line of shell; `None` if it fails.
    async fn run(&self, script: &str) -> Option<String> {
        match &self.eyes {
            Eyes::Here => {
                let output = Command::new("sh").args(["-c", script]).kill_on_drop(true).output();
                let output = tokio::time::timeout(LOOK, output).await.ok()?.ok()?;
                output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
            }
            Eyes::Node(seen_from) => {
                let (engine, node) = &**seen_from;
                let output = engine.exec(node, &["sh", "-c", script], None, LOOK).await.ok()?;
                (output.code == 0).then(|| String::from_utf8_lossy(&output.stdout).into_owned())
            }
            Eyes::None => None,
        }
    }

    /// Free bytes where the engine keeps its data.
    async fn free(&self, root: &str) -> Option<u64> {
        if matches!(self.eyes, Eyes::Here) {
            let disk = rustix::fs::statvfs(Path::new(root)).ok()?;
            return Some(disk.f_bavail * disk.f_frsize);
        }
        // A node's /var is a volume beneath the engine's data.
        let kib = self.run("df -Pk /var | awk 'NR == 2 { print $4 }'").await?;
        Some(kib.trim().parse::<u64>().ok()? * 1024)
    }

    async fn netfilter(&self) -> Check {
        let name = "netfilter";
        match self.run("iptables --version").await.as_deref().map(variant) {
            Some(Some(variant)) => Check::ok(name, variant),
            Some(None) => Check::ok(name, "iptables of an old kind, which has no variants"),
            // Nodes have their own iptables. It is reported only because a mixture of variants explains many odd
            // failures.
            None => Check::ok(name, "no iptables command here; nodes have their own"),
        }
    }
}

async fn running_node(engine: &Engine) -> Option<NodeId> {
    for cluster in engine.clusters().await.ok()? {
        for node in engine.nodes(&cluster).await.ok()?.into_iter().filter(|n| n.role != Role::LoadBalancer) {
            if engine.state(&node.id).await.is_ok_and(|state| state.status == "running") {
                return Some(node.id);
            }
        }
    }
    None
}

impl Limit {
    fn judge(&self, value: Option<u64>) -> Check {
        let sysctl = format!("sysctl -w fs.inotify.{}={}", self.key, self.enough);
        match value {
            None => Check::bad(self.name, Status::Warning, "the limit can't be read", format!("make sure: {sysctl}")),
            Some(value) if value >= self.enough => Check::ok(self.name, value.to_string()),
            Some(value) => {
                let status = if value < self.least { Status::Problem } else { Status::Warning };
                let found =
                    format!("{value}: too few for several clusters or a large one, which then fail in odd ways");
                Check::bad(self.name, status, found, sysctl)
            }
        }
    }
}

/// Bytes that programs may still take, from `/proc/meminfo`.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Checks the available memory. Measured without workloads: a cluster of one control plane and two workers takes 0.8
/// GiB, one of three control planes 1.7 GiB.
fn memory(available: Option<u64>) -> Check {
    let name = "memory";
    let remedy = "stop something, or give the engine's machine more";
    match available {
        None => Check::bad(name, Status::Warning, "it can't be told how much is free", remedy),
        Some(free) if free >= 4 * GIB => Check::ok(name, format!("{} available", gib(free))),
        Some(free) => {
            let status = if free < 2 * GIB { Status::Problem } else { Status::Warning };
            Check::bad(name, status, format!("{} available, and clusters need 2 to 4 GiB", gib(free)), remedy)
        }
    }
}

fn disk(root: &str, free: Option<u64>) -> Check {
    let name = "disk";
    let remedy = "free some: docker system df";
    match free {
        None => Check::bad(name, Status::Warning, format!("it can't be told how much is free at {root}"), remedy),
        Some(free) if free >= 10 * GIB => Check::ok(name, format!("{} free at {root}", gib(free))),
        Some(free) => {
            let status = if free < 3 * GIB { Status::Problem } else { Status::Warning };
            let found = format!("{} free at {root}, and an image and its clusters take 3 to 10 GiB", gib(free));
            Check::bad(name, status, found, remedy)
        }
    }
}

fn gib(bytes: u64) -> String {
    let tenths = bytes * 10 / GIB;
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

/// `nf_tables` or `legacy`, from `iptables v1.8.9 (nf_tables)`.
fn variant(version: &str) -> Option<&str> {
    version.split_once('(')?.1.split_once(')').map(|(variant, _)| variant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_below_what_clusters_need_are_told_with_the_command_that_raises_them() {
        let instances = |value| LIMITS[0].judge(value);
        assert_eq!(instances(Some(8192)).status, Status::Ok);
        assert_eq!(instances(Some(8191)).status, Status::Warning);
        assert_eq!(instances(Some(128)).status, Status::Problem);
        assert_eq!(instances(Some(128)).remedy.as_deref(), Some("sysctl -w fs.inotify.max_user_instances=8192"));
        assert_eq!(instances(None).status, Status::Warning);
        assert_eq!(LIMITS[1].judge(Some(524_288)).status, Status::Ok);
        assert_eq!(LIMITS[1].judge(Some(524_287)).status, Status::Warning);
    }

    #[test]
    fn available_memory_is_what_counts_and_not_free_memory() {
        let text = "MemTotal:       24634256 kB\nMemFree:          512000 kB\nMemAvailable:    5242880 kB\n";
        assert_eq!(available(text), Some(5 * GIB));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
        assert_eq!(memory(Some(4 * GIB)).status, Status::Ok);
        assert_eq!(memory(Some(4 * GIB - 1)).status, Status::Warning);
        assert_eq!(memory(Some(2 * GIB - 1)).status, Status::Problem);
        assert_eq!(memory(Some(5 * GIB + GIB / 2)).found, "5.5 GiB available");
    }

    #[test]
    fn a_full_disk_is_a_problem() {
        assert_eq!(disk("/x", Some(10 * GIB)).status, Status::Ok);
        assert_eq!(disk("/x", Some(9 * GIB)).status, Status::Warning);
        assert_eq!(disk("/x", Some(2 * GIB)).status, Status::Problem);
        assert_eq!(disk("/x", None).status, Status::Warning);
    }

    #[test]
    fn the_netfilter_variant_is_read_off_the_version() {
        assert_eq!(variant("iptables v1.8.9 (nf_tables)\n"), Some("nf_tables"));
        assert_eq!(variant("iptables v1.8.9 (legacy)"), Some("legacy"));
        assert_eq!(variant("iptables v1.6.1"), None);
    }

    #[tokio::test]
    async fn an_unreachable_machine_is_said_to_be_unseen_and_never_ok() {
        let checks = Machine { eyes: Eyes::None, data_root: None }.checks().await;
        assert_eq!(checks.iter().map(|c| c.status).collect::<Vec<_>>(), [Status::Warning]);
    }
}
