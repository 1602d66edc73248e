//! Containers with kind's labels, on a network of their own. Everything is removed at the end of a test, failed or not.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use kchaos::clock::{Mono, Wall};
use kchaos::cluster::docker::{Endpoint, Engine, Node};
use kchaos::cluster::facts::{Facts, NodeFacts};
use kchaos::event::{Event, EventKind};
use kchaos::node::{NodeId, RestartPolicy};
use kchaos::plan::{Plan, Span};
use kchaos::undo::Undo;

/// Runs the `docker` command line, which must succeed, and returns what it prints.
pub fn docker(args: &[&str]) -> String {
    try_docker(args).unwrap_or_else(|e| panic!("docker {}: {e}", args.join(" ")))
}

pub fn try_docker(args: &[&str]) -> Result<String, String> {
    let out = Command::new("docker").args(args).output().map_err(|e| e.to_string())?;
    match out.status.success() {
        true => Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned()),
        false => Err(String::from_utf8_lossy(&out.stderr).trim().to_owned()),
    }
}

/// Everything that would change if the container were touched: pid, start time, policy, networks, and whether `exec`
/// left its canary.
pub fn fingerprint(id: &str) -> String {
    let format = "{{json .State}} {{json .HostConfig.RestartPolicy}} {{json .NetworkSettings.Networks}}";
    format!("{} {}", docker(&["inspect", "-f", format, id]), docker(&["diff", id]).contains("/canary"))
}

/// What an undo must bring back: state, policy, and for each network the address and whether it is fixed.
pub fn standing(id: &str) -> String {
    let networks = "{{range $n, $e := .NetworkSettings.Networks}}{{$n}}={{$e.IPAddress}} {{json $e.IPAMConfig}}{{end}}";
    docker(&["inspect", "-f", &format!("{{{{.State.Status}}}} {{{{json .HostConfig.RestartPolicy}}}} {networks}"), id])
}

pub fn labels(cluster: &str, role: &str) -> [(&'static str, String); 2] {
    [("io.x-k8s.kind.cluster", cluster.to_owned()), ("io.x-k8s.kind.role", role.to_owned())]
}

pub struct Lab {
    pub cluster: String,
    pub network: String,
    /// The engine, bound to the cluster.
    pub engine: Engine,
    image: String,
    subnet: u8,
    made: Mutex<Vec<String>>,
}

impl Lab {
    /// `None`, with a message, if there is nothing to test with.
    pub async fn set_up() -> Option<Self> {
        match Self::try_set_up().await {
            Ok(lab) => Some(lab),
            Err(why) if std::env::var_os("KCHAOS_REQUIRE").is_some_and(|v| v == "1") => {
                panic!("KCHAOS_REQUIRE=1, and {why}")
            }
            Err(why) => {
                eprintln!("skipped: {why}");
                None
            }
        }
    }

    async fn try_set_up() -> Result<Self, String> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let engine = Engine::connect().await.map_err(|e| e.to_string())?;
        let image = image()?;
        let cluster = format!("kct{}n{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        // The first free one of 256 subnets, because tests of several processes run side by side.
        let subnet = (0..=u8::MAX)
            .find(|n| try_docker(&["network", "create", "--subnet", &format!("10.231.{n}.0/24"), &cluster]).is_ok());
        let subnet = subnet.ok_or("no network can be created")?;
        Ok(Self {
            engine: engine.for_cluster(&cluster),
            network: cluster.clone(),
            cluster,
            image,
            subnet,
            made: Mutex::default(),
        })
    }

    /// A pseudo-node: `CLUSTER-SUFFIX`, labelled as kind does.
    pub fn node(&self, suffix: &str, role: &str) -> NodeId {
        self.container(&format!("{}-{suffix}", self.cluster), &labels(&self.cluster, role))
    }

    /// A running container that ends at once on SIGTERM.
    pub fn container(&self, name: &str, labels: &[(&str, String)]) -> NodeId {
        let labels: Vec<_> = labels.iter().map(|(key, value)| format!("--label={key}={value}")).collect();
        let mut args =
            vec!["run", "-d", "--name", name, "--network", &self.network, "--stop-signal=TERM", "--cap-add=NET_ADMIN"];
        args.extend(labels.iter().map(String::as_str));
        args.extend([
            "--entrypoint",
            "/bin/sh",
            &self.image,
            "-c",
            "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done",
        ]);
        let id = docker(&args);
        self.made.lock().unwrap().push(id.clone());
        NodeId { id, name: name.to_owned() }
    }

    /// A pseudo-node that boots: its first process and its rights are the same as in kind.
    pub fn machine(&self, suffix: &str, role: &str) -> NodeId {
        let name = format!("{}-{suffix}", self.cluster);
        let labels = labels(&self.cluster, role).map(|(key, value)| format!("--label={key}={value}"));
        let mut args = vec!["run", "-d", "--name", &name, "--hostname", &name, "--network", &self.network];
        args.extend(["--privileged", "--tmpfs=/run", "--tmpfs=/tmp", "--cgroupns=private"]);
        args.extend(labels.iter().map(String::as_str).chain(["--restart=on-failure:1", &self.image]));
        let id = docker(&args);
        self.made.lock().unwrap().push(id.clone());
        NodeId { id, name: name.clone() }
    }

    pub fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 231, self.subnet, host)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let ours =
            try_docker(&["ps", "-aq", "--no-trunc", "--filter", &format!("label=kchaos.io/cluster={}", self.cluster)]);
        let ours = ours.unwrap_or_default();
        let made = self.made.lock().unwrap();
        for id in made.iter().map(String::as_str).chain(ours.split_whitespace()) {
            let _ = try_docker(&["rm", "-fv", id]);
        }
        let _ = try_docker(&["network", "rm", &self.network]);
    }
}

/// An image with a shell: the node image that the testbed made, or any other node image.
fn image() -> Result<String, String> {
    let present = try_docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"])?;
    let wished = std::env::var("KCHAOS_NODE_IMAGE").unwrap_or_default();
    let mut node_images = present.lines().filter(|i| i.starts_with("kchaos-node:v") || i.starts_with("kindest/node:"));
    let found = present.lines().find(|i| **i == wished).or_else(|| node_images.next());
    found.map(str::to_owned).ok_or_else(|| "there is no node image to make containers of".into())
}

pub fn event(kind: EventKind) -> Event {
    Event { at: Mono::now(), kind }
}

/// What a plan needs to know about a cluster to break its nodes.
pub async fn facts_of(engine: &Engine, cluster: &str) -> Facts {
    let of = |node: Node| NodeFacts {
        node: node.id,
        role: node.role,
        addresses: Default::default(),
        pinned: false,
        restart_policy: RestartPolicy::No,
        store_in_memory: None,
        pods: 0,
    };
    let nodes = engine.nodes(cluster).await.unwrap().into_iter().map(|node| (node.id.name.clone(), of(node))).collect();
    Facts { nodes, ..facts(cluster) }
}

fn facts(cluster: &str) -> Facts {
    Facts {
        cluster: cluster.to_owned(),
        engine: String::new(),
        kubernetes: String::new(),
        nodes: Default::default(),
        clocks: Default::default(),
        leaders: Default::default(),
        reporting: Default::default(),
        audit_log: None,
    }
}

/// The journal of a run that was killed after its faults went in.
pub fn journal(cluster: &str, undos: &[(usize, Vec<Undo>)]) -> Vec<Event> {
    let facts = facts(cluster);
    let never = Span { at_least: Duration::ZERO, at_most: Duration::ZERO };
    let plan = Plan {
        scenario: String::new(),
        variant: String::new(),
        other_arm: None,
        summary: String::new(),
        source: String::new(),
        seed: 0,
        facts,
        namespace: String::new(),
        targets: Default::default(),
        workloads: Default::default(),
        observers: Vec::new(),
        faults: Vec::new(),
        probes: Vec::new(),
        claims: Vec::new(),
        fault_for: never,
        over_within: None,
        remedy: None,
        recovery_for: never,
        majority_of: None,
        keep_alive: Vec::new(),
        manifests: None,
    };
    let started = started(plan);
    let faults = undos.iter().flat_map(|(fault, undo)| {
        let fault = *fault;
        [
            EventKind::Prepared { fault, undo: undo.clone() },
            EventKind::Injecting { fault },
            EventKind::Injected { fault, error: None },
        ]
    });
    std::iter::once(started).chain(faults).map(event).collect()
}

/// The first record of a run.
pub fn started(plan: Plan) -> EventKind {
    let (boot_id, version) = (String::new(), String::new());
    EventKind::Started { wall: Wall::now(), boot_id, version, plan: Box::new(plan) }
}

/// A TCP address that leads to the engine for as long as the test wants.
pub struct Proxy {
    port: u16,
    mode: Arc<AtomicU8>,
    refused: tokio::sync::watch::Receiver<usize>,
    heard: Arc<Mutex<String>>,
    task: tokio::task::JoinHandle<()>,
}

const PASS: u8 = 0;
const HANG: u8 = 1;
const REFUSE: u8 = 2;

impl Proxy {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mode = Arc::new(AtomicU8::new(PASS));
        let (count, refused) = tokio::sync::watch::channel(0);
        let socket = Endpoint::from_env().unwrap().socket().expect("tests use a local engine").to_owned();
        let heard = Arc::new(Mutex::new(String::new()));
        let task = tokio::spawn({
            let (mode, heard) = (mode.clone(), heard.clone());
            async move {
                let mut hanging = Vec::new();
                loop {
                    let (client, _) = listener.accept().await.unwrap();
                    match mode.load(Ordering::SeqCst) {
                        PASS => {
                            let engine = tokio::net::UnixStream::connect(&socket).await.unwrap();
                            tokio::spawn(pass_on(client, engine, heard.clone()));
                        }
                        HANG => hanging.push(client),
                        _ => count.send_modify(|n| *n += 1),
                    }
                }
            }
        });
        Self { port, mode, heard, refused, task }
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint { host: format!("tcp://127.0.0.1:{}", self.port), chosen_by: "test".into() }
    }

    /// Everything that was sent to the engine, each piece on its own lines.
    pub fn heard(&self) -> String {
        self.heard.lock().unwrap().clone()
    }

    pub fn hang(&self) {
        self.mode.store(HANG, Ordering::SeqCst);
    }

    pub fn refuse(&self) {
        self.mode.store(REFUSE, Ordering::SeqCst);
    }

    pub fn pass(&self) {
        self.mode.store(PASS, Ordering::SeqCst);
    }

    /// Waits until this many connections were broken off.
    pub async fn refused(&self, times: usize) {
        self.refused.clone().wait_for(|n| *n >= times).await.unwrap();
    }
}

async fn pass_on(client: tokio::net::TcpStream, engine: tokio::net::UnixStream, heard: Arc<Mutex<String>>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_engine, mut to_engine) = engine.into_split();
    let question = async {
        let mut piece = vec![0; 64 << 10];
        while let Ok(n @ 1..) = from_client.read(&mut piece).await {
            heard.lock().unwrap().push_str(&String::from_utf8_lossy(&piece[..n]).replace("\r\n", "\n"));
            heard.lock().unwrap().push('\n');
            if to_engine.write_all(&piece[..n]).await.is_err() {
                break;
            }
        }
        let _ = to_engine.shutdown().await;
    };
    let answer = async {
        let _ = tokio::io::copy(&mut from_engine, &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    tokio::join!(question, answer);
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}
