//! Everything that changes a node's container.
//!
//! Each call first re-inspects the container by its id, and refuses one that isn't labelled as a node of the cluster
//! the connection is bound to. So it never touches a namesake, a node of another cluster, or a container that a hostile
//! journal names.
//!
//! Nothing is sent twice. If an answer does not come, the error says that the change may have been made; a repair
//! checks the state first.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerUpdateBody, EndpointIpamConfig, EndpointSettings,
    HostConfig, NetworkConnectRequest, NetworkDisconnectRequest, RestartPolicy as EnginePolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    CreateContainerOptions, RemoveContainerOptionsBuilder, StartContainerOptions, StopContainerOptionsBuilder,
};
use futures::TryStreamExt;

use super::{
    CLUSTER_LABEL, ContainerState, Engine, READ, Refusal, answer, container_state, describe, failed, is_absent,
};
use crate::cluster::host_processes;
use crate::error::{Error, Result};
use crate::node::{NodeId, RestartPolicy};

/// How long the engine may take to change something.
pub(super) const CHANGE: Duration = Duration::from_secs(60);
/// How long a killed container may take to be seen dead.
const DEAD_WITHIN: Duration = Duration::from_secs(20);
/// How long a killed container gets to die before it is helped. Mostly it takes some 0.1 s.
const DIES_BY_ITSELF: Duration = Duration::from_millis(500);
/// Label on every container and network that kchaos makes: the cluster it was made for.
pub(super) const MADE_FOR_LABEL: &str = "kchaos.io/cluster";
/// Label on every container that kchaos makes: the id of the node that something is done to.
pub(super) const NODE_LABEL: &str = "kchaos.io/node";
/// Label on every container that kchaos makes: its purpose.
pub(super) const PURPOSE_LABEL: &str = "kchaos.io/purpose";
/// Purpose: to hold an address.
pub(super) const PLACEHOLDER: &str = "placeholder";
/// Purpose: to kill a node's init.
pub(super) const KILLER: &str = "kill";

impl Engine {
    /// Sends SIGKILL to the node's init from outside the container, as if the machine lost power, and waits until it is
    /// dead.
    ///
    /// The engine takes this for a crash, so restart policies apply; the engine's own `kill` would defeat them.
    ///
    /// # Errors
    /// If the container is not the cluster's, does not run, is frozen (a frozen process doesn't die), or isn't dead
    /// soon.
    pub async fn kill_init(&self, node: &NodeId) -> Result<()> {
        let inspected = self.own(node).await?;
        let image = inspected.image.clone().unwrap_or_default();
        let state = container_state(inspected);
        if state.status != "running" || state.pid == 0 {
            return Err(Error::could_not_run(format!("{} is {}, so it can't be killed", node.name, state.status)));
        }
        let here = self.endpoint.socket().is_some() && kill_here(state.pid, &node.id);
        let sent = if here { Ok(()) } else { self.kill_beside(node, state.pid, image).await };
        // Whoever killed it, this run of the node may be over.
        if sent.is_err() && self.state(node).await?.is_same_run(&state) {
            return sent;
        }
        self.let_die(node, &state).await
    }

    /// Waits until a node is dead whose init has been killed.
    pub(super) async fn let_die(&self, node: &NodeId, state: &ContainerState) -> Result<()> {
        let give_up = tokio::time::Instant::now() + DEAD_WITHIN;
        let (mut thaw_at, mut still_frozen) = (tokio::time::Instant::now() + DIES_BY_ITSELF, None);
        while self.state(node).await?.is_same_run(state) {
            let now = tokio::time::Instant::now();
            if now > give_up {
                let error = Error::could_not_run(format!(
                    "{} was sent SIGKILL and has not died within {DEAD_WITHIN:?}",
                    node.name
                ));
                return Err(match still_frozen {
                    Some(why) => error.next(format!("something in it is frozen, which only root can end: {why}")),
                    None => error,
                });
            }
            if now > thaw_at && host_processes::is_dying(state.pid) {
                still_frozen = host_processes::thaw(&node.id).err();
                thaw_at = now + DIES_BY_ITSELF;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Kills from a short-lived container in the engine's pid namespace: for engines in a virtual machine, and for
    /// users who may not signal root's processes.
    async fn kill_beside(&self, node: &NodeId, pid: u32, image: String) -> Result<()> {
        // The script proves once more, right before the kill, that the pid is the container's.
        const SCRIPT: &str = r#"grep -q -- "$2" "/proc/$1/cgroup" || exit 40; kill -KILL "$1""#;
        let entrypoint = ["/bin/sh", "-c", SCRIPT, "kill", &pid.to_string(), &node.id].map(str::to_owned).to_vec();
        let host = HostConfig {
            pid_mode: Some("host".into()),
            network_mode: Some("none".into()),
            cap_drop: Some(vec!["ALL".into()]),
            cap_add: Some(vec!["KILL".into()]),
            // The default AppArmor profile allows signals only between containers that have it, and nodes have none.
            security_opt: Some(vec!["apparmor=unconfined".into()]),
            ..Default::default()
        };
        let made = self.make(KILLER, node, image, entrypoint, host).await?;
        let ended = async {
            self.start_made(&made).await?;
            let wait = self.docker.wait_container(&made, None).try_collect::<Vec<_>>();
            match answer(CHANGE, wait).await {
                Ok(_) => Ok(0),
                Err(Refusal::DockerContainerWaitError { code, .. }) => Ok(code),
                Err(e) => Err(unknown(&format!("kill the init of {}", node.name), &e)),
            }
        }
        .await;
        self.remove_made(&made).await?;
        match ended? {
            0 => Ok(()),
            40 => Err(Error::could_not_run(format!("process {pid} is not of {}, so it was not killed", node.name))),
            code => {
                Err(Error::could_not_run(format!("could not kill the init of {} from outside: code {code}", node.name)))
            }
        }
    }

    /// Stops a node's container by its stop signal, and by SIGKILL if it still runs after `grace`. Does nothing if it
    /// is stopped already.
    ///
    /// # Errors
    /// If the container is not the cluster's or the engine refuses.
    pub async fn stop(&self, node: &NodeId, grace: Duration) -> Result<()> {
        self.own(node).await?;
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::default().t(seconds).build();
        let call = self.docker.stop_container(&node.id, Some(options));
        answer(grace + CHANGE, call).await.map_err(|e| unknown(&format!("stop {}", node.name), &e))
    }

    /// Freezes all processes of a node's container.
    ///
    /// # Errors
    /// If the container is not the cluster's or the engine refuses, for instance because it is already frozen.
    pub async fn pause(&self, node: &NodeId) -> Result<()> {
        self.own(node).await?;
        answer(CHANGE, self.docker.pause_container(&node.id))
            .await
            .map_err(|e| unknown(&format!("pause {}", node.name), &e))
    }

    /// Unfreezes a node's container.
    ///
    /// # Errors
    /// If the container is not the cluster's or the engine refuses, for instance because it is not frozen.
    pub async fn unpause(&self, node: &NodeId) -> Result<()> {
        self.own(node).await?;
        answer(CHANGE, self.docker.unpause_container(&node.id))
            .await
            .map_err(|e| unknown(&format!("unpause {}", node.name), &e))
    }

    /// Starts a node's container; the engine chooses its address (see [`Engine::start_at`]). Does nothing if it already
    /// runs.
    ///
    /// # Errors
    /// If the container is not the cluster's or the engine refuses.
    pub async fn start(&self, node: &NodeId) -> Result<()> {
        self.own(node).await?;
        let call = self.docker.start_container(&node.id, None::<StartContainerOptions>);
        answer(CHANGE, call).await.map_err(|e| unknown(&format!("start {}", node.name), &e))
    }

    /// Removes a node's container for good, with its volume.
    ///
    /// # Errors
    /// If the container is not the cluster's or the engine refuses.
    pub async fn remove(&self, node: &NodeId) -> Result<()> {
        self.own(node).await?;
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        match answer(CHANGE, self.docker.remove_container(&node.id, Some(options))).await {
            Err(e) if !is_absent(&e) => Err(unknown(&format!("remove {}", node.name), &e)),
            _ => Ok(()),
        }
    }

    /// Sets the restart policy of a node's container.
    ///
    /// # Errors
    /// If the container is not the cluster's, the engine refuses, or the policy is not in force afterwards.
    pub async fn set_restart_policy(&self, node: &NodeId, policy: RestartPolicy) -> Result<()> {
        self.own(node).await?;
        let doing = || format!("set the restart policy of {} to {policy}", node.name);
        let body = ContainerUpdateBody { restart_policy: Some(engine_policy(policy)), ..Default::default() };
        answer(CHANGE, self.docker.update_container(&node.id, body)).await.map_err(|e| unknown(&doing(), &e))?;
        match self.state(node).await?.restart_policy {
            now if now == policy => Ok(()),
            now => Err(Error::could_not_run(format!("could not {}: it is {now}", doing()))),
        }
    }

    /// Connects a node's container to a network, at a fixed address if one is given, which then survives restarts.
    ///
    /// # Errors
    /// If the container is not the cluster's or the engine refuses: a fixed address needs a network whose subnet the
    /// user chose.
    pub async fn connect_network(&self, node: &NodeId, network: &str, address: Option<Ipv4Addr>) -> Result<()> {
        self.own(node).await?;
        let ipam = address.map(|a| EndpointIpamConfig { ipv4_address: Some(a.to_string()), ..Default::default() });
        let endpoint = EndpointSettings {
            ipam_config: ipam,
            // Others find the node by its name, but an engine adds that alias only for connections made at creation.
            aliases: Some(vec![node.name.clone()]),
            ..Default::default()
        };
        let request = NetworkConnectRequest { container: node.id.clone(), endpoint_config: Some(endpoint) };
        let call = self.docker.connect_network(network, request);
        answer(CHANGE, call).await.map_err(|e| unknown(&format!("connect {} to network {network}", node.name), &e))
    }

    /// Disconnects a node's container from a network.
    ///
    /// # Errors
    /// If the container is not the cluster's or the engine refuses.
    pub async fn disconnect_network(&self, node: &NodeId, network: &str) -> Result<()> {
        self.own(node).await?;
        let request = NetworkDisconnectRequest { container: node.id.clone(), force: Some(false) };
        let call = self.docker.disconnect_network(network, request);
        answer(CHANGE, call).await.map_err(|e| unknown(&format!("disconnect {} from network {network}", node.name), &e))
    }

    /// Re-inspects a container that is about to be changed, and verifies that it is a node of the bound cluster.
    pub(super) async fn own(&self, node: &NodeId) -> Result<ContainerInspectResponse> {
        let Some(cluster) = &self.cluster else {
            return Err(Error::could_not_run(format!(
                "{} is not touched: no cluster is named whose nodes may be changed",
                node.name
            )));
        };
        self.seen_as(node, Some(cluster)).await
    }

    /// Re-inspects a container and verifies that it is what its handle says: a node of a kind cluster, and of `cluster`
    /// if one is given.
    pub(super) async fn seen_as(&self, node: &NodeId, cluster: Option<&str>) -> Result<ContainerInspectResponse> {
        let refuse = |why: String| Err(Error::could_not_run(format!("{} is not touched: {why}", node.name)));
        let inspected = self.inspect(&node.id).await.map_err(|e| failed(&format!("inspect {}", node.name), &e))?;
        if inspected.id.as_ref() != Some(&node.id) {
            return refuse("the engine answered for another container".into());
        }
        let name = inspected.name.as_deref().unwrap_or_default().trim_start_matches('/');
        if name != node.name {
            return refuse(format!("that container is called {name} now"));
        }
        let label = inspected.config.as_ref().and_then(|c| c.labels.as_ref()?.get(CLUSTER_LABEL)).map(String::as_str);
        match (label, cluster) {
            (None, _) => refuse("it is not labelled as a node of a kind cluster".into()),
            (Some(label), Some(cluster)) if label != cluster => {
                refuse(format!("it is a node of cluster {label}, not of cluster {cluster}"))
            }
            _ => Ok(inspected),
        }
    }

    /// Creates one of kchaos' own containers, labelled and unprivileged, from an image that is present. It serves what is
    /// done to `node`.
    pub(super) async fn make(
        &self,
        purpose: &str,
        node: &NodeId,
        image: String,
        entrypoint: Vec<String>,
        host: HostConfig,
    ) -> Result<String> {
        let cluster = self.cluster.clone().unwrap_or_default();
        let labels = HashMap::from([
            (MADE_FOR_LABEL.to_owned(), cluster),
            (NODE_LABEL.to_owned(), node.id.clone()),
            (PURPOSE_LABEL.to_owned(), purpose.to_owned()),
        ]);
        let body = ContainerCreateBody {
            image: Some(image),
            entrypoint: Some(entrypoint),
            cmd: Some(Vec::new()),
            labels: Some(labels),
            host_config: Some(host),
            ..Default::default()
        };
        let call = self.docker.create_container(None::<CreateContainerOptions>, body);
        Ok(answer(CHANGE, call).await.map_err(|e| unknown(&format!("create a {purpose} container"), &e))?.id)
    }

    pub(super) async fn start_made(&self, id: &str) -> Result<()> {
        let call = self.docker.start_container(id, None::<StartContainerOptions>);
        answer(CHANGE, call).await.map_err(|e| unknown("start a container of its own", &e))
    }

    /// Removes a container that [`Engine::make`] made. One that is already gone is fine.
    pub(super) async fn remove_made(&self, id: &str) -> Result<()> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        match answer(CHANGE, self.docker.remove_container(id, Some(options))).await {
            Err(e) if !matches!(e, Refusal::DockerResponseServerError { status_code: 404 | 409, .. }) => {
                Err(unknown(&format!("remove {id}, a container of its own"), &e))
            }
            // 409: a removal is under way.
            _ => Ok(()),
        }
    }

    /// Names and purposes of the containers that kchaos made for a cluster and that still exist.
    ///
    /// # Errors
    /// If the engine does not answer.
    pub async fn leftovers(&self, cluster: &str) -> Result<Vec<(String, String)>> {
        let made = self.labelled(&format!("{MADE_FOR_LABEL}={cluster}")).await?;
        Ok(made
            .into_iter()
            .map(|(_, name, mut labels)| (name, labels.remove(PURPOSE_LABEL).unwrap_or_default()))
            .collect())
    }
}

/// Kills the process if it provably is the init of the container; `false` if nothing was sent.
///
/// A descriptor holds the process first, so that the proof and the kill concern the same process even if pids are
/// reused meanwhile.
#[cfg(target_os = "linux")]
fn kill_here(pid: u32, container: &str) -> bool {
    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
    let Some(process) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    let Ok(held) = pidfd_open(process, PidfdFlags::empty()) else { return false };
    host_processes::belongs(pid, container)
        && host_processes::is_init(pid)
        && pidfd_send_signal(&held, Signal::KILL).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn kill_here(_pid: u32, _container: &str) -> bool {
    false
}

fn engine_policy(policy: RestartPolicy) -> EnginePolicy {
    let (name, count) = match policy {
        RestartPolicy::No => (RestartPolicyNameEnum::NO, 0),
        RestartPolicy::Always => (RestartPolicyNameEnum::ALWAYS, 0),
        RestartPolicy::UnlessStopped => (RestartPolicyNameEnum::UNLESS_STOPPED, 0),
        RestartPolicy::OnFailure(n) => (RestartPolicyNameEnum::ON_FAILURE, i64::from(n)),
    };
    EnginePolicy { name: Some(name), maximum_retry_count: Some(count) }
}

/// The error of a failed change. A refusal is definite; anything else leaves open whether the change was made.
pub(super) fn unknown(doing: &str, e: &Refusal) -> Error {
    match e {
        Refusal::DockerResponseServerError { .. } => failed(doing, e),
        _ => Error::could_not_run(format!("could not tell whether it could {doing}: {}", describe(e))),
    }
}

/// Polls until `look` finds something, for as long as the engine may take to answer a query; `None` if it does not.
pub(super) async fn soon<T, F: Future<Output = Result<Option<T>>>>(mut look: impl FnMut() -> F) -> Result<Option<T>> {
    let give_up = tokio::time::Instant::now() + READ;
    loop {
        match look().await? {
            Some(seen) => return Ok(Some(seen)),
            None if tokio::time::Instant::now() > give_up => return Ok(None),
            None => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
