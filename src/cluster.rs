//! A kind cluster, seen and touched from below: its containers through the engine, its settings, its API as a client sees it.
//!
//! Takes a cluster's name, by whatever way it is chosen, gives a [`Cluster`]: a connection to the engine that may change the containers
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

/// kind's own variable for the name of a cluster.
const KIND_CLUSTER_NAME: &str = "KIND_CLUSTER_NAME";

/// A cluster that was chosen.
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

    /// Chooses a cluster to *look* at: the one named, else the one that `KIND_CLUSTER_NAME` names, else the only one.
    /// Nothing may be broken in a cluster that was chosen like this: that takes a name on the command line.
    ///
    /// # Errors
    /// If the one named does not exist, or none is named and there is not exactly one.
    pub async fn choose(engine: &Engine, named: Option<&str>) -> Result<Self> {
        let variable = std::env::var(KIND_CLUSTER_NAME).ok().filter(|name| !name.is_empty());
        Self::open(engine, &chosen(named, variable.as_deref(), || engine.clusters()).await?).await
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

/// The rule of choice, with the clusters asked for only where it takes them.
async fn chosen<F: Future<Output = Result<Vec<String>>>>(
    named: Option<&str>,
    variable: Option<&str>,
    clusters: impl FnOnce() -> F,
) -> Result<String> {
    if let Some(name) = named.or(variable) {
        return Ok(name.to_owned());
    }
    let mut there = clusters().await?;
    match there.len() {
        0 => Err(Error::could_not_run("there is no kind cluster on this engine").next("`kchaos up` makes one")),
        1 => Ok(there.remove(0)),
        _ => {
            Err(Error::usage(format!("which cluster? There are {}", there.join(", "))).next("name one with --cluster"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(named: Option<&str>, variable: Option<&str>, there: &[&str]) -> Result<String> {
        let there = there.iter().map(|s| (*s).to_owned()).collect();
        futures::executor::block_on(chosen(named, variable, || async { Ok(there) }))
    }

    #[test]
    fn a_name_on_the_command_line_wins_over_the_variable_and_that_over_the_only_cluster() {
        assert_eq!(choose(Some("a"), Some("b"), &["c"]).unwrap(), "a");
        assert_eq!(choose(None, Some("b"), &["c"]).unwrap(), "b");
        assert_eq!(choose(None, None, &["c"]).unwrap(), "c");
    }

    #[test]
    fn no_cluster_is_guessed_among_several() {
        let error = choose(None, None, &["chart-testing", "kind"]).unwrap_err().to_string();
        assert!(error.contains("There are chart-testing, kind"), "{error}");
        assert!(choose(None, None, &[]).unwrap_err().to_string().contains("kchaos up"));
    }
}
