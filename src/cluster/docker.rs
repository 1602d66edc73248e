//! The container engine. The only module that uses bollard.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::scenario::Role;

/// A node's container. Made only from a list filtered by kind's cluster label, re-inspected by id before anything is changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeId {
    /// Full container id.
    pub id: String,
    /// Container name, which is the Kubernetes node's name too.
    pub name: String,
}

/// Restart policy of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Never restarted.
    No,
    /// Always restarted, unless it was stopped through the engine.
    Always,
    /// As `Always`, and not at engine start if it was stopped before.
    UnlessStopped,
    /// Restarted after a non-zero exit, at most this often (0: without limit).
    OnFailure(u32),
}

impl fmt::Display for RestartPolicy {
    /// As `docker update --restart=` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("no"),
            Self::Always => f.write_str("always"),
            Self::UnlessStopped => f.write_str("unless-stopped"),
            Self::OnFailure(0) => f.write_str("on-failure"),
            Self::OnFailure(n) => write!(f, "on-failure:{n}"),
        }
    }
}

/// A connection to the container engine.
#[derive(Clone)]
pub struct Engine {
    docker: bollard::Docker,
}

/// What a command in a node gave.
#[derive(Debug, Clone)]
pub struct Output {
    /// Exit code.
    pub code: i64,
    /// Standard output.
    pub stdout: Bytes,
    /// Standard error, lossily decoded.
    pub stderr: String,
}

/// State of a node's container, as the engine says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerState {
    /// `running`, `exited`, `paused`, `created`, `restarting`, `dead`.
    pub status: String,
    /// Host pid of the container's init; 0 if there is none.
    pub pid: u32,
    /// When it was last started, as the engine writes it.
    pub started_at: String,
    /// Exit code of the last end.
    pub exit_code: i64,
    /// How often its restart policy restarted it since it was last started by hand.
    pub restart_count: u64,
    /// Its restart policy.
    pub restart_policy: RestartPolicy,
    /// IPv4 address by network, as it is (running) or as configured.
    pub addresses: BTreeMap<String, String>,
    /// Networks on which the address is fixed by configuration.
    pub pinned: BTreeSet<String>,
    /// Host port by container port (`6443/tcp` → 127.0.0.1:NNNNN).
    pub ports: BTreeMap<String, SocketAddr>,
}

/// A labelled node of a kind cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its container.
    pub id: NodeId,
    /// Its role, by kind's label.
    pub role: Role,
}

impl Engine {
    /// Stub until merged.
    #[must_use]
    pub fn for_cluster(&self, _cluster: &str) -> Self {
        self.clone()
    }

    /// Connects as the docker command line would: `DOCKER_HOST`, else `DOCKER_CONTEXT` or the current context, else the default socket.
    pub async fn connect() -> Result<Self> {
        todo!()
    }

    /// The engine's own id.
    pub async fn id(&self) -> Result<String> {
        todo!()
    }

    /// Names of the kind clusters on this engine.
    pub async fn clusters(&self) -> Result<Vec<String>> {
        todo!()
    }

    /// The nodes of a kind cluster (by label, running or not), sorted by name. Empty if there is no such cluster.
    pub async fn nodes(&self, cluster: &str) -> Result<Vec<Node>> {
        todo!()
    }

    /// State of a node's container.
    pub async fn state(&self, node: &NodeId) -> Result<ContainerState> {
        todo!()
    }

    /// Number of processes in a node's container; 0 if it does not run.
    pub async fn processes(&self, node: &NodeId) -> Result<u64> {
        todo!()
    }

    /// Runs a command in a node and waits for its end, at most `deadline`.
    pub async fn exec(&self, node: &NodeId, argv: &[&str], stdin: Option<Bytes>, deadline: Duration) -> Result<Output> {
        todo!()
    }

    /// Runs a command in a node and gives its standard output as it comes; the stream ends with the command.
    pub async fn exec_stream(&self, node: &NodeId, argv: &[&str]) -> Result<BoxStream<'static, Result<Bytes>>> {
        todo!()
    }
}
