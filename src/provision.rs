//! Makes and removes clusters. kind makes the nodes; kchaos adds what kind does not: a network of the cluster's own,
//! with every node's address fixed on it. Such a cluster survives restarts of any node, of the engine and of the
//! machine. A plain kind cluster of several control planes does not, since its etcd members look for one another at
//! addresses that have been reassigned.
//!
//! This module takes a topology and returns a [`Cluster`] that is Ready. It reuses an existing cluster, starts it if it
//! is down, and makes it anew if it was left half-made, or if it bears the name that kchaos chooses and was made from
//! another config or node image. It neither starts nor removes a cluster that kchaos did not make; the network's labels
//! tell. A call that fails leaves nothing half-made but logs, and says where they are. If a call was killed, the next one
//! repairs what it left.

mod audit_log;
mod coredns_readiness;
mod kind;
mod pin_addresses;
mod ready;
mod stale_leases;
mod start;
mod workspace;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::workspace::Workspace;
use crate::cluster::Cluster;
use crate::cluster::docker::{Engine, MadeNetwork, Node};
use crate::cluster::topology::Topology;
use crate::error::{Error, Exit, Result};
use crate::lock::Lock;
use crate::run_dir::StateDir;

pub use self::kind::Kind;

/// Environment variable that names the node image to use, instead of the one that kind was built for.
pub const NODE_IMAGE: &str = "KCHAOS_NODE_IMAGE";

/// Network label: the topology's name.
const TOPOLOGY_LABEL: &str = "kchaos.io/topology";
/// Network label: hash of the kind config.
const CONFIG_LABEL: &str = "kchaos.io/config";
/// Network label: the requested node image; empty for kind's own choice.
const IMAGE_LABEL: &str = "kchaos.io/node-image";

/// How long all nodes may take to be Ready. Measured on two idle cores: 16 s after a start from nothing; 120 s with
/// fifty compilers running at the same time.
const READY_WITHIN: Duration = Duration::from_secs(240);
/// Longest cluster name: with kind's suffixes it must still be a host name.
const LONGEST_NAME: usize = 40;

/// Brings up a cluster of this topology and waits until it is Ready. An existing cluster is reused, else one is made.
///
/// Without a name, it is called `kchaos-TOPOLOGY`, and made anew if it was made from another config or image. A cluster
/// that somebody has named is left alone then. One that was left half-made is made anew in any case.
/// `progress` is told line by line what happens. Once `stop` is
/// cancelled, the work in progress ends: a cluster that is being made is removed, and one that is being started stays as
/// far as it got.
///
/// # Errors
/// If it was stopped, a cluster or network of this name is not kchaos' own or not as requested, a container that is none
/// of its nodes has its label, a run is in progress there or was left unfinished, kind or the image is missing, kind
/// fails, or the nodes don't become Ready in time.
pub async fn up(
    engine: &Engine,
    topology: &str,
    name: Option<&str>,
    stop: &CancellationToken,
    progress: &mut impl FnMut(&str),
) -> Result<Cluster> {
    let topology = Topology::open(topology)?;
    let image = node_image();
    let is_named = name.is_some();
    let name = name.map_or_else(|| own_name(&topology), str::to_owned);
    valid(&name)?;
    let engine = engine.for_cluster(&name);
    // The lock keeps this from repairing what a run in progress broke on purpose.
    let lock = Lock::take(&StateDir::from_env()?, &engine.id().await?, &name)?;
    let began = Instant::now();
    let mut say = |line: fmt::Arguments<'_>| progress(&format!("{:>4} s  {line}", began.elapsed().as_secs()));

    let replaced = match standing(&engine, &name, &topology, image.as_deref()).await? {
        Standing::Absent => None,
        Standing::Foreign(why) => return Err(foreign(&name, &why)),
        Standing::Usable => {
            lock.refuse_unfinished()?;
            return unless_stopped(stop, &name, bring_back(&engine, &name, &mut say))
                .await
                .map_err(|e| if stop.is_cancelled() { e.next("`kchaos up` goes on from there") } else { e });
        }
        Standing::Another(why) if is_named => {
            lock.refuse_unfinished()?;
            return Err(Error::could_not_run(format!("cluster {name} is there already, and not as requested: {why}"))
                .next(format!("choose another --name, or remove it first: kchaos down {name}")));
        }
        Standing::Another(why) => Some(why),
        Standing::HalfMade => Some("it was left half-made".to_owned()),
    };
    let kind = Kind::find()?;
    if let Some(why) = replaced {
        // Nothing is removed in whose place nothing could be made.
        if let Some(image) = &image
            && !engine.has_image(image).await?
        {
            let told = format!("cluster {name} is to be made anew ({why}), and there is no image {image}");
            return Err(Error::could_not_run(told).next(format!("docker pull {image}; nothing was removed")));
        }
        say(format_args!("cluster {name} is made anew: {why}"));
        remove(&engine, &name).await?;
    }
    let workspace = Workspace::make(&name)?;
    let wanted = Wanted { name: &name, topology: &topology, image: image.as_deref() };
    match make(&engine, &kind, &workspace, wanted, stop, &mut say).await {
        Ok(cluster) => Ok(cluster),
        Err(error) if error.exit() == Exit::Interrupted => {
            say(format_args!("removing what was made of cluster {name}"));
            remove(&engine, &name).await?;
            Workspace::remove(&name);
            Err(error.next("what was made of it is removed again"))
        }
        Err(error) => {
            say(format_args!("removing what was made of cluster {name}"));
            kind.export_logs(&engine, &name, &workspace).await;
            if let Err(e) = remove(&engine, &name).await {
                tracing::warn!("{e}");
            }
            Err(error.next(format!("logs are in {}; is the machine able? kchaos doctor", workspace.path().display())))
        }
    }
}

/// The cluster that kchaos made from this topology under the name that it chooses itself, if there is one. A cluster
/// that somebody has named is used only by those who name it.
///
/// The cluster is complete, running or not, and has the requested node image, if one is requested.
///
/// # Errors
/// If there is no such topology or the engine does not answer.
pub async fn existing(engine: &Engine, topology: &str) -> Result<Option<Cluster>> {
    match made_from(engine, &Topology::open(topology)?).await? {
        Some(name) => Cluster::open(engine, &name).await.map(Some),
        None => Ok(None),
    }
}

/// Runs work that may be abandoned at any point, until it is done or `stop` is cancelled. Does not start it if `stop`
/// already is.
async fn unless_stopped<T>(stop: &CancellationToken, name: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(stopped(name)),
        done = work => done,
    }
}

fn stopped(name: &str) -> Error {
    Error::with_exit(Exit::Interrupted, format!("interrupted before cluster {name} was Ready"))
}

/// Removes a cluster that kchaos made, with its network and its logs.
///
/// # Errors
/// If there is no such cluster, it is not kchaos' own, a run is in progress there, or the engine refuses.
pub async fn down(engine: &Engine, name: &str) -> Result<()> {
    let engine = engine.for_cluster(name);
    let _lock = Lock::take(&StateDir::from_env()?, &engine.id().await?, name)?;
    let made = network_of(&engine, name).await?.is_some();
    if !made {
        return Err(match engine.nodes(name).await?.is_empty() {
            true => Error::could_not_run(format!("there is no cluster {name}")).next(
                match made_clusters(&engine).await?.join(", ") {
                    none if none.is_empty() => "there is none that kchaos made".to_owned(),
                    some => format!("those that kchaos made are: {some}"),
                },
            ),
            false => foreign(name, "its network is not one that kchaos made"),
        });
    }
    remove(&engine, name).await?;
    Workspace::remove(name);
    Ok(())
}

/// Names of the clusters that kchaos made, complete or not.
///
/// # Errors
/// If the engine does not answer.
pub async fn made_clusters(engine: &Engine) -> Result<Vec<String>> {
    let mut names: Vec<_> = engine.made_networks().await?.into_iter().map(|n| n.cluster).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// The name of a cluster for which nobody has chosen one.
fn own_name(topology: &Topology) -> String {
    format!("kchaos-{}", topology.name)
}

/// Name of the cluster of this topology that goes by no chosen name, if it is complete and as requested.
async fn made_from(engine: &Engine, topology: &Topology) -> Result<Option<String>> {
    let name = own_name(topology);
    let standing = standing(engine, &name, topology, node_image().as_deref()).await?;
    Ok(matches!(standing, Standing::Usable).then_some(name))
}

/// The state of a cluster before it is brought up.
enum Standing {
    /// Nothing has this name.
    Absent,
    /// It is not kchaos' own, for this reason.
    Foreign(String),
    /// It is complete and as requested, running or not.
    Usable,
    /// It is kchaos' own, but not as requested, for this reason: from another config or image, or no longer whole.
    Another(String),
    /// It is kchaos' own, but was never complete.
    HalfMade,
}

async fn standing(engine: &Engine, name: &str, topology: &Topology, image: Option<&str>) -> Result<Standing> {
    let nodes = engine.nodes(name).await?;
    let Some(network) = network_of(engine, name).await? else {
        return Ok(if !nodes.is_empty() {
            Standing::Foreign("its network is not one that kchaos made".into())
        } else if engine.network_exists(name).await? {
            Standing::Foreign("a network of this name exists already".into())
        } else {
            Standing::Absent
        });
    };
    no_strangers(name, &nodes)?;
    let label = |key| network.labels.get(key).map(String::as_str).unwrap_or_default();
    if label(CONFIG_LABEL) != topology.digest() {
        return Ok(Standing::Another(format!(
            "it was made from another config ({}) than {} ({})",
            label(TOPOLOGY_LABEL),
            topology.name,
            topology.source
        )));
    }
    if let Some(image) = image
        && image != label(IMAGE_LABEL)
    {
        return Ok(Standing::Another(format!("its node image is {}, not {image}", or_kinds(label(IMAGE_LABEL)))));
    }
    // The addresses are fixed last, one after the other: a cluster in which none is was never complete.
    let states = try_join_all(nodes.iter().map(|n| engine.state(&n.id))).await?;
    let fixed = states.iter().filter(|state| state.pinned.contains(&network.name)).count();
    let (there, whole) = (nodes.len(), topology.containers());
    match fixed {
        0 => Ok(Standing::HalfMade),
        _ if fixed == whole && there == whole => Ok(Standing::Usable),
        _ => Ok(Standing::Another(format!("it has {there} of {whole} nodes, {fixed} of them with a fixed address"))),
    }
}

/// Starts the nodes that don't run, and waits until the cluster is Ready.
async fn bring_back(engine: &Engine, name: &str, say: &mut impl FnMut(fmt::Arguments<'_>)) -> Result<Cluster> {
    let cluster = Cluster::open(engine, name).await?;
    let started = start::what_is_down(&cluster).await?;
    if !started.is_empty() {
        say(format_args!("started {started}"));
    }
    ready::wait(&cluster, READY_WITHIN, say)
        .await
        .map_err(|e| e.next(format!("make it anew: kchaos down {name}, then kchaos up")))?;
    Ok(cluster)
}

/// A cluster to be made.
#[derive(Debug, Clone, Copy)]
struct Wanted<'a> {
    name: &'a str,
    topology: &'a Topology,
    /// Node image; `None` for kind's own.
    image: Option<&'a str>,
}

/// Makes a cluster from nothing.
async fn make(
    engine: &Engine,
    kind: &Kind,
    workspace: &Workspace,
    wanted: Wanted<'_>,
    stop: &CancellationToken,
    say: &mut impl FnMut(fmt::Arguments<'_>),
) -> Result<Cluster> {
    let Wanted { name, topology, image } = wanted;
    let what = format!("{} control plane(s), {} worker(s)", topology.control_planes, topology.workers);
    say(format_args!("making cluster {name} from {} ({}): {what}", topology.name, topology.source));
    let labels = BTreeMap::from([
        (TOPOLOGY_LABEL.to_owned(), topology.name.clone()),
        (CONFIG_LABEL.to_owned(), topology.digest()),
        (IMAGE_LABEL.to_owned(), image.unwrap_or_default().to_owned()),
    ]);
    // kind joins an existing network of this name.
    engine.make_network(name, &labels).await?;
    kind.create(engine, wanted, workspace, stop, say).await?;
    let cluster = Cluster::open(engine, name).await?;
    say(format_args!("fixing the addresses of {} nodes", cluster.nodes.len()));
    unless_stopped(stop, name, async {
        coredns_readiness::ask_often(&cluster).await?;
        audit_log::keep(&cluster, say).await?;
        pin_addresses::pin(&cluster, name).await?;
        ready::wait(&cluster, READY_WITHIN, say).await
    })
    .await?;
    Ok(cluster)
}

/// Removes all there is of one of kchaos' clusters. Nodes go first, so that what an interruption leaves is still known
/// as kchaos' own.
async fn remove(engine: &Engine, name: &str) -> Result<()> {
    let nodes = engine.nodes(name).await?;
    no_strangers(name, &nodes)?;
    for removed in join_all(nodes.iter().map(|n| engine.remove(&n.id))).await {
        removed?;
    }
    match network_of(engine, name).await? {
        Some(network) => engine.remove_network(&network).await,
        None => Ok(()),
    }
}

/// Checks that every container with the cluster's label has a name that kind gives to its nodes.
///
/// # Errors
/// If one has another name. Whoever gave it that label may still need it, and nothing may be removed by that label then.
fn no_strangers(cluster: &str, nodes: &[Node]) -> Result<()> {
    let is_kinds = |node: &&Node| {
        let role = node.id.name.strip_prefix(cluster).and_then(|rest| rest.strip_prefix('-'));
        let role = role.map(|rest| rest.trim_end_matches(|c: char| c.is_ascii_digit()));
        matches!(role, Some("control-plane" | "worker" | "external-load-balancer"))
    };
    match nodes.iter().find(|node| !is_kinds(node)) {
        None => Ok(()),
        Some(Node { id, .. }) => Err(Error::could_not_run(format!(
            "container {} has the label of cluster {cluster}, and is none of its nodes by its name",
            id.name
        ))
        .next(format!("remove it, if nobody needs it: docker rm --force {}", id.name))),
    }
}

async fn network_of(engine: &Engine, cluster: &str) -> Result<Option<MadeNetwork>> {
    Ok(engine.made_networks().await?.into_iter().find(|n| n.cluster == cluster && n.name == cluster))
}

fn foreign(name: &str, why: &str) -> Error {
    Error::could_not_run(format!("cluster {name} is not kchaos' own, and is left alone: {why}"))
        .next(format!("choose another --name, or remove it yourself: kind delete cluster --name {name}"))
}

/// The requested node image.
pub(crate) fn node_image() -> Option<String> {
    std::env::var(NODE_IMAGE).ok().filter(|image| !image.is_empty())
}

fn or_kinds(image: &str) -> &str {
    if image.is_empty() { "kind's own choice" } else { image }
}

/// Checks a cluster's name: node names are made from it, and they are host names.
fn valid(name: &str) -> Result<()> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let outer = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = name.as_bytes();
    if bytes.len() <= LONGEST_NAME && bytes.iter().all(|b| inner(*b)) && outer(bytes.first()) && outer(bytes.last()) {
        return Ok(());
    }
    Err(Error::usage(format!("`{}` is no name for a cluster", name.escape_debug())).next(format!(
        "take lower-case letters, digits, `-` and `.`, at most {LONGEST_NAME}, a letter or digit at both ends"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_host_names_are_refused() {
        for name in ["a", "kchaos-single", "x.y-9"] {
            valid(name).unwrap();
        }
        let long = "a".repeat(LONGEST_NAME + 1);
        for name in ["", "-rf", "a-", "A", "a b", "a;b", "$(x)", "a\n", "ä", "../x", &long] {
            assert!(valid(name).is_err(), "{name:?}");
        }
    }
}
