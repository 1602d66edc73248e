//! Clusters made, brought back from ruin and removed, on a real engine.
//!
//! There is one trial per topology, one after another. Clusters are expensive, so other tests use those that are made
//! here, and `tests/ha.rs` removes one. Without an engine the trials are skipped, with the reason; `KCHAOS_REQUIRE=1`
//! turns a skip into a failure.

#[allow(dead_code, reason = "each program of tests uses a part of it")]
mod lab;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Node;
use kchaos::cluster::docker::Engine;
use kchaos::cluster::facts::{self, Clock};
use kchaos::cluster::{Cluster, api};
use kchaos::provision;
use kube::Api;
use kube::api::ListParams;
use lab::{docker, succeeds};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio_util::sync::CancellationToken;

/// Seconds that the machine's processors may idle until a cluster that was down is Ready again.
///
/// The aim is 20 s in all. Three nodes took 14 to 31, and 18 to 26 since dead leaders' Leases are given back. Of six
/// nodes on two cores it can't be met: their start takes 55 to 75 s of processor time, most of it for Kubernetes' own
/// parts, which is as long as the machine makes it. What can be held to is that little more is waited for: 13 to 18 s,
/// since the members of etcd, which start together, wait for one another for up to 14 s (docs/findings.md). A cluster
/// that idles for longer than this has pods in a back-off, which `up` must prevent.
const IDLE_WITHIN: u64 = 28;

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    args.test_threads = Some(1);
    let mut trials = vec![
        trial("what_kchaos_did_not_make_is_left_alone", foreign),
        trial("an_ha_cluster_survives_the_end_of_the_engine_and_of_all_its_nodes", || {
            live("ha", "kchaos-test-ha", Killed::WithTheEngine)
        }),
        trial("a_single_cluster_survives_the_end_of_all_its_nodes", || {
            live("single", "kchaos-test-single", Killed::ByTheEngine)
        }),
    ];
    // Two minutes.
    if std::env::var_os("KCHAOS_SOAK").is_some() {
        trials.push(trial("a_run_makes_keeps_uses_and_removes_a_cluster_of_ones_own_topology", made_by_a_run));
    }
    libtest_mimic::run(&args, trials).exit_code()
}

fn trial<F: Future<Output = Result<(), String>>>(name: &str, test: impl Fn() -> F + Send + 'static) -> Trial {
    let required = std::env::var_os("KCHAOS_REQUIRE").is_some();
    Trial::ignorable_test(name, move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(Failed::from)?;
        runtime.block_on(async {
            if let (Err(why), false) = (Engine::connect().await, required) {
                return Ok(Completion::ignored_with(why.to_string()));
            }
            test().await.map(|()| Completion::Completed).map_err(Failed::from)
        })
    })
}

/// How all nodes of a cluster are killed at once.
#[derive(Clone, Copy)]
enum Killed {
    /// The engine counts them as stopped by hand, so nothing restarts them.
    ByTheEngine,
    /// The engine ends with them, as when the machine crashes.
    WithTheEngine,
}

async fn up(engine: &Engine, topology: &str, name: &str) -> Result<(Cluster, Duration), String> {
    let began = Instant::now();
    let cluster =
        provision::up(engine, topology, Some(name), &CancellationToken::new(), &mut |line| println!("{line}"))
            .await
            .map_err(|e| e.to_string())?;
    println!("up {topology}: {:?}", began.elapsed());
    Ok((cluster, began.elapsed()))
}

async fn addresses(cluster: &Cluster) -> Result<BTreeMap<String, BTreeMap<String, String>>, String> {
    let mut all = BTreeMap::new();
    for node in &cluster.nodes {
        let state = cluster.engine.state(&node.id).await.map_err(|e| e.to_string())?;
        all.insert(node.id.name.clone(), state.addresses);
    }
    Ok(all)
}

async fn engine() -> Result<Engine, String> {
    Engine::connect().await.map_err(|e| e.to_string())
}

/// Removes what an earlier attempt left behind.
async fn remove(engine: &Engine, name: &str) -> Result<(), String> {
    match provision::made_clusters(engine).await.map_err(|e| e.to_string())?.iter().any(|made| made == name) {
        true => provision::down(engine, name).await.map_err(|e| e.to_string()),
        false => Ok(()),
    }
}

/// A cluster that somebody has named is not replaced by another one, and nothing is removed by a label that a container
/// has which is no node.
async fn left_alone(engine: &Engine, topology: &str, name: &str, cluster: &Cluster) -> Result<(), String> {
    let up = async |topology: &str| match up(engine, topology, name).await {
        Ok(_) => Err(format!("`up {topology}` took it for what was requested, or made it anew")),
        Err(why) => Ok(why),
    };
    let other = up(&format!("{topology}-default-clocks")).await?;
    let label = format!("io.x-k8s.kind.cluster={name}");
    let image = docker(&["inspect", "-f", "{{.Config.Image}}", &cluster.nodes[0].id.name])?;
    let stranger = docker(&["create", "--label", &label, "--label", "io.x-k8s.kind.role=worker", &image, "true"])?;
    let with_stranger = up(topology).await;
    let down = provision::down(engine, name).await.map_err(|e| e.to_string());
    docker(&["rm", &stranger])?;
    let refused = [
        (other, "is there already"),
        (with_stranger?, "has the label"),
        (down.err().unwrap_or_default(), "has the label"),
    ];
    if let Some((why, _)) = refused.iter().find(|(why, words)| !why.contains(words)) {
        return Err(format!("{why:?} does not say what is wrong"));
    }
    let there = Cluster::open(engine, name).await.map_err(|e| e.to_string())?;
    if there.nodes == cluster.nodes { Ok(()) } else { Err(format!("were {:?}, are {:?}", cluster.nodes, there.nodes)) }
}

async fn live(topology: &str, name: &str, killed: Killed) -> Result<(), String> {
    let engine = &engine().await?;
    remove(engine, name).await?;
    let (cluster, made) = up(engine, topology, name).await?;
    let before = addresses(&cluster).await?;
    read_facts(&cluster).await?;
    ask_every_control_plane(&cluster).await?;

    let (again, took) = up(engine, topology, name).await?;
    at_most(took, 2, "a cluster that is Ready was taken up again")?;
    let ids = |cluster: &Cluster| cluster.nodes.iter().map(|n| n.id.id.clone()).collect::<Vec<_>>();
    if ids(&again) != ids(&cluster) {
        return Err("the cluster was made anew".into());
    }
    left_alone(engine, topology, name, &cluster).await?;
    let found = provision::existing(engine, topology).await.map_err(|e| e.to_string())?;
    if found.is_some_and(|found| found.name == name) {
        return Err("a run that names no cluster would break one that somebody has named".into());
    }

    kill_all(&cluster, killed).await?;
    let (began, idle_before) = (Instant::now(), idle()?);
    if matches!(killed, Killed::WithTheEngine) {
        start_engine()?;
    }
    let (back, _) = up(engine, topology, name).await?;
    let (took, idled) = (began.elapsed(), idle()?.saturating_sub(idle_before));
    println!("back: {took:?}, of which the processors idled {idled:?}");
    at_most(idled, IDLE_WITHIN, "the processors idled until the cluster was back")?;
    at_most(took, (made.as_secs() * 3 / 4).max(60), "the cluster was brought back")?;
    if ids(&back) != ids(&cluster) {
        return Err("the cluster was made anew".into());
    }
    let after = addresses(&back).await?;
    if after != before {
        return Err(format!("addresses changed from {before:?} to {after:?}"));
    }
    ask_every_control_plane(&back).await
}

/// How long each of the machine's processors has been idle on average, without waiting for a disk, since it started.
fn idle() -> Result<Duration, String> {
    let all = std::fs::read_to_string("/proc/stat").map_err(|e| e.to_string())?;
    let processors = all.lines().filter(|l| l.starts_with("cpu")).count() - 1;
    // In USER_HZ, which is 100 wherever Linux runs (proc(5)).
    let ticks: u64 = all.split_whitespace().nth(4).and_then(|idle| idle.parse().ok()).ok_or("/proc/stat is odd")?;
    Ok(Duration::from_millis(ticks * 10 / processors as u64))
}

fn at_most(took: Duration, seconds: u64, what: &str) -> Result<(), String> {
    if took <= Duration::from_secs(seconds) { Ok(()) } else { Err(format!("{what} in {took:?}, not in {seconds} s")) }
}

async fn kill_all(cluster: &Cluster, killed: Killed) -> Result<(), String> {
    let mut pids = Vec::new();
    for node in &cluster.nodes {
        pids.push(cluster.engine.state(&node.id).await.map_err(|e| e.to_string())?.pid.to_string());
    }
    let names = cluster.nodes.iter().map(|n| n.id.name.as_str());
    if matches!(killed, Killed::WithTheEngine) {
        pids.extend(pids_of_the_engine()?);
    }
    let (program, args): (_, Vec<&str>) = match killed {
        Killed::ByTheEngine => ("docker", ["kill"].into_iter().chain(names).collect()),
        Killed::WithTheEngine => ("kill", ["-KILL"].into_iter().chain(pids.iter().map(String::as_str)).collect()),
    };
    let status = std::process::Command::new(program)
        .args(args)
        .stdout(std::process::Stdio::null())
        .status()
        .map_err(|e| e.to_string())?;
    if status.success() { Ok(()) } else { Err(format!("{program}: {status}")) }
}

/// The engine's own process, and that of its containerd if it has one to itself.
fn pids_of_the_engine() -> Result<Vec<String>, String> {
    let pid = |file: &str| std::fs::read_to_string(file).map(|pid| pid.trim().to_owned());
    let engine = pid("/run/docker.pid").map_err(|e| format!("which process the engine is: {e}"))?;
    Ok([engine].into_iter().chain(pid("/run/docker/containerd/containerd.pid")).collect())
}

fn start_engine() -> Result<(), String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/setup/engine.sh");
    let status = std::process::Command::new(script).arg("start").status().map_err(|e| e.to_string())?;
    if status.success() { Ok(()) } else { Err(format!("{script} start: {status}")) }
}

async fn read_facts(cluster: &Cluster) -> Result<(), String> {
    let facts = facts::read(&cluster.engine, &cluster.name).await.map_err(|e| e.to_string())?;
    println!("{}", serde_json::to_string(&facts).map_err(|e| e.to_string())?);
    if facts.nodes.len() != cluster.nodes.len() || facts.nodes.values().any(|n| !n.pinned) {
        return Err(format!("not all nodes are there and pinned: {:?}", facts.nodes));
    }
    if facts.audit_log.is_some() != (cluster.control_planes().count() > 1) {
        return Err(format!("its audit log is in {:?}", facts.audit_log));
    }
    let expected = [
        (Clock::NodeMonitorGracePeriod, 12),
        (Clock::NodeMonitorPeriod, 1),
        (Clock::LeaseRenew, 2),
        (Clock::UnreachableToleration, 10),
        (Clock::NodeStatusUpdate, 2),
        (Clock::ProxyMinSync, 1),
    ];
    for (clock, seconds) in expected {
        let setting = &facts.clocks[&clock];
        if setting.value != Duration::from_secs(seconds) {
            return Err(format!("{clock:?} is {setting:?}, not {seconds} s"));
        }
    }
    Ok(())
}

/// Every API server answers on its published port, and so does the users' way in.
async fn ask_every_control_plane(cluster: &Cluster) -> Result<(), String> {
    let mut clients = vec![cluster.client().await.map_err(|e| e.to_string())?];
    for node in cluster.control_planes() {
        clients.push(api::client(&cluster.engine, node).await.map_err(|e| e.to_string())?);
    }
    for client in clients {
        let (api, all) = (Api::<Node>::all(client), ListParams::default());
        let nodes = tokio::time::timeout(Duration::from_secs(5), api.list(&all))
            .await
            .map_err(|e| e.to_string())?
            .map_err(|e| e.to_string())?;
        let kubernetes = cluster.nodes.len() - usize::from(cluster.nodes.len() > 3);
        if nodes.items.len() != kubernetes {
            return Err(format!("the API knows {} nodes, not {kubernetes}", nodes.items.len()));
        }
    }
    Ok(())
}

/// A network that somebody else made under the cluster's name.
async fn foreign() -> Result<(), String> {
    let engine = Engine::connect().await.map_err(|e| e.to_string())?;
    let name = format!("kchaos-test-foreign-{}", std::process::id());
    docker(&["network", "create", &name])?;
    let up =
        provision::up(&engine, "single", Some(&name), &CancellationToken::new(), &mut |line| println!("{line}")).await;
    let down = provision::down(&engine, &name).await;
    docker(&["network", "rm", &name])?;
    match (up, down) {
        (Err(up), Err(_)) if up.to_string().contains("not kchaos' own") => Ok(()),
        outcome => Err(format!("{outcome:?}")),
    }
}

/// What `make run` does. The topology is a kind config of the user's, beside the scenario: two nodes.
async fn made_by_a_run() -> Result<(), String> {
    const NAME: &str = "kchaos-one-worker";
    let engine = engine().await?;
    remove(&engine, NAME).await?;
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let write = |file: &str, text: &str| std::fs::write(dir.path().join(file), text).map_err(|e| e.to_string());
    let one_worker = include_str!("../kind-configs/single.yaml").replacen("- role: worker\n", "", 1);
    write("one-worker.yaml", &one_worker)?;
    let blink = include_str!("minimal/blink.yaml");
    write("blink.yaml", &blink.replace("topology: single", "topology: ./one-worker.yaml"))?;
    let kchaos = |args: &[&str]| {
        let mut kchaos = std::process::Command::new(env!("CARGO_BIN_EXE_kchaos"));
        kchaos.args(args).current_dir(dir.path()).env("XDG_STATE_HOME", dir.path().join("state"));
        succeeds(&mut kchaos)
    };
    let nodes = async || {
        let nodes = engine.nodes(NAME).await.map_err(|e| e.to_string())?;
        Ok::<_, String>(nodes.into_iter().map(|node| node.id.id).collect::<Vec<_>>())
    };
    kchaos(&["run", "blink.yaml", "--keep"])?;
    let made = nodes().await?;
    kchaos(&["run", "blink.yaml", "--keep"])?;
    if made.len() != 2 || nodes().await? != made {
        return Err(format!("it was made as {made:?}, and is {:?}", nodes().await?));
    }
    kchaos(&["down", NAME])?;
    kchaos(&["run", "blink.yaml"])?;
    match nodes().await? {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?} is left of a cluster that was not to be kept")),
    }
}
