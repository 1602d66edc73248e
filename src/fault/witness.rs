//! Witnesses: they say whether a fault is in effect, without having a part in it.
//!
//! They look in different ways:
//!
//! - the engine (state, pid, start time),
//! - the host's kernel (processes, freezer),
//! - other nodes (does the kubelet answer? do connections to the node stand, and do those that go past it?), and kchaos
//!   itself as a user outside of the cluster,
//! - the node's own systemd (restarts), its packet filter (packets dropped) and a question asked from the node (does
//!   the API answer?), for what only the node can see,
//! - etcd's own tool, for a store.
//!
//! The engine knows nothing of a fault inside a node.
//!
//! In the baseline each witness is asked once. A witness that can't look (no `/proc` of the engine's machine, no
//! kubelet on the node, no `curl` on a peer) is dismissed for the whole run. [`Witnesses::dismissed`] tells what it
//! said. At least one witness besides the engine must remain, since the engine also took the call that injects.

mod asked_of_api;
mod command_lines;
mod connections;
mod containers;
mod host;
mod https;
mod member;
mod outside_client;
mod packet_filter;
mod packet_loss;
mod reachability;
mod store;
mod stored_in_etcd;
mod vantage;
mod volume;

use std::time::Duration;

use crate::clock::Mono;
use crate::cluster::API_OF_KUBELET;
use crate::cluster::docker::{ContainerState, Engine};
use crate::component::Component;
use crate::error::{Error, Result};
use crate::event::{Checkpoint, Witness};
use crate::node::NodeId;
use crate::plan::PlannedFault;
use crate::scenario::{CertificateOf, Dropped, FaultSpec};

use self::https::{AS_MEMBER, AUTHORITY, answered, curl, verified};
use self::member::Member;
use self::store::Store;
use self::vantage::Vantage;

/// Time for a peer's whole look; `curl` itself takes at most 2 s.
const LOOK: Duration = Duration::from_secs(10);
/// How long a restart loop is looked at to see a start. It takes about a second from one to the next.
const NEXT_START: Duration = Duration::from_secs(6);
const ASK_FOR_A_START: Duration = Duration::from_millis(100);
/// How long witnesses may take to agree that an effect is there.
const AGREE: Duration = Duration::from_secs(15);
/// The same for an effect that shows only once a component has been started anew.
const AGREE_ON_START: Duration = Duration::from_secs(45);
const KUBELET: &str = "kubelet";
const KUBELET_PORT: u16 = 10250;
/// The port of an API server in its node, as kubeadm sets it.
const API_PORT: u16 = 6443;
/// The port at which members of etcd listen for each other, as kubeadm sets it.
const PEER_PORT: u16 = 2380;
/// Asks the address that the kubelet asks. Any answer will do.
const ASK_API: &str = "curl --silent --insecure --noproxy '*' --max-time 2 --output /dev/null \"$api\"";

/// The witnesses of one fault.
#[derive(Debug)]
pub struct Witnesses {
    fault: PlannedFault,
    before: Before,
    vantages: Vec<Vantage>,
    baseline: Vec<Witness>,
    dismissed: Vec<Witness>,
}

/// The target before the fault: what distinguishes its old life from a new one, and the address to ask at when the
/// engine has forgotten it.
#[derive(Debug)]
struct Before {
    state: ContainerState,
    processes: host::Before,
    address: Option<String>,
    /// What its store holds, if the fault loses the store.
    store: Store,
    /// What its etcd member holds, if the fault loses the member.
    member: Option<Member>,
    /// The directory of the volume, if the fault loses a volume.
    volume: Option<volume::Directory>,
    /// The containers that run, if the fault kills them.
    containers: Option<containers::Running>,
}

/// What a witness saw, and whether that is the effect; `None` if it could not tell.
type Testimony = (String, Option<bool>);

impl Witnesses {
    /// Finds out which witnesses can see this fault, and what they say before it. Reads only.
    ///
    /// `peers` are nodes that the fault does not touch.
    ///
    /// # Errors
    /// If the engine does not answer, if nobody but the engine can look, or if the fault loses a store and nobody can
    /// see that store.
    pub async fn call(engine: &Engine, fault: &PlannedFault, peers: &[NodeId]) -> Result<Self> {
        let state = engine.state(&fault.node).await?;
        let before = Before {
            processes: host::Before::look(&fault.node.id, state.pid, fault.spec.component()),
            address: state.addresses.values().next().cloned(),
            store: match fault.spec.store_left() {
                Some(_) => Store::look(engine, &fault.node).await?,
                None => Store::Silent,
            },
            member: match fault.spec {
                FaultSpec::MemberLoss { .. } => Some(Member::look(engine, &fault.node, None).await?),
                _ => None,
            },
            volume: volume::Directory::look(engine, fault).await?,
            containers: containers::Running::look(engine, fault).await?,
            state,
        };
        let vantages = Vantage::all_for(engine, fault, peers).await?;
        let mut all = Self { fault: fault.clone(), before, vantages, baseline: Vec::new(), dismissed: Vec::new() };
        let said = all.ask(engine, Checkpoint::Baseline).await;
        let (seeing, blind): (Vec<_>, Vec<_>) =
            all.vantages.iter().cloned().zip(said).partition(|(_, testimony)| testimony.effect.is_some());
        (all.vantages, all.baseline) = seeing.into_iter().unzip();
        all.dismissed = blind.into_iter().map(|(_, testimony)| testimony).collect();
        let stored = fault.spec.store_left().is_some() || all.before.member.is_some();
        let blind_to_it =
            stored && !all.vantages.iter().any(|vantage| matches!(vantage, Vantage::Store | Vantage::Member));
        if blind_to_it || all.vantages.iter().all(|vantage| matches!(vantage, Vantage::Engine)) {
            let why: Vec<_> = all.dismissed.iter().map(|w| format!("{}: {}", w.what, w.seen)).collect();
            return Err(Error::could_not_run(format!(
                "nobody {} could say whether {} is broken ({})",
                if blind_to_it { "who sees its store" } else { "but the engine, at the most," },
                fault.node.name,
                why.join("; ")
            )));
        }
        Ok(all)
    }

    /// What the witnesses said before the fault. The fault may go in only if none of them sees its effect.
    pub fn baseline(&self) -> &[Witness] {
        &self.baseline
    }

    /// The witnesses that could not look in the baseline, and why. They are not asked again.
    pub fn dismissed(&self) -> &[Witness] {
        &self.dismissed
    }

    /// How long the witnesses may take to agree that the effect is there.
    ///
    /// A lost store shows only once etcd serves from another one, and a certificate only once the API server that shows
    /// it has started. The node may have to boot before that.
    pub fn agree_within(&self) -> Duration {
        match self.fault.spec {
            _ if self.fault.spec.store_left().is_some() => AGREE_ON_START,
            // A namespace goes when all that is in it is gone.
            FaultSpec::DeleteNamespace {} => AGREE_ON_START,
            // Whoever provides volumes may be waiting to be started again.
            FaultSpec::Delete { reclaim: Some(_), .. } => AGREE_ON_START,
            FaultSpec::CertificateExpired { of: CertificateOf::KubeApiserver | CertificateOf::EtcdPeer, .. } => {
                AGREE_ON_START
            }
            _ => AGREE,
        }
    }

    /// Asks all witnesses at the same time. Each takes at most a few seconds.
    ///
    /// A restart heals itself: after its undo the witnesses are asked whether the node is still down. A kubelet needs a
    /// few seconds to answer again after an undo, so the caller has to ask again then.
    pub async fn ask(&self, engine: &Engine, checkpoint: Checkpoint) -> Vec<Witness> {
        futures::future::join_all(self.vantages.iter().map(|vantage| self.hear(engine, vantage, checkpoint))).await
    }

    async fn hear(&self, engine: &Engine, vantage: &Vantage, checkpoint: Checkpoint) -> Witness {
        let node = &self.fault.node.name;
        let from = Mono::now();
        let (what, (seen, effect)) = match vantage {
            Vantage::Engine => {
                (format!("state of {node}, as the engine says"), self.by_engine(engine, checkpoint).await)
            }
            Vantage::Host => {
                (format!("processes of {node}, as the host's kernel says"), self.by_host(checkpoint).await)
            }
            Vantage::Systemd => {
                (format!("the kubelet's unit, as systemd of {node} says"), self.by_systemd(engine).await)
            }
            Vantage::CommandLine => {
                (format!("command lines in {node}"), self.by_command_line(engine, checkpoint).await)
            }
            Vantage::Store => (format!("what etcd of {node} has, as its own tool says"), self.by_store(engine).await),
            Vantage::Member => {
                (format!("what etcd of {node} has, as it and the disk say"), self.by_member(engine).await)
            }
            Vantage::Volume => (format!("volume on {node}"), self.by_volume(engine).await),
            Vantage::Containers => {
                (format!("the workload's containers on {node}"), self.by_containers(engine, checkpoint).await)
            }
            Vantage::Filter => (
                format!("packet filter of {node}"),
                packet_filter::testimony(engine, &self.fault.node, self.port()).await,
            ),
            Vantage::Inside => (format!("API server of its kubelet, asked from {node}"), self.by_itself(engine).await),
            Vantage::Beyond(peer, address) => {
                let asked = curl(engine, &self.fault.node, &["--insecure"], address, KUBELET_PORT).await;
                let seen = asked.map_or_else(|e| (e.to_string(), None), answered);
                (format!("kubelet of {}, asked from {node}", peer.name), seen)
            }
            Vantage::Object(operator, stored) => {
                (format!("{} in etcd of {}", stored.what(), operator.name), stored.testimony(engine, operator).await)
            }
            Vantage::Question(operator, asked) => {
                (format!("{} asked in {}", asked.what(), operator.name), asked.testimony(engine, operator).await)
            }
            Vantage::Verifier(peer) => {
                let shown_by =
                    if self.fault.spec.component() == Some(Component::Etcd) { "etcd" } else { "the API server" };
                let what = format!("certificate of {shown_by} of {node}, looked at from {}", peer.name);
                (what, self.by_verifier(engine, peer).await)
            }
            Vantage::User => (
                format!("API server of {node}, asked from outside of the cluster"),
                outside_client::asks(engine, &self.fault.node).await,
            ),
            Vantage::Ways(ways) => (format!("ways to and from {node}, and past it"), ways.testimony(engine).await),
            Vantage::Loss(peer, share) => {
                let seen = match &self.before.address {
                    Some(address) => packet_loss::seen_from(engine, peer, address, *share).await,
                    None => ("the node has no address".into(), None),
                };
                (format!("connections to {node}, opened from {}", peer.name), seen)
            }
            Vantage::Peer(peer) => {
                let asked = if self.fault.spec.component().is_some() { "API server" } else { "kubelet" };
                (format!("{asked} of {node}, asked from {}", peer.name), self.by_peer(engine, peer).await)
            }
        };
        Witness { what, seen, effect, from, to: Mono::now() }
    }

    /// Is the node started once more while it is looked at?
    async fn by_next_start(&self, engine: &Engine) -> Testimony {
        let (begin, mut first) = (Mono::now(), None);
        loop {
            let now = match engine.state(&self.fault.node).await {
                Ok(now) => now.started_at,
                Err(e) => return (e.to_string(), None),
            };
            if now != self.before.state.started_at {
                let first = first.get_or_insert_with(|| now.clone());
                if *first != now {
                    return (format!("started at {first}, and again at {now}"), Some(true));
                }
            }
            if Mono::now().since(begin) > NEXT_START {
                return (format!("started at {now}, and not again for {} s", NEXT_START.as_secs()), Some(false));
            }
            tokio::time::sleep(ASK_FOR_A_START).await;
        }
    }

    async fn by_engine(&self, engine: &Engine, checkpoint: Checkpoint) -> Testimony {
        if matches!(self.fault.spec, FaultSpec::RestartLoop { .. })
            && matches!(checkpoint, Checkpoint::Injected | Checkpoint::WindowEnd)
        {
            return self.by_next_start(engine).await;
        }
        let now = match engine.state(&self.fault.node).await {
            Ok(now) => now,
            Err(e) => return (e.to_string(), None),
        };
        let seen = match now.pid {
            0 => format!("{}, exit code {}", now.status, now.exit_code),
            pid => format!("{}, pid {pid}, started at {}", now.status, now.started_at),
        };
        let running = now.status == "running" && now.pid != 0;
        let effect = match &self.fault.spec {
            FaultSpec::PowerOff { .. } | FaultSpec::Stop { .. } => !running && now.status != "paused",
            FaultSpec::Pause { .. } => now.status == "paused",
            FaultSpec::Restart { .. } if checkpoint == Checkpoint::Undone => !running,
            FaultSpec::RestartLoop { .. } => !running,
            FaultSpec::Restart { .. } => {
                running && now.pid != self.before.state.pid && now.started_at != self.before.state.started_at
            }
            _ => return ("it does not look into nodes".into(), None),
        };
        (seen, Some(effect))
    }

    async fn by_host(&self, checkpoint: Checkpoint) -> Testimony {
        let (id, spec, before) = (self.fault.node.id.clone(), self.fault.spec.clone(), self.before.processes);
        let look = move || host::testimony(&id, &spec, before, checkpoint);
        tokio::task::spawn_blocking(look).await.unwrap_or_else(|e| (e.to_string(), None))
    }

    /// Has the kubelet's unit started the kubelet again since its watchdog was set?
    async fn by_systemd(&self, engine: &Engine) -> Testimony {
        let argv = ["systemctl", "show", "kubelet", "--property=WatchdogUSec", "--property=NRestarts"];
        match engine.exec(&self.fault.node, &argv, None, LOOK).await {
            Ok(output) if output.code == 0 => watched(&String::from_utf8_lossy(&output.stdout)),
            Ok(output) => (output.stderr, None),
            Err(e) => (e.to_string(), None),
        }
    }

    async fn by_command_line(&self, engine: &Engine, checkpoint: Checkpoint) -> Testimony {
        match &self.fault.spec {
            FaultSpec::ComponentFlag { component, flag, .. } => {
                command_lines::testimony(engine, &self.fault.node, *component, flag, checkpoint).await
            }
            _ => ("it was not to look at a flag".into(), None),
        }
    }

    /// Does etcd hold what it held before? An etcd that is still starting does not show that it has lost anything.
    async fn by_store(&self, engine: &Engine) -> Testimony {
        let now = match Store::look(engine, &self.fault.node).await {
            Ok(now) => now,
            Err(e) => return (e.to_string(), None),
        };
        match self.fault.spec.store_left() {
            Some(left) => store::held_against(&self.before.store, &now, left),
            None => ("it was not to look at a store".into(), None),
        }
    }

    /// Is the volume lost as it was to be?
    async fn by_volume(&self, engine: &Engine) -> Testimony {
        let FaultSpec::VolumeLoss { left, .. } = self.fault.spec else {
            return ("it was not to look at a volume".into(), None);
        };
        match volume::Directory::look(engine, &self.fault).await {
            Ok(now) => volume::held_against(self.before.volume.as_ref(), now.as_ref(), left),
            Err(e) => (e.to_string(), None),
        }
    }

    async fn by_containers(&self, engine: &Engine, checkpoint: Checkpoint) -> Testimony {
        match containers::Running::look(engine, &self.fault).await {
            Ok(now) => containers::held_against(self.before.containers.as_ref(), now.as_ref(), checkpoint),
            Err(e) => (e.to_string(), None),
        }
    }

    async fn by_member(&self, engine: &Engine) -> Testimony {
        let before = self.before.member.as_ref();
        match (before, Member::look(engine, &self.fault.node, before).await) {
            (Some(before), Ok(now)) => member::held_against(before, &now),
            (None, _) => ("it was not looked at before".into(), None),
            (_, Err(e)) => (e.to_string(), None),
        }
    }

    /// The port whose packets the partition drops; `None` if it is not limited to one port.
    fn port(&self) -> Option<u16> {
        match self.fault.spec {
            FaultSpec::Partition { drops: Dropped::ToApi | Dropped::FromUsers, .. } => Some(API_PORT),
            FaultSpec::Partition { drops: Dropped::ToKubelet, .. } => Some(KUBELET_PORT),
            FaultSpec::Partition { drops: Dropped::ToEtcd, .. } => Some(PEER_PORT),
            _ => None,
        }
    }

    async fn by_itself(&self, engine: &Engine) -> Testimony {
        match engine.exec(&self.fault.node, &["sh", "-c", &[API_OF_KUBELET, ASK_API].concat()], None, LOOK).await {
            Ok(output) => answered(output.code),
            Err(e) => (e.to_string(), None),
        }
    }

    async fn by_peer(&self, engine: &Engine, peer: &NodeId) -> Testimony {
        let Some(address) = &self.before.address else { return ("the node has no address".into(), None) };
        let port = if self.fault.spec.component().is_some() { API_PORT } else { KUBELET_PORT };
        match curl(engine, peer, &["--insecure"], address, port).await {
            Ok(code) => answered(code),
            Err(e) => (e.to_string(), None),
        }
    }

    /// Does a peer that verifies the certificate of the API server, or of the member of etcd, accept it?
    async fn by_verifier(&self, engine: &Engine, peer: &NodeId) -> Testimony {
        let Some(address) = &self.before.address else { return ("the node has no address".into(), None) };
        let (how, port) = match self.fault.spec {
            FaultSpec::CertificateExpired { of: CertificateOf::EtcdPeer, .. } => (&AS_MEMBER[..], PEER_PORT),
            _ => (&["--cacert", AUTHORITY][..], API_PORT),
        };
        match curl(engine, peer, how, address, port).await {
            Ok(code) => verified(code),
            Err(e) => (e.to_string(), None),
        }
    }
}

/// Reads what systemd shows of a unit. Setting a watchdog restarts the unit, which resets its number of restarts.
fn watched(shown: &str) -> Testimony {
    let of = |name: &str| shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let (Some(watchdog), Some(Ok(restarts))) = (of("WatchdogUSec"), of("NRestarts").map(str::parse::<u64>)) else {
        return ("it does not say".into(), None);
    };
    let set = !matches!(watchdog, "" | "0" | "infinity");
    (format!("watchdog {watchdog}, started again {restarts} times"), Some(set && restarts > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_counts_for_a_watchdog_only_if_one_is_set() {
        assert_eq!(watched("WatchdogUSec=6s\nNRestarts=1\n").1, Some(true));
        assert_eq!(watched("WatchdogUSec=6s\nNRestarts=0\n").1, Some(false));
        assert_eq!(watched("NRestarts=3\nWatchdogUSec=0\n").1, Some(false));
        assert_eq!(watched("NRestarts=\n").1, None);
    }
}
