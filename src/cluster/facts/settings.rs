//! Settings from the files of a cluster's nodes. Pure: it takes the files' text and returns clocks, each with its
//! source.
//!
//! Nodes may differ. The flags of control-plane components bound windows from both sides, and whichever control plane
//! leads decides, so different values are an error. A longer setting of a kubelet or service proxy only makes windows
//! longer, so the longest of all nodes stands for all.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use k8s_openapi::jiff::SignedDuration;
use serde::Deserialize;

use super::{Clock, Setting};
use crate::error::{Error, Result};

/// The files of one node that hold settings; `None` for a file that is not there.
#[derive(Debug, Clone, Default)]
pub(super) struct NodeFiles {
    /// Name of the node.
    pub node: String,
    /// Manifest of the controller manager (control planes only).
    pub controller_manager: Option<String>,
    /// Manifest of the scheduler (control planes only).
    pub scheduler: Option<String>,
    /// Manifest of the API server (control planes only).
    pub api_server: Option<String>,
    /// KubeletConfiguration.
    pub kubelet: Option<String>,
    /// KubeProxyConfiguration.
    pub proxy: Option<String>,
    /// If etcd's data are in memory: where that is mounted, and their directory.
    pub store_in_memory: Option<String>,
    /// How many pods its kubelet has.
    pub pods: u32,
}

/// Reads every clock but the load balancer's, each with its source.
///
/// # Errors
/// If no node has a file that is needed, a file can't be understood, or control planes have different flags.
pub(super) fn clocks(version: &str, nodes: &[NodeFiles]) -> Result<BTreeMap<Clock, Setting>> {
    let minor = minor(version)?;
    // Kubernetes 1.32 made room for one more lost lease renewal.
    let grace = Duration::from_secs(if minor >= 32 { 50 } else { 40 });
    let controller_manager = Component::read("kube-controller-manager", nodes, |n| n.controller_manager.as_deref())?;
    let scheduler = Component::read("kube-scheduler", nodes, |n| n.scheduler.as_deref())?;
    let longer = |flag: &str, default: u64| -> Result<Setting> {
        let default = Duration::from_secs(default);
        let of = |component: &Component| component.flag(flag, go_duration, default, version);
        let (manager, scheduler) = (of(&controller_manager)?, of(&scheduler)?);
        Ok(if scheduler.value > manager.value { scheduler } else { manager })
    };
    let api_server = Component::read("kube-apiserver", nodes, |n| n.api_server.as_deref())?;
    let seconds = Duration::from_secs;
    Ok(BTreeMap::from([
        (
            Clock::NodeMonitorGracePeriod,
            controller_manager.flag("node-monitor-grace-period", go_duration, grace, version)?,
        ),
        (
            Clock::EvictionInterval,
            controller_manager.flag("node-eviction-rate", interval_of_rate, seconds(10), version)?,
        ),
        (Clock::NodeMonitorPeriod, controller_manager.flag("node-monitor-period", go_duration, seconds(5), version)?),
        (
            Clock::UnreachableToleration,
            api_server.flag("default-unreachable-toleration-seconds", whole_seconds, seconds(300), version)?,
        ),
        (Clock::LeaderLease, longer("leader-elect-lease-duration", 15)?),
        (Clock::LeaderRenewDeadline, longer("leader-elect-renew-deadline", 10)?),
        (Clock::LeaderRetry, longer("leader-elect-retry-period", 2)?),
        (Clock::LeaseRenew, longest(nodes, |n| lease_renew(n, version))?),
        (Clock::NodeStatusUpdate, longest(nodes, |n| status_update(n, version))?),
        (Clock::ProxyMinSync, longest(nodes, |n| proxy_min_sync(n, version))?),
    ]))
}

/// The file in which each API server keeps its audit log; `None` if they keep none, or not all in the same place.
///
/// # Errors
/// As for [`clocks`].
pub(super) fn audit_log(nodes: &[NodeFiles]) -> Result<Option<String>> {
    let api_server = Component::read("kube-apiserver", nodes, |n| n.api_server.as_deref())?;
    let mut paths = api_server.flags.iter().map(|(_, flags)| flags.get("audit-log-path"));
    let first = paths.next().flatten();
    // A dash stands for the standard output.
    Ok(first.filter(|path| path.starts_with('/') && paths.all(|other| other == Some(*path))).cloned())
}

/// The minor version number: 34 for `v1.34.4`.
fn minor(version: &str) -> Result<u32> {
    let parse = || version.strip_prefix("v1.")?.split('.').next()?.parse().ok();
    parse().ok_or_else(|| Error::could_not_run(format!("`{version}` is no version of Kubernetes that kchaos knows")))
}

/// A component of the control plane, with its flags on each control plane.
struct Component {
    name: &'static str,
    /// For each node, its name and the last value of each flag.
    flags: Vec<(String, BTreeMap<String, String>)>,
}

/// The part of a static pod's manifest that holds flags.
#[derive(Deserialize)]
struct Manifest {
    spec: PodSpec,
}

#[derive(Deserialize)]
struct PodSpec {
    containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Container {
    name: String,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    args: Vec<String>,
}

impl Component {
    fn read<'a>(
        name: &'static str,
        nodes: &'a [NodeFiles],
        manifest: impl Fn(&'a NodeFiles) -> Option<&'a str>,
    ) -> Result<Self> {
        let mut flags = Vec::new();
        for node in nodes {
            let Some(text) = manifest(node) else { continue };
            let unusable = |why: &dyn fmt::Display| {
                Error::could_not_run(format!("the manifest of {name} on {} can't be used: {why}", node.node))
            };
            let manifest: Manifest = serde_saphyr::from_str(text).map_err(|e| unusable(&e))?;
            let container = manifest.spec.containers.into_iter().find(|c| c.name == name);
            let container = container.ok_or_else(|| unusable(&format_args!("it has no container {name}")))?;
            flags.push((node.node.clone(), parse_flags(container.command.iter().chain(&container.args))));
        }
        if flags.is_empty() {
            return Err(Error::could_not_run(format!("no running control plane has a manifest of {name}"))
                .next("a control plane without it is broken already: put /etc/kubernetes/manifests in order first"));
        }
        Ok(Self { name, flags })
    }

    /// A flag's value, which must be the same on every control plane.
    fn flag(
        &self,
        flag: &str,
        parse: fn(&str) -> Option<Duration>,
        default: Duration,
        version: &str,
    ) -> Result<Setting> {
        let mut found: Option<(&str, Setting)> = None;
        for (node, flags) in &self.flags {
            let setting = match flags.get(flag) {
                Some(text) => {
                    let value = parse(text).ok_or_else(|| {
                        Error::could_not_run(format!("{} on {node}: --{flag}={text} can't be used", self.name))
                    })?;
                    Setting { value, source: format!("{} --{flag}", self.name) }
                }
                None => Setting { value: default, source: format!("default of {} {version}", self.name) },
            };
            match &found {
                Some((other, theirs)) if theirs.value != setting.value => {
                    return Err(Error::could_not_run(format!(
                        "{} has --{flag} {:?} on {other} and {:?} on {node}, so no deadline follows from it",
                        self.name, theirs.value, setting.value
                    ))
                    .next("give every control plane the same flags"));
                }
                Some(_) => {}
                None => found = Some((node, setting)),
            }
        }
        found.map(|(_, setting)| setting).ok_or_else(|| Error::could_not_run(format!("no {} was found", self.name)))
    }
}

/// Parses flags like Kubernetes' programs: `--a=b` or `--a b`, `_` for `-`, and the last one wins.
fn parse_flags<'a>(words: impl Iterator<Item = &'a String>) -> BTreeMap<String, String> {
    let mut flags = BTreeMap::new();
    let mut words = words.peekable();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix("--") else { continue };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            // A flag without `=` is a switch, unless a value follows.
            None => (flag, words.next_if(|next| !next.starts_with('-')).cloned().unwrap_or_default()),
        };
        flags.insert(name.replace('_', "-"), value);
    }
    flags
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KubeletConfiguration {
    #[serde(default)]
    node_lease_duration_seconds: u32,
    #[serde(default)]
    node_status_update_frequency: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KubeProxyConfiguration {
    #[serde(default)]
    mode: String,
    #[serde(default)]
    iptables: Rules,
    #[serde(default)]
    nftables: Rules,
    #[serde(default)]
    ipvs: Rules,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rules {
    #[serde(default)]
    min_sync_period: Option<String>,
}

fn kubelet(node: &NodeFiles) -> Result<KubeletConfiguration> {
    let text = node
        .kubelet
        .as_deref()
        .ok_or_else(|| Error::could_not_run(format!("{} has no /var/lib/kubelet/config.yaml", node.node)))?;
    serde_saphyr::from_str(text)
        .map_err(|e| Error::could_not_run(format!("the kubelet's configuration on {} can't be used: {e}", node.node)))
}

fn lease_renew(node: &NodeFiles, version: &str) -> Result<Setting> {
    let seconds = kubelet(node)?.node_lease_duration_seconds;
    Ok(match seconds {
        // kubeadm writes a zero into the file where the default applies.
        0 => Setting { value: Duration::from_secs(10), source: format!("default of kubelet {version}") },
        _ => Setting {
            value: Duration::from_secs(seconds.into()) / 4,
            source: "a quarter of nodeLeaseDurationSeconds, KubeletConfiguration".into(),
        },
    })
}

fn status_update(node: &NodeFiles, version: &str) -> Result<Setting> {
    let frequency = kubelet(node)?.node_status_update_frequency;
    let source = "nodeStatusUpdateFrequency, KubeletConfiguration";
    setting(&node.node, frequency.as_deref(), source, Duration::from_secs(10), format!("default of kubelet {version}"))
}

fn proxy_min_sync(node: &NodeFiles, version: &str) -> Result<Setting> {
    let second = Duration::from_secs(1);
    let Some(text) = &node.proxy else {
        let source = format!("default of kube-proxy {version}, whose configuration could not be read");
        return Ok(Setting { value: second, source });
    };
    let config: KubeProxyConfiguration = serde_saphyr::from_str(text)
        .map_err(|e| Error::could_not_run(format!("kube-proxy's configuration on {} can't be used: {e}", node.node)))?;
    let (rules, key, default) = match config.mode.as_str() {
        "ipvs" => (config.ipvs, "ipvs", Duration::ZERO),
        "nftables" => (config.nftables, "nftables", second),
        _ => (config.iptables, "iptables", second),
    };
    let source = format!("{key}.minSyncPeriod, KubeProxyConfiguration");
    setting(&node.node, rules.min_sync_period.as_deref(), &source, default, format!("default of kube-proxy {version}"))
}

/// A duration from a configuration file, in which zero means the default.
fn setting(node: &str, text: Option<&str>, source: &str, default: Duration, default_source: String) -> Result<Setting> {
    let value = text.map(|text| {
        go_duration(text).ok_or_else(|| Error::could_not_run(format!("{source} of {node}: {text} is no duration")))
    });
    Ok(match value.transpose()? {
        None | Some(Duration::ZERO) => Setting { value: default, source: default_source },
        Some(value) => Setting { value, source: source.to_owned() },
    })
}

/// The longest of all nodes' settings; its source names the node if they differ.
fn longest(nodes: &[NodeFiles], read: impl Fn(&NodeFiles) -> Result<Setting>) -> Result<Setting> {
    let mut all = Vec::new();
    for node in nodes {
        all.push((&node.node, read(node)?));
    }
    let differ = all.windows(2).any(|pair| pair[0].1.value != pair[1].1.value);
    let (node, mut longest) = all
        .into_iter()
        .max_by_key(|(_, s)| s.value)
        .ok_or_else(|| Error::could_not_run("no node runs, so no setting can be read"))?;
    if differ {
        longest.source = format!("{}, the longest of all nodes: {node}", longest.source);
    }
    Ok(longest)
}

/// A duration as Go writes it: `1m30s`, `0.5s`, `0`.
fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    text.parse::<SignedDuration>().ok()?.try_into().ok()
}

/// The time between two events at this rate per second; zero for a rate of 0, at which there are none.
fn interval_of_rate(text: &str) -> Option<Duration> {
    match text.parse::<f64>().ok()? {
        0.0 => Some(Duration::ZERO),
        rate => Duration::try_from_secs_f64(1.0 / rate).ok(),
    }
}

/// A plain number of seconds.
fn whole_seconds(text: &str) -> Option<Duration> {
    text.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests;
