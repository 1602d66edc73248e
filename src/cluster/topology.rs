//! A topology: the kind config that a cluster is made from, given by name or by path.
//!
//! This module takes what a scenario file or a user names, and returns the config's text and what kchaos must know of
//! it beforehand. The built-in topologies are compiled in; a file `kind-configs/NAME.yaml` in the working directory
//! takes precedence over the built-in one of the same name. Everything else in a config is between its author and kind.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::file;

/// The topologies that are compiled in.
const BUILT_IN: [(&str, &str); 4] = [
    ("single", include_str!("../../kind-configs/single.yaml")),
    ("single-default-clocks", include_str!("../../kind-configs/single-default-clocks.yaml")),
    ("ha", include_str!("../../kind-configs/ha.yaml")),
    ("ha-default-clocks", include_str!("../../kind-configs/ha-default-clocks.yaml")),
];
/// A larger file is not a kind config.
const LARGEST: u64 = 1 << 20;

/// A kind config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// Its name: that of the built-in one, or the file's name without extension.
    pub name: String,
    /// Where it was read, for humans.
    pub source: String,
    /// Its text, as passed to kind.
    pub text: String,
    /// Number of control planes.
    pub control_planes: usize,
    /// Number of workers.
    pub workers: usize,
}

impl Topology {
    /// Opens a topology by built-in name or by path. Anything that contains a `/` or ends in `.yaml` or `.yml` is a
    /// path.
    ///
    /// # Errors
    /// If it does not exist, its file can't be read, or it is no config for an IPv4 cluster.
    pub fn open(which: &str) -> Result<Self> {
        Self::open_in(Path::new(""), which)
    }

    fn open_in(dir: &Path, which: &str) -> Result<Self> {
        let by_path = which.contains('/') || which.ends_with(".yaml") || which.ends_with(".yml");
        let file = if by_path { dir.join(which) } else { dir.join("kind-configs").join(format!("{which}.yaml")) };
        if by_path || file.is_file() {
            let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            let text = file::read(&file, LARGEST)
                .map_err(|e| Error::usage(format!("cannot read topology {}: {e}", file.display())))?;
            return Self::parse(name, file.display().to_string(), text);
        }
        match BUILT_IN.iter().find(|(name, _)| *name == which) {
            Some((name, text)) => Self::parse((*name).to_owned(), "built in".to_owned(), (*text).to_owned()),
            None => Err(unknown(which)),
        }
    }

    fn parse(name: String, source: String, text: String) -> Result<Self> {
        let wrong = |why: &dyn fmt::Display| Error::usage(format!("topology {name} ({source}) can't be used: {why}"));
        let config: Config = serde_saphyr::from_str(&text).map_err(|e| wrong(&e))?;
        if config.kind != "Cluster" {
            return Err(wrong(&format_args!(
                "`kind: {}` is no config of kind's, which has `kind: Cluster`",
                config.kind
            )));
        }
        if !matches!(config.networking.ip_family.as_deref(), None | Some("" | "ipv4")) {
            return Err(wrong(&"kchaos makes clusters of IPv4 only")
                .next("make it yourself and name it: kchaos run --cluster NAME"));
        }
        let workers = config.nodes.iter().filter(|n| n.role.as_deref() == Some("worker")).count();
        // kind's default is one control plane: for a config without nodes, and as the role of a node that names none.
        let control_planes = if config.nodes.is_empty() { 1 } else { config.nodes.len() - workers };
        if control_planes == 0 {
            return Err(wrong(&"it has no control plane"));
        }
        Ok(Self { name, source, text, control_planes, workers })
    }

    /// A hash of the config: a cluster made from the same text need not be made again.
    pub fn digest(&self) -> String {
        let digest = Sha256::digest(self.text.as_bytes());
        digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Number of containers that kind makes: several control planes get a load balancer.
    pub fn containers(&self) -> usize {
        self.control_planes + self.workers + usize::from(self.control_planes > 1)
    }
}

fn unknown(which: &str) -> Error {
    let names: Vec<_> = BUILT_IN.iter().map(|(name, _)| *name).collect();
    let similar = names.iter().max_by(|a, b| strsim::jaro_winkler(a, which).total_cmp(&strsim::jaro_winkler(b, which)));
    let hint =
        similar.filter(|name| strsim::jaro_winkler(name, which) > 0.8).map(|name| format!("did you mean {name}? "));
    Error::usage(format!("there is no topology `{}`", which.escape_debug())).next(format!(
        "{}built in are {}; a path names a kind config of yours",
        hint.unwrap_or_default(),
        names.join(", ")
    ))
}

/// The part of a kind config that kchaos must know.
#[derive(Deserialize)]
struct Config {
    kind: String,
    #[serde(default)]
    nodes: Vec<ConfigNode>,
    #[serde(default)]
    networking: Networking,
}

#[derive(Deserialize)]
struct ConfigNode {
    role: Option<String>,
}

#[derive(Default, Deserialize)]
struct Networking {
    #[serde(rename = "ipFamily")]
    ip_family: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe.yaml");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        for path in ["/dev/zero", dir.path().to_str().unwrap(), pipe.to_str().unwrap()] {
            let error = Topology::open(path).unwrap_err().to_string();
            assert!(error.contains("it is not a file"), "{path}: {error}");
        }
        let large = dir.path().join("large.yaml");
        std::fs::write(&large, vec![b'#'; 2 << 20]).unwrap();
        assert!(Topology::open(large.to_str().unwrap()).unwrap_err().to_string().contains("larger"));
    }

    #[test]
    fn every_built_in_topology_is_a_kind_config() {
        for (name, _) in BUILT_IN {
            let topology = Topology::open(name).unwrap();
            let expected = if name.starts_with("ha") { (3, 2, 6) } else { (1, 2, 3) };
            assert_eq!((topology.control_planes, topology.workers, topology.containers()), expected, "{name}");
        }
    }

    #[test]
    fn a_file_on_disk_wins_over_the_built_in_one() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Topology::open_in(dir.path(), "single").unwrap().source, "built in");
        std::fs::create_dir(dir.path().join("kind-configs")).unwrap();
        let file = dir.path().join("kind-configs/single.yaml");
        std::fs::write(&file, "kind: Cluster\n").unwrap();
        let topology = Topology::open_in(dir.path(), "single").unwrap();
        assert_eq!((topology.source.as_str(), topology.name.as_str()), (file.to_str().unwrap(), "single"));
        assert_eq!((topology.control_planes, topology.workers, topology.containers()), (1, 0, 1));
        assert_ne!(topology.digest(), Topology::open("ha").unwrap().digest());
    }

    #[test]
    fn a_misspelt_name_is_answered_with_a_suggestion() {
        let error = Topology::open("singel").unwrap_err();
        assert_eq!(error.exit(), crate::error::Exit::Usage);
        assert!(error.to_string().contains("did you mean single?"), "{error}");
        assert!(Topology::open("zzz").unwrap_err().to_string().contains("→ built in are single, "));
    }

    #[test]
    fn what_kchaos_cannot_make_is_refused_before_anything_is_made() {
        let parse = |text: &str| Topology::parse("x".into(), "x.yaml".into(), text.into()).unwrap_err().to_string();
        assert!(parse("kind: Pod\n").contains("`kind: Pod`"));
        assert!(parse("kind: Cluster\nnetworking:\n  ipFamily: dual\n").contains("IPv4 only"));
        assert!(parse("kind: Cluster\nnodes:\n- role: worker\n").contains("no control plane"));
        assert!(parse("nodes: {").contains("can't be used"));
        assert!(
            Topology::open("./nowhere/x.yaml")
                .unwrap_err()
                .to_string()
                .contains("cannot read topology ./nowhere/x.yaml")
        );
    }
}
