//! A kind cluster, seen and touched from below: its containers through the engine, its settings, its API as a client sees it.
//!
//! Takes a cluster's name, gives a [`Cluster`]: a connection to the engine that may change the containers
//! of this cluster and of no other, and its nodes as they were when it was opened.

pub mod agent_image;
pub mod api;
pub mod docker;
pub mod facts;
pub(crate) mod kernel;
pub(crate) mod lease;
pub mod provision;
pub mod topology;

use std::net::SocketAddr;

use self::api::Identity;
use self::docker::{Engine, Node, NodeId};
use self::topology::Topology;
use crate::error::{Error, Result};
use crate::scenario::Role;

/// Shell: where a node's kubelet asks the API server whether it is well, as `$api`.
pub(crate) const API_OF_KUBELET: &str = "api=$(sed -n 's/^ *server: *//p' /etc/kubernetes/kubelet.conf)/healthz
";

/// A cluster that was opened.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// The engine, bound to this cluster.
    pub engine: Engine,
    /// Its name, as kind knows it.
    pub name: String,
    /// Its nodes, running or not, the load balancer included, by name.
    pub nodes: Vec<Node>,
}

impl Cluster {
    /// Opens a cluster that was named.
    ///
    /// # Errors
    /// If there is none of this name (the error lists those that there are) or the engine does not answer.
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

    /// A cluster that kchaos made from this topology, complete, and of the node image that is asked for, if one is; running or not.
    ///
    /// # Errors
    /// If there is no such topology or the engine does not answer.
    pub async fn for_topology(engine: &Engine, topology: &str) -> Result<Option<Self>> {
        match provision::made_from(engine, &Topology::open(topology)?).await? {
            Some(name) => Self::open(engine, &name).await.map(Some),
            None => Ok(None),
        }
    }

    /// Its control planes.
    pub fn control_planes(&self) -> impl Iterator<Item = &NodeId> {
        self.of_role(Role::ControlPlane)
    }

    /// Where a user's request to its API goes: kind's load balancer if there is one, else the control plane.
    pub fn entrance(&self) -> Option<&NodeId> {
        self.of_role(Role::LoadBalancer).next().or_else(|| self.control_planes().next())
    }

    fn of_role(&self, role: Role) -> impl Iterator<Item = &NodeId> {
        self.nodes.iter().filter(move |n| n.role == role).map(|n| &n.id)
    }

    /// Credentials, from the first control plane that shows them.
    ///
    /// # Errors
    /// The last control plane's, if none does.
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

    /// A client for kchaos' own use, which sees what the API has whoever else may: through the load balancer if there is one. With it, retries
    /// and deadlines are the caller's (see [`api`]).
    ///
    /// # Errors
    /// If no control plane runs or nothing is published.
    pub async fn client(&self) -> Result<kube::Client> {
        let (credentials, server) = self.way_in(Identity::Operator).await?;
        credentials.client(server).await
    }

    /// A client that talks to the API as a user does who comes at that moment: by the same way, and with a new connection for each request.
    ///
    /// # Errors
    /// As above.
    pub async fn users_client(&self) -> Result<kube::Client> {
        let (credentials, server) = self.way_in(Identity::User).await?;
        credentials.fresh_client(server).await
    }

    async fn way_in(&self, identity: Identity) -> Result<(api::Credentials, SocketAddr)> {
        let entrance = self
            .entrance()
            .ok_or_else(|| Error::could_not_run(format!("cluster {} has no control plane", self.name)))?;
        futures::try_join!(self.credentials(identity), api::published(&self.engine, entrance))
    }
}
