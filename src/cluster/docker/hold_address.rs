//! Keeps a node's address across a restart. An engine gives a starting container the lowest free address of its
//! network, unless configuration fixes the address. So placeholder containers hold all lower addresses while the node
//! is started.
//!
//! Placeholders are made from the node's own image, run nothing but `sleep`, and remove themselves should kchaos die
//! meanwhile. If another container has the address by then, the error names it: nobody's container is moved.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use bollard::models::{HostConfig, IpamConfig, NetworkInspect};
use bollard::query_parameters::InspectNetworkOptions;

use super::mutate::{KILLER, MADE_FOR_LABEL, NODE_LABEL, PLACEHOLDER, PURPOSE_LABEL, soon};
use super::{ContainerState, Engine, READ, answer, container_state, failed};
use crate::cluster::host_processes;
use crate::error::{Error, Result};
use crate::node::NodeId;

/// At most this many placeholders hold addresses for one start.
const MOST_PLACEHOLDERS: usize = 32;
/// How long a node may take to stop before it is started again at its own address.
const GRACE: Duration = Duration::from_secs(10);

/// A network, as far as address assignment is concerned.
#[derive(Debug)]
pub struct Network {
    /// Its driver: `bridge`, …
    pub driver: String,
    /// First address and prefix length of the range from which addresses are assigned.
    pub subnet: Option<(Ipv4Addr, u8)>,
    /// Name and address of every running container on it.
    pub holders: Vec<(String, Ipv4Addr)>,
    reserved: BTreeSet<Ipv4Addr>,
}

impl Network {
    fn from(inspected: NetworkInspect) -> Self {
        let configs = inspected.ipam.unwrap_or_default().config.unwrap_or_default();
        let address = |text: &String| text.split('/').next()?.parse().ok();
        let range = |c: &IpamConfig| parse_cidr(c.ip_range.as_ref().filter(|r| !r.is_empty()).or(c.subnet.as_ref())?);
        let subnet = configs.iter().find_map(range);
        let gateway = configs.iter().find_map(|c| address(c.gateway.as_ref()?));
        // An engine that was given a subnet without a gateway uses the first address as the gateway, and does not
        // report it.
        let gateway = gateway.or(subnet.map(|(net, _)| Ipv4Addr::from(u32::from(net) + 1)));
        let auxiliary = configs.iter().filter_map(|c| c.auxiliary_addresses.as_ref()).flat_map(|a| a.values());
        let containers = inspected.containers.unwrap_or_default().into_values();
        Self {
            driver: inspected.driver.unwrap_or_default(),
            subnet,
            reserved: auxiliary.filter_map(address).chain(gateway).collect(),
            holders: containers.filter_map(|c| Some((c.name?, address(&c.ipv4_address?)?))).collect(),
        }
    }

    /// Name of the container that has this address.
    pub fn holder(&self, address: Ipv4Addr) -> Option<&str> {
        self.holders.iter().find(|(_, a)| *a == address).map(|(name, _)| name.as_str())
    }

    /// The free addresses below this one, which a restarted container would get instead of its own.
    pub fn free_below(&self, address: Ipv4Addr) -> impl Iterator<Item = Ipv4Addr> {
        let first = self.subnet.map_or(u32::from(address), |(net, _)| u32::from(net) + 1);
        (first..u32::from(address))
            .map(Ipv4Addr::from)
            .filter(|a| !self.reserved.contains(a) && self.holder(*a).is_none())
    }
}

fn parse_cidr(text: impl AsRef<str>) -> Option<(Ipv4Addr, u8)> {
    let (address, bits) = text.as_ref().split_once('/')?;
    let (address, bits): (Ipv4Addr, u8) = (address.parse().ok()?, bits.parse().ok()?);
    let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
    Some((Ipv4Addr::from(u32::from(address) & mask), bits))
}

impl Engine {
    /// Inspects a network of the engine.
    ///
    /// # Errors
    /// If no network has this name or the engine does not answer.
    pub async fn network(&self, name: &str) -> Result<Network> {
        let call = self.docker.inspect_network(name, None::<InspectNetworkOptions>);
        Ok(Network::from(answer(READ, call).await.map_err(|e| failed(&format!("inspect network {name}"), &e))?))
    }

    /// Why a node would not get its addresses back if [`Engine::start_at`] restarted it; `None` if it would.
    ///
    /// # Errors
    /// If the engine does not answer.
    pub async fn address_at_risk(&self, state: &ContainerState) -> Result<Option<String>> {
        if state.addresses.is_empty() {
            return Ok(Some("it has no IPv4 address on a network of the engine's".into()));
        }
        for (name, address) in &state.addresses {
            if let Some((network, address)) = self.unpinned(state, name, address).await? {
                if network.driver != "bridge" {
                    return Ok(Some(format!(
                        "network {name} gives out addresses by its driver \"{}\"",
                        network.driver
                    )));
                }
                let free = network.free_below(address).take(MOST_PLACEHOLDERS + 1).count();
                if free > MOST_PLACEHOLDERS {
                    return Ok(Some(format!(
                        "more than {MOST_PLACEHOLDERS} lower addresses are free on network {name}"
                    )));
                }
            }
        }
        Ok(None)
    }

    /// The lowest address that a node would get instead of its own if its restart policy started it now; `None` if it
    /// would keep its own.
    ///
    /// # Errors
    /// If the engine does not answer.
    pub async fn address_after_restart(&self, state: &ContainerState) -> Result<Option<Ipv4Addr>> {
        for (name, address) in &state.addresses {
            if let Some((network, address)) = self.unpinned(state, name, address).await?
                && let Some(lower) = network.free_below(address).next()
            {
                return Ok(Some(lower));
            }
        }
        Ok(None)
    }

    async fn unpinned(
        &self,
        state: &ContainerState,
        network: &str,
        address: &str,
    ) -> Result<Option<(Network, Ipv4Addr)>> {
        let Ok(parsed) = address.parse() else { return Ok(None) };
        if state.pinned.contains(network) {
            return Ok(None);
        }
        Ok(Some((self.network(network).await?, parsed)))
    }

    /// Makes a node run at these addresses (by network). A node that runs at others, because something else started it,
    /// is restarted.
    ///
    /// # Errors
    /// If the container is not the cluster's, is paused or can't be started, or if another container has its address;
    /// the error names that container.
    pub async fn start_at(&self, node: &NodeId, addresses: &[(String, String)]) -> Result<()> {
        let inspected = self.own(node).await?;
        let image = inspected.image.clone().unwrap_or_default();
        let mut state = container_state(inspected);
        // Whoever killed it, to the engine it runs, and goes on doing so.
        if host_processes::is_dying(state.pid) {
            self.let_die(node, &state).await?;
            state = container_state(self.own(node).await?);
        }
        match state.status.as_str() {
            "running" | "restarting" if is_at(&self.settled(node).await?, addresses) => return Ok(()),
            "running" | "restarting" => self.stop(node, GRACE).await?,
            "paused" => return Err(Error::could_not_run(format!("{} is paused, so it can't be started", node.name))),
            _ => {}
        }
        self.sweep_for(node).await?;
        let started = self.start_between_placeholders(node, &state, addresses, &image).await;
        self.sweep_for(node).await?;
        started?;
        let now = self.settled(node).await?;
        if now.status == "running" && is_at(&now, addresses) {
            return Ok(());
        }
        Err(Error::could_not_run(format!(
            "{} was started and is {} at {:?} instead of {addresses:?}",
            node.name, now.status, now.addresses
        )))
    }

    /// Waits until the container runs with an address or does not run. A restarting container has no address for a
    /// moment.
    async fn settled(&self, node: &NodeId) -> Result<ContainerState> {
        let look = || async {
            let state = self.state(node).await?;
            let between = state.status == "restarting" || (state.status == "running" && state.addresses.is_empty());
            Ok((!between).then_some(state))
        };
        match soon(look).await? {
            Some(state) => Ok(state),
            None => self.state(node).await,
        }
    }

    async fn start_between_placeholders(
        &self,
        node: &NodeId,
        state: &ContainerState,
        addresses: &[(String, String)],
        image: &str,
    ) -> Result<()> {
        for (network, address) in addresses {
            let Ok(address) = address.parse() else { continue };
            if let Some(holder) = self.network(network).await?.holder(address) {
                return Err(taken(node, network, address, holder));
            }
            if !state.pinned.contains(network) {
                self.fill_below(node, network, address, image).await?;
            }
        }
        self.start(node).await
    }

    /// Lets placeholders take the network's next addresses until it is this address' turn. It asks the engine instead
    /// of calculating: only by assigning other addresses does the engine show which ones it holds for stopped or
    /// departing containers.
    async fn fill_below(&self, node: &NodeId, network: &str, address: Ipv4Addr, image: &str) -> Result<()> {
        for _ in 0..=MOST_PLACEHOLDERS {
            let host = HostConfig {
                network_mode: Some(network.to_owned()),
                cap_drop: Some(vec!["ALL".into()]),
                auto_remove: Some(true),
                ..Default::default()
            };
            let sleep = ["sleep", "120"].map(str::to_owned).to_vec();
            let made = self.make(PLACEHOLDER, node, image.to_owned(), sleep, host).await?;
            self.start_made(&made).await?;
            let inspected = self.inspect(&made).await.map_err(|e| failed("inspect a placeholder", &e))?;
            let got = container_state(inspected).addresses.get(network).and_then(|a| a.parse::<Ipv4Addr>().ok());
            match got {
                Some(got) if got < address => {}
                Some(got) if got == address => return self.remove_made_for_good(&made).await,
                _ => {
                    self.remove_made(&made).await?;
                    let now = self.network(network).await?;
                    return Err(taken(node, network, address, now.holder(address).unwrap_or("something unseen")));
                }
            }
        }
        Err(Error::could_not_run(format!(
            "{} can't be started at {address}: more than {MOST_PLACEHOLDERS} lower addresses are free on network {network}",
            node.name
        )))
    }

    /// Removes a container and waits until it is gone and its address is free again.
    async fn remove_made_for_good(&self, id: &str) -> Result<()> {
        self.remove_made(id).await?;
        let gone = soon(|| async { Ok(self.inspect(id).await.err().map(|_| ())) }).await?;
        gone.ok_or_else(|| Error::could_not_run("a placeholder does not go away"))
    }

    /// Removes the containers that kchaos made for faults and undos in this cluster, including those that a killed
    /// process left.
    ///
    /// # Errors
    /// If the engine refuses or does not answer.
    pub async fn sweep(&self) -> Result<()> {
        self.sweep_those(|_| true).await
    }

    /// Removes those that were made for this node. Something may be under way with another one.
    async fn sweep_for(&self, node: &NodeId) -> Result<()> {
        self.sweep_those(|labels| labels.get(NODE_LABEL) == Some(&node.id)).await
    }

    async fn sweep_those(&self, which: impl Fn(&BTreeMap<String, String>) -> bool) -> Result<()> {
        let cluster = self.cluster.as_deref().unwrap_or_default();
        for (id, _, labels) in self.labelled(&format!("{MADE_FOR_LABEL}={cluster}")).await? {
            let purpose = labels.get(PURPOSE_LABEL).map_or("", String::as_str);
            if matches!(purpose, PLACEHOLDER | KILLER) && which(&labels) {
                self.remove_made_for_good(&id).await?;
            }
        }
        Ok(())
    }
}

fn is_at(state: &ContainerState, addresses: &[(String, String)]) -> bool {
    state.status == "running"
        && addresses.iter().all(|(network, address)| state.addresses.get(network) == Some(address))
}

fn taken(node: &NodeId, network: &str, address: Ipv4Addr, holder: &str) -> Error {
    Error::could_not_run(format!(
        "{} can't be started at its address {address} on network {network}: {holder} has it now",
        node.name
    ))
    .next(format!("stop or disconnect {holder}, then undo again with kchaos rollback"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(holders: &[(&str, [u8; 4])]) -> Network {
        Network {
            driver: "bridge".into(),
            subnet: parse_cidr("172.30.0.0/24"),
            holders: holders.iter().map(|(n, a)| ((*n).to_owned(), Ipv4Addr::from(*a))).collect(),
            reserved: [Ipv4Addr::new(172, 30, 0, 1)].into(),
        }
    }

    #[test]
    fn gaps_below_an_address_are_found_without_the_gateway() {
        let net = network(&[("a", [172, 30, 0, 3]), ("b", [172, 30, 0, 5])]);
        let free: Vec<_> = net.free_below(Ipv4Addr::new(172, 30, 0, 5)).collect();
        assert_eq!(free, [Ipv4Addr::new(172, 30, 0, 2), Ipv4Addr::new(172, 30, 0, 4)]);
        assert_eq!(net.free_below(Ipv4Addr::new(172, 30, 0, 2)).count(), 0);
        assert_eq!(net.holder(Ipv4Addr::new(172, 30, 0, 3)), Some("a"));
    }

    #[test]
    fn an_unmentioned_gateway_has_the_first_address() {
        let range = IpamConfig { subnet: Some("172.30.0.0/24".into()), ..Default::default() };
        let ipam = bollard::models::Ipam { config: Some(vec![range]), ..Default::default() };
        let net = Network::from(NetworkInspect { ipam: Some(ipam), ..Default::default() });
        assert_eq!(net.free_below(Ipv4Addr::new(172, 30, 0, 2)).count(), 0);
        assert_eq!(net.free_below(Ipv4Addr::new(172, 30, 0, 3)).next(), Some(Ipv4Addr::new(172, 30, 0, 2)));
    }

    #[test]
    fn a_range_is_read_with_its_host_bits_cleared() {
        assert_eq!(parse_cidr("10.1.2.3/8"), Some((Ipv4Addr::new(10, 0, 0, 0), 8)));
        assert_eq!(parse_cidr("0.0.0.0/0"), Some((Ipv4Addr::UNSPECIFIED, 0)));
        assert_eq!(parse_cidr("fc00::/64"), None);
    }
}
