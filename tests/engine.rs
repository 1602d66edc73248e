//! The engine, the faults, their undos and the audit, on plain containers with kind's labels: the same code path as on
//! the nodes of a cluster. Results are checked with the `docker` command line, which shares no code with what is
//! tested.
//!
//! Without an engine, or an image to make containers from, the tests print that and pass; with `KCHAOS_REQUIRE=1` they
//! fail.

#[path = "engine/lab.rs"]
mod lab;
#[path = "engine/machines.rs"]
mod machines;
#[path = "engine/overlap.rs"]
mod overlap;
#[path = "engine/real.rs"]
mod real;

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kchaos::census::Difference;
use kchaos::cluster::Cluster;
use kchaos::cluster::docker::{Endpoint, Engine, Residents};
use kchaos::error::Exit;
use kchaos::event::{Checkpoint, Disturbance, End, EventKind, Witness};
use kchaos::fault::{self, Repeating, Witnesses};
use kchaos::fence::Lease;
use kchaos::in_node::{Change, InNode, SwitchName};
use kchaos::node::{NodeId, RestartPolicy, Role};
use kchaos::plan::PlannedFault;
use kchaos::residue;
use kchaos::scenario::{FaultSpec, StoreOfRestarted};
use kchaos::undo::Undo;
use kchaos::unwind;

use lab::{Lab, docker, journal};

const BRIEF: Duration = Duration::from_secs(10);

fn power_off(node: &NodeId) -> PlannedFault {
    PlannedFault::of(FaultSpec::PowerOff { node: "victim".into() }, node.clone())
}

fn stop(node: &NodeId) -> PlannedFault {
    PlannedFault::of(FaultSpec::Stop { node: "victim".into() }, node.clone())
}

fn pause(node: &NodeId) -> PlannedFault {
    PlannedFault::of(FaultSpec::Pause { node: "victim".into() }, node.clone())
}

fn restart(node: &NodeId) -> PlannedFault {
    PlannedFault::of(FaultSpec::Restart { node: "victim".into(), store: StoreOfRestarted::Kept }, node.clone())
}

fn restart_loop(node: &NodeId) -> PlannedFault {
    PlannedFault::of(FaultSpec::RestartLoop { node: "victim".into() }, node.clone())
}

/// Long enough for any test.
const LEASE: Duration = Duration::from_secs(60);

/// Injects a fault of the container itself, which needs nothing that was prepared.
async fn inject(engine: &Engine, fault: &PlannedFault) -> kchaos::error::Result<()> {
    fault::inject(engine, fault, &[], LEASE).await
}

async fn apply_all(engine: &Engine, undos: &[Undo]) {
    for undo in undos {
        unwind::apply(engine, undo).await.unwrap_or_else(|e| panic!("{undo}: {e}"));
    }
}

// ---- which containers are nodes, and which are not touched

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_found_by_label_and_by_nothing_else() {
    let Some(lab) = Lab::set_up().await else { return };
    let worker = lab.node("worker", "worker");
    let plane = lab.node("control-plane", "control-plane");
    lab.container(&format!("{}-worker2", lab.cluster), &[]);
    lab.container(&format!("{}x-worker", lab.cluster), &lab::labels(&format!("{}x", lab.cluster), "worker"));

    let nodes = lab.engine.nodes(&lab.cluster).await.unwrap();
    let found: Vec<_> = nodes.into_iter().map(|n| (n.id, n.role)).collect();
    assert_eq!(found, [(plane, Role::ControlPlane), (worker.clone(), Role::Worker)]);
    docker(&["stop", "-t", "0", &worker.id]);
    assert_eq!(lab.engine.nodes(&lab.cluster).await.unwrap().len(), 2, "a stopped node is a node");
    assert!(lab.engine.clusters().await.unwrap().contains(&lab.cluster));
    assert!(lab.engine.nodes("no-such-cluster").await.unwrap().is_empty());
    let error = Cluster::open(&lab.engine, "no-such-cluster").await.unwrap_err();
    assert_eq!(error.exit(), Exit::CouldNotRun);
    let told = error.to_string();
    assert!(told.contains("there is no kind cluster `no-such-cluster`") && told.contains(&lab.cluster), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_no_node_of_the_named_cluster_is_never_touched() {
    let Some(lab) = Lab::set_up().await else { return };
    let own = lab.node("worker", "worker");
    let no_label = lab.container(&format!("{}-foreign", lab.cluster), &[]);
    let look_alike = lab.container(&format!("{}-worker2", lab.cluster), &[("kind-like", "yes".into())]);
    let other_cluster =
        lab.container(&format!("{}b-worker", lab.cluster), &lab::labels(&format!("{}b", lab.cluster), "worker"));
    let named = |id: &str, name: &str| NodeId { id: id.into(), name: name.into() };
    let decoys = [
        no_label.clone(),
        look_alike.clone(),
        other_cluster.clone(),
        // A journal may name anything: our node's name with another's id, a name for an id, the beginning of an id, a
        // path.
        named(&no_label.id, &own.name),
        named(&own.id, &no_label.name),
        named(&own.name, &own.name),
        named(&own.id[..12], &own.name),
        named("../containers/x", &own.name),
        named("", &own.name),
    ];
    let all = [&own, &no_label, &look_alike, &other_cluster];
    let before: Vec<_> = all.iter().map(|c| lab::fingerprint(&c.id)).collect();
    for decoy in &decoys {
        let e = &lab.engine;
        assert!(e.set_restart_policy(decoy, RestartPolicy::Always).await.is_err(), "policy of {decoy:?}");
        assert!(e.kill_init(decoy).await.is_err(), "kill of {decoy:?}");
        assert!(e.pause(decoy).await.is_err(), "pause of {decoy:?}");
        assert!(e.unpause(decoy).await.is_err(), "unpause of {decoy:?}");
        assert!(e.stop(decoy, Duration::ZERO).await.is_err(), "stop of {decoy:?}");
        assert!(e.start(decoy).await.is_err(), "start of {decoy:?}");
        assert!(e.start_at(decoy, &[]).await.is_err(), "start of {decoy:?}");
        assert!(e.connect_network(decoy, "none", None).await.is_err(), "connect {decoy:?}");
        assert!(e.disconnect_network(decoy, &lab.network).await.is_err(), "disconnect {decoy:?}");
        assert!(e.exec(decoy, &["touch", "/canary"], None, BRIEF).await.is_err(), "exec in {decoy:?}");
        let within = InNode { node: decoy.clone(), change: Change::KubeletStopped, switch: SwitchName::unique() };
        assert!(within.inject(e, LEASE).await.is_err(), "change in {decoy:?}");
        assert!(within.undo(e).await.is_err(), "change in {decoy:?}");
        for fault in [power_off(decoy), stop(decoy), pause(decoy), restart(decoy), restart_loop(decoy)] {
            assert!(inject(e, &fault).await.is_err(), "{fault:?}");
        }
    }
    let after: Vec<_> = all.iter().map(|c| lab::fingerprint(&c.id)).collect();
    assert_eq!(before, after);

    let unbound = Engine::connect().await.unwrap();
    assert!(unbound.pause(&own).await.unwrap_err().to_string().contains("no cluster is named"));
    let changing = unbound.exec_changing(&own, &["touch", "/canary"], BRIEF).await;
    assert!(changing.unwrap_err().to_string().contains("no cluster is named"));
    assert_eq!(lab::fingerprint(&own.id), before[0]);
    lab.engine.pause(&own).await.expect("what is refused above is possible");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_names_a_foreign_container_undoes_nothing_there() {
    let Some(lab) = Lab::set_up().await else { return };
    let foreign = lab.container(&format!("{}-foreign", lab.cluster), &[]);
    docker(&["pause", &foreign.id]);
    let before = lab::fingerprint(&foreign.id);
    let events = journal(&lab.cluster, &[(0, vec![Undo::Unpause { node: foreign.clone() }])]);
    let mut said = Vec::new();
    assert_eq!(unwind::all(&lab.engine, &events, BRIEF, &mut |kind| said.push(kind)).await, End::Dirty);
    assert!(matches!(&said[1], EventKind::UndoFailed { error, .. } if error.contains("not touched")), "{said:?}");
    assert_eq!(lab::fingerprint(&foreign.id), before);
}

// ---- faults: in twice, proven, out twice

/// Injects twice, asks the witnesses at each checkpoint, undoes twice, and compares with the beginning.
async fn there_and_back(lab: &Lab, fault: &PlannedFault, expect_witnesses: usize) {
    let (engine, id) = (&lab.engine, &fault.node.id);
    let before = lab::standing(id);
    let witnesses = Witnesses::call(engine, fault, &[]).await.unwrap();
    assert_eq!(witnesses.baseline().len(), expect_witnesses, "{witnesses:?}");
    assert!(witnesses.baseline().iter().all(|w| w.effect == Some(false)), "{witnesses:?}");
    let undos = fault::prepare(engine, fault).await.unwrap();
    assert_eq!(lab::standing(id), before, "prepare only reads");
    for _ in 0..2 {
        inject(engine, fault).await.unwrap();
        let said = witnesses.ask(engine, Checkpoint::Injected).await;
        assert!(said.iter().all(|w| w.effect == Some(true)), "{said:?}");
    }
    for _ in 0..2 {
        apply_all(engine, &undos).await;
        assert_eq!(lab::standing(id), before);
        let said = witnesses.ask(engine, Checkpoint::Undone).await;
        assert!(said.iter().all(|w| w.effect == Some(false)), "{said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn power_off_goes_in_and_out_twice() {
    let Some(lab) = Lab::set_up().await else { return };
    let node = lab.node("worker", "worker");
    docker(&["update", "--restart=on-failure:3", &node.id]);
    let fault = power_off(&node);
    there_and_back(&lab, &fault, 2).await;
    inject(&lab.engine, &fault).await.unwrap();
    assert_eq!(docker(&["inspect", "-f", "{{.State.ExitCode}} {{.RestartCount}}", &node.id]), "137 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_policy_does_not_bring_a_powered_off_node_back() {
    let Some(lab) = Lab::set_up().await else { return };
    let node = lab.node("worker", "worker");
    docker(&["update", "--restart=always", &node.id]);
    let undos = fault::prepare(&lab.engine, &power_off(&node)).await.unwrap();
    inject(&lab.engine, &power_off(&node)).await.unwrap();
    // Ten times the engine's delay before a first restart, which is 0.1 s.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(docker(&["inspect", "-f", "{{.State.Status}}", &node.id]), "exited");
    apply_all(&lab.engine, &undos).await;
    assert_eq!(docker(&["inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", &node.id]), "always");
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_goes_in_and_out_twice() {
    let Some(lab) = Lab::set_up().await else { return };
    let node = lab.node("worker", "worker");
    there_and_back(&lab, &stop(&node), 2).await;
    inject(&lab.engine, &stop(&node)).await.unwrap();
    assert_eq!(docker(&["inspect", "-f", "{{.State.ExitCode}}", &node.id]), "0", "its stop signal was enough");
}

#[tokio::test(flavor = "multi_thread")]
async fn pause_goes_in_and_out_twice() {
    let Some(lab) = Lab::set_up().await else { return };
    let node = lab.node("worker", "worker");
    there_and_back(&lab, &pause(&node), 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restart_goes_in_and_out_twice_whatever_the_restart_policy() {
    let Some(lab) = Lab::set_up().await else { return };
    let node = lab.node("worker", "worker");
    there_and_back(&lab, &restart(&node), 2).await;
    assert_eq!(
        docker(&["inspect", "-f", "{{.RestartCount}}", &node.id]),
        "2",
        "killed from outside, restarted by its policy"
    );
    assert_eq!(
        docker(&["inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", &node.id]),
        "no",
        "it has its own again"
    );
}

/// Asks all witnesses until they say so.
async fn agree(witnesses: &Witnesses, engine: &Engine, checkpoint: Checkpoint, so: impl Fn(&[Witness]) -> bool) {
    let give_up = Instant::now() + Duration::from_secs(30);
    loop {
        let said = witnesses.ask(engine, checkpoint).await;
        if so(&said) {
            return;
        }
        assert!(Instant::now() < give_up, "{said:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_loop_goes_on_until_it_is_stopped_and_one_that_has_stopped_is_noticed() {
    let Some(lab) = Lab::set_up().await else { return };
    let node = lab.node("worker", "worker");
    let (engine, before) = (&lab.engine, lab::standing(&node.id));
    let fault = restart_loop(&node);
    let witnesses = Witnesses::call(engine, &fault, &[]).await.unwrap();
    assert!(witnesses.baseline().iter().all(|w| w.effect == Some(false)), "{witnesses:?}");
    let undos = fault::prepare(engine, &fault).await.unwrap();
    inject(engine, &fault).await.unwrap();
    let said = witnesses.ask(engine, Checkpoint::Injected).await;
    assert!(said.iter().any(|w| w.effect == Some(false)), "one crash is no loop: {said:?}");
    docker(&["start", &node.id]);
    let said = witnesses.ask(engine, Checkpoint::WindowEnd).await;
    assert!(said.iter().any(|w| w.effect == Some(false)), "nor is one start: {said:?}");
    inject(engine, &fault).await.unwrap();

    let mut repeating = Repeating::default();
    let mut repeat = || {
        let (ours, guardian) = UnixStream::pair().unwrap();
        repeating.begin(engine, &fault, undos.clone(), Arc::new(Lease::over(ours).unwrap()));
        guardian
    };
    let mut guardian = repeat();
    let starts = || docker(&["inspect", "-f", "{{.State.StartedAt}}", &node.id]);
    agree(&witnesses, engine, Checkpoint::Injected, |said| said.iter().all(|w| w.effect == Some(true))).await;
    let first = starts();
    agree(&witnesses, engine, Checkpoint::WindowEnd, |said| {
        said.iter().all(|w| w.effect == Some(true)) && starts() != first
    })
    .await;
    // The guardian takes over: the loop is at its end, though nobody has told it so.
    guardian.write_all(b"t").unwrap();
    agree(&witnesses, engine, Checkpoint::WindowEnd, |said| said.iter().any(|w| w.effect == Some(false))).await;
    docker(&["stop", "-t", "0", &node.id]);
    let said = witnesses.ask(engine, Checkpoint::WindowEnd).await;
    assert!(said.iter().any(|w| w.effect == Some(false)), "a node that stays down is in no loop: {said:?}");
    docker(&["start", &node.id]);
    agree(&witnesses, engine, Checkpoint::WindowEnd, |said| said.iter().any(|w| w.effect == Some(false))).await;

    apply_all(engine, &undos).await;
    assert_eq!(lab::standing(&node.id), before);
    agree(&witnesses, engine, Checkpoint::Undone, |said| said.iter().all(|w| w.effect == Some(false))).await;
    // A node that lives for long enough to be heard of is not in the loop that it was to be in.
    let start = starts();
    let _guardian = repeat();
    agree(&witnesses, engine, Checkpoint::WindowEnd, |said| {
        said.iter().any(|w| w.effect == Some(false)) && starts() != start
    })
    .await;
    assert_eq!(lab::standing(&node.id), before, "it was killed once, and is left running");

    repeating.end().await;
    let (start, (ours, _guardian)) = (starts(), UnixStream::pair().unwrap());
    repeating.begin(engine, &fault, undos.clone(), Arc::new(Lease::over(ours).unwrap()));
    repeating.end().await;
    assert_eq!(starts(), start, "one that is to stop does nothing");
}

/// Freezes a process of the node in a group of its own, as a container runtime does inside of it. `None` where a frozen
/// process dies as any other does.
fn freeze_something(node: &NodeId) -> Option<()> {
    docker(&["exec", "-d", &node.id, "sleep", "1000"]);
    let pids = docker(&["top", &node.id, "-eo", "pid,args"]);
    let pid =
        pids.lines().find_map(|line| line.trim().strip_suffix("sleep 1000")).expect("it sleeps").trim().to_owned();
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("the engine is on this machine");
    let path = cgroups.lines().find_map(|line| line.split_once(":freezer:"))?.1;
    let group = format!("/sys/fs/cgroup/freezer{path}/frozen");
    std::fs::create_dir(&group).unwrap();
    std::fs::write(format!("{group}/cgroup.procs"), pid).unwrap();
    std::fs::write(format!("{group}/freezer.state"), "FROZEN").unwrap();
    Some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_in_which_something_is_frozen_dies_all_the_same() {
    let Some(lab) = Lab::set_up().await else { return };
    let node = lab.node("worker", "worker");
    let Some(()) = freeze_something(&node) else { return eprintln!("skipped: no freezer of cgroup v1") };
    let before = lab::standing(&node.id);
    let undos = fault::prepare(&lab.engine, &power_off(&node)).await.unwrap();
    inject(&lab.engine, &power_off(&node)).await.unwrap();
    apply_all(&lab.engine, &undos).await;
    assert_eq!(lab::standing(&node.id), before);

    // Killed by somebody else, or by a process that did not live to see it dead. To the engine it runs on.
    freeze_something(&node);
    let init = docker(&["inspect", "-f", "{{.State.Pid}}", &node.id]);
    let pid = rustix::process::Pid::from_raw(init.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(docker(&["inspect", "-f", "{{.State.Pid}}", &node.id]), init, "this shows nothing: it has died");
    apply_all(&lab.engine, &undos).await;
    assert_eq!(lab::standing(&node.id), before);
    assert_ne!(docker(&["inspect", "-f", "{{.State.Pid}}", &node.id]), init);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_faked_fault_is_not_witnessed() {
    let Some(lab) = Lab::set_up().await else { return };
    let node = lab.node("worker", "worker");
    let other = lab.node("worker2", "worker");
    for fault in [power_off(&node), stop(&node), pause(&node), restart(&node), restart_loop(&node)] {
        let witnesses = Witnesses::call(&lab.engine, &fault, &[]).await.unwrap();
        // Hits the wrong node.
        docker(&["restart", "-t", "0", &other.id]);
        let said = witnesses.ask(&lab.engine, Checkpoint::Injected).await;
        assert!(said.iter().all(|w| w.effect == Some(false)), "{said:?}");
    }
    docker(&["stop", "-t", "0", &node.id]);
    let paused = Witnesses::call(&lab.engine, &pause(&other), &[]).await.unwrap();
    docker(&["stop", "-t", "0", &other.id]);
    let said = paused.ask(&lab.engine, Checkpoint::Injected).await;
    assert!(said.iter().all(|w| w.effect != Some(true)), "stopped is not paused: {said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_that_heals_itself_is_noticed() {
    let Some(lab) = Lab::set_up().await else { return };
    let node = lab.node("worker", "worker");
    let witnesses = Witnesses::call(&lab.engine, &power_off(&node), &[]).await.unwrap();
    inject(&lab.engine, &power_off(&node)).await.unwrap();
    docker(&["start", &node.id]);
    let said = witnesses.ask(&lab.engine, Checkpoint::WindowEnd).await;
    assert!(said.iter().all(|w| w.effect == Some(false)), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_does_not_run_is_refused() {
    let Some(lab) = Lab::set_up().await else { return };
    let node = lab.node("worker", "worker");
    docker(&["pause", &node.id]);
    for fault in [power_off(&node), stop(&node), pause(&node), restart(&node)] {
        let error = fault::prepare(&lab.engine, &fault).await.unwrap_err().to_string();
        assert!(error.contains("is paused, not running"), "{error}");
    }
    docker(&["unpause", &node.id]);
    docker(&["stop", "-t", "0", &node.id]);
    let error = fault::prepare(&lab.engine, &power_off(&node)).await.unwrap_err().to_string();
    assert!(error.contains("is exited, not running"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_would_not_bring_the_node_back_as_it_was_is_refused() {
    let Some(lab) = Lab::set_up().await else { return };
    let lower = lab.node("worker", "worker");
    let node = lab.node("worker2", "worker");
    fault::prepare(&lab.engine, &restart(&node)).await.expect("nothing is lower and free");
    docker(&["rm", "-f", &lower.id]);
    let error = fault::prepare(&lab.engine, &restart(&node)).await.unwrap_err().to_string();
    assert!(error.contains("lower and free"), "{error}");
}

// ---- addresses

#[tokio::test(flavor = "multi_thread")]
async fn a_node_gets_its_address_back_though_lower_ones_are_free() {
    let Some(lab) = Lab::set_up().await else { return };
    let lower = [lab.node("worker", "worker"), lab.node("worker2", "worker")];
    let node = lab.node("worker3", "worker");
    let fault = power_off(&node);
    let before = lab::standing(&node.id);
    let undos = fault::prepare(&lab.engine, &fault).await.unwrap();
    inject(&lab.engine, &fault).await.unwrap();
    for node in &lower {
        docker(&["rm", "-f", &node.id]);
    }
    apply_all(&lab.engine, &undos).await;
    assert_eq!(lab::standing(&node.id), before);
    assert!(lab.engine.leftovers(&lab.cluster).await.unwrap().is_empty(), "placeholders are removed");

    // The danger is real: left to itself, the engine gives the node another address.
    docker(&["restart", "-t", "0", &node.id]);
    assert_ne!(lab::standing(&node.id), before, "this engine keeps addresses by itself: the test proves nothing");
    // An undo finds the node running at another address and gives it its own again.
    apply_all(&lab.engine, &undos).await;
    assert_eq!(lab::standing(&node.id), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_address_is_kept_and_stays_fixed() {
    let Some(lab) = Lab::set_up().await else { return };
    let node = lab.node("worker", "worker");
    let address = "10.231.0.77";
    lab.engine.disconnect_network(&node, &lab.network).await.unwrap();
    lab.engine.connect_network(&node, &lab.network, Some(lab.address(77))).await.unwrap();
    let state = lab.engine.state(&node).await.unwrap();
    assert!(state.pinned.contains(&lab.network), "{address}: {state:?}");
    docker(&["update", "--restart=always", &node.id]);
    there_and_back(&lab, &power_off(&node), 2).await;
    fault::prepare(&lab.engine, &restart(&node)).await.expect("lower free addresses are no danger to a fixed one");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_somebody_else_has_taken_is_a_loud_failure_and_they_keep_it() {
    let Some(lab) = Lab::set_up().await else { return };
    for fixed in [false, true] {
        let node = lab.node(if fixed { "worker2" } else { "worker" }, "worker");
        if fixed {
            lab.engine.disconnect_network(&node, &lab.network).await.unwrap();
            lab.engine.connect_network(&node, &lab.network, Some(lab.address(2))).await.unwrap();
        }
        let undos = fault::prepare(&lab.engine, &power_off(&node)).await.unwrap();
        inject(&lab.engine, &power_off(&node)).await.unwrap();
        let thief = lab.container(&format!("{}-thief-{fixed}", lab.cluster), &[]);
        let before = lab::standing(&thief.id);
        let error = unwind::apply(&lab.engine, undos.last().unwrap()).await.unwrap_err().to_string();
        assert!(error.contains(&format!("{} has it now", thief.name)), "{error}");
        assert_eq!(lab::standing(&thief.id), before);
        assert_eq!(docker(&["inspect", "-f", "{{.State.Status}}", &node.id]), "exited");
        assert!(lab.engine.leftovers(&lab.cluster).await.unwrap().is_empty(), "placeholders are removed");
        docker(&["rm", "-f", &thief.id]);
        apply_all(&lab.engine, &undos).await;
        docker(&["rm", "-f", &node.id]);
    }
}

// ---- rollback

#[tokio::test(flavor = "multi_thread")]
async fn every_prefix_of_a_journal_is_rolled_back_to_the_beginning() {
    let Some(lab) = Lab::set_up().await else { return };
    let (a, b) = (lab.node("worker", "worker"), lab.node("worker2", "worker"));
    docker(&["update", "--restart=always", &a.id]);
    let before = [lab::standing(&a.id), lab::standing(&b.id)];
    let faults = [power_off(&a), pause(&b)];
    let mut undos = Vec::new();
    for (index, fault) in faults.iter().enumerate() {
        undos.push((index, fault::prepare(&lab.engine, fault).await.unwrap()));
    }
    let steps: Vec<_> =
        [(0, 0), (0, 1), (1, 0)].into_iter().map(|(fault, step)| EventKind::Undone { fault, step }).collect();
    // The undo was cut off after this many of its records. What is recorded as done is not done again: it may have been
    // broken since.
    for done in 0..=steps.len() {
        for fault in &faults {
            inject(&lab.engine, fault).await.unwrap();
        }
        let mut events = journal(&lab.cluster, &undos);
        for (kind, undo) in steps.iter().zip(undos.iter().flat_map(|(_, list)| list)).take(done) {
            unwind::apply(&lab.engine, undo).await.unwrap();
            events.push(lab::event(kind.clone()));
        }
        let mut said = Vec::new();
        let end = unwind::all(&lab.engine, &events, BRIEF, &mut |kind| said.push(kind)).await;
        assert_eq!(end, End::Clean, "{said:?}");
        assert_eq!([lab::standing(&a.id), lab::standing(&b.id)], before, "after {done} steps");
        assert_eq!(said.len(), 2 * (steps.len() - done), "{said:?}");
        // Everything is recorded as undone now, so nothing is left to do, and nothing is done.
        events.extend(said.into_iter().map(lab::event));
        let end = unwind::all(&lab.engine, &events, BRIEF, &mut |kind| panic!("{kind:?}")).await;
        assert_eq!(end, End::Clean);
    }
}

/// The engine completes a request even if nobody waits for it any more. What is put back meanwhile would be stopped a
/// moment later.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_goes_on_when_its_run_is_gone_is_outlasted() {
    let Some(lab) = Lab::set_up().await else { return };
    let node = lab.node("worker", "worker");
    let before = lab::standing(&node.id);
    let undos = fault::prepare(&lab.engine, &stop(&node)).await.unwrap();
    let mut events = journal(&lab.cluster, &[(0, undos)]);
    events.retain(|e| !matches!(e.kind, EventKind::Injected { .. }));
    // The node has no handler for SIGTERM, so it is killed at the end of the time that it is given.
    let mut stopping = std::process::Command::new("docker")
        .args(["stop", "-t", "3", &node.id])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut said = Vec::new();
    assert_eq!(unwind::all(&lab.engine, &events, BRIEF, &mut |kind| said.push(kind)).await, End::Clean, "{said:?}");
    assert!(stopping.wait().unwrap().success(), "it was stopped in the midst of it");
    assert_eq!(lab::standing(&node.id), before);
    // An injection that was over long ago is not waited for.
    let begin = Instant::now();
    unwind::all(&lab.engine, &events, BRIEF, &mut |_| {}).await;
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_that_fails_is_named_and_the_others_go_on() {
    let Some(lab) = Lab::set_up().await else { return };
    let (a, b) = (lab.node("worker", "worker"), lab.node("worker2", "worker"));
    let undos = [
        (0, fault::prepare(&lab.engine, &stop(&a)).await.unwrap()),
        (1, fault::prepare(&lab.engine, &stop(&b)).await.unwrap()),
    ];
    for node in [&a, &b] {
        inject(&lab.engine, &stop(node)).await.unwrap();
    }
    let thief = lab.container(&format!("{}-thief", lab.cluster), &[]);
    let mut said = Vec::new();
    let events = journal(&lab.cluster, &undos);
    assert_eq!(unwind::all(&lab.engine, &events, BRIEF, &mut |kind| said.push(kind)).await, End::Dirty);
    assert!(said.contains(&EventKind::Undone { fault: 1, step: 0 }), "{said:?}");
    let by_hand = format!("docker start {}", a.name);
    assert!(
        said.iter().any(|k| matches!(k, EventKind::UndoFailed { fault: 0, by_hand: b, .. } if *b == by_hand)),
        "{said:?}"
    );

    // Once the cause is gone, a rollback does what is left, and only that.
    docker(&["rm", "-f", &thief.id]);
    let events: Vec<_> = events.into_iter().chain(said.into_iter().map(lab::event)).collect();
    let mut said = Vec::new();
    assert_eq!(unwind::all(&lab.engine, &events, BRIEF, &mut |kind| said.push(kind)).await, End::Clean);
    assert_eq!(said, [EventKind::Undoing { fault: 0, step: 0 }, EventKind::Undone { fault: 0, step: 0 }]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_undos_of_a_removed_node_are_void_and_its_namesake_is_left_alone() {
    let Some(lab) = Lab::set_up().await else { return };
    let node = lab.node("worker", "worker");
    let undos = fault::prepare(&lab.engine, &power_off(&node)).await.unwrap();
    inject(&lab.engine, &power_off(&node)).await.unwrap();
    docker(&["rm", "-f", &node.id]);
    let namesake = lab.node("worker", "worker");
    docker(&["stop", "-t", "0", &namesake.id]);
    let before = lab::fingerprint(&namesake.id);
    let mut said = Vec::new();
    let events = journal(&lab.cluster, &[(0, undos)]);
    assert_eq!(unwind::all(&lab.engine, &events, BRIEF, &mut |kind| said.push(kind)).await, End::Clean);
    let notes = said.iter().filter(|k| matches!(k, EventKind::Disturbed(Disturbance::NodeRemoved(_))));
    assert_eq!(notes.count(), 1, "{said:?}");
    assert_eq!(lab::fingerprint(&namesake.id), before);
}

// ---- engines that are away, slow or behind TCP

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_engine_is_an_error_that_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint =
        Endpoint { host: format!("unix://{}/no.sock", dir.path().display()), chosen_by: "DOCKER_HOST".into() };
    let error = Engine::connect_to(endpoint).await.unwrap_err().to_string();
    assert!(error.contains("no.sock (DOCKER_HOST)") && error.contains("→ start Docker"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_goes_silent_is_given_up_within_bounds() {
    let Some(lab) = Lab::set_up().await else { return };
    let node = lab.node("worker", "worker");
    let proxy = lab::Proxy::start().await;
    let engine = Engine::connect_to(proxy.endpoint()).await.unwrap().for_cluster(&lab.cluster);
    engine.state(&node).await.expect("the proxy passes calls on");
    proxy.hang();
    let begin = Instant::now();
    let events = journal(&lab.cluster, &[(0, vec![Undo::Unpause { node: node.clone() }])]);
    let mut said = Vec::new();
    let end = unwind::all(&engine, &events, Duration::from_secs(6), &mut |kind| said.push(kind)).await;
    assert_eq!(end, End::Dirty);
    assert!(matches!(&said[1], EventKind::UndoFailed { error, .. } if error.contains("does not answer")), "{said:?}");
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_outlasts_an_absence_of_the_engine() {
    let Some(lab) = Lab::set_up().await else { return };
    let node = lab.node("worker", "worker");
    let proxy = lab::Proxy::start().await;
    let engine = Engine::connect_to(proxy.endpoint()).await.unwrap().for_cluster(&lab.cluster);
    docker(&["pause", &node.id]);
    proxy.refuse();
    let events = journal(&lab.cluster, &[(0, vec![Undo::Unpause { node: node.clone() }])]);
    let rolled = tokio::spawn(async move { unwind::all(&engine, &events, Duration::from_secs(60), &mut |_| {}).await });
    proxy.refused(2).await;
    proxy.pass();
    assert_eq!(rolled.await.unwrap(), End::Clean);
    assert_eq!(docker(&["inspect", "-f", "{{.State.Status}}", &node.id]), "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_tcp_a_node_is_killed_from_a_container_of_the_engines_and_nothing_is_left_of_it() {
    let Some(lab) = Lab::set_up().await else { return };
    let node = lab.node("worker", "worker");
    docker(&["update", "--restart=always", &node.id]);
    let proxy = lab::Proxy::start().await;
    let engine = Engine::connect_to(proxy.endpoint()).await.unwrap().for_cluster(&lab.cluster);
    inject(&engine, &restart(&node)).await.unwrap();
    assert_eq!(
        docker(&["inspect", "-f", "{{.RestartCount}}", &node.id]),
        "1",
        "its restart policy took it for a crash"
    );
    assert!(engine.leftovers(&lab.cluster).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_reads_asks_and_changes_nothing() {
    let Some(lab) = Lab::set_up().await else { return };
    let node = lab.node("worker", "worker");
    docker(&["update", "--restart=always", &node.id]);
    let peer = lab.node("worker2", "worker");
    let proxy = lab::Proxy::start().await;
    let engine = Engine::connect_to(proxy.endpoint()).await.unwrap().for_cluster(&lab.cluster);
    for fault in [power_off(&node), stop(&node), pause(&node), restart(&node), restart_loop(&node)] {
        fault::prepare(&engine, &fault).await.unwrap();
        let witnesses = Witnesses::call(&engine, &fault, std::slice::from_ref(&peer)).await.unwrap();
        witnesses.ask(&engine, Checkpoint::WindowEnd).await;
    }
    let census = residue::census(&engine, &lab.cluster, None).await.unwrap();
    residue::wait_until_as(&engine, &lab.cluster, None, &census, BRIEF).await;
    let said = proxy.heard();
    let changes =
        said.lines().filter(|line| line.ends_with("HTTP/1.1") && !line.starts_with("GET ") && !line.contains("/exec"));
    assert_eq!(changes.collect::<Vec<_>>(), Vec::<&str>::new());
    assert!(said.lines().filter(|line| line.starts_with("GET ")).count() > 10, "the proxy listens: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_our_own_have_no_rights_that_they_do_not_need() {
    let Some(lab) = Lab::set_up().await else { return };
    let lower = lab.node("worker", "worker");
    let node = lab.node("worker2", "worker");
    let proxy = lab::Proxy::start().await;
    let engine = Engine::connect_to(proxy.endpoint()).await.unwrap().for_cluster(&lab.cluster);
    let undos = fault::prepare(&engine, &power_off(&node)).await.unwrap();
    docker(&["rm", "-f", &lower.id]);
    inject(&engine, &power_off(&node)).await.unwrap();
    apply_all(&engine, &undos).await;
    let said = proxy.heard();
    let bodies: Vec<_> = said.lines().filter(|line| line.contains("kchaos.io/purpose")).collect();
    assert!(bodies.len() >= 2, "one to kill, one to hold an address: {said}");
    for body in bodies {
        let body: serde_json::Value =
            serde_json::from_str(&body[body.find('{').unwrap()..=body.rfind('}').unwrap()]).unwrap();
        let host = &body["HostConfig"];
        assert!(host["Privileged"] != true && host["Binds"].is_null() && host["Mounts"].is_null(), "{body}");
        assert_eq!(host["CapDrop"], serde_json::json!(["ALL"]), "{body}");
        assert_eq!(body["Labels"]["kchaos.io/cluster"], lab.cluster.as_str(), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_left_of_its_own_containers_is_removed_by_the_rollback() {
    let Some(lab) = Lab::set_up().await else { return };
    let node = lab.node("worker", "worker");
    for purpose in ["kill", "placeholder", "other"] {
        let ours = [("kchaos.io/cluster", lab.cluster.clone()), ("kchaos.io/purpose", purpose.into())];
        lab.container(&format!("{}-{purpose}", lab.cluster), &ours);
    }
    let events = journal(&lab.cluster, &[(0, vec![Undo::Unpause { node }])]);
    assert_eq!(unwind::all(&lab.engine, &events, BRIEF, &mut |_| {}).await, End::Clean);
    let left = lab.engine.leftovers(&lab.cluster).await.unwrap();
    assert_eq!(left, [(format!("{}-other", lab.cluster), "other".to_owned())]);
}

// ---- commands

#[tokio::test(flavor = "multi_thread")]
async fn a_command_gives_code_output_and_takes_input() {
    let Some(lab) = Lab::set_up().await else { return };
    let node = lab.node("worker", "worker");
    let run = |argv: &'static [&'static str], stdin: Option<&'static [u8]>| {
        let (engine, node) = (lab.engine.clone(), node.clone());
        async move { engine.exec(&node, argv, stdin.map(Into::into), BRIEF).await.unwrap() }
    };
    let out = run(&["sh", "-c", "echo out; echo err >&2; exit 7"], None).await;
    assert_eq!((out.code, &out.stdout[..], out.stderr.as_str()), (7, &b"out\n"[..], "err\n"));
    let big: &'static [u8] = vec![b'x'; 3 << 20].leak();
    let out = run(&["cat"], Some(big)).await;
    assert!(out.code == 0 && out.stdout == big, "{} bytes came back", out.stdout.len());
    assert_eq!(run(&["true"], Some(big)).await.code, 0, "a command need not read its input");
    assert!(matches!(run(&["/no/such/program"], None).await.code, 126 | 127));
    let argument = run(&["printf", "%s", "a b;$(id)\n\"'"], None).await;
    assert_eq!(&argument.stdout[..], b"a b;$(id)\n\"'", "no shell comes between");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_does_not_end_is_given_up_at_its_deadline() {
    let Some(lab) = Lab::set_up().await else { return };
    let node = lab.node("worker", "worker");
    let begin = Instant::now();
    let error =
        lab.engine.exec(&node, &["sleep", "60"], None, Duration::from_millis(700)).await.unwrap_err().to_string();
    assert!(error.contains("within 700ms") && error.contains("may still be running"), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    docker(&["pause", &node.id]);
    let begin = Instant::now();
    assert!(lab.engine.exec(&node, &["true"], None, BRIEF).await.is_err());
    assert!(begin.elapsed() < BRIEF + Duration::from_secs(1), "a paused node is no trap");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_gives_output_as_it_comes_and_ends_its_command_when_dropped() {
    let Some(lab) = Lab::set_up().await else { return };
    let node = lab.node("worker", "worker");
    let script = "echo one; cat >/dev/null; touch /input-ended";
    let mut stream = lab.engine.exec_stream(&node, &["sh", "-c", script]).await.unwrap();
    let first =
        tokio::time::timeout(BRIEF, stream.next()).await.expect("comes while the command runs").unwrap().unwrap();
    assert_eq!(&first[..], b"one\n");
    drop(stream);
    let give_up = Instant::now() + BRIEF;
    while lab.engine.exec(&node, &["test", "-e", "/input-ended"], None, BRIEF).await.unwrap().code != 0 {
        assert!(Instant::now() < give_up, "the command never saw the end of its input");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let failing = lab.engine.exec_stream(&node, &["sh", "-c", "echo a; echo because >&2; exit 3"]).await.unwrap();
    let items: Vec<_> = failing.collect().await;
    assert_eq!(items[0].as_ref().unwrap(), &b"a\n"[..]);
    let error = items[1].as_ref().unwrap_err().to_string();
    assert!(items.len() == 2 && error.contains("code 3") && error.contains("because"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resident_command_is_run_again_without_another_exec_and_is_there_again_after_whatever_ended_it() {
    let Some(lab) = Lab::set_up().await else { return };
    let node = lab.node("worker", "worker");
    let residents = Residents::new(lab.engine.clone());
    let said = async |script: &str, deadline| {
        let output = residents.run(&node, &["sh", "-c", script], deadline).await?;
        let words = [String::from_utf8_lossy(&output.stdout).into_owned(), output.stderr];
        kchaos::error::Result::Ok((output.code, words.map(|w| w.trim().to_owned())))
    };
    let who = "echo $PPID; echo err >&2; [ -e /slow ] && sleep 2; exit 7";
    let (code, [shell, err]) = said(who, BRIEF).await.unwrap();
    assert_eq!((code, err.as_str()), (7, "err"));
    for _ in 0..3 {
        assert_eq!(said(who, BRIEF).await.unwrap().1[0], shell, "the same shell");
    }
    assert_ne!(said("echo $PPID", BRIEF).await.unwrap().1[0], shell, "another command, another shell");
    // Nobody waits for another's answer.
    let begin = Instant::now();
    let slow = "sleep 2; echo $PPID";
    let both = tokio::join!(said(slow, BRIEF), said(slow, BRIEF));
    assert_ne!(both.0.unwrap().1, both.1.unwrap().1);
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    // An answer that comes too late is given to nobody.
    docker(&["exec", &node.id, "touch", "/slow"]);
    let late: kchaos::error::Error = said(who, Duration::from_millis(500)).await.unwrap_err();
    let late = late.to_string();
    assert!(late.contains("within 500ms"), "{late}");
    docker(&["exec", &node.id, "rm", "/slow"]);
    let second = said(who, BRIEF).await.unwrap().1[0].clone();
    assert_ne!(second, shell);
    docker(&["pause", &node.id]);
    assert!(said(who, Duration::from_secs(1)).await.is_err());
    docker(&["unpause", &node.id]);
    assert_eq!(said(who, BRIEF).await.unwrap().0, 7);
    docker(&["kill", &node.id]);
    assert!(said(who, BRIEF).await.is_err());
    docker(&["start", &node.id]);
    assert_eq!(said(who, BRIEF).await.unwrap().0, 7);
    // The shells end with their asker.
    drop(residents);
    let give_up = Instant::now() + BRIEF;
    while docker(&["top", &node.id]).contains("while read") {
        assert!(Instant::now() < give_up, "a shell outlives its asker");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_are_counted_and_a_node_that_is_down_has_none() {
    let Some(lab) = Lab::set_up().await else { return };
    let node = lab.node("worker", "worker");
    assert!(!lab.engine.processes(&node, None).await.unwrap().is_empty());
    assert!(lab.engine.processes(&node, Some("kube-scheduler")).await.unwrap().is_empty());
    docker(&["pause", &node.id]);
    assert!(!lab.engine.processes(&node, None).await.unwrap().is_empty(), "a frozen process is one");
    docker(&["unpause", &node.id]);
    docker(&["kill", &node.id]);
    assert!(lab.engine.processes(&node, None).await.unwrap().is_empty());
}

// ---- the audit

#[tokio::test(flavor = "multi_thread")]
async fn a_census_is_the_same_after_a_clean_undo_and_names_what_is_not() {
    let Some(lab) = Lab::set_up().await else { return };
    let node = lab.node("worker", "worker");
    let before = residue::census(&lab.engine, &lab.cluster, None).await.unwrap();
    let undos = fault::prepare(&lab.engine, &power_off(&node)).await.unwrap();
    inject(&lab.engine, &power_off(&node)).await.unwrap();
    let items = |differences: Vec<Difference>| differences.into_iter().map(|d| d.item).collect::<Vec<_>>();
    let broken = residue::census(&lab.engine, &lab.cluster, None).await.unwrap();
    assert!(items(before.differences(&broken)).contains(&format!("node/{}/state", node.name)));
    apply_all(&lab.engine, &undos).await;
    assert_eq!(residue::wait_until_as(&lab.engine, &lab.cluster, None, &before, BRIEF).await, []);

    // Everything that an undo could forget.
    docker(&["update", "--restart=unless-stopped", &node.id]);
    docker(&["exec", "--privileged", &node.id, "iptables", "-A", "INPUT", "-s", "192.0.2.1", "-j", "DROP"]);
    let ours = [("kchaos.io/cluster", lab.cluster.clone()), ("kchaos.io/purpose", "test".into())];
    let left = lab.container(&format!("{}-left", lab.cluster), &ours);
    let now = residue::census(&lab.engine, &lab.cluster, None).await.unwrap();
    let expected = [
        format!("leftover/container/{}", left.name),
        format!("node/{}/firewall/ip/filter -A INPUT -s 192.0.2.1/32 -j DROP", node.name),
        format!("node/{}/restart-policy", node.name),
    ];
    assert_eq!(items(before.differences(&now)), expected);
}
