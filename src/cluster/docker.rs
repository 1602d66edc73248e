//! The container engine. This is the only module that uses bollard.
//!
//! It takes names of kind clusters and [`NodeId`]s and returns what *is*: containers, processes, addresses, output of
//! commands. Anyone may read. Changes to nodes are in `docker/mutate.rs`, those to networks in
//! `docker/network.rs`. Both need a connection that is bound to one cluster ([`Engine::for_cluster`]). Such a
//! connection re-inspects the container by its id and refuses one that isn't labelled as that cluster's node.
//!
//! Every call has a deadline. A missing reply means "unknown", so nothing is ever sent twice here: a caller that wants
//! to go on checks the state first.

mod context;
mod exec;
mod hold_address;
mod info;
mod mutate;
mod network;
mod resident;

pub use context::{ALLOW_REMOTE, Endpoint};
pub use info::EngineInfo;
pub use network::MadeNetwork;
pub use resident::Residents;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use bollard::errors::Error as Refusal;
use bollard::models::{ContainerInspectResponse, EndpointSettings, PortMap, RestartPolicyNameEnum};
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptionsBuilder, TopOptionsBuilder};
use bytes::Bytes;
use k8s_openapi::jiff::Timestamp;

use crate::error::{Error, Result};
use crate::node::{NodeId, RestartPolicy, Role};

/// Result of a command in a node.
#[derive(Debug, Clone)]
pub struct Output {
    /// Exit code.
    pub code: i64,
    /// Standard output.
    pub stdout: Bytes,
    /// Standard error, lossily decoded.
    pub stderr: String,
}

/// State of a node's container, as the engine reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerState {
    /// `running`, `exited`, `paused`, `created`, `restarting`, `dead`.
    pub status: String,
    /// Host pid of the container's init; 0 if there is none.
    pub pid: u32,
    /// When it was last started, in the engine's notation.
    pub started_at: String,
    /// How long it ran, by the engine's clock; `None` if it has not ended since it was last started.
    pub lived: Option<Duration>,
    /// Exit code of its last run.
    pub exit_code: i64,
    /// Its restart policy.
    pub restart_policy: RestartPolicy,
    /// IPv4 address by network: the current one if the container runs, else the configured one.
    pub addresses: BTreeMap<String, String>,
    /// IPv6 address by network, where it has one.
    pub addresses_v6: BTreeMap<String, String>,
    /// Networks on which the address is fixed by configuration.
    pub pinned: BTreeSet<String>,
    /// Host port by container port (`6443/tcp` → 127.0.0.1:NNNNN).
    pub ports: BTreeMap<String, SocketAddr>,
    /// Directories in it that outlive it: volumes, and what is mounted from the engine's machine.
    pub mounts: BTreeSet<String>,
}

impl ContainerState {
    /// Has the container not ended since `earlier`, when it ran?
    fn is_same_run(&self, earlier: &Self) -> bool {
        self.pid == earlier.pid && self.started_at == earlier.started_at
    }
}

/// A labelled node of a kind cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its container.
    pub id: NodeId,
    /// Its role, by kind's label.
    pub role: Role,
}

/// Kind's label on a node: the name of its cluster.
const CLUSTER_LABEL: &str = "io.x-k8s.kind.cluster";
/// Kind's label on a node: its role.
const ROLE_LABEL: &str = "io.x-k8s.kind.role";
/// How long the engine may take to answer a ping.
const PING: Duration = Duration::from_secs(5);
/// How long the engine may take to answer a query.
const READ: Duration = Duration::from_secs(15);

/// A connection to the container engine. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    docker: bollard::Docker,
    endpoint: Endpoint,
    /// The one cluster whose containers this connection may change.
    cluster: Option<String>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("endpoint", &self.endpoint)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Connects like the docker command line: to `DOCKER_HOST`, else to `DOCKER_CONTEXT` or the current context, else
    /// to the default socket.
    ///
    /// # Errors
    /// If there is no engine, or one that is not allowed (see [`Endpoint`]); the error says what to do.
    pub async fn connect() -> Result<Self> {
        Self::connect_to(Endpoint::from_env()?).await
    }

    /// Connects to this endpoint.
    ///
    /// # Errors
    /// If there is no engine; the error says what to do.
    pub async fn connect_to(endpoint: Endpoint) -> Result<Self> {
        let unreachable = |why: &str, next: &str| {
            Error::could_not_run(format!("no container engine at {endpoint}: {why}")).next(next.to_owned())
        };
        if let Some(socket) = endpoint.socket() {
            // Dialled once by hand: bollard does not tell an absent socket from a forbidden or an unserved one.
            let dial = tokio::net::UnixStream::connect(socket);
            match tokio::time::timeout(READ, dial).await {
                Ok(Ok(_)) => {}
                Ok(Err(e)) => return Err(unreachable(&e.to_string(), remedy(&e))),
                Err(_) => return Err(unreachable("it does not accept connections", "restart the engine")),
            }
        }
        // bollard's own timeout covers only the head of an answer. Ours covers the whole answer, so bollard's is set
        // out of the way.
        let (timeout, version) = (600, bollard::API_DEFAULT_VERSION);
        let docker = match endpoint.socket() {
            Some(_) => bollard::Docker::connect_with_unix(&endpoint.host, timeout, version),
            None => bollard::Docker::connect_with_http(&endpoint.host, timeout, version),
        };
        let docker = docker.map_err(|e| unreachable(&e.to_string(), "check DOCKER_HOST and the docker context"))?;
        // Never ask for an explicit version: an older engine refuses every call that carries a newer one.
        let docker = answer(READ, docker.negotiate_version()).await.map_err(|e| {
            unreachable(
                &describe(&e),
                "see whether `docker version` gets an answer; nerdctl and finch have no such API",
            )
        })?;
        Ok(Self { docker, endpoint, cluster: None })
    }

    /// The same connection, allowed to change the containers of this cluster and of no other.
    #[must_use]
    pub fn for_cluster(&self, cluster: &str) -> Self {
        Self { cluster: Some(cluster.to_owned()), ..self.clone() }
    }

    /// Where the engine listens and what named that place, for humans.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Whether the engine answers.
    pub async fn answers(&self) -> bool {
        answer(PING, self.docker.ping()).await.is_ok()
    }

    /// The engine's own id.
    ///
    /// # Errors
    /// If the engine does not answer.
    pub async fn id(&self) -> Result<String> {
        let info = answer(READ, self.docker.info()).await.map_err(|e| failed("ask the engine for its id", &e))?;
        info.id.filter(|id| !id.is_empty()).ok_or_else(|| Error::could_not_run("the engine does not tell its id"))
    }

    /// Names of the kind clusters on this engine.
    ///
    /// # Errors
    /// If the engine does not answer.
    pub async fn clusters(&self) -> Result<Vec<String>> {
        let labels = self.labelled(CLUSTER_LABEL).await?;
        let names: BTreeSet<_> =
            labels.into_iter().filter_map(|(_, _, mut labels)| labels.remove(CLUSTER_LABEL)).collect();
        Ok(names.into_iter().collect())
    }

    /// The nodes of a kind cluster (by label, running or not), sorted by name. Empty if there is no such cluster.
    ///
    /// # Errors
    /// If the engine does not answer.
    pub async fn nodes(&self, cluster: &str) -> Result<Vec<Node>> {
        let containers = self.labelled(&format!("{CLUSTER_LABEL}={cluster}")).await?;
        let mut nodes: Vec<_> = containers
            .into_iter()
            // The engine's filter should suffice, but is not relied upon.
            .filter(|(_, _, labels)| labels.get(CLUSTER_LABEL).is_some_and(|c| c == cluster))
            .filter_map(|(id, name, labels)| {
                Some(Node { id: NodeId { id, name }, role: role(labels.get(ROLE_LABEL)?)? })
            })
            .collect();
        nodes.sort_by(|a, b| a.id.name.cmp(&b.id.name));
        Ok(nodes)
    }

    /// Id, name and labels of every container that a label filter selects, running or not.
    async fn labelled(&self, filter: &str) -> Result<Vec<(String, String, BTreeMap<String, String>)>> {
        let filters = [("label", vec![filter])].into_iter().collect();
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let containers = answer(READ, self.docker.list_containers(Some(options)))
            .await
            .map_err(|e| failed("list containers", &e))?;
        let named = containers.into_iter().filter_map(|c| {
            let name = c.names?.into_iter().next()?.trim_start_matches('/').to_owned();
            Some((c.id?, name, c.labels.unwrap_or_default().into_iter().collect()))
        });
        Ok(named.collect())
    }

    /// Whether the container still exists, running or not.
    ///
    /// # Errors
    /// If the engine does not answer: no answer is not a "no".
    pub async fn exists(&self, node: &NodeId) -> Result<bool> {
        match self.inspect(&node.id).await {
            Ok(_) => Ok(true),
            Err(e) if is_absent(&e) => Ok(false),
            Err(e) => Err(failed(&format!("inspect {}", node.name), &e)),
        }
    }

    /// State of a node's container.
    ///
    /// # Errors
    /// If the engine does not answer or the container is gone.
    pub async fn state(&self, node: &NodeId) -> Result<ContainerState> {
        let inspected = self.inspect(&node.id).await.map_err(|e| failed(&format!("inspect {}", node.name), &e))?;
        Ok(container_state(inspected))
    }

    async fn inspect(&self, id: &str) -> Result<ContainerInspectResponse, Refusal> {
        // The engine accepts names and prefixes of ids as ids, and the id becomes part of a request path. An id from a
        // journal could be anything.
        if id.len() != 64 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            let message = format!("\"{}\" is no container id", id.escape_debug());
            return Err(Refusal::DockerResponseServerError { status_code: 400, message });
        }
        answer(READ, self.docker.inspect_container(id, None::<InspectContainerOptions>)).await
    }

    /// Ids of the processes in a node's container, as the engine's machine counts them: of those that the kernel calls
    /// `called`, or of all. Empty if the container does not run.
    ///
    /// # Errors
    /// If the engine does not answer or the container is gone.
    pub async fn processes(&self, node: &NodeId, called: Option<&str>) -> Result<BTreeSet<String>> {
        if self.state(node).await?.pid == 0 {
            return Ok(BTreeSet::new());
        }
        let options = TopOptionsBuilder::default().ps_args("-eo pid,comm").build();
        let is_called =
            |process: &Vec<String>| called.is_none_or(|name| process.get(1).is_some_and(|comm| comm == name));
        match answer(READ, self.docker.top_processes(&node.id, Some(options))).await {
            Ok(top) => {
                let found = top.processes.into_iter().flatten().filter(is_called);
                Ok(found.filter_map(|process| process.into_iter().next()).collect())
            }
            Err(e) => match self.state(node).await?.pid {
                0 => Ok(BTreeSet::new()),
                _ => Err(failed(&format!("list the processes of {}", node.name), &e)),
            },
        }
    }
}

/// Awaits an answer of the engine for at most `limit`. Every call to the engine goes through here.
async fn answer<T>(limit: Duration, call: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    tokio::time::timeout(limit, call).await.unwrap_or(Err(Refusal::RequestTimeoutError))
}

fn is_absent(e: &Refusal) -> bool {
    matches!(e, Refusal::DockerResponseServerError { status_code: 404, .. })
}

/// The engine's error message, or that it did not answer.
fn describe(e: &Refusal) -> String {
    match e {
        Refusal::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        Refusal::RequestTimeoutError => "the engine did not answer in time".to_owned(),
        other => {
            let mut text = other.to_string();
            let mut cause = std::error::Error::source(other);
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            text
        }
    }
}

fn failed(doing: &str, e: &Refusal) -> Error {
    Error::could_not_run(format!("could not {doing}: {}", describe(e)))
}

fn remedy(e: &std::io::Error) -> &'static str {
    match e.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
            "start Docker, or name another engine by DOCKER_HOST or DOCKER_CONTEXT"
        }
        std::io::ErrorKind::PermissionDenied => {
            "run as root, or as a member of the group that owns the socket (usually docker)"
        }
        _ => "check DOCKER_HOST and the docker context",
    }
}

fn role(label: &str) -> Option<Role> {
    match label {
        "control-plane" => Some(Role::ControlPlane),
        "worker" => Some(Role::Worker),
        "external-load-balancer" => Some(Role::LoadBalancer),
        _ => None,
    }
}

fn container_state(c: ContainerInspectResponse) -> ContainerState {
    let state = c.state.unwrap_or_default();
    let host = c.host_config.unwrap_or_default();
    let net = c.network_settings.unwrap_or_default();
    let networks = net.networks.unwrap_or_default();
    let fixed = |e: &EndpointSettings| e.ipam_config.as_ref()?.ipv4_address.clone().filter(|a| !a.is_empty());
    // An engine lists the ports of a running container in one place, and the requested ports of a stopped one in
    // another.
    let ports = [net.ports, host.port_bindings]
        .into_iter()
        .flatten()
        .map(published)
        .find(|p| !p.is_empty())
        .unwrap_or_default();
    ContainerState {
        status: state.status.map(|s| s.to_string()).unwrap_or_default(),
        pid: u32::try_from(state.pid.unwrap_or(0)).unwrap_or(0),
        lived: lived(state.started_at.as_deref(), state.finished_at.as_deref()),
        started_at: state.started_at.unwrap_or_default(),
        exit_code: state.exit_code.unwrap_or(0),
        restart_policy: restart_policy(host.restart_policy.unwrap_or_default()),
        pinned: networks.iter().filter(|(_, e)| fixed(e).is_some()).map(|(name, _)| name.clone()).collect(),
        addresses_v6: networks
            .iter()
            .filter_map(|(name, e)| Some((name.clone(), e.global_ipv6_address.clone().filter(|a| !a.is_empty())?)))
            .collect(),
        addresses: networks
            .into_iter()
            .filter_map(|(name, e)| Some((name, e.ip_address.clone().filter(|a| !a.is_empty()).or_else(|| fixed(&e))?)))
            .collect(),
        ports,
        mounts: c
            .mounts
            .into_iter()
            .flatten()
            .filter(|mount| matches!(mount.typ.as_deref(), Some("bind" | "volume")))
            .filter_map(|mount| mount.destination)
            .collect(),
    }
}

/// The time from a start to an end, in the engine's notation. A container that has not ended yet shows the end of its
/// life before.
fn lived(started: Option<&str>, ended: Option<&str>) -> Option<Duration> {
    let at = |text: Option<&str>| text?.parse::<Timestamp>().ok();
    at(ended)?.duration_since(at(started)?).try_into().ok()
}

fn published(ports: PortMap) -> BTreeMap<String, SocketAddr> {
    let socket = |b: &bollard::models::PortBinding| {
        let ip = b.host_ip.as_deref().filter(|ip| !ip.is_empty()).unwrap_or("0.0.0.0").parse().ok()?;
        Some(SocketAddr::new(ip, b.host_port.as_deref()?.parse().ok()?))
    };
    ports.into_iter().filter_map(|(port, bindings)| Some((port, bindings?.iter().find_map(socket)?))).collect()
}

fn restart_policy(p: bollard::models::RestartPolicy) -> RestartPolicy {
    match p.name {
        Some(RestartPolicyNameEnum::ALWAYS) => RestartPolicy::Always,
        Some(RestartPolicyNameEnum::UNLESS_STOPPED) => RestartPolicy::UnlessStopped,
        Some(RestartPolicyNameEnum::ON_FAILURE) => {
            RestartPolicy::OnFailure(u32::try_from(p.maximum_retry_count.unwrap_or(0)).unwrap_or(0))
        }
        Some(RestartPolicyNameEnum::NO | RestartPolicyNameEnum::EMPTY) | None => RestartPolicy::No,
    }
}
