//! A kind cluster, seen from below: its containers through the engine, its settings, and its API as a client sees it.
//!
//! [`Cluster::open`] takes a cluster's name. The [`Cluster`] that it returns holds an engine connection that may change
//! the containers of this cluster and of no other, and the cluster's nodes as they were when it was opened.

pub mod agent_image;
pub mod api;
pub mod docker;
pub mod facts;
pub(crate) mod host_processes;
pub(crate) mod leader_lease;
pub mod topology;

use std::net::SocketAddr;

use self::api::Identity;
use self::docker::{Engine, Node};
use crate::error::{Error, Result};
use crate::node::{NodeId, Role};

/// Shell: sets `$api` to the health URL of the API server that a node's kubelet talks to.
pub(crate) const API_OF_KUBELET: &str = "api=$(sed -n 's/^ *server: *//p' /etc/kubernetes/kubelet.conf)/healthz
";

/// Shell: sets `$log` to the API server's audit log `$1`. It is usually mounted from the same path of the node.
pub(crate) const AUDIT_LOG: &str = "log=$1
[ -e \"$log\" ] || log=/proc/$(pgrep -o -x kube-apiserver)/root$log
";

/// An opened cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// The engine, bound to this cluster.
    pub engine: Engine,
    /// Its name, as kind knows it.
    pub name: String,
    /// Its nodes, the load balancer included, running or not, sorted by name.
    pub nodes: Vec<Node>,
}

impl Cluster {
    /// Opens the cluster of this name.
    ///
    /// # Errors
    /// If no cluster has this name (the error lists the existing ones) or the engine does not answer.
    pub async fn open(engine: &Engine, name: &str) -> Result<Self> {
        let nodes = engine.nodes(name).await?;
        if nodes.is_empty() {
            let there = engine.clusters().await?;
            let next = match there.is_empty() {
                true => "there are none; `kchaos up` makes one".to_owned(),
                false => format!("there are: {}", there.join(", ")),
            };
            return Err(Error::could_not_run(format!(
                "there is no kind cluster `{}` on this engine",
                name.escape_debug()
            ))
            .next(next));
        }
        Ok(Self { engine: engine.for_cluster(name), name: name.to_owned(), nodes })
    }

    /// Its control planes.
    pub fn control_planes(&self) -> impl Iterator<Item = &NodeId> {
        self.of_role(Role::ControlPlane)
    }

    /// The node that receives users' API requests: kind's load balancer if there is one, else the control plane.
    pub fn entrance(&self) -> Option<&NodeId> {
        self.of_role(Role::LoadBalancer).next().or_else(|| self.control_planes().next())
    }

    fn of_role(&self, role: Role) -> impl Iterator<Item = &NodeId> {
        self.nodes.iter().filter(move |n| n.role == role).map(|n| &n.id)
    }

    /// Reads credentials from the first control plane that yields them.
    ///
    /// # Errors
    /// If no control plane yields any; the error is that of the last one.
    pub async fn credentials(&self, identity: Identity) -> Result<api::Credentials> {
        let mut last = Error::could_not_run(format!("cluster {} has no control plane", self.name));
        for node in self.control_planes() {
            match api::Credentials::read(&self.engine, node, identity).await {
                Ok(credentials) => return Ok(credentials),
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    /// A client for kchaos' own use, through the load balancer if there is one.
    ///
    /// It comes in as [`Identity::Operator`], so it sees the whole API even if no user may. Retries and deadlines
    /// are up to the caller (see [`api`]).
    ///
    /// # Errors
    /// If no control plane runs or no port is published.
    pub async fn client(&self) -> Result<kube::Client> {
        let (credentials, server) = self.way_in(Identity::Operator).await?;
        credentials.client(server).await
    }

    /// A client that talks to the API like somebody who arrives at that moment: through the users' entrance, and with a
    /// new connection for each request.
    ///
    /// # Errors
    /// As for [`Cluster::client`].
    pub async fn fresh_client(&self, identity: Identity) -> Result<kube::Client> {
        let (credentials, server) = self.way_in(identity).await?;
        credentials.fresh_client(server).await
    }

    async fn way_in(&self, identity: Identity) -> Result<(api::Credentials, SocketAddr)> {
        let entrance = self
            .entrance()
            .ok_or_else(|| Error::could_not_run(format!("cluster {} has no control plane", self.name)))?;
        futures::try_join!(self.credentials(identity), api::published(&self.engine, entrance))
    }
}
