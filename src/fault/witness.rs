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
mod connections;
mod containers;
mod member;
mod outside_client;
mod packet_loss;
mod reachability;
mod store;
mod stored_in_etcd;
mod volume;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::clock::Mono;
use crate::cluster::docker::{ContainerState, Engine};
use crate::cluster::{API_OF_KUBELET, host_processes};
use crate::component::Component;
use crate::error::{Error, Result};
use crate::event::{Checkpoint, Witness};
use crate::node::NodeId;
use crate::plan::PlannedFault;
use crate::scenario::{CertificateOf, Dropped, FaultSpec, Flag, Percent, Place, StoreOfRestarted};

use self::asked_of_api::Question;
use self::member::Member;
use self::reachability::Ways;
use self::store::Store;
use self::stored_in_etcd::Stored;

/// How many other nodes are asked. A single one could be ill itself; more than two add cost and no certainty.
const PEERS: usize = 2;
/// Time for a peer's whole look; `curl` itself takes at most 2 s.
const LOOK: Duration = Duration::from_secs(10);
/// A kubelet that has lived this long is no longer kept from its work.
const AT_WORK: Duration = Duration::from_secs(5);
/// A node that has lived this long is in no restart loop, where it would have been killed before.
const OUT_OF_THE_LOOP: Duration = Duration::from_secs(4);
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
/// Reads the packet filter. If it has a chain of ours, reads it once more after the other witnesses have sent their
/// packets.
const COUNTERS: &str = "set -e
save() { iptables-save --counters -t filter; ip6tables-save --counters -t filter 2>/dev/null || :; }
before=$(save)
echo \"$before\"
case $before in *kchaos-*) sleep 2; echo ----; save ;; esac";
/// Prints the command lines of a component's processes, one per line. If there is no process, prints whether one of the
/// component's containers was started with this flag: the absence of a process alone does not show that the flag was
/// tried.
const COMMAND_LINES: &str = r#"lines=$(for pid in $(pgrep -f "^$1( |\$)"); do tr '\0' ' ' <"/proc/$pid/cmdline" && echo; done 2>/dev/null)
[ -z "$lines" ] || { echo "$lines"; exit 0; }
for id in $(ctr -n k8s.io containers ls -q "labels.\"io.kubernetes.container.name\"==$1"); do
	! ctr -n k8s.io containers info "$id" | grep -qFe "\"$2\"" || { echo "$1 $2"; exit 0; }
done
"#;
/// The certificate authority that a kubelet trusts. kubeadm leaves this file on every node.
const AUTHORITY: &str = "/etc/kubernetes/pki/ca.crt";
/// How `curl` introduces itself to a member of etcd: as another member, with what kubeadm has put into its node.
/// Members speak HTTP/1.1 with each other: their listener offers HTTP/2 and then drops it.
const AS_MEMBER: [&str; 7] = [
    "--http1.1",
    "--cacert",
    "/etc/kubernetes/pki/etcd/ca.crt",
    "--cert",
    "/etc/kubernetes/pki/etcd/peer.crt",
    "--key",
    "/etc/kubernetes/pki/etcd/peer.key",
];
/// A file that kubeadm leaves on every control plane.
const API_MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
const ETCD_MANIFEST: &str = "/etc/kubernetes/manifests/etcd.yaml";
/// A file that kubeadm leaves on every node that runs a kubelet.
const KUBELET_CONFIG: &str = "/var/lib/kubelet/config.yaml";

/// The witnesses of one fault.
#[derive(Debug)]
pub struct Witnesses {
    fault: PlannedFault,
    before: Before,
    posts: Vec<Post>,
    baseline: Vec<Witness>,
    dismissed: Vec<Witness>,
}

/// The target before the fault: what distinguishes its old life from a new one, and the address to ask at when the
/// engine has forgotten it.
#[derive(Debug)]
struct Before {
    state: ContainerState,
    init: Option<host_processes::Process>,
    kubelet: Option<host_processes::Process>,
    component: Option<host_processes::Process>,
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

#[derive(Debug, Clone)]
enum Post {
    Engine,
    Host,
    /// The node's own systemd.
    Systemd,
    /// The node's packet filter.
    Filter,
    /// The node's own list of processes.
    CommandLine,
    /// The node's etcd, asked without going through the API server.
    Store,
    /// The same, and the data of its etcd on the node's disk.
    Member,
    /// The node's disk, and what a process of the workload sees of it.
    Volume,
    /// The node's own list of processes, and which of them are a workload's containers.
    Containers,
    /// The node itself, asking the API server.
    Inside,
    /// The node itself, asking the kubelet of a node that it is cut off from, at this address.
    Beyond(NodeId, String),
    /// Another node: does anything answer?
    Peer(NodeId),
    /// All nodes of a partition: who reaches whom?
    Ways(Ways),
    /// Another node, which opens many connections: are some of their packets lost?
    Loss(NodeId, Percent),
    /// Another node, which verifies the certificate of the API server.
    Verifier(NodeId),
    /// A user outside of the cluster, as kchaos is one: does the API server answer?
    User,
    /// The etcd of the operator's node, asked for what the fault changes there without going through the API server.
    Object(NodeId, Stored),
    /// An API server, asked from the operator's node.
    Question(NodeId, Question),
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
            init: host_processes::Process::of(state.pid, &fault.node.id),
            kubelet: host_processes::named(&fault.node.id, KUBELET).first().map(|fares| fares.process),
            component: fault.spec.component().and_then(|component| {
                host_processes::named(&fault.node.id, component.comm()).first().map(|fares| fares.process)
            }),
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
        let mut posts = match fault.spec {
            FaultSpec::Restart { store: StoreOfRestarted::Lost, .. } => vec![Post::Engine, Post::Host, Post::Store],
            FaultSpec::PowerOff { .. }
            | FaultSpec::Stop { .. }
            | FaultSpec::Pause { .. }
            | FaultSpec::Restart { .. }
            | FaultSpec::RestartLoop { .. } => vec![Post::Engine, Post::Host],
            FaultSpec::KubeletStop { .. }
            | FaultSpec::KubeletFreeze { .. }
            | FaultSpec::KubeletKill { .. }
            | FaultSpec::KubeletCrash { .. }
            | FaultSpec::KubeletConfig { .. }
            | FaultSpec::ComponentDown { .. }
            | FaultSpec::ComponentKill { .. }
            | FaultSpec::ComponentFreeze { .. } => vec![Post::Host],
            FaultSpec::ComponentFlag { .. } => vec![Post::Host, Post::CommandLine],
            FaultSpec::StoreLoss { .. } => vec![Post::Host, Post::Store],
            FaultSpec::MemberLoss { .. } => vec![Post::Host, Post::Member],
            FaultSpec::Partition { drops: Dropped::ToKubelet | Dropped::ToEtcd, .. } => vec![Post::Filter],
            FaultSpec::Partition { drops: Dropped::ToApi, .. } => vec![Post::Filter, Post::Inside],
            FaultSpec::Partition { drops: Dropped::FromUsers, .. } => vec![Post::Filter, Post::User],
            FaultSpec::Partition { .. } => {
                // A peer that another fault breaks is silent, whatever this fault does.
                let whole: Vec<_> = fault.peers.iter().filter(|peer| peers.contains(peer)).cloned().collect();
                let beyond = reachable(engine, &whole).await?.map(|(peer, at)| Post::Beyond(peer, at));
                // A control plane's kubelet asks the API server beside it, and can't be cut off from that one.
                let beside = has(engine, &fault.node, API_MANIFEST).await;
                let inside = (!beside && any_has(engine, &whole, API_MANIFEST).await).then_some(Post::Inside);
                [Post::Filter].into_iter().chain(inside).chain(beyond).collect()
            }
            FaultSpec::PacketLoss { percent, .. } => {
                let peer = fault.peers.iter().find(|peer| peers.contains(peer));
                [Post::Filter].into_iter().chain(peer.map(|peer| Post::Loss(peer.clone(), percent))).collect()
            }
            FaultSpec::CertificateExpired { of: CertificateOf::Kubelet, .. } => vec![Post::Host],
            FaultSpec::CertificateExpired { of: CertificateOf::KubeApiserver, .. } => {
                let verifiers = peers.iter().filter(|p| **p != fault.node).take(PEERS);
                verifiers.cloned().map(Post::Verifier).collect()
            }
            FaultSpec::CertificateExpired { of: CertificateOf::EtcdPeer, .. } => {
                // Connections that exist go on until etcd is killed, so that is looked at, too.
                let mut members = vec![Post::Host];
                for peer in peers.iter().filter(|peer| **peer != fault.node) {
                    if members.len() <= PEERS && has(engine, peer, ETCD_MANIFEST).await {
                        members.push(Post::Verifier(peer.clone()));
                    }
                }
                members
            }
            FaultSpec::VolumeLoss { .. } => vec![Post::Volume],
            FaultSpec::ContainerKill { .. } => vec![Post::Containers],
            FaultSpec::Drain { .. }
            | FaultSpec::Delete { .. }
            | FaultSpec::DeleteNamespace {}
            | FaultSpec::DeleteBinding { .. }
            | FaultSpec::DeadWebhook { .. } => {
                let operator = || fault.operator.clone();
                let stored = operator().zip(Stored::of(fault)).map(|(node, stored)| Post::Object(node, stored));
                let asked = operator().zip(Question::of(fault)).map(|(node, asked)| Post::Question(node, asked));
                stored.into_iter().chain(asked).collect()
            }
        };
        posts.extend(Ways::of(engine, fault, peers).await?.map(Post::Ways));
        // A new kubelet does not prove that the watchdog works: setting the watchdog restarts the unit, too.
        if matches!(fault.spec, FaultSpec::KubeletFreeze { watchdog: true, .. }) {
            posts.push(Post::Systemd);
        }
        // A node that starts again may answer, and a crashing kubelet answers now and then: other nodes see no lasting
        // effect.
        let silent = match fault.spec {
            FaultSpec::KubeletCrash { .. }
            | FaultSpec::ComponentFlag { .. }
            | FaultSpec::StoreLoss { .. }
            | FaultSpec::Restart { .. }
            | FaultSpec::RestartLoop { .. }
            | FaultSpec::VolumeLoss { .. }
            | FaultSpec::PacketLoss { .. }
            | FaultSpec::CertificateExpired { of: CertificateOf::KubeApiserver | CertificateOf::EtcdPeer, .. }
            | FaultSpec::Partition { drops: Dropped::ToApi | Dropped::ToEtcd | Dropped::FromUsers, .. } => false,
            _ if fault.spec.place() == Place::Api => false,
            // API servers are the only components that other nodes ask.
            _ if fault.spec.component().is_some_and(|component| component != Component::KubeApiserver) => false,
            _ => !fault.spec.heals_itself(),
        };
        // A peer that is not cut off still gets answers.
        let deaf = |peer: &&NodeId| **peer != fault.node && (fault.peers.is_empty() || fault.peers.contains(peer));
        if silent && has(engine, &fault.node, KUBELET_CONFIG).await {
            posts.extend(peers.iter().filter(deaf).take(PEERS).cloned().map(Post::Peer));
        }
        let mut all = Self { fault: fault.clone(), before, posts, baseline: Vec::new(), dismissed: Vec::new() };
        let said = all.ask(engine, Checkpoint::Baseline).await;
        let (seeing, blind): (Vec<_>, Vec<_>) =
            all.posts.iter().cloned().zip(said).partition(|(_, testimony)| testimony.effect.is_some());
        (all.posts, all.baseline) = seeing.into_iter().unzip();
        all.dismissed = blind.into_iter().map(|(_, testimony)| testimony).collect();
        let stored = fault.spec.store_left().is_some() || all.before.member.is_some();
        let blind_to_it = stored && !all.posts.iter().any(|post| matches!(post, Post::Store | Post::Member));
        if blind_to_it || all.posts.iter().all(|post| matches!(post, Post::Engine)) {
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
        futures::future::join_all(self.posts.iter().map(|post| self.hear(engine, post, checkpoint))).await
    }

    async fn hear(&self, engine: &Engine, post: &Post, checkpoint: Checkpoint) -> Witness {
        let node = &self.fault.node.name;
        let from = Mono::now();
        let (what, (seen, effect)) = match post {
            Post::Engine => (format!("state of {node}, as the engine says"), self.by_engine(engine, checkpoint).await),
            Post::Host => (format!("processes of {node}, as the host's kernel says"), self.by_host(checkpoint).await),
            Post::Systemd => (format!("the kubelet's unit, as systemd of {node} says"), self.by_systemd(engine).await),
            Post::CommandLine => (format!("command lines in {node}"), self.by_command_line(engine, checkpoint).await),
            Post::Store => (format!("what etcd of {node} has, as its own tool says"), self.by_store(engine).await),
            Post::Member => (format!("what etcd of {node} has, as it and the disk say"), self.by_member(engine).await),
            Post::Volume => (format!("volume on {node}"), self.by_volume(engine).await),
            Post::Containers => {
                (format!("the workload's containers on {node}"), self.by_containers(engine, checkpoint).await)
            }
            Post::Filter => (format!("packet filter of {node}"), self.by_filter(engine).await),
            Post::Inside => (format!("API server of its kubelet, asked from {node}"), self.by_itself(engine).await),
            Post::Beyond(peer, address) => {
                let asked = curl(engine, &self.fault.node, &["--insecure"], address, KUBELET_PORT).await;
                let seen = asked.map_or_else(|e| (e.to_string(), None), answered);
                (format!("kubelet of {}, asked from {node}", peer.name), seen)
            }
            Post::Object(operator, stored) => {
                (format!("{} in etcd of {}", stored.what(), operator.name), stored.testimony(engine, operator).await)
            }
            Post::Question(operator, asked) => {
                (format!("{} asked in {}", asked.what(), operator.name), asked.testimony(engine, operator).await)
            }
            Post::Verifier(peer) => {
                let shown_by =
                    if self.fault.spec.component() == Some(Component::Etcd) { "etcd" } else { "the API server" };
                let what = format!("certificate of {shown_by} of {node}, looked at from {}", peer.name);
                (what, self.by_verifier(engine, peer).await)
            }
            Post::User => (
                format!("API server of {node}, asked from outside of the cluster"),
                outside_client::asks(engine, &self.fault.node).await,
            ),
            Post::Ways(ways) => (format!("ways to and from {node}, and past it"), ways.testimony(engine).await),
            Post::Loss(peer, share) => {
                let seen = match &self.before.address {
                    Some(address) => packet_loss::seen_from(engine, peer, address, *share).await,
                    None => ("the node has no address".into(), None),
                };
                (format!("connections to {node}, opened from {}", peer.name), seen)
            }
            Post::Peer(peer) => {
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

    /// Reads the host's `/proc`. That is worth something only if the node was seen there before the fault.
    async fn by_host(&self, checkpoint: Checkpoint) -> Testimony {
        let Some(init) = self.before.init else { return ("the node's processes can't be seen from here".into(), None) };
        let (id, pid, kubelet) = (self.fault.node.id.clone(), self.before.state.pid, self.before.kubelet);
        let had = self.before.component;
        let spec = self.fault.spec.clone();
        let look = move || match spec {
            FaultSpec::Restart { .. } if checkpoint != Checkpoint::Undone => match init.lives() {
                true => (format!("its init is the one it was, pid {pid}"), Some(false)),
                false => (format!("the init it had, pid {pid}, is gone"), Some(true)),
            },
            FaultSpec::RestartLoop { .. } if init.lives() => {
                (format!("its init is the one it was, pid {pid}"), Some(false))
            }
            FaultSpec::RestartLoop { .. } => match host_processes::oldest(&id) {
                None => ("no process".to_owned(), Some(true)),
                Some(age) => {
                    let seen = format!("its oldest process has lived for {:.1} s", age.as_secs_f64());
                    (seen, Some(age < OUT_OF_THE_LOOP))
                }
            },
            FaultSpec::PowerOff { .. } | FaultSpec::Stop { .. } | FaultSpec::Restart { .. } => {
                let count = host_processes::processes(&id);
                (format!("{count} processes"), Some(count == 0))
            }
            FaultSpec::Pause { .. } => match host_processes::is_frozen(pid, &id) {
                Some(frozen) => ((if frozen { "frozen" } else { "not frozen" }).to_owned(), Some(frozen)),
                None => ("its freezer can't be read".to_owned(), None),
            },
            FaultSpec::KubeletFreeze { watchdog: true, .. } | FaultSpec::KubeletKill { restart: true, .. }
                if checkpoint != Checkpoint::Undone =>
            {
                match kubelet {
                    Some(kubelet) if kubelet.lives() => {
                        (format!("its kubelet is the one it was, {kubelet}"), Some(false))
                    }
                    Some(kubelet) => (format!("the kubelet it had, {kubelet}, is gone"), Some(true)),
                    None => ("it had no kubelet before".to_owned(), None),
                }
            }
            FaultSpec::KubeletStop { .. }
            | FaultSpec::KubeletKill { .. }
            | FaultSpec::KubeletFreeze { watchdog: true, .. } => {
                let count = host_processes::named(&id, KUBELET).len();
                (format!("{count} processes of a kubelet"), Some(count == 0))
            }
            FaultSpec::KubeletFreeze { watchdog: false, .. } => {
                let kubelets = host_processes::named(&id, KUBELET);
                let stopped = kubelets.iter().filter(|kubelet| kubelet.stopped).count();
                let seen = format!("{stopped} of {} processes of a kubelet are stopped", kubelets.len());
                (seen, Some(stopped > 0 && stopped == kubelets.len()))
            }
            FaultSpec::ComponentKill { .. }
            | FaultSpec::StoreLoss { .. }
            | FaultSpec::CertificateExpired { of: CertificateOf::EtcdPeer, .. }
                if checkpoint != Checkpoint::Undone =>
            {
                match had {
                    Some(had) if had.lives() => (format!("the process it had, {had}, is there"), Some(false)),
                    Some(had) => (format!("the process it had, {had}, is gone"), Some(true)),
                    None => ("it had no process before".to_owned(), None),
                }
            }
            FaultSpec::StoreLoss { .. }
            | FaultSpec::MemberLoss { .. }
            | FaultSpec::CertificateExpired { of: CertificateOf::EtcdPeer, .. } => {
                let count = host_processes::named(&id, Component::Etcd.comm()).len();
                (format!("{count} processes of etcd"), Some(count == 0))
            }
            FaultSpec::ComponentDown { component, .. } | FaultSpec::ComponentKill { component, .. } => {
                let count = host_processes::named(&id, component.comm()).len();
                (format!("{count} processes of {}", component.name()), Some(count == 0))
            }
            FaultSpec::ComponentFreeze { component, .. } => {
                let all = host_processes::named(&id, component.comm());
                let stopped = all.iter().filter(|process| process.stopped).count();
                let seen = format!("{stopped} of {} processes of {} are stopped", all.len(), component.name());
                (seen, Some(stopped > 0 && stopped == all.len()))
            }
            FaultSpec::ComponentFlag { component, flag, .. } => {
                let all =
                    host_processes::named(&id, component.comm()).into_iter().map(|fares| fares.process.arguments());
                has_flag(component, &flag, &all.collect::<Vec<_>>())
            }
            FaultSpec::KubeletCrash { .. }
            | FaultSpec::KubeletConfig { .. }
            | FaultSpec::CertificateExpired { of: CertificateOf::Kubelet, .. } => {
                match host_processes::named(&id, KUBELET).iter().map(|kubelet| kubelet.age).max() {
                    None => ("there is no kubelet".to_owned(), Some(true)),
                    Some(age) => (format!("its kubelet is {:.1} s old", age.as_secs_f64()), Some(age < AT_WORK)),
                }
            }
            _ => ("it can't be seen from here".to_owned(), None),
        };
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
        let FaultSpec::ComponentFlag { component, flag, .. } = &self.fault.spec else {
            return ("it was not to look at a flag".into(), None);
        };
        let flag_text = flag.to_string();
        let argv = ["sh", "-c", COMMAND_LINES, "sh", component.name(), &flag_text];
        match engine.exec(&self.fault.node, &argv, None, LOOK).await {
            Ok(output) if output.code == 0 => {
                let text = String::from_utf8_lossy(&output.stdout);
                let lines: Vec<Vec<String>> =
                    text.lines().map(|line| line.split(' ').map(str::to_owned).collect()).collect();
                match has_flag(*component, flag, &lines) {
                    // The kubelet takes its time to start the component with the flag. By the end of the window it must
                    // have done so.
                    (seen, _) if checkpoint == Checkpoint::WindowEnd && lines.iter().all(|line| is_gone(line)) => {
                        (format!("{seen}, and no container of it has had it"), None)
                    }
                    testimony => testimony,
                }
            }
            Ok(output) => (output.stderr, None),
            Err(e) => (e.to_string(), None),
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

    async fn by_filter(&self, engine: &Engine) -> Testimony {
        let argv = ["sh", "-c", COUNTERS];
        match engine.exec(&self.fault.node, &argv, None, LOOK).await {
            Ok(output) if output.code == 0 => dropped(&String::from_utf8_lossy(&output.stdout), self.port()),
            Ok(output) => (output.stderr, None),
            Err(e) => (e.to_string(), None),
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

/// Asks an address from a node and returns the exit code of `curl`. Any HTTP answer will do, including a refusal.
/// Connections are accepted by the other kernel, which needs no second for that; the answer comes from a process.
async fn curl(engine: &Engine, from: &NodeId, how: &[&str], address: &str, port: u16) -> Result<i64> {
    let url = format!("https://{address}:{port}/healthz");
    let always =
        ["curl", "--silent", "--noproxy", "*", "--connect-timeout", "1", "--max-time", "2", "--output", "/dev/null"];
    let argv = [&always[..], how, &["--", &url]].concat();
    engine.exec(from, &argv, None, LOOK).await.map(|output| output.code)
}

/// Does every process of a component have the flag? A component that can't live with the flag runs only at times, or
/// not at all.
fn has_flag(component: Component, flag: &Flag, command_lines: &[Vec<String>]) -> Testimony {
    let flag = flag.to_string();
    let all = command_lines.iter().filter(|words| !is_gone(words)).count();
    let with = command_lines.iter().filter(|words| words.contains(&flag)).count();
    (format!("{with} of {all} processes of {} have {flag}", component.name()), Some(with == all))
}

/// Is this the command line of a process that has just ended?
fn is_gone(words: &[String]) -> bool {
    words.iter().all(String::is_empty)
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

/// Reads what a packet filter says of our chains. The effect is there if other chains jump to ours, and those of our
/// rules that name this port (or, without a `port`, name none) drop more packets from one reading to the next.
fn dropped(saved: &str, port: Option<u16>) -> Testimony {
    let (before, after) = saved.split_once("\n----\n").unwrap_or((saved, ""));
    if !before.contains("*filter") {
        return ("the packet filter can't be read".into(), None);
    }
    let (asked, packets) = our_chains(before, port);
    if asked == 0 {
        return ("no chain of ours is asked".into(), Some(false));
    }
    let (still_asked, more) = our_chains(after, port);
    let rising = still_asked > 0 && more > packets;
    (format!("{packets} packets were dropped, and then {more}"), rising.then_some(true))
}

/// Counts the jumps to chains of ours that have such rules, and the packets that those rules have dropped.
fn our_chains(saved: &str, port: Option<u16>) -> (usize, u64) {
    // `[PACKETS:BYTES] -A CHAIN … -j VERDICT`
    let rules = || saved.lines().filter_map(|line| line.strip_prefix('[')?.split_once("] "));
    let wanted = port.map_or_else(|| "--dport ".to_owned(), |port| format!("--dport {port} "));
    let drops = |rule: &&str| {
        rule.starts_with("-A kchaos-") && rule.ends_with(" -j DROP") && rule.contains(&wanted) == port.is_some()
    };
    let chains: BTreeSet<&str> =
        rules().map(|(_, rule)| rule).filter(drops).filter_map(|rule| rule.split(' ').nth(1)).collect();
    let asked = rules().filter_map(|(_, rule)| rule.rsplit_once(" -j ")).filter(|(_, to)| chains.contains(to)).count();
    let dropped = rules()
        .filter(|(_, rule)| drops(rule))
        .filter_map(|(counters, _)| counters.split(':').next()?.parse::<u64>().ok());
    (asked, dropped.sum())
}

/// Returns the first of these nodes that has a kubelet, and its address.
async fn reachable(engine: &Engine, peers: &[NodeId]) -> Result<Option<(NodeId, String)>> {
    for peer in peers {
        if has(engine, peer, KUBELET_CONFIG).await
            && let Some(address) = engine.state(peer).await?.addresses.into_values().next()
        {
            return Ok(Some((peer.clone(), address)));
        }
    }
    Ok(None)
}

async fn any_has(engine: &Engine, nodes: &[NodeId], file: &str) -> bool {
    futures::future::join_all(nodes.iter().map(|node| has(engine, node, file))).await.contains(&true)
}

/// Does the node have this file? A node without a kubelet's file (a load balancer, a container in a test) has no
/// kubelet that could fall silent.
async fn has(engine: &Engine, node: &NodeId, file: &str) -> bool {
    engine.exec(node, &["test", "-e", file], None, LOOK).await.is_ok_and(|output| output.code == 0)
}

/// Reads `curl`'s exit code.
fn answered(code: i64) -> Testimony {
    let (seen, effect) = match code {
        0 => ("it answers", Some(false)),
        7 => ("no connection", Some(true)),
        28 => ("no answer in time", Some(true)),
        // Something accepts connections and breaks them off.
        35 | 52 | 56 => ("it answers, and breaks the connection off", Some(false)),
        126 | 127 => ("there is no curl", None),
        _ => ("curl could not look", None),
    };
    (format!("{seen} (curl code {code})"), effect)
}

/// Reads the exit code of a `curl` that was told which certificate authority to trust.
fn verified(code: i64) -> Testimony {
    let (seen, effect) = match code {
        0 => ("it is good", Some(false)),
        60 => ("it is not", Some(true)),
        _ => ("it could not be looked at", None),
    };
    (format!("{seen} (curl code {code})"), effect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_nobody_was_shown_is_neither_good_nor_bad() {
        assert_eq!(verified(0).1, Some(false));
        assert_eq!(verified(60).1, Some(true));
        for code in [7, 28, 35, 77, 127] {
            assert_eq!(verified(code).1, None, "code {code}");
        }
    }

    #[test]
    fn only_silence_is_taken_for_the_effect() {
        assert_eq!(answered(7).1, Some(true));
        assert_eq!(answered(28).1, Some(true));
        assert_eq!(answered(0).1, Some(false));
        assert_eq!(answered(56).1, Some(false));
    }

    const FILTER: &str = "*filter
:INPUT ACCEPT [9:900]
:kchaos-0123456789abcdef - [0:0]
[70:4200] -A INPUT -j kchaos-0123456789abcdef
[5:300] -A INPUT -m comment --comment x -j DROP
[3:180] -A kchaos-0123456789abcdef -s 172.18.0.3/32 -j DROP
[4:240] -A kchaos-0123456789abcdef -d 172.18.0.3/32 -j DROP
COMMIT
";

    #[test]
    fn only_a_chain_of_ours_that_goes_on_dropping_packets_is_the_effect() {
        let later = FILTER.replace("[4:240]", "[6:360]");
        let dropped = |saved: &str| super::dropped(saved, None);
        let twice = |before: &str, after: &str| dropped(&format!("{before}\n----\n{after}"));
        assert_eq!(twice(FILTER, &later), ("7 packets were dropped, and then 9".into(), Some(true)));
        // Packets dropped earlier prove nothing about now, and a chain that nothing jumps to drops nothing.
        assert_eq!(twice(FILTER, FILTER).1, None);
        assert_eq!(dropped(FILTER).1, None);
        let unasked: Vec<&str> = FILTER.lines().filter(|line| !line.contains("-A INPUT -j")).collect();
        assert_eq!(dropped(&unasked.join("\n")).1, Some(false));
        assert_eq!(twice(FILTER, &unasked.join("\n")).1, None);
        assert_eq!(dropped("*filter\n:INPUT ACCEPT [9:900]\nCOMMIT\n").1, Some(false));
        // A filter that could not be read does not show that there is no chain.
        assert_eq!(dropped("").1, None);
    }

    #[test]
    fn of_two_partitions_of_a_node_each_is_seen_by_rules_of_its_own() {
        let both = "*filter
[7:420] -A OUTPUT -j kchaos-00000000000000aa
[7:420] -A INPUT -j kchaos-00000000000000bb
[3:180] -A kchaos-00000000000000aa -d 172.18.0.3/32 -p tcp -m tcp --dport 6443 -j DROP
[4:240] -A kchaos-00000000000000bb -s 172.18.0.3/32 -p tcp -m tcp --dport 10250 -j DROP
";
        let later = format!("{both}\n----\n{}", both.replace("[3:180]", "[5:300]"));
        assert_eq!(dropped(&later, Some(API_PORT)).1, Some(true));
        assert_eq!(dropped(&later, Some(KUBELET_PORT)).1, None);
        assert_eq!(dropped(&later, None).1, Some(false));
    }

    #[test]
    fn a_flag_is_in_effect_only_if_no_process_lacks_it() {
        let flag: Flag = "--authorization-mode=Node".parse().unwrap();
        let line = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let (with, without) =
            (line(&["a", "--authorization-mode=Node"]), line(&["a", "--authorization-mode=Node,RBAC"]));
        let effect = |lines: &[Vec<String>]| has_flag(Component::KubeApiserver, &flag, lines).1;
        assert_eq!(effect(std::slice::from_ref(&without)), Some(false));
        assert_eq!(effect(&[with.clone(), without]), Some(false));
        assert_eq!(effect(&[with]), Some(true));
        // A process that is just ending shows nothing.
        assert_eq!(effect(&[line(&[""])]), Some(true));
        assert_eq!(effect(&[]), Some(true));
    }

    #[test]
    fn a_restart_counts_for_a_watchdog_only_if_one_is_set() {
        assert_eq!(watched("WatchdogUSec=6s\nNRestarts=1\n").1, Some(true));
        assert_eq!(watched("WatchdogUSec=6s\nNRestarts=0\n").1, Some(false));
        assert_eq!(watched("NRestarts=3\nWatchdogUSec=0\n").1, Some(false));
        assert_eq!(watched("NRestarts=\n").1, None);
    }

    #[test]
    fn a_peer_that_can_not_look_proves_nothing() {
        for code in [2, 6, 126, 127, 137] {
            assert_eq!(answered(code).1, None, "code {code}");
        }
    }
}
