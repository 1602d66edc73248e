//! Networks of kchaos' own clusters. Each cluster has a network of its own with a configured subnet, because only there
//! does an engine allow a container's address to be fixed. Labels on the network say which cluster it was made for and
//! from what. Nodes can't carry such labels, since kind makes them.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest};
use bollard::query_parameters::{InspectNetworkOptions, ListNetworksOptionsBuilder};

use super::mutate::{CHANGE, MADE_FOR_LABEL, unknown};
use super::{Engine, READ, Refusal, answer, failed, is_absent};
use crate::error::{Error, Result};

/// How many subnets are tried: somebody else may take one in between.
const CHOICES: usize = 4;

/// A network that kchaos made for a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeNetwork {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The cluster it was made for.
    pub cluster: String,
    /// All of its labels.
    pub labels: BTreeMap<String, String>,
}

impl Engine {
    /// Every network that kchaos made, sorted by name.
    ///
    /// # Errors
    /// If the engine does not answer.
    pub async fn made_networks(&self) -> Result<Vec<MadeNetwork>> {
        let filters = [("label", vec![MADE_FOR_LABEL])].into_iter().collect();
        let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
        let networks =
            answer(READ, self.docker.list_networks(Some(options))).await.map_err(|e| failed("list networks", &e))?;
        let made = networks.into_iter().filter_map(|n| {
            let labels: BTreeMap<_, _> = n.labels?.into_iter().collect();
            Some(MadeNetwork { id: n.id?, name: n.name?, cluster: labels.get(MADE_FOR_LABEL)?.clone(), labels })
        });
        let mut made: Vec<_> = made.collect();
        made.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(made)
    }

    /// Whether any network has this name.
    ///
    /// # Errors
    /// If the engine does not answer.
    pub async fn network_exists(&self, name: &str) -> Result<bool> {
        match answer(READ, self.docker.inspect_network(name, None::<InspectNetworkOptions>)).await {
            Ok(_) => Ok(true),
            Err(e) if is_absent(&e) => Ok(false),
            Err(e) => Err(failed(&format!("inspect network {name}"), &e)),
        }
    }

    /// Makes a network for the cluster this connection is bound to, with a free subnet that counts as chosen by the
    /// user.
    ///
    /// # Errors
    /// If a network of this name exists, no subnet is free, or the engine refuses.
    pub async fn make_network(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<()> {
        let Some(cluster) = &self.cluster else {
            return Err(Error::could_not_run(format!("no network {name} is made: no cluster is named that it is for")));
        };
        let mut all: HashMap<_, _> = labels.clone().into_iter().collect();
        all.insert(MADE_FOR_LABEL.to_owned(), cluster.clone());
        let mut refused = None;
        for _ in 0..CHOICES {
            // Only the engine knows which subnets are free on its machine, and it tells only by making a network.
            let scout = self
                .create_network(name, None, &all)
                .await
                .map_err(|e| unknown(&format!("make network {name}"), &e))?;
            let subnet = self.subnet(&scout).await;
            self.delete_network(&scout).await?;
            match self.create_network(name, Some(subnet?), &all).await {
                Ok(_) => return Ok(()),
                Err(e @ Refusal::DockerResponseServerError { .. }) => refused = Some(e),
                Err(e) => return Err(unknown(&format!("make network {name}"), &e)),
            }
        }
        let why = refused.map(|e| failed("choose a subnet", &e).to_string()).unwrap_or_default();
        Err(Error::could_not_run(format!("no network {name} could be made: {why}"))
            .next("see which subnets are taken: docker network ls, ip route"))
    }

    async fn create_network(
        &self,
        name: &str,
        subnet: Option<String>,
        labels: &HashMap<String, String>,
    ) -> Result<String, Refusal> {
        let config = subnet.map(|subnet| vec![IpamConfig { subnet: Some(subnet), ..IpamConfig::default() }]);
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            ipam: Some(Ipam { config, ..Ipam::default() }),
            labels: Some(labels.clone()),
            ..NetworkCreateRequest::default()
        };
        Ok(answer(CHANGE, self.docker.create_network(request)).await?.id)
    }

    async fn subnet(&self, network: &str) -> Result<String> {
        let inspected = answer(READ, self.docker.inspect_network(network, None::<InspectNetworkOptions>)).await;
        let inspected = inspected.map_err(|e| failed(&format!("inspect network {network}"), &e))?;
        let configs = inspected.ipam.unwrap_or_default().config.unwrap_or_default();
        let subnet = configs.into_iter().filter_map(|c| c.subnet).find(|s| s.contains('.'));
        subnet.ok_or_else(|| Error::could_not_run("the engine made a network without an IPv4 subnet"))
    }

    /// Removes a network that kchaos made for the cluster this connection is bound to. A network that is already gone
    /// is fine.
    ///
    /// # Errors
    /// If the network is another cluster's, something is still connected to it, or the engine refuses.
    pub async fn remove_network(&self, network: &MadeNetwork) -> Result<()> {
        if self.cluster.as_ref() != Some(&network.cluster) {
            return Err(Error::could_not_run(format!(
                "network {} is not touched: it is cluster {}'s",
                network.name, network.cluster
            )));
        }
        self.delete_network(&network.id).await
    }

    async fn delete_network(&self, id: &str) -> Result<()> {
        match answer(CHANGE, self.docker.remove_network(id)).await {
            Err(e) if !is_absent(&e) => Err(unknown(&format!("remove network {id}"), &e)),
            _ => Ok(()),
        }
    }
}
